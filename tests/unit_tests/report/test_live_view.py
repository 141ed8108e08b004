"""The live view: chosen by the stream, never larger than the screen."""

import importlib.util
import io
import subprocess
import sys
from datetime import timedelta

import pytest
from rich.console import Console

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.report import Progress, live, open_live_view
from langchain_runtime.report.terminal import Screen, TerminalView


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen_of(progress, now, *, width=80, height=24):
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(Screen(progress.figures(now), now), end="")
    return console.export_text().splitlines()


def busy(make, *, running, ended, total=1000):
    progress = Progress([make.started(total)])
    for place in range(ended + running):
        progress.feed(make.task_started(f"summarise-{place:04}", place))
        if place < ended:
            state = TaskState.FAILED if place % 7 == 3 else TaskState.COMPLETED
            message = "[red]the host said[/red] 503\x1b[2J" if state is TaskState.FAILED else None
            progress.feed(
                make.task_finished(
                    f"summarise-{place:04}",
                    place + 1,
                    state=state,
                    usage=make.usage(1200, 100, "0.0012"),
                    message=message,
                )
            )
        else:
            progress.feed(make.reserved(f"summarise-{place:04}", "0.002", id_=str(place)))
    return progress


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("height", [10, 24, 60])
@pytest.mark.parametrize(("running", "ended"), [(0, 0), (3, 0), (0, 500), (8, 4), (300, 600)])
def test_the_view_fits_the_screen_and_counts_what_does_not(make, width, height, running, ended):
    lines = screen_of(busy(make, running=running, ended=ended), make.at(2000), width=width, height=height)
    assert len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= width
    shown = sum(line.startswith("running") for line in lines)
    more = next((int(line.split()[1].replace(",", "")) for line in lines if "more running" in line), 0)
    assert shown + more == running
    assert sum(line.startswith(("completed", "failed")) for line in lines) >= min(ended, (height - 5) // 3)


def test_the_head_tells_tasks_money_tokens_and_states(make):
    head = "\n".join(screen_of(busy(make, running=10, ended=90, total=200), make.at(100), width=100)[:4])
    for fact in ("brief-1 running", "90 of 200", "45.0 %", "about 2 min 02 s left", "0.108 of 0.50 USD", "21.6 %"):
        assert fact in head
    for fact in ("held 0.02 USD", "108,000 in, 9,000 out", "100 pending", "10 running", "77 completed", "13 failed"):
        assert fact in head


def test_a_wide_screen_has_models_and_errors_as_they_are(make):
    progress = busy(make, running=1, ended=4)
    wide = "\n".join(screen_of(progress, make.at(9), width=160))
    assert make.MINI in wide
    assert "[red]the host said[/red] 503" in wide
    assert "\x1b[2J" not in wide
    assert make.MINI not in "\n".join(screen_of(progress, make.at(9), width=80))


def test_a_second_try_is_told(make):
    progress = Progress([make.started(1), make.task_started("a"), make.task_started("a", 1, attempt=2)])
    assert any("a (try 2)" in line for line in screen_of(progress, make.at(2)))


def test_without_a_limit_or_an_event_the_view_stands(make):
    head = "\n".join(screen_of(Progress(), make.at(0)))
    assert "0 of -" in head
    assert "no limit" in head


def test_a_nearly_used_budget_and_the_end_are_shown(make):
    progress = Progress([make.started(1), make.settled("a", "0.49"), make.ended(3, state=RunState.ABORTED)])
    head = "\n".join(screen_of(progress, make.at(50)))
    assert "aborted" in head
    assert "98.0 %" in head
    assert "left" not in head


def test_a_pipe_gets_lines(make):
    stream = io.StringIO()
    with open_live_view(stream, limit=Cost.usd("0.50"), total=2) as view:
        view.feed(make.task_finished("a", 1))
        view.feed(make.task_finished("b", 2))
    assert [line[:6] for line in stream.getvalue().splitlines()] == [" 50 % ", "100 % "]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_the_table_and_gets_its_lines_back(make, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with open_live_view(stream) as view:
        view.feed(make.started(2))
        view.feed(make.task_started("outline"))
        assert isinstance(view, TerminalView)
    drawn = stream.getvalue()
    assert "outline" in drawn
    assert "\x1b[36m" in drawn or "\x1b[1;36m" in drawn
    assert drawn.endswith("\x1b[2K") or "\x1b[2K" in drawn[-200:]


def test_no_color_is_honoured(make, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with open_live_view(stream) as view:
        view.feed(make.started(2))
        view.feed(make.task_started("outline"))
    assert "outline" in stream.getvalue()
    assert "36m" not in stream.getvalue()


def test_what_changes_nothing_in_a_log_prints_nothing(make):
    stream = io.StringIO()
    with open_live_view(stream) as view:
        view.feed(make.task_ready("a"))
    assert stream.getvalue() == ""


def test_a_dumb_terminal_and_one_without_rich_get_lines(make, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with open_live_view(stream) as view:
        view.feed(make.started(2))
    assert stream.getvalue() == "started: 2 tasks, limit 0.50 USD\n"

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live, "find_spec", lambda name: None if name == "rich" else importlib.util.find_spec(name))
    stream = Terminal()
    with open_live_view(stream) as view:
        view.feed(make.started(2))
    assert stream.getvalue() == "started: 2 tasks, limit 0.50 USD\n"


def test_an_error_inside_the_block_still_ends_the_view(make, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    def broken_run():
        with open_live_view(stream) as view:
            view.feed(make.started(2))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken_run()
    # The cursor, hidden while the table is redrawn, is back.
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_importing_the_report_loads_no_rich():
    code = "import sys, langchain_runtime.report; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_moment_before_the_first_event_is_no_negative_time(make):
    progress = Progress([make.started(1, at=10)])
    assert progress.figures(make.at(10) - timedelta(seconds=5)).elapsed == 0

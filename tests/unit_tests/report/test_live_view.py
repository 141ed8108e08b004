"""The live view: chosen by the stream, never larger than the screen."""

import importlib.util
import io
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise

import pytest
from rich.console import Console

from langchain_runtime.contracts.events import TasksAdded
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report import Progress, live, open_live_view
from langchain_runtime.report.calls import CallFigures
from langchain_runtime.report.figures import Total
from langchain_runtime.report.live_rows import live_rows, name_in_tree
from langchain_runtime.report.progress_figures import GroupProgress, TaskProgress
from langchain_runtime.report.terminal import Screen, TerminalView, calls_picture
from langchain_runtime.report.timing import parent_of


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


def tree(make, *, groups, running, ended, children=1000):
    """A run with ``for_each`` tasks, and a task of its own beside them."""
    progress = Progress([make.started(groups + 1)])
    progress.feed(make.task_started("alone", 0))
    for group in range(groups):
        names = tuple(f"map{group}#{place}" for place in range(children))
        progress.feed(make.task_ready(f"map{group}", 0))
        progress.feed(TasksAdded(run_id="brief-1", at=make.at(1), parent=f"map{group}", tasks=names))
        for place, name in enumerate(names[: ended + running]):
            progress.feed(make.task_started(name, 2 + place))
            if place < ended:
                state = TaskState.FAILED if place == 0 else TaskState.COMPLETED
                progress.feed(make.task_finished(name, 3 + place, state=state, usage=make.usage(100, 10, "0.001")))
    return progress


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("height", [10, 24, 60])
@pytest.mark.parametrize(("groups", "running", "ended"), [(1, 0, 0), (1, 8, 400), (3, 8, 20), (40, 4, 3), (2, 300, 2)])
def test_a_tree_fits_the_screen_and_counts_what_does_not(make, width, height, groups, running, ended):
    progress = tree(make, groups=groups, running=running, ended=ended)
    lines = screen_of(progress, make.at(2000), width=width, height=height)
    assert len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= width
    rows = live_rows(progress.figures(make.at(2000)), height - 5)
    listed = sum(isinstance(row.task, TaskProgress) and row.task.state is TaskState.RUNNING for row in rows)
    counted = sum(row.more for row in rows)
    # Where the lines do not suffice for any child of a group, its own row alone says how many run.
    told = {parent_of(row.task.id) for row in rows if row.child and row.task is not None and row.used is None}
    told |= {before.task.id for before, row in pairwise(rows) if row.child and row.more}
    groups_told = [row.task for row in rows if isinstance(row.task, GroupProgress) and row.task.id not in told]
    assert listed + counted + sum(group.states[TaskState.RUNNING] for group in groups_told) == 1 + groups * running


def test_children_stand_below_their_parent_with_counts(make):
    progress = tree(make, groups=2, running=5, ended=412)
    rows = live_rows(progress.figures(make.at(2000)), 14)
    assert [name_in_tree(row) for row in rows] == [
        "alone",
        "map0",
        "#412",
        "#413",
        "#414",
        "and 2 more running",
        "map1",
        "#412",
        "#413",
        "#414",
        "and 2 more running",
        "#411",
        "#410",
        "#409",
    ]
    assert [row.child for row in rows[:3]] == [False, False, True]
    assert [place for place, row in enumerate(rows) if row.last] == [5, 13]
    screen = "\n".join(screen_of(progress, make.at(2000), width=100, height=30))
    assert "running    map0  412 of 1,000, 1 failed, 5 running" in screen
    assert "\u251c #412" in screen
    assert "\u2514 " in screen


def test_a_child_that_failed_is_listed_before_those_that_did_not(make):
    progress = tree(make, groups=1, running=1, ended=50)
    rows = live_rows(progress.figures(make.at(99)), 20)
    assert [name_in_tree(row) for row in rows if row.child and row.used is not None] == ["#49", "#48", "#0"]


def test_a_group_that_has_ended_speaks_for_its_children(make):
    progress = tree(make, groups=1, running=0, ended=3, children=3)
    progress.feed(make.task_finished("map0", 9))
    rows = live_rows(progress.figures(make.at(20)), 20)
    assert [name_in_tree(row) for row in rows] == ["alone", "map0"]
    assert rows[1].task.seconds(make.at(20)) == 7
    assert rows[1].used.cost == Cost.usd("0.003")


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


def test_two_views_of_one_terminal_draw_one_table(make, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with open_live_view(stream) as first:
        first.feed(make.started(2))
        with open_live_view(stream) as second:
            second.feed(make.started(7))
        assert not isinstance(second, TerminalView)
    assert "started: 7 tasks, limit 0.50 USD" in stream.getvalue()
    with open_live_view(stream) as third:
        assert isinstance(third, TerminalView)


def test_a_terminal_shows_calls_by_model_where_there_are_several():
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    usage = {
        "openai:a": Usage(tokens=TokenUsage(input=100, output=20), cost=Cost.usd("0.01")),
        "acme:[b]": Usage(tokens=TokenUsage(input=5, output=1)),
    }
    figures = CallFigures(3, 0, 0, Total.of(usage.values(), "USD"), tuple(usage.items()), 2.5, ended=False)
    console.print(calls_picture(figures))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines == [
        "3 calls, 105 tokens in, 21 out, 0.01+ USD, 2.50 s",
        "openai:a 100 in 20 out 0.01 USD",
        "acme:[b] 5 in 1 out -",
    ]


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

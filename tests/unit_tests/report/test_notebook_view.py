"""The live view of a notebook: one output updated in place, in a real kernel, and what it shows."""

import html
import json
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET

import pytest
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from langchain_runtime.contracts.events import TasksAdded
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report import Progress
from langchain_runtime.report.calls import CallFigures
from langchain_runtime.report.figures import Total
from langchain_runtime.report.live import view_of_calls, view_of_run
from langchain_runtime.report.markup import Markup
from langchain_runtime.report.notebook_view import UpdatingDisplay, calls_picture, open_displays, run_picture

EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

class Client(NotebookClient):
    def process_message(self, message, cell, place):
        if message["msg_type"] in {"display_data", "update_display_data"}:
            content = message["content"]
            messages.append([place, message["msg_type"], content["transient"]["display_id"], content["data"]])
        return super().process_message(message, cell, place)

messages = []
cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
Client(notebook, timeout=60, kernel_name="python3").execute()
json.dump([messages, [cell.outputs for cell in cells]], sys.stdout)
"""

SETUP = """
import asyncio
from langchain_runtime import ProgressCallbackHandler, RunGraph
from langchain_runtime.testing import ScriptedChatModel

async def body(_):
    await asyncio.sleep(0.002)

def mapped(number):
    graph = RunGraph().add_task("list", lambda _: list(range(number)))
    return graph.add_task("map", body, deps=["list"], for_each={"task": "list"}).compile()
"""


def executed(*cells):
    """Run cells in a kernel; returns for each cell its display messages and its outputs."""
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE], input=json.dumps([SETUP, *cells]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    messages, outputs = json.loads(done.stdout)
    return [
        ([message[1:] for message in messages if message[0] == place], outputs[place])
        for place in range(1, len(cells) + 1)
    ]


def test_a_run_in_a_kernel_has_one_display_that_is_updated_in_place():
    sync, in_cell, cancelled = executed(
        "_ = mapped(300).invoke({'inputs': {}}, {'callbacks': [ProgressCallbackHandler()]})",
        "_ = await mapped(3).ainvoke({'inputs': {}}, {'callbacks': [ProgressCallbackHandler()]})",
        "started = asyncio.Event()\n"
        "async def wait(_):\n    started.set()\n    await asyncio.Event().wait()\n"
        "app = RunGraph().add_task('wait', wait).compile()\n"
        "run = asyncio.create_task(app.ainvoke({'inputs': {}}, {'callbacks': [ProgressCallbackHandler()]}))\n"
        "await started.wait()\nrun.cancel()\nawait asyncio.wait([run])\nNone",
    )
    for (messages, outputs), said in [
        (sync, "completed: 302 of 302 tasks"),
        (in_cell, "completed: 5 of 5 tasks"),
        (cancelled, "stopped before its end: 0 of 1 task,"),
    ]:
        assert [kind for kind, _, _ in messages[:1]] == ["display_data"]
        assert {kind for kind, _, _ in messages[1:]} == {"update_display_data"}
        assert len({display for _, display, _ in messages}) == 1
        assert [output["output_type"] for output in outputs] == ["display_data"]
        assert outputs[0]["data"]["text/plain"].startswith(said)
        assert outputs[0]["data"]["text/html"].startswith('<div class="lcr-report lcr-live">')
    # Some nine hundred events happened.
    assert len(sync[0]) < 100


def test_runs_at_once_have_displays_of_their_own_but_only_so_many():
    messages, outputs = executed(
        "app = mapped(2)\n"
        "all_run = asyncio.Barrier(10)\n"
        "app = RunGraph().add_task('meet', lambda _: all_run.wait()).compile()\n"
        "handler = ProgressCallbackHandler()\n"
        "_ = await asyncio.gather(*(app.ainvoke({'inputs': {}}, {'callbacks': [handler]}) for _ in range(10)))\n"
    )[0]
    assert len({display for _, display, _ in messages}) == 8
    lines = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert lines.count(": completed: 1 of 1 task") == 2


def test_calls_of_a_chain_in_a_kernel_share_one_display():
    messages, outputs = executed(
        "model = ScriptedChatModel(script=['ok'], provider='openai', model='gpt-4o-mini')\n"
        "chain = model | (lambda reply: reply.content) | model\n"
        "_ = chain.batch(['hi'] * 3, {'callbacks': [ProgressCallbackHandler()]})"
    )[0]
    assert len({display for _, display, _ in messages}) == 1
    assert outputs[0]["data"]["text/plain"].startswith("6 calls, ")
    assert "openai:gpt-4o-mini" in outputs[0]["data"]["text/html"]


# --- the display -----------------------------------------------------------------------------------------------------


class Outputs(DisplayPublisher):
    """What a notebook's frontend would get."""

    def __init__(self):
        super().__init__()
        self.got = []
        self.arrived = threading.Semaphore(0)

    def publish(self, data, metadata=None, *, transient=None, update=False, **_):
        self.got.append((update, transient["display_id"], data))
        self.arrived.release()

    def wait(self):
        assert self.arrived.acquire(timeout=30)


@pytest.fixture
def outputs(monkeypatch):
    """A shell of this process that stands for a kernel's."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    monkeypatch.setattr(shell, "display_pub", Outputs())
    monkeypatch.setattr(shell, "kernel", shell, raising=False)
    yield shell.display_pub
    InteractiveShell.clear_instance()


def test_a_display_is_redrawn_after_an_event_and_by_the_time_alone(make, outputs):
    view = view_of_run("brief-1", None, alone=True)
    outputs.wait()
    view.feed(make.started(2))
    outputs.wait()
    outputs.wait()
    view.feed(make.ended(5))
    view.close()
    view.close()
    assert [update for update, _, _ in outputs.got] == [False, *[True] * (len(outputs.got) - 1)]
    assert outputs.got[-1][2]["text/plain"].startswith("completed: 0 of 2 tasks")


def test_calls_have_a_display_too(outputs):
    def figures(ended):
        return CallFigures(1, 0, 0, Total(), (), 1.5, ended)

    view = view_of_calls(figures, None)
    view.changed()
    view.close()
    assert "running" in outputs.got[0][2]["text/html"]
    assert "ended" in outputs.got[-1][2]["text/html"]


def test_a_display_that_cannot_be_drawn_stands_still_and_disturbs_nobody(outputs, caplog):
    drawn = []

    def draw():
        drawn.append(1)
        if len(drawn) == 2:
            raise LookupError("no picture")
        return Markup("<p>all</p>"), "all"

    display = UpdatingDisplay(draw)
    display.changed()
    display._thread.join(30)
    assert not display._thread.is_alive()
    assert "stands still" in caplog.text
    display.close()
    assert open_displays() == 0
    assert outputs.got[-1][2] == {"text/html": "<p>all</p>", "text/plain": "all"}


def test_beyond_so_many_displays_runs_and_calls_are_told_in_lines(make, outputs, capsys):
    views = [view_of_run(f"run-{place}", None, alone=place == 0) for place in range(9)]
    calls = view_of_calls(lambda ended: CallFigures(1, 0, 0, Total(), (), 1.5, ended), None)
    views[-1].feed(make.started(3))
    for view in (*views, calls):
        view.close()
    assert len({display for _, display, _ in outputs.got}) == 8
    assert capsys.readouterr().out.splitlines() == [
        "run-8: started: 3 tasks, limit 0.50 USD",
        "run-8: stopped before its end: 0 of 3 tasks, 0 tokens, - of 0.50 USD, 0.00 s",
        "1 call, 0 tokens in, 0 out, cost unknown, 1.50 s",
    ]


# --- the picture -----------------------------------------------------------------------------------------------------


def text_of(picture):
    """What is to be read, one element a line."""
    root = ET.fromstring(str(picture))
    for style in root.findall(".//style"):
        style.text = ""
    return "\n".join(text.strip() for text in root.itertext() if text.strip())


def in_the_middle(make, **limit):
    progress = Progress([make.started(4, **limit)])
    for event in (
        make.task_started("outline"),
        make.task_finished("outline", 2, usage=make.usage(900, 100, "0.02")),
        TasksAdded(run_id="brief-1", at=make.at(2), parent="map", tasks=[f"map#{place}" for place in range(40)]),
        *(make.task_started(f"map#{place}", 2) for place in range(8)),
        make.task_finished("map#0", 5, usage=make.usage(50, 10, "0.01")),
        make.task_finished("map#1", 6, state=TaskState.FAILED, message="<script>alert('no')</script> & more"),
        make.reserved("map#2", "0.05", at=6),
    ):
        progress.feed(event)
    return progress


def test_the_picture_tells_state_tasks_money_tokens_and_time(make):
    shown = text_of(run_picture(in_the_middle(make).figures(make.at(8)), make.at(8)))
    assert shown.startswith("Run brief-1\nrunning\n")
    for fact in (
        "3 of 44 tasks, 1 failed, 6 running, 8.00 s, about ",
        "spent 0.03 of 0.50 USD (6.0 %), held 0.05 USD, 950 tokens in, 110 out",
        "map\n2 of 40, 1 failed, 6 running\n60\n0.01",
        "#2\nopenai:gpt-5.5-mini\n-\n-",
        "outline\nopenai:gpt-5.5-mini\n1,000\n0.02",
    ):
        assert fact in shown


def test_everything_that_models_wrote_is_escaped(make):
    picture = run_picture(in_the_middle(make).figures(make.at(8)), make.at(8))
    assert "<script" not in picture
    assert html.escape("<script>alert('no')</script> & more", quote=False) in picture


def test_the_picture_is_well_formed_in_every_state(make):
    for progress in (
        Progress(),
        Progress([make.started(0)]),
        Progress([make.started(3, limit=None)]),
        in_the_middle(make),
        Progress([make.started(1), make.task_finished("a", 1, state=TaskState.SKIPPED)]),
        *(Progress([make.started(1), make.ended(3, state=state)]) for state in RunState),
    ):
        for closed in (False, True):
            ET.fromstring(str(run_picture(progress.figures(make.at(9)), make.at(9), closed=closed)))


def test_a_run_without_a_limit_has_no_budget_bar(make):
    picture = run_picture(in_the_middle(make, limit=None).figures(make.at(8)), make.at(8))
    assert picture.count('role="img"') == 1
    assert "spent 0.03 USD, no limit" in picture


def test_bars_never_exceed_their_width(make):
    progress = Progress([make.started(2), make.settled("a", "0.70"), make.reserved("b", "0.20", id_="r2")])
    picture = run_picture(progress.figures(make.at(1)), make.at(1))
    widths = [float(part.partition("%")[0]) for part in str(picture).split('style="width:')[1:]]
    assert widths == [100.0]


def test_a_run_that_was_stopped_says_so_and_has_no_time_left(make):
    shown = text_of(run_picture(in_the_middle(make).figures(make.at(8)), make.at(8), closed=True))
    assert shown.startswith("Run brief-1\nstopped before its end\n")
    assert "6 stopped" in shown
    assert "running" not in shown
    assert "left" not in shown


@pytest.mark.parametrize("ended", [False, True])
def test_calls_are_shown_by_model(ended):
    usage = {
        "openai:a": Usage(tokens=TokenUsage(input=100, output=20), cost=Cost.usd("0.01")),
        "acme:<b>": Usage(tokens=TokenUsage(input=5, output=1)),
    }
    total = Total.of(usage.values(), "USD")
    figures = CallFigures(3, 1, 0, total, tuple(usage.items()), 2.5, ended)
    picture = calls_picture(figures)
    shown = text_of(picture)
    assert ("ended" if ended else "running") in shown
    assert "3 calls, 1 failed, 105 tokens in, 21 out, 0.01+ USD, 2.50 s" in shown
    assert "acme:<b>" in shown
    assert "<b>" not in picture

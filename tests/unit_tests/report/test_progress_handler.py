"""The callback handler that shows a run, a chain or an agent while it runs."""

import asyncio
import io
import logging
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

import langchain_runtime
from langchain_runtime import ProgressCallbackHandler, RunGraph, RunPolicy
from langchain_runtime.report import live
from langchain_runtime.report.calls import is_told
from langchain_runtime.testing import ScriptedChatModel


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def shown_by(handler_options=None):
    log = io.StringIO()
    return ProgressCallbackHandler(stream=log, **(handler_options or {})), log


def mapped(number, body=lambda _: 1, **policy):
    return (
        RunGraph(RunPolicy(**policy))
        .add_task("list", lambda _: list(range(number)))
        .add_task("map", body, deps=["list"], for_each={"task": "list"})
    )


def model(*replies, **fields):
    return ScriptedChatModel(script=list(replies or ["It is sunny."]), provider="openai", model="gpt-4o-mini", **fields)


def chain(of):
    return ChatPromptTemplate.from_template("{topic}") | of | (lambda reply: reply.content) | of


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
def test_a_log_gets_the_start_the_tenths_and_the_end_of_a_run(mode):
    handler, log = shown_by()
    graph = RunGraph().add_task("a", lambda _: 1).add_task("b", lambda _: 2, deps=["a"])
    graph.compile(mode=mode).invoke({"inputs": {}}, {"callbacks": [handler]})
    lines = log.getvalue().splitlines()
    assert lines[0] == "started: 2 tasks, no limit"
    assert [line[:6] for line in lines[1:3]] == [" 50 % ", "100 % "]
    assert lines[3].startswith("completed: 2 of 2 tasks")
    assert len(lines) == 4


async def test_async_runs_and_runs_inside_another_graph_are_shown():
    handler, log = shown_by()
    inner = mapped(3).compile()

    async def node(state):
        await inner.ainvoke({"inputs": {}})
        return state

    parent = StateGraph(dict).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
    await parent.ainvoke({}, {"callbacks": [handler]})
    assert "completed: 5 of 5 tasks" in log.getvalue()


def test_a_run_in_a_task_of_a_shown_run_is_part_of_that_task():
    handler, log = shown_by()
    inner = RunGraph().add_task("a", lambda _: 1).compile()
    outer = RunGraph().add_task("nest", lambda _: inner.invoke({"inputs": {}})["results"]["a"].output)
    outer.compile().invoke({"inputs": {}}, {"callbacks": [handler]})
    assert log.getvalue().count("started:") == 1
    inner.invoke({"inputs": {}}, {"callbacks": [handler]})
    assert log.getvalue().count("started:") == 2


def test_runs_at_once_are_told_apart_in_a_log():
    handler, log = shown_by()
    both = asyncio.Barrier(2)

    async def meet(_):
        await both.wait()

    async def run_two():
        app = RunGraph().add_task("meet", meet).compile()
        await asyncio.gather(
            *(
                app.ainvoke({"inputs": {}}, {"callbacks": [handler], "configurable": {"run_id": f"run-{place}"}})
                for place in range(2)
            )
        )

    asyncio.run(run_two())
    lines = log.getvalue().splitlines()
    named = [line for line in lines if line.startswith("run-")]
    assert len({line.partition(":")[0] for line in named}) == 1
    assert len(lines) == 2 * len(named) == 6


def test_a_terminal_has_one_table_and_other_runs_append_their_lines(terminal):
    handler = ProgressCallbackHandler(stream=terminal)
    both = asyncio.Barrier(2)

    async def meet(_):
        await both.wait()

    async def run_two():
        app = RunGraph().add_task("meet", meet).compile()
        ids = [{"run_id": f"run-{place}"} for place in range(2)]
        await asyncio.gather(
            *(app.ainvoke({"inputs": {}}, {"callbacks": [handler], "configurable": each}) for each in ids)
        )

    asyncio.run(run_two())
    drawn = terminal.getvalue()
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    assert sum(f"{name}: started: 1 task, no limit" in drawn for name in ("run-0", "run-1")) == 1
    assert all(f"{name}: completed: 1 of 1 task," in drawn for name in ("run-0", "run-1"))


def test_the_terminal_is_free_for_the_next_run(terminal):
    app = mapped(2).compile()
    for _ in range(2):
        app.invoke({"inputs": {}}, {"callbacks": [ProgressCallbackHandler(stream=terminal)]})
    drawn = terminal.getvalue()
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 2
    assert drawn.count("completed: 4 of 4 tasks") == 2


def test_a_run_that_asks_a_human_leaves_where_it_stands():
    handler, log = shown_by()
    graph = RunGraph().add_task("ask", lambda _: interrupt("go on?")).add_task("after", lambda _: 1, deps=["ask"])
    app = graph.compile(checkpointer=InMemorySaver())
    app.invoke({"inputs": {}}, {"callbacks": [handler], "configurable": {"thread_id": "1"}})
    assert log.getvalue().splitlines()[-1].startswith("stopped before its end: 0 of 2 tasks")
    assert "left" not in log.getvalue().splitlines()[-1]


def test_a_run_that_fails_raises_its_own_error_and_is_told_as_failed(terminal):
    def broken(_):
        raise LookupError("the shelf is empty")

    app = RunGraph().add_task("a", broken).compile()
    with pytest.raises(langchain_runtime.RunFailedError):
        app.invoke({"inputs": {}}, {"callbacks": [ProgressCallbackHandler(stream=terminal)]})
    assert "failed: 1 of 1 task, 1 failed" in terminal.getvalue()
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize("task", [{"prompt": "Hi"}, {"body": "wait"}], ids=["prompt", "body"])
async def test_a_run_that_is_cancelled_gives_the_terminal_back(terminal, task):
    started = asyncio.Event()

    async def wait(_):
        started.set()
        await asyncio.Event().wait()

    if "body" in task:
        task = {"body": wait}

    def reply(call, chunk):
        return wait(None)

    app = RunGraph(model=model(hook=reply)).add_task("wait", **task).compile()
    run = asyncio.create_task(app.ainvoke({"inputs": {}}, {"callbacks": [ProgressCallbackHandler(stream=terminal)]}))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    drawn = terminal.getvalue()
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert "stopped before its end: 0 of 1 task" in drawn


@pytest.mark.parametrize("call", ["app.invoke(*given)", "asyncio.run(app.ainvoke(*given))"], ids=["sync", "async"])
def test_ctrl_c_gives_the_terminal_back(call):
    code = (
        "import asyncio\n"
        "from langchain_runtime import ProgressCallbackHandler, RunGraph\n"
        "async def wait(_): await asyncio.sleep(60)\n"
        "app = RunGraph().add_task('wait-for-it', wait).compile()\n"
        "given = {'inputs': {}}, {'callbacks': [ProgressCallbackHandler()]}\n"
        f"{call}\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm-256color"}
    )
    os.close(theirs)
    drawn, interrupted = b"", False
    with suppress(OSError):  # how Linux says that nobody holds the other end any more
        while part := os.read(ours, 65536):
            drawn += part
            if b"wait-for-it" in drawn and not interrupted:
                process.send_signal(signal.SIGINT)
                interrupted = True
    os.close(ours)
    process.wait()
    assert interrupted
    assert b"KeyboardInterrupt" in drawn
    assert drawn.rindex(b"\x1b[?25h") > drawn.rindex(b"\x1b[?25l")
    assert b" of 1 task, " in drawn[drawn.rindex(b"\x1b[?25h") :]


def test_tasks_need_not_be_chains_for_this_handler_alone():
    class Curious(ProgressCallbackHandler):
        def __init__(self, **options):
            super().__init__(**options)
            self.heard = []

        def on_chain_start(self, *args, **event):
            self.heard.append(event.get("name"))
            super().on_chain_start(*args, **event)

    class Traced(Curious):
        blind_to_tasks = False

    heard = {}
    for kind in (Curious, Traced):
        handler = kind(stream=io.StringIO())
        mapped(2).compile().invoke({"inputs": {}}, {"callbacks": [handler]})
        heard[kind] = {"list", "map#0", "map#1"} & set(handler.heard)
    assert heard == {Curious: set(), Traced: {"list", "map#0", "map#1"}}


def test_what_cannot_be_shown_is_given_up_and_ends_no_run(caplog):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError("nobody reads this")

    handler = ProgressCallbackHandler(stream=Gone())
    with caplog.at_level(logging.WARNING):
        output = mapped(3).compile().invoke({"inputs": {}}, {"callbacks": [handler]})
    assert output["results"]["map"].output == [1, 1, 1]
    assert caplog.text.count("progress is not shown any more") == 1


# --- chains and agents -----------------------------------------------------------------------------------------------


def test_calls_of_a_chain_are_told_as_they_end_and_once_it_has_ended():
    handler, log = shown_by()
    chain(model()).invoke({"topic": "weather"}, {"callbacks": [handler]})
    lines = log.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["1 call", "2 calls", "2 calls"]
    assert "USD" in lines[-1]
    assert "tokens in" in lines[-1]


async def test_calls_of_async_chains_and_streams_count_alike():
    handler, log = shown_by()
    async for _ in chain(model()).astream({"topic": "weather"}, {"callbacks": [handler]}):
        pass
    assert log.getvalue().splitlines()[-1].startswith("2 calls")


def test_a_batch_shares_one_view():
    handler, log = shown_by()
    chain(model()).batch([{"topic": str(place)} for place in range(6)], {"callbacks": [handler]})
    lines = log.getvalue().splitlines()
    assert lines[-1].startswith("12 calls")
    assert [line.partition(" ")[0] for line in lines] == ["1", "2", "5", "10", "12"]


def test_each_invocation_is_counted_by_itself():
    handler, log = shown_by()
    for _ in range(2):
        model().invoke("hi", {"callbacks": [handler]})
    assert [line.partition(",")[0] for line in log.getvalue().splitlines()] == ["1 call"] * 4


def test_a_model_without_a_price_can_be_priced_as_another_one():
    unknown = ScriptedChatModel(script=["ok"])
    handler, log = shown_by()
    unknown.invoke("hi", {"callbacks": [handler]})
    assert "cost unknown" in log.getvalue()
    handler, log = shown_by({"price_as": {"scripted": "openai:gpt-4o-mini"}})
    unknown.invoke("hi", {"callbacks": [handler]})
    assert "USD" in log.getvalue()


def test_a_chain_without_calls_shows_nothing():
    handler, log = shown_by()
    RunnableLambda(lambda value: value + 1).invoke(1, {"callbacks": [handler]})
    assert log.getvalue() == ""


def test_a_chain_that_fails_is_closed(terminal):
    def broken(_):
        raise LookupError("no")

    with pytest.raises(LookupError):
        (chain(model()) | broken).invoke({"topic": "x"}, {"callbacks": [ProgressCallbackHandler(stream=terminal)]})
    drawn = terminal.getvalue()
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert "2 calls, " in drawn[drawn.rindex("\x1b[?25h") :]


async def test_a_chain_that_is_cancelled_in_a_call_is_closed(terminal):
    started = asyncio.Event()

    async def hang(call, chunk):
        if call == 1:
            started.set()
            await asyncio.Event().wait()

    whole = chain(model("one", "two", hook=hang))
    run = asyncio.create_task(whole.ainvoke({"topic": "x"}, {"callbacks": [ProgressCallbackHandler(stream=terminal)]}))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    drawn = terminal.getvalue()
    assert "1 call, " in drawn[drawn.rindex("\x1b[?25h") :]


async def test_calls_of_a_model_that_was_given_the_handler_by_itself_close_with_it():
    handler, log = shown_by()
    heard = model().with_config(callbacks=[handler])
    await (RunnableLambda(lambda value: value) | heard).ainvoke("hi")
    assert [line.partition(",")[0] for line in log.getvalue().splitlines()] == ["1 call", "1 call"]


def test_calls_that_failed_or_came_from_the_cache_are_told():
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache

    handler, log = shown_by()
    cached = ScriptedChatModel(script=["ok"], cache=InMemoryCache())
    set_llm_cache(None)
    (cached | (lambda _: "hi") | cached).invoke("hi", {"callbacks": [handler]})
    assert log.getvalue().splitlines()[-1].startswith("1 call, 1 cached, ")


def test_completion_models_and_calls_that_fail_are_told():
    handler, log = shown_by()
    FakeListLLM(responses=["ok"]).invoke("hi", {"callbacks": [handler]})
    assert log.getvalue().splitlines()[-1].startswith("1 call, 0 tokens in, 0 out, cost unknown")
    handler, log = shown_by()
    with pytest.raises(ConnectionResetError):
        list(model(fails_after=1).stream("hi", {"callbacks": [handler]}))
    assert log.getvalue().splitlines()[-1].startswith("1 call, ")


def test_calls_in_a_run_are_the_runs_alone():
    handler, log = shown_by()
    app = RunGraph(model=model()).add_task("a", prompt="Say {it}").compile()
    (chain(model()) | (lambda text: {"inputs": {"it": str(text)}}) | app).invoke(
        {"topic": "weather"}, {"callbacks": [handler]}
    )
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("1 call")
    assert any(line.startswith("completed: 1 of 1 task") for line in lines)
    assert lines[-1].startswith("2 calls")


def test_a_log_is_told_ever_more_rarely():
    assert [calls for calls in range(1, 3000) if is_told(calls)] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]


# --- where it is shown -----------------------------------------------------------------------------------------------


def test_without_a_stream_standard_error_is_used(capsys):
    mapped(1).compile().invoke({"inputs": {}}, {"callbacks": [ProgressCallbackHandler()]})
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("started: 2 tasks")


def test_a_terminal_that_rich_draws_on_for_somebody_else_gets_lines(monkeypatch, terminal):
    from rich.console import Console
    from rich.live import Live

    monkeypatch.setattr(sys, "stderr", terminal)
    with Live("mine", console=Console(file=terminal), refresh_per_second=0.01):
        assert sys.stderr is not terminal
        mapped(1).compile().invoke({"inputs": {}}, {"callbacks": [ProgressCallbackHandler()]})
    assert "started: 2 tasks, no limit" in terminal.getvalue()
    assert terminal.getvalue().count("\x1b[?25l") == 1


def test_a_plain_process_is_no_notebook():
    assert not live.is_notebook()

"""What answers a prompt: a model, a model with a reply format, or an agent's loop; and where it runs."""

import asyncio
import sys
import threading
from concurrent.futures import Future

import pytest
from langchain_core.tools import tool

from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RetrySpec, RunPolicy
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.models import open_model
from langchain_runtime.graph.own_loop import run_in_own_loop
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

CATALOG = {"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}}


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


def without(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


async def test_a_prompt_with_tools_is_answered_by_an_agent_whose_every_call_is_charged():
    model = ScriptedChatModel(provider="test", model="m", script=({"city": "Graz"}, "Take an umbrella."))
    ledger = InMemoryLedger()
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(100)), model=model).add_task(
        "t", prompt="Umbrella?", tools=[weather]
    )
    config = {"configurable": {"run_id": "r"}}
    output = await graph.compile(ledger=ledger, catalog=ModelCatalog(CATALOG)).ainvoke({"inputs": {}}, config)
    assert output["results"]["t"].output == "Take an umbrella."
    assert "rain in Graz" in model.calls[1].messages[-1].text
    assert len(ledger.reservations("r")) == 2
    assert ledger.balance("run:r").spent == output["run"].usage.cost


async def test_tools_without_the_agents_package_are_refused_before_anything_runs(monkeypatch):
    without(monkeypatch, "langchain.agents")
    graph = RunGraph(model=ScriptedChatModel()).add_task("t", prompt="Umbrella?", tools=[weather])
    with pytest.raises(InvalidInputError, match="needs LangChain's agents"):
        await graph.compile().ainvoke({"inputs": {}})


def test_a_named_model_needs_langchain_and_says_so(monkeypatch):
    without(monkeypatch, "langchain.chat_models")
    with pytest.raises(InvalidInputError, match="init_chat_model"):
        open_model("openai:gpt-5-mini")


def test_a_missing_provider_package_is_named(monkeypatch):
    without(monkeypatch, "langchain_groq")
    with pytest.raises(InvalidInputError, match="not installed") as caught:
        open_model("groq:llama-3.3-70b-versatile")
    assert "langchain-groq" in caught.value.hint


async def test_a_model_given_by_name_is_used_instead_of_opening_it():
    model = ScriptedChatModel(script=("mine",))
    graph = RunGraph(model="openai:gpt-5-mini").add_task("t", prompt="Hi").compile(models={"openai:gpt-5-mini": model})
    assert (await graph.ainvoke({"inputs": {}}))["results"]["t"].output == "mine"


def test_a_reply_out_of_format_is_no_result_and_another_attempt_asks_again():
    schema = {
        "title": "Order",
        "description": "an order",
        "type": "object",
        "properties": {"cups": {"type": "integer"}},
    }
    model = ScriptedChatModel(script=("no tool call", {"cups": 2}))
    for attempts in (1, 2):
        retry = RetrySpec(max_attempts=attempts, initial_interval_ms=1)
        graph = RunGraph(model=model).add_task("t", prompt="Order tea.", response_format=schema, retry=retry)
        task = graph.compile(raise_on_failure=False).invoke({"inputs": {}})["run"].tasks["t"]
        if attempts == 1:
            assert "reply format" in task.error.message
            model.calls.clear()
        else:
            assert task.outputs.output == {"cups": 2}
            assert task.actual_use.tokens.output == 3 + 2  # three words that were refused, and what came then


def test_ctrl_c_while_waiting_cancels_what_runs_in_the_loop(monkeypatch):
    running, cancelled = threading.Event(), threading.Event()
    waited = Future.result

    def interrupted(future, timeout=None):
        monkeypatch.setattr(Future, "result", waited)
        running.wait(5)
        raise KeyboardInterrupt

    async def work():
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_in_own_loop(work)
    assert cancelled.is_set()


def test_an_error_in_the_loop_reaches_the_waiting_thread():
    async def work():
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        run_in_own_loop(work)


def test_events_after_the_loop_has_closed_are_dropped():
    async def make():
        log = EventLog(InMemoryLedger(), lambda value: None)
        await log.close()
        return log

    log = asyncio.run(make())
    log.stream("late")
    log.emit("late")


async def test_what_a_run_wrote_is_flushed_while_it_runs(monkeypatch):
    monkeypatch.setattr("langchain_runtime.graph.event_log._FLUSH_SECONDS", 0.01)
    ledger, seen = InMemoryLedger(), asyncio.Event()

    async def body(inputs):
        while not ledger.events("r"):
            await asyncio.sleep(0.01)
        seen.set()

    async with asyncio.timeout(5):
        await (
            RunGraph()
            .add_task("t", body)
            .compile(ledger=ledger)
            .ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
        )
    assert seen.is_set()


async def test_a_body_that_is_stuck_in_python_is_told_apart_from_one_that_cancelled_itself():
    async def cancels_itself(inputs):
        raise asyncio.CancelledError

    with pytest.raises(RunFailedError) as caught:
        await RunGraph().add_task("t", cancels_itself).compile().ainvoke({"inputs": {}})
    assert caught.value.run.tasks["t"].error.code == "task_cancelled"
    assert "by its own body" in caught.value.run.tasks["t"].error.message

"""Callback handlers that hear the lifecycle events of runs."""

import logging

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.graph import END, START, StateGraph

from langchain_runtime.contracts.events import RunEnded, RunStarted, TaskFinished, TaskStarted
from langchain_runtime.contracts.run import RunState
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger


class Listener(BaseCallbackHandler):
    def __init__(self):
        self.events = []

    def on_run_event(self, event):
        self.events.append(event)


class Broken(Listener):
    def on_run_event(self, event):
        super().on_run_event(event)
        raise LookupError("the screen is gone")


def two_tasks():
    return RunGraph().add_task("a", lambda _: 1).add_task("b", lambda inputs: inputs["a"] + 1, deps=["a"])


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
async def test_a_handler_hears_what_the_journal_keeps(mode):
    ledger, listener = InMemoryLedger(), Listener()
    app = two_tasks().compile(ledger=ledger, mode=mode)
    await app.ainvoke({"inputs": {}}, {"callbacks": [listener], "configurable": {"run_id": "r"}})
    assert listener.events == [event for _, event in ledger.events("r")]
    assert isinstance(listener.events[0], RunStarted)
    assert isinstance(listener.events[-1], RunEnded)
    assert [event.task for event in listener.events if isinstance(event, TaskFinished)] == ["a", "b"]


def test_a_handler_hears_of_sync_runs_and_is_told_once_though_it_is_named_twice():
    listener = Listener()
    two_tasks().compile().with_config(callbacks=[listener]).invoke({"inputs": {}}, {"callbacks": [listener]})
    assert sum(isinstance(event, RunStarted) for event in listener.events) == 1


async def test_a_handler_of_a_parent_graph_hears_of_runs_inside_it():
    listener = Listener()
    inner = two_tasks().compile()

    async def node(state):
        await inner.ainvoke({"inputs": {}})
        return state

    parent = StateGraph(dict).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()
    await parent.ainvoke({}, {"callbacks": [listener]})
    assert sum(isinstance(event, TaskStarted) for event in listener.events) == 2


async def test_a_handler_that_fails_is_not_told_any_more_and_ends_no_run(caplog):
    broken, listener = Broken(), Listener()
    with caplog.at_level(logging.WARNING):
        output = await two_tasks().compile().ainvoke({"inputs": {}}, {"callbacks": [broken, listener]})
    assert output["run"].state is RunState.COMPLETED
    assert len(broken.events) == 1
    assert isinstance(listener.events[-1], RunEnded)
    assert "hears no more" in caplog.text

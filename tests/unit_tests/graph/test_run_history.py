"""What is kept of what runs took, and how it is found again."""

import asyncio
import logging
from dataclasses import replace

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore
from langgraph.types import Command, interrupt

from langchain_runtime.contracts.history import TaskSample
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import acarry_out, carry_out
from langchain_runtime.contracts.run import RunPolicy, now
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.graph import RunGraph
from langchain_runtime.graph.run_history import RunHistory
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

CONFIG = {"configurable": {"thread_id": "1"}}


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield InMemoryStore()
        return
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as sqlite:
        sqlite.setup()
        yield sqlite


def kept(store, graph="RunGraph"):
    """Samples by a history of its own: nothing is remembered by an object."""
    return carry_out(RunHistory(store).past_runs(graph))._samples


def sample(task="t", **fields):
    return TaskSample(**{"task": task, "body": "b", "model": None, "seconds": 1.0, **fields})


def test_samples_come_back_as_they_were(store):
    samples = [
        sample(
            model="openai:gpt-5.4-mini",
            seconds=1.25,
            tokens=TokenUsage(input=7, output=5, cache_read=3, reasoning=2),
            cost=Cost("0.000000001", "EUR"),
            received=40,
            read={"text": 30},
            written=12,
        ),
        sample("map#"),
        sample("map", items=3),
    ]
    carry_out(RunHistory(store).add("a graph. with dots", "run", samples))
    came_back = kept(store, "a graph. with dots")
    assert [replace(each, run="") for each in came_back] == samples
    assert {each.run.partition(":")[0] for each in came_back} == {"run"}


def test_a_graph_keeps_its_latest_runs(store):
    for number in range(25):
        carry_out(RunHistory(store).add("g", f"run-{number}", [sample(seconds=float(number))]))
    assert sorted(each.seconds for each in kept(store, "g")) == list(range(5, 25))
    newest = carry_out(RunHistory(store).durations("g"))
    assert [list(each.values()) for each in newest] == [[24], [23], [22]]


def test_what_was_known_at_some_moment_can_be_asked_for(store):
    history = RunHistory(store)
    carry_out(history.add("g", "early", [sample(seconds=1.0)]))
    moment = now()
    carry_out(history.add("g", "late", [sample(seconds=2.0)]))
    known = carry_out(history.durations("g", before=moment))
    assert [list(each.values()) for each in known] == [[1.0]]
    assert [list(each.values()) for each in carry_out(history.durations("g"))] == [[2.0], [1.0]]


def test_runs_of_other_graphs_are_not_its_own(store):
    carry_out(RunHistory(store).add("g", "run", [sample()]))
    carry_out(RunHistory(store).add("graph", "run", [sample(seconds=2.0)]))
    assert [each.seconds for each in kept(store, "g")] == [1.0]
    both = carry_out(RunHistory(store).past_runs("g", others=True))
    assert sorted(each.seconds for each in both._samples) == [1.0, 2.0]


def test_runs_that_end_at_the_same_time_are_all_kept(store):
    async def ends(number):
        await acarry_out(RunHistory(store).add("g", "run", [sample(seconds=float(number))]))

    async def all_end():
        await asyncio.gather(*map(ends, range(10)))

    asyncio.run(all_end())
    assert len(kept(store, "g")) == 10


def test_an_item_of_another_version_is_left_alone(store):
    carry_out(RunHistory(store).add("g", "run", [sample()]))
    (item,) = store.search(("langchain_runtime_history",))
    store.put(item.namespace, "future", {"version": 99})
    assert len(kept(store, "g")) == 1


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_a_run_leaves_figures_and_no_text(store):
    graph = RunGraph(model=ScriptedChatModel(script=("a secret reply",)))
    graph.add_task("list", lambda inputs: ["x", "y"])
    graph.add_task("each", prompt="A secret prompt: {item}", deps=["list"], for_each={"task": "list"})
    graph.compile(store=store).invoke({"inputs": {}})
    samples = {each.task: each for each in kept(store)}
    assert list(samples) == ["list", "each#", "each"]
    assert samples["each"].items == 2
    each = samples["each#"]
    assert (each.tokens.output, each.received, each.written) == (3, len("A secret prompt: x"), len("a secret reply"))
    assert each.model == "scripted:scripted-1"
    assert not any("secret" in str(item.value) for item in store.search(("langchain_runtime_history",)))


def test_tasks_that_did_not_complete_or_did_no_work_leave_nothing(store):
    def fails(inputs):
        raise ValueError("no")

    graph = RunGraph().add_task("fails", fails).add_task("after", lambda inputs: 1, deps=["fails"])
    graph.add_task("a", lambda inputs: 1, cache=True)
    app = graph.compile(store=store, raise_on_failure=False)
    app.invoke({"inputs": {}})
    app.invoke({"inputs": {}})
    assert [each.task for each in kept(store)] == ["a"]  # the second time its result was taken from the first


def test_each_part_of_an_interrupted_run_is_kept_once(store):
    graph = RunGraph().add_task("before", lambda inputs: 1)
    graph.add_task("asks", lambda inputs: interrupt("?"), deps=["before"])
    app = graph.compile(store=store, checkpointer=InMemorySaver())
    app.invoke({"inputs": {}}, CONFIG)
    assert [each.task for each in kept(store)] == ["before"]
    app.invoke(Command(resume="yes"), CONFIG)
    assert sorted(each.task for each in kept(store)) == ["asks", "before"]


def test_both_modes_learn(store):
    app = RunGraph().add_task("t", lambda inputs: 1).compile(store=store, mode="supersteps")
    app.invoke({"inputs": {}})
    assert [each.task for each in kept(store)] == ["t"]


class Full(InMemoryStore):
    """Takes nothing."""

    def batch(self, ops):
        raise OSError("no space left on device")

    async def abatch(self, ops):
        raise OSError("no space left on device")


def test_a_run_does_not_fail_for_want_of_its_history(caplog):
    app = RunGraph().add_task("t", lambda inputs: 1).compile(store=Full())
    with caplog.at_level(logging.WARNING):
        assert app.invoke({"inputs": {}})["results"]["t"].output == 1
    assert "no space left on device" in caplog.text


def test_what_took_longest_goes_first_the_next_time(store):
    order = []

    def body(name, seconds):
        async def run(inputs):
            order.append(name)
            await asyncio.sleep(seconds)

        return run

    graph = RunGraph(RunPolicy(max_parallelism=1))
    for name, seconds in {"a": 0.001, "b": 0.03, "c": 0.06}.items():
        graph.add_task(name, body(name, seconds))
    app = graph.compile(store=store)
    app.invoke({"inputs": {}})
    app.invoke({"inputs": {}})
    assert order == ["a", "b", "c", "c", "b", "a"]

"""``runtime.enqueue``: tasks that a body adds to the run it is in."""

import asyncio
from collections import Counter

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RetrySpec, RunState
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

THREAD = {"configurable": {"thread_id": "1", "run_id": "r"}}
CATALOG = {"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


async def run(graph, given=None, *, sync=False, config=THREAD):
    if sync:
        return await asyncio.to_thread(graph.invoke, given, config)
    return await graph.ainvoke(given, config)


def outputs(output):
    return {task_id: result.output for task_id, result in output["results"].items()}


def states(run_):
    return {task_id: str(task.state) for task_id, task in run_.tasks.items()}


def echo(**fields):
    return ScriptedChatModel(provider="test", model="m", script=lambda messages: str(messages[-1].content), **fields)


# --- what runs -------------------------------------------------------------------------------------------------------


@both_modes
@sync_and_async
@pytest.mark.parametrize("kind", ["sync body", "async body"])
async def test_what_a_body_enqueues_runs_after_it(mode, sync, kind):
    seen = []

    def add(inputs, runtime):
        runtime.enqueue("ask", prompt="{word} {number}", deps={"word": "words"}, inputs={"number": 7})
        runtime.enqueue("again", like="work", deps=["ask", "plan"], inputs={"own": 1, "shared": "mine"})
        return "planned"

    async def add_async(inputs, runtime):
        add(inputs, runtime)
        return "planned"

    def work(inputs):
        seen.append(inputs)
        return len(seen)

    graph = (
        RunGraph(model=echo())
        .add_task("words", lambda _: "hello")
        .add_task("plan", add if kind == "sync body" else add_async, deps=["words"])
        .add_task("work", work, deps=["plan"])
        .compile(mode=mode)
    )
    output = await run(graph, {"inputs": {"shared": "everybody's"}}, sync=sync)
    assert outputs(output) | {"work": 0, "again": 0} == {
        "words": "hello",
        "plan": "planned",
        "ask": "hello 7",
        "again": 0,
        "work": 0,
    }
    assert sorted(seen, key=len) == [
        {"shared": "everybody's", "plan": "planned"},
        {"shared": "mine", "own": 1, "ask": "hello 7", "plan": "planned"},
    ]
    run_ = output["run"]
    assert run_.state is RunState.COMPLETED
    assert run_.tasks["ask"].deps == ["plan", "words"]
    assert run_.tasks["ask"].actual_use.tokens.output == 2
    assert run_.dag.nodes["plan"].next == ["work", "ask", "again"]


@both_modes
async def test_children_of_for_each_may_enqueue_and_so_may_what_they_enqueued(mode):
    def dig(inputs, runtime):
        depth = inputs.get("depth", 0)
        if depth < 2:
            name = runtime.task_id.replace("#", "-")
            runtime.enqueue(f"{name}.{depth}", like="map", inputs={"item": inputs["item"], "depth": depth + 1})
        return depth

    graph = (
        RunGraph()
        .add_task("list", lambda _: ["a", "b"])
        .add_task("map", dig, deps=["list"], for_each=ForEach(task="list"))
        .compile(mode=mode)
    )
    assert outputs(await run(graph, {"inputs": {}})) == {
        "list": ["a", "b"],
        "map": [0, 0],
        "map#0": 0,
        "map#1": 0,
        "map-0.0": 1,
        "map-0.0.1": 2,
        "map-1.0": 1,
        "map-1.0.1": 2,
    }


async def test_urgent_tasks_start_first():
    order = []

    def add(inputs, runtime):
        for name, priority in (("low", 0), ("high", 5), ("middle", 3)):
            runtime.enqueue(name, like="note", priority=priority)

    graph = (
        RunGraph(RunPolicy(max_parallelism=1))
        .add_task("note", lambda inputs, runtime: order.append(runtime.task_id))
        .add_task("add", add, deps=["note"])
        .compile()
    )
    await run(graph, {"inputs": {}})
    assert order == ["note", "high", "middle", "low"]


async def test_tasks_that_end_together_may_be_waited_for_by_a_new_one():
    together = asyncio.Event()

    async def wait(inputs):
        await together.wait()
        return 1

    async def add(inputs, runtime):
        runtime.enqueue(f"new-{runtime.task_id}", like="first", deps=["wait0", "wait1", "wait2"])
        await together.wait()

    async def first(inputs):
        together.set()

    graph = RunGraph(RunPolicy(max_parallelism=10))
    for number in range(3):
        graph.add_task(f"wait{number}", wait, priority=10 - number)
        graph.add_task(f"add{number}", add, priority=10 - number)
    graph.add_task("first", first)
    output = await run(graph.compile(), {"inputs": {}})
    assert output["run"].state is RunState.COMPLETED
    assert {f"new-add{number}" for number in range(3)} <= output["results"].keys()


async def test_cached_tasks_are_equal_when_they_are_like_the_same_task_and_not_for_coming_from_the_same_body():
    calls = Counter()

    def add(inputs, runtime):
        for name, like in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            runtime.enqueue(name, like=like, inputs={"x": 1})

    def named(name):
        def body(inputs):
            calls[name] += 1
            return name

        return body

    graph = RunGraph(inputs={"x": 0}).add_task("a", named("a"), cache=True).add_task("b", named("b"), cache=True)
    output = await run(graph.add_task("add", add).compile(), {"inputs": {}})
    assert {name: outputs(output)[name] for name in ("a1", "a2", "b1")} == {"a1": "a", "a2": "a", "b1": "b"}
    assert calls == {"a": 2, "b": 2}


@both_modes
async def test_a_new_task_may_wait_for_what_comes_after_the_body_that_added_it(mode):
    def add(inputs, runtime):
        runtime.enqueue("last", like="after", deps={"add": "after"})
        return "added"

    graph = RunGraph().add_task("add", add).add_task("after", lambda inputs: inputs["add"] + "!", deps=["add"])
    async with asyncio.timeout(10):
        output = await run(graph.compile(mode=mode), {"inputs": {}})
    assert outputs(output) == {"add": "added", "after": "added!", "last": "added!!"}


# --- what does not count ---------------------------------------------------------------------------------------------


async def test_what_a_failed_attempt_enqueued_is_void():
    def add(inputs, runtime):
        runtime.enqueue(f"from-{runtime.attempt}", like="work")
        if runtime.attempt == 1:
            raise ValueError("boom")

    graph = RunGraph().add_task("work", lambda _: 1)
    graph.add_task("add", add, retry=RetrySpec(max_attempts=2, initial_interval_ms=0))
    output = await run(graph.compile(), {"inputs": {}})
    assert set(output["results"]) == {"work", "add", "from-2"}
    assert set(output["run"].tasks) == {"work", "add", "from-2"}


@pytest.mark.parametrize(
    ("enqueued", "text"),
    [
        ({"id": "work", "like": "work"}, "the graph has a task of that id"),
        ({"id": "n", "like": "gone"}, "is like 'gone', which the graph does not have"),
        ({"id": "n", "like": "work", "deps": ["gone"]}, "depends on 'gone'"),
        ({"id": "n", "prompt": "{gone}", "model": "extractive"}, "{gone}, which nothing supplies"),
        ({"id": "n", "prompt": "x"}, "no model"),
        ({"id": "n", "prompt": "x", "model": "nobody:x"}, "nobody:x"),
        ({"id": "a/b", "like": "work"}, "not a valid task id"),
    ],
)
async def test_what_the_run_cannot_take_fails_the_body_that_asked_for_it(enqueued, text):
    calls = []

    def add(inputs, runtime):
        calls.append(1)
        runtime.enqueue(enqueued["id"], **{key: value for key, value in enqueued.items() if key != "id"})

    graph = RunGraph().add_task("work", lambda _: 1)
    graph.add_task("add", add, retry=RetrySpec(max_attempts=3, initial_interval_ms=0))
    with pytest.raises(RunFailedError) as caught:
        await run(graph.compile(), {"inputs": {}})
    assert states(caught.value.run) == {"work": "completed", "add": "failed"}
    assert text in caught.value.run.tasks["add"].error.message
    assert len(calls) == 1, "another try would end in the same way"


async def test_of_two_bodies_that_choose_one_id_one_fails():
    def add(inputs, runtime):
        runtime.enqueue("n", like="work")

    graph = RunGraph().add_task("work", lambda _: 1).add_task("a", add).add_task("b", add)
    with pytest.raises(RunFailedError, match="has added one of that id") as caught:
        await run(graph.compile(), {"inputs": {}})
    assert Counter(states(caught.value.run).values()) == {"completed": 3, "failed": 1}


async def test_a_model_without_a_price_is_refused_under_a_limit():
    def add(inputs, runtime):
        runtime.enqueue("n", prompt="x", model="test:unpriced")

    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(1))).add_task("add", add)
    models = {"test:unpriced": ScriptedChatModel(provider="test", model="unpriced")}
    with pytest.raises(RunFailedError, match="test:unpriced") as caught:
        await run(graph.compile(models=models, catalog=ModelCatalog(CATALOG)), {"inputs": {}})
    assert states(caught.value.run) == {"add": "failed"}


async def test_a_new_task_that_fails_fails_the_run_and_not_the_body_that_added_it():
    def work(inputs):
        raise ValueError("boom")

    def add(inputs, runtime):
        runtime.enqueue("n", like="work", deps=["other"])
        runtime.enqueue("after", like="other", deps=["n"])

    graph = RunGraph().add_task("other", lambda _: 1).add_task("add", add, deps=["other"])
    graph.add_task("work", work, deps=["other"])
    with pytest.raises(RunFailedError) as caught:
        await run(graph.compile(), {"inputs": {}})
    assert states(caught.value.run) == {
        "other": "completed",
        "add": "completed",
        "work": "failed",
        "n": "failed",
        "after": "skipped",
    }
    assert caught.value.run.tasks["after"].skipped_because == "n"


# --- resuming --------------------------------------------------------------------------------------------------------


@both_modes
@sync_and_async
async def test_a_resume_has_the_same_tasks_and_runs_only_what_is_not_finished(mode, sync, tmp_path):
    calls, broken = Counter(), {"n"}
    saver, books = InMemorySaver(), tmp_path / "ledger.db"

    def add(inputs, runtime):
        calls["add"] += 1
        runtime.enqueue("n", like="work", inputs={"call": calls["add"]})
        runtime.enqueue("m", like="work", deps=["n"])

    def work(inputs, runtime):
        calls[runtime.task_id] += 1
        if runtime.task_id in broken:
            raise ValueError("boom")
        return inputs.get("call")

    def graph():
        described = RunGraph().add_task("work", work).add_task("add", add)
        return described.compile(mode=mode, checkpointer=saver, ledger=SqliteLedger(books))

    with pytest.raises(RunFailedError):
        await run(graph(), {"inputs": {}}, sync=sync)
    seen = await asyncio.to_thread(graph().get_run, THREAD)
    assert states(seen) == {"work": "completed", "add": "completed", "n": "failed", "m": "skipped"}
    broken.clear()
    output = await run(graph(), sync=sync)
    assert output["run"].state is RunState.COMPLETED
    assert outputs(output)["n"] == 1
    assert calls == {"add": 1, "work": 1, "n": 2, "m": 1}


async def test_what_a_finished_child_added_goes_on_with_a_resume_before_its_siblings_are_done():
    calls, broken = Counter(), {"map#1", "from-0"}

    def each(inputs, runtime):
        calls[runtime.task_id] += 1
        if runtime.task_id in broken:
            raise ValueError("boom")
        if runtime.task_id == "map#0":
            runtime.enqueue("from-0", like="map", inputs={"item": "own"})
        return inputs["item"]

    graph = (
        RunGraph()
        .add_task("list", lambda _: ["a", "b"])
        .add_task("map", each, deps=["list"], for_each=ForEach(task="list"))
        .compile(checkpointer=InMemorySaver(), ledger=InMemoryLedger())
    )
    with pytest.raises(RunFailedError):
        await run(graph, {"inputs": {}})
    broken.clear()
    output = await run(graph)
    assert outputs(output) == {"list": ["a", "b"], "map#0": "a", "map#1": "b", "map": ["a", "b"], "from-0": "own"}
    assert calls == {"map#0": 1, "map#1": 2, "from-0": 2}


# --- money -----------------------------------------------------------------------------------------------------------


@sync_and_async
async def test_a_body_reads_the_budget_of_its_run(sync):
    seen = {}

    def look(inputs, runtime):
        budget = runtime.budget
        seen.update(spent=budget.spent, held=budget.held, remaining=budget.remaining, limit=budget.limit)
        if budget.remaining > Cost.usd("0.5"):
            runtime.enqueue("more", prompt="one two")

    graph = (
        RunGraph(RunPolicy(budget_limit=Cost.usd(50)), model=echo())
        .add_task("ask", prompt="Say it.", max_output_tokens=10)
        .add_task("look", look, deps=["ask"])
        .compile(catalog=ModelCatalog(CATALOG))
    )
    output = await run(graph, {"inputs": {}}, sync=sync)
    asked = output["run"].tasks["ask"].actual_use.cost
    assert seen == {
        "spent": asked,
        "held": Cost.usd(0),
        "remaining": Cost.usd(50) - asked,
        "limit": Cost.usd(50),
    }
    assert asked > Cost.usd(0)
    assert output["run"].usage.cost == asked + output["run"].tasks["more"].actual_use.cost


async def test_a_run_without_a_limit_has_a_budget_without_one():
    seen = []
    graph = RunGraph().add_task(
        "look", lambda _, runtime: seen.append((runtime.budget.limit, runtime.budget.remaining))
    )
    await run(graph.compile(), {"inputs": {}})
    assert seen == [(None, None)]

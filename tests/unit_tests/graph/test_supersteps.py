"""Mode ``supersteps``: LangGraph's own nodes, steps and history over the same task bodies, planner and books."""

import asyncio
import random

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.errors import InvalidInputError, RunAbortedError, RunFailedError
from langchain_runtime.contracts.run import RetrySpec, RunState, TaskState
from langchain_runtime.contracts.task_spec import Condition, ForEach

MODES = ("dataflow", "supersteps")


def thread(name="1"):
    return {"configurable": {"thread_id": name}}


async def run(graph, given, config=None, *, sync=False, **kwargs):
    if sync:
        return await asyncio.to_thread(graph.invoke, given, config, **kwargs)
    return await graph.ainvoke(given, config, **kwargs)


def added(value):
    return sum(map(added, value)) if isinstance(value, list) else value


def random_graph(seed):
    """A DAG with failures, retries, conditions, lists and enqueued tasks; bodies depend on their inputs alone."""
    rng = random.Random(seed)
    policy = RunPolicy(
        max_parallelism=rng.randint(1, 6),
        on_task_failure="continue",
        retry=RetrySpec(max_attempts=rng.randint(1, 3), initial_interval_ms=0),
    )
    graph = RunGraph(policy)
    size = rng.randint(1, 14)
    lists = []
    for number in range(size):
        deps = sorted(rng.sample(range(number), k=min(number, rng.choice([0, 1, 1, 2, 3]))))
        fails_until = rng.choice([0, 0, 0, 0, 1, 2, 9])
        enqueues = rng.random() < 0.2
        items = rng.randint(0, 3) if rng.random() < 0.3 else None

        def body(inputs, runtime, number=number, fails_until=fails_until, enqueues=enqueues, items=items):
            if runtime.attempt <= fails_until:
                raise ValueError(f"attempt {runtime.attempt} of {number}")
            if enqueues:
                runtime.enqueue(f"{runtime.task_id.replace('#', '-')}-more", like="leaf", inputs={"n": number})
            total = number + sum(added(value) for name, value in inputs.items() if name != "n")
            return total if items is None else [total] * items

        when = for_each = None
        if set(deps) & set(lists):
            for_each = ForEach(task=f"t{next(dep for dep in deps if dep in lists)}")
        elif deps and rng.random() < 0.2:
            when = Condition(task=f"t{deps[0]}", op=rng.choice(["ge", "lt"]), value=rng.randint(0, 20))
        elif items is not None:
            lists.append(number)
        graph.add_task(f"t{number}", body, deps=[f"t{dep}" for dep in deps], when=when, for_each=for_each)
    return graph.add_task("leaf", lambda inputs: inputs.get("n", -1))


def story(output):
    return {
        task_id: (task.state, task.attempts, task.outputs and task.outputs.output, task.error and task.error.message)
        for task_id, task in output["run"].tasks.items()
    }


@pytest.mark.parametrize("chunk", range(8))
async def test_both_modes_give_equal_results_on_random_dags(chunk):
    for seed in range(chunk * 25, chunk * 25 + 25):
        stories = {}
        for mode in MODES:
            graph = random_graph(seed).compile(mode=mode, raise_on_failure=False)
            output = await run(graph, {"inputs": {}}, sync=seed % 5 == 0)
            stories[mode] = (output["run"].state, story(output), set(output["results"]))
        assert stories["dataflow"] == stories["supersteps"], f"seed {seed}"


@pytest.mark.parametrize("sync", [True, False])
async def test_each_task_is_a_node_with_a_checkpoint_after_each_step(sync):
    graph = (
        RunGraph()
        .add_task("a", lambda inputs: 1)
        .add_task("b", lambda inputs: inputs["a"] + 1, deps=["a"])
        .compile(mode="supersteps", checkpointer=InMemorySaver())
    )
    await run(graph, {"inputs": {}}, thread(), sync=sync)
    steps = [snapshot.next for snapshot in graph.get_state_history(thread())]
    assert steps == [(), ("finish",), ("driver",), ("b",), ("a",), ("prepare",), ("__start__",)]
    assert {"a", "b"} <= set(graph.get_graph().nodes)


async def test_updates_are_streamed_under_the_names_of_tasks():
    graph = RunGraph().add_task("a", lambda _: 1).add_task("b", lambda _: 2, deps=["a"]).compile(mode="supersteps")
    names = [name async for chunk in graph.astream({"inputs": {}}, stream_mode="updates") for name in chunk]
    assert names == ["prepare", "a", "b", "driver", "finish"]


@pytest.mark.parametrize("sync", [True, False])
async def test_langgraph_interrupts_before_a_task_by_itself(sync):
    graph = (
        RunGraph()
        .add_task("a", lambda _: 1)
        .add_task("b", lambda inputs: inputs["a"] + 1, deps=["a"])
        .compile(mode="supersteps", checkpointer=InMemorySaver())
    )
    output = await run(graph, {"inputs": {}}, thread(), sync=sync, interrupt_before=["b"])
    assert output["run"].state is RunState.RUNNING
    assert output["results"]["a"].output == 1
    assert graph.get_state(thread()).next == ("b",)
    output = await run(graph, None, thread(), sync=sync, interrupt_before=["b"])
    assert output["results"]["b"].output == 2


async def test_the_planner_bounds_what_a_superstep_runs_at_a_time():
    running, most = 0, 0

    async def body(_):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1

    graph = RunGraph(RunPolicy(max_parallelism=3))
    for number in range(12):
        graph.add_task(f"t{number}", body)
    await graph.compile(mode="supersteps").ainvoke({"inputs": {}})
    assert most == 3


async def test_priorities_hold_within_a_superstep():
    order = []
    graph = RunGraph(RunPolicy(max_parallelism=1))
    for name, priority in (("a", 0), ("b", 5), ("c", 1)):
        graph.add_task(name, lambda _, name=name: order.append(name), priority=priority)
    await graph.compile(mode="supersteps").ainvoke({"inputs": {}})
    assert order == ["b", "c", "a"]


@pytest.mark.parametrize("sync", [True, False])
async def test_a_failed_run_resumes_where_it_failed(sync):
    calls = []

    def flaky(_):
        calls.append("b")
        if len([call for call in calls if call == "b"]) == 1:
            raise ValueError("not yet")
        return 2

    graph = (
        RunGraph()
        .add_task("a", lambda _: calls.append("a"))
        .add_task("b", flaky, deps=["a"])
        .add_task("c", lambda inputs: inputs["b"] + 1, deps=["b"])
        .compile(mode="supersteps", checkpointer=InMemorySaver())
    )
    with pytest.raises(RunFailedError):
        await run(graph, {"inputs": {}}, thread(), sync=sync)
    output = await run(graph, None, thread(), sync=sync)
    assert output["results"]["c"].output == 3
    assert calls == ["a", "b", "b"]


@pytest.mark.parametrize("sync", [True, False])
async def test_failing_fast_cancels_the_superstep(sync):
    stopped = []

    async def waits(_):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    def fails(_):
        raise ValueError("no")

    graph = (
        RunGraph(RunPolicy(on_task_failure="fail_fast"))
        .add_task("waits", waits)
        .add_task("fails", fails)
        .add_task("after", lambda _: 1, deps=["waits"])
        .compile(mode="supersteps")
    )
    with pytest.raises(RunFailedError) as caught:
        await run(graph, {"inputs": {}}, sync=sync)
    assert stopped == [True]
    assert caught.value.run.tasks["after"].state is TaskState.PENDING


@pytest.mark.parametrize("sync", [True, False])
async def test_an_abort_ends_the_superstep(sync):
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def waits(_):
        loop.call_soon_threadsafe(started.set)
        await asyncio.Event().wait()

    graph = RunGraph().add_task("waits", waits).add_task("after", lambda _: 1, deps=["waits"])
    compiled = graph.compile(mode="supersteps")
    config = {"configurable": {"run_id": "r1"}}
    under_way = asyncio.create_task(run(compiled, {"inputs": {}}, config, sync=sync))
    await started.wait()
    assert compiled.abort("r1")
    with pytest.raises(RunAbortedError):
        await under_way


@pytest.mark.parametrize("mode", MODES)
async def test_a_graph_without_tasks_completes(mode):
    assert (await RunGraph().compile(mode=mode).ainvoke({"inputs": {}}))["run"].state is RunState.COMPLETED


async def test_a_consumer_that_leaves_stops_what_runs():
    stopped = asyncio.Event()

    async def waits(_):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    graph = RunGraph().add_task("a", lambda _: 1).add_task("waits", waits, deps=["a"]).compile(mode="supersteps")
    stream = graph.astream({"inputs": {}}, stream_mode="custom")
    async for event in stream:
        if event["kind"] == "task_started" and event["task"] == "waits":
            break
    await stream.aclose()
    await stopped.wait()
    assert not graph._supersteps._sessions


@pytest.mark.parametrize("mode", MODES)
async def test_the_graph_is_a_node_of_a_parent_graph(mode):
    child = RunGraph().add_task("double", lambda inputs: inputs["n"] * 2).compile(mode=mode)
    parent = StateGraph(dict)
    parent.add_node("child", child.as_node(inputs=lambda state: {"n": state["n"]}, output="double"))
    parent.set_entry_point("child")
    compiled = parent.compile()
    assert (await compiled.ainvoke({"n": 4}))["double"] == 8
    assert (await asyncio.to_thread(compiled.invoke, {"n": 4}))["double"] == 8


def test_an_unknown_mode_is_refused():
    with pytest.raises(InvalidInputError, match="'bsp'"):
        RunGraph().compile(mode="bsp")


async def test_a_long_chain_needs_no_recursion_limit():
    graph = RunGraph()
    for number in range(60):
        graph.add_task(f"t{number}", lambda _: 1, deps=[f"t{number - 1}"] if number else [])
    output = await graph.compile(mode="supersteps").ainvoke({"inputs": {}})
    assert output["run"].state is RunState.COMPLETED

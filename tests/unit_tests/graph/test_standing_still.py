"""A run that stands still: before or after tasks that the caller named, or because LangGraph is drained."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from langchain_runtime import RunGraph
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import RunState

THREAD = {"configurable": {"thread_id": "1"}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False])


class Steps:
    """a -> b -> c, and d beside them."""

    def __init__(self, **compile_options):
        self.order = []
        graph = RunGraph()
        for name, deps in (("a", []), ("b", ["a"]), ("c", ["b"]), ("d", [])):
            graph.add_task(name, lambda _, name=name: self.order.append(name), deps=deps)
        self.graph = graph.compile(checkpointer=InMemorySaver(), **compile_options)

    async def run(self, given, *, sync=False, **kwargs):
        self.order.clear()
        if sync:
            return await asyncio.to_thread(self.graph.invoke, given, THREAD, **kwargs)
        return await self.graph.ainvoke(given, THREAD, **kwargs)


@sync_and_async
async def test_it_stands_still_before_a_task_when_nothing_else_can_go_on(sync):
    steps = Steps()
    output = await steps.run({"inputs": {}}, sync=sync, interrupt_before=["b"])
    assert set(steps.order) == {"a", "d"}
    assert output["run"].state is RunState.RUNNING
    output = await steps.run(None, sync=sync, interrupt_before=["b"])
    assert steps.order == ["b", "c"]
    assert output["run"].state is RunState.COMPLETED


@sync_and_async
async def test_it_stands_still_after_a_task_and_holds_back_what_depends_on_it(sync):
    steps = Steps()
    await steps.run({"inputs": {}}, sync=sync, interrupt_after=["a"])
    assert set(steps.order) == {"a", "d"}
    await steps.run(None, sync=sync, interrupt_after=["a", "c"])
    assert steps.order == ["b", "c"]
    output = await steps.run(None, sync=sync, interrupt_after=["a", "c"])
    assert steps.order == []
    assert output["run"].state is RunState.COMPLETED


@both_modes
async def test_every_task_is_stepped_through_by_a_star(mode):
    steps = Steps(mode=mode, interrupt_before="*")
    await steps.run({"inputs": {}})
    seen = []
    for _ in range(3):
        output = await steps.run(None)
        seen.append(set(steps.order))
    assert seen == [{"a", "d"}, {"b"}, {"c"}]
    assert output["run"].state is RunState.COMPLETED


async def test_a_name_in_the_call_takes_the_place_of_those_at_compile():
    steps = Steps(interrupt_before=["b"])
    output = await steps.run({"inputs": {}}, interrupt_before=[])
    assert output["run"].state is RunState.COMPLETED


@both_modes
async def test_unknown_tasks_and_missing_checkpointers_are_refused(mode):
    graph = RunGraph().add_task("a", lambda _: 1)
    with pytest.raises(InvalidInputError, match="'z'"):
        graph.compile(mode=mode, interrupt_after=["z"])
    compiled = graph.compile(mode=mode)
    with pytest.raises(InvalidInputError, match="'driver'"):
        await compiled.ainvoke({"inputs": {}}, interrupt_before=["driver"])
    with pytest.raises(InvalidInputError, match="checkpointer"):
        await compiled.ainvoke({"inputs": {}}, interrupt_before=["a"])


@both_modes
@sync_and_async
async def test_a_drained_run_finishes_what_runs_and_resumes(mode, sync):
    control, order = RunControl(), []

    def first(_):
        control.request_drain("shutdown")
        order.append("first")

    graph = (
        RunGraph()
        .add_task("first", first)
        .add_task("second", lambda _: order.append("second"), deps=["first"])
        .compile(mode=mode, checkpointer=InMemorySaver())
    )

    async def run(given, **kwargs):
        if sync:
            return await asyncio.to_thread(graph.invoke, given, THREAD, **kwargs)
        return await graph.ainvoke(given, THREAD, **kwargs)

    with pytest.raises(GraphDrained, match="shutdown"):
        await run({"inputs": {}}, control=control)
    assert order == ["first"]
    output = await run(None)
    assert order == ["first", "second"]
    assert output["run"].state is RunState.COMPLETED

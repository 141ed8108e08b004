"""Streams in all of LangGraph's modes carry the names of tasks, in both modes and sync as well as async."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime import RunGraph
from langchain_runtime.testing import ScriptedChatModel

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False])


def graph(mode, **options):
    model = ScriptedChatModel(script=["one two three"], model_name="m", cycle=True)
    return (
        RunGraph(model=model)
        .add_task("ask", prompt="count")
        .add_task("length", lambda inputs: len(inputs["ask"]), deps=["ask"])
        .compile(mode=mode, **options)
    )


async def chunks(compiled, stream_mode, *, sync, **kwargs):
    given = {"inputs": {}}
    if sync:
        return await asyncio.to_thread(lambda: list(compiled.stream(given, stream_mode=stream_mode, **kwargs)))
    return [chunk async for chunk in compiled.astream(given, stream_mode=stream_mode, **kwargs)]


@both_modes
@sync_and_async
async def test_tasks_begin_and_end_under_their_names(mode, sync):
    seen = await chunks(graph(mode), "tasks", sync=sync)
    begun = [chunk["name"] for chunk in seen if "input" in chunk]
    ended = [chunk["name"] for chunk in seen if "result" in chunk]
    for names in (begun, ended):
        assert [name for name in names if name in {"ask", "length"}] == ["ask", "length"]


@both_modes
@sync_and_async
async def test_debug_tells_the_same(mode, sync):
    seen = await chunks(graph(mode), "debug", sync=sync)
    assert {"ask", "length"} <= {chunk["payload"].get("name") for chunk in seen}


@both_modes
@sync_and_async
async def test_tokens_come_from_the_task_that_wrote_them(mode, sync):
    seen = await chunks(graph(mode), "messages", sync=sync)
    assert {metadata["langgraph_node"] for _, metadata in seen} == {"ask"}
    assert "".join(message.text for message, _ in seen) == "one two three"


@both_modes
@sync_and_async
async def test_custom_streams_the_life_of_the_run(mode, sync):
    seen = await chunks(graph(mode), "custom", sync=sync)
    kinds = [(event["kind"], event.get("task")) for event in seen]
    assert kinds[0] == ("run_started", None)
    assert kinds[-1] == ("run_ended", None)
    assert kinds.index(("task_finished", "ask")) < kinds.index(("task_started", "length"))


@both_modes
@sync_and_async
async def test_updates_and_values_end_with_all_results(mode, sync):
    updates = await chunks(graph(mode), "updates", sync=sync)
    results = {}
    for update in updates:
        for change in update.values():
            if isinstance(change, dict) and "results" in change:
                results |= change["results"] or {}
    assert results["length"]["output"] == 13
    values = await chunks(graph(mode), "values", sync=sync)
    assert values[-1]["results"]["length"]["output"] == 13


@both_modes
async def test_checkpoints_are_streamed(mode):
    compiled = graph(mode, checkpointer=InMemorySaver())
    seen = await chunks(compiled, "checkpoints", sync=False, config={"configurable": {"thread_id": "1"}})
    assert seen[-1]["values"]["run"]["state"] == "completed"


@both_modes
async def test_astream_events_name_the_tasks(mode):
    names = [event["name"] async for event in graph(mode).astream_events({"inputs": {}}, version="v2")]
    assert {"ask", "length"} <= set(names)


@both_modes
async def test_a_subgraph_in_a_task_streams_under_the_task(mode):
    inner = RunGraph().add_task("leaf", lambda _: 1).compile(mode=mode)
    outer = RunGraph().add_task("outer", (lambda _: {"inputs": {}}) | inner).compile(mode=mode)
    seen = [
        (namespace, chunk)
        async for namespace, chunk in outer.astream({"inputs": {}}, stream_mode="tasks", subgraphs=True)
    ]
    below = {chunk["name"] for namespace, chunk in seen if any(part.startswith("outer:") for part in namespace)}
    assert "leaf" in below

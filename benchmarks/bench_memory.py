"""Peak memory of a run whose tasks all wait at once, beside bare asyncio and LangGraph's own: a new process each.

This module imports no library at its top: the bare process is to be bare.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import operator
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from harness import Figure

STATUS = Path("/proc/self/status")
PATIENCE = 300
"""Seconds to wait for a process: one that died never answers."""

MEMORY = "Memory at 5,000 tasks at most 1.5 of raw asyncio + 150 MB"

Body = Callable[..., Coroutine[Any, Any, int]]


def everybody(size: int) -> Body:
    """A body that ends when so many have begun."""
    begun, all_here = 0, asyncio.Event()

    async def body(_: Any = None) -> int:
        nonlocal begun
        begun += 1
        if begun == size:
            all_here.set()
        await all_here.wait()
        return 1

    return body


async def bare(size: int) -> None:
    body = everybody(size)
    await asyncio.gather(*(body() for _ in range(size)))


async def ours(size: int, **options: Any) -> None:
    from langchain_runtime import RunGraph, RunPolicy

    graph, body = RunGraph(RunPolicy(max_parallelism=size)), everybody(size)
    for number in range(size):
        graph.add_task(f"t{number}", body)
    output = await graph.compile(**options).ainvoke({"inputs": {}})
    assert len(output["results"]) == size


async def in_supersteps(size: int) -> None:
    await ours(size, mode="supersteps")


class State(TypedDict):
    results: Annotated[dict[str, int], operator.or_]


async def state_graph(size: int) -> None:
    from langgraph.graph import START, StateGraph

    builder, body = StateGraph(State), everybody(size)
    for number in range(size):

        async def node(_: State, task_id: str = f"t{number}") -> State:
            return {"results": {task_id: await body()}}

        builder.add_node(f"t{number}", node)
        builder.add_edge(START, f"t{number}")
    output = await builder.compile().ainvoke({"results": {}}, {"recursion_limit": 10})
    assert len(output["results"]) == size


async def functional(size: int) -> None:
    from langgraph.func import entrypoint, task

    body = everybody(size)
    tasks = [task(name=f"t{number}")(body) for number in range(size)]

    @entrypoint()
    async def flow(_: Any) -> list[int]:
        return await asyncio.gather(*(each(None) for each in tasks))

    assert len(await flow.ainvoke({})) == size


PEERS: Mapping[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "StateGraph": state_graph,
    "functional API": functional,
    "ours in supersteps": in_supersteps,
}


def peak_megabytes() -> float:
    """Of this process so far."""
    # Not getrusage: its peak counts the parent's memory, too, which the process had before it became another program.
    high_water = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(high_water.split()[1]) / 1e3


def report_peak(run: Callable[[int], Coroutine[Any, Any, None]], size: int, peak: multiprocessing.Queue) -> None:
    asyncio.run(run(size))
    peak.put(peak_megabytes())


def megabytes(run: Callable[[int], Coroutine[Any, Any, None]], size: int) -> float:
    context = multiprocessing.get_context("spawn")
    peak = context.Queue()
    process = context.Process(target=report_peak, args=(run, size, peak), daemon=True)
    process.start()
    figure = peak.get(timeout=PATIENCE)
    process.join()
    return figure


def measure(quick: bool) -> Iterator[Figure]:
    if not STATUS.exists():
        print(f"not measured: peak memory is read from {STATUS}, which only Linux has")
        return
    size = 1_000 if quick else 5_000
    raw, mine = megabytes(bare, size), megabytes(ours, size)
    claim = f"peak memory, {size:,} tasks waiting at once"
    yield Figure(
        claim=claim,
        ours=mine,
        unit="MB",
        peer=raw,
        against="asyncio.gather alone",
        bound=1.5 * raw + 150,
        absolute=True,
        must_hold=MEMORY,
    )
    for name, peer in PEERS.items():
        yield Figure(claim=claim, ours=mine, unit="MB", peer=megabytes(peer, size), against=name, must_hold=MEMORY)

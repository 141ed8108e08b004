"""A DAG against LangGraph's own StateGraph: waiting for siblings, and overhead per task.

The two-chain case is two chains of ten tasks that take 10 and 100 ms in turns: supersteps pay 100 ms for every level.
"""

from __future__ import annotations

import asyncio
import operator
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from harness import Figure, best_of
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.ledgers import SqliteLedger

Body = Callable[[Any], Awaitable[int]]
Dag = Mapping[str, tuple[list[str], float]]
"""Task id -> dependencies and seconds."""

NO_SUPERSTEP = "No superstep: nobody waits for a sibling"
OVERHEAD = "No-op overhead without a checkpointer at most 1.5 of StateGraph's at 1,000 tasks"
DURABLE = "With SQLite at most 0.25 of StateGraph's time on a chain of 1,000, bytes linear"
LARGE = "10,000 tasks in one run within twice the cost a task at 1,000"


def two_chains() -> Dag:
    return {
        f"{name}{i}": ([f"{name}{i - 1}"] if i else [], 0.01 if (i % 2 == 0) == (name == "a") else 0.1)
        for name in "ab"
        for i in range(10)
    }


def wide(size: int) -> Dag:
    return {f"t{i}": ([], 0.0) for i in range(size)}


def chain(size: int) -> Dag:
    return {f"t{i}": ([f"t{i - 1}"] if i else [], 0.0) for i in range(size)}


def diamonds(size: int, width: int = 10) -> Dag:
    """Layers of ten tasks, each after two of the layer before."""
    return {
        f"t{i}": (
            sorted({f"t{i - i % width - width + k}" for k in (i % width, (i + 1) % width)}) if i >= width else [],
            0,
        )
        for i in range(size)
    }


SHAPES: Mapping[str, Callable[[int], Dag]] = {"wide": wide, "chain": chain, "diamonds": diamonds}


def body(delay: float) -> Body:
    async def run(_: Any) -> int:
        if delay:
            await asyncio.sleep(delay)
        return 1

    return run


def ours(dag: Dag, **compile_options: Any) -> Any:
    graph = RunGraph(RunPolicy(max_parallelism=64))
    for task_id, (deps, delay) in dag.items():
        graph.add_task(task_id, body(delay), deps=deps)
    return graph.compile(**compile_options)


class State(TypedDict):
    results: Annotated[dict[str, int], operator.or_]


def theirs(dag: Dag, checkpointer: Any = None) -> Any:
    builder = StateGraph(State)
    last = set(dag) - {dep for deps, _ in dag.values() for dep in deps}
    for task_id, (_, delay) in dag.items():
        run = body(delay)

        async def node(_: State, task_id: str = task_id, run: Body = run) -> State:
            return {"results": {task_id: await run(None)}}

        builder.add_node(task_id, node)
    for task_id, (deps, _) in dag.items():
        builder.add_edge(deps if len(deps) > 1 else deps[0] if deps else START, task_id)
        if task_id in last:
            builder.add_edge(task_id, END)
    return builder.compile(checkpointer=checkpointer)


async def seconds(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def compare(claim: str, dag: Dag, bound: float, rounds: int, must_hold: str = "") -> Figure:
    us, them = ours(dag), theirs(dag)
    config = {"recursion_limit": len(dag) + 10}
    mine, peers = best_of(
        rounds,
        lambda: asyncio.run(seconds(us.ainvoke({"inputs": {}}))),
        lambda: asyncio.run(seconds(them.ainvoke({"results": {}}, config))),
    )
    return Figure(
        claim=claim, ours=mine * 1000, unit="ms", peer=peers * 1000, against="StateGraph", bound=bound,
        must_hold=must_hold,
    )  # fmt: skip


def durable(graph: Dag, mine: bool) -> tuple[float, int]:
    """Seconds and bytes of a run with SQLite: checkpoints and, for ours, the ledger."""
    config = {"configurable": {"thread_id": "t"}, "recursion_limit": len(graph) + 10}

    async def run(folder: Path) -> float:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "runs.db")) as saver:
            if not mine:
                return await seconds(theirs(graph, saver).ainvoke({"results": {}}, config))
            with closing(SqliteLedger(folder / "ledger.db")) as ledger:
                return await seconds(ours(graph, checkpointer=saver, ledger=ledger).ainvoke({"inputs": {}}, config))

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder))), sum(path.stat().st_size for path in Path(folder).iterdir())


def on_sqlite(size: int, rounds: int) -> Iterator[Figure]:
    (mine, my_bytes), (peers, their_bytes), (_, half_bytes) = best_of(
        rounds,
        lambda: durable(chain(size), mine=True),
        lambda: durable(chain(size), mine=False),
        lambda: durable(chain(size // 2), mine=True),
    )
    claim = f"chain of {size:,} tasks on SQLite"
    yield Figure(
        claim=claim, ours=mine * 1000, unit="ms", peer=peers * 1000, against="StateGraph", bound=0.25,
        must_hold=DURABLE,
    )  # fmt: skip
    yield Figure(
        claim=f"{claim}: on disk", ours=my_bytes / 1e6, unit="MB", peer=their_bytes / 1e6, against="StateGraph"
    )
    yield Figure(
        claim=f"{claim}: bytes a task",
        ours=my_bytes / size,
        unit="B",
        peer=half_bytes / (size // 2),
        against="ours at half the size",
        bound=1.1,
        must_hold=DURABLE,
    )


def large(size: int, base: int) -> Iterator[Figure]:
    for name, shape in SHAPES.items():
        graphs = {count: ours(shape(count)) for count in (size, base)}
        rest = [
            best_of(1 if count == size else 3, lambda graph=graph: asyncio.run(seconds(graph.ainvoke({"inputs": {}}))))
            for count, graph in graphs.items()
        ]
        mine, at_base = (least / count * 1e6 for (least,), count in zip(rest, graphs, strict=True))
        yield Figure(
            claim=f"{name} of {size:,} tasks: time a task",
            ours=mine,
            unit="us",
            peer=at_base,
            against=f"ours at {base:,}",
            bound=2,
            must_hold=LARGE,
        )


def measure(quick: bool) -> Iterator[Figure]:
    warnings.simplefilter("ignore")
    yield compare("two chains of 10/100 ms tasks (550 ms critical path)", two_chains(), 0.6, 3, NO_SUPERSTEP)
    size, rounds = (200, 2) if quick else (1_000, 5)
    for name, shape in SHAPES.items():
        yield compare(f"no-op overhead, {name} of {size:,} tasks", shape(size), 1.5, rounds, OVERHEAD)
    yield from on_sqlite(size, 1 if quick else 3)
    yield from large(10 * size, size)

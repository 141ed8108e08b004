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
from pathlib import Path
from typing import Annotated, Any, TypedDict

from harness import Figure
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.ledgers import SqliteLedger

Body = Callable[[Any], Awaitable[int]]
Dag = Mapping[str, tuple[list[str], float]]
"""Task id -> dependencies and seconds."""


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


def body(seconds: float) -> Body:
    async def run(_: Any) -> int:
        if seconds:
            await asyncio.sleep(seconds)
        return 1

    return run


def ours(dag: Dag, **compile_options: Any) -> Any:
    graph = RunGraph(RunPolicy(max_parallelism=64))
    for task_id, (deps, seconds) in dag.items():
        graph.add_task(task_id, body(seconds), deps=deps)
    return graph.compile(**compile_options)


class State(TypedDict):
    results: Annotated[dict[str, int], operator.or_]


def theirs(dag: Dag, checkpointer: Any = None) -> Any:
    builder = StateGraph(State)
    last = set(dag) - {dep for deps, _ in dag.values() for dep in deps}
    for task_id, (_, seconds) in dag.items():
        run = body(seconds)

        async def node(_: State, task_id: str = task_id, run: Body = run) -> State:
            return {"results": {task_id: await run(None)}}

        builder.add_node(task_id, node)
    for task_id, (deps, _) in dag.items():
        builder.add_edge(deps if len(deps) > 1 else deps[0] if deps else START, task_id)
        if task_id in last:
            builder.add_edge(task_id, END)
    return builder.compile(checkpointer=checkpointer)


def timed(start: Callable[[], Awaitable[Any]], rounds: int) -> float:
    """Seconds of the fastest round, each in an event loop of its own."""
    best = float("inf")
    for _ in range(rounds):

        async def once() -> float:
            before = time.perf_counter()
            await start()
            return time.perf_counter() - before

        best = min(best, asyncio.run(once()))
    return best


def compare(claim: str, dag: Dag, bound: float, rounds: int) -> Figure:
    us, them = ours(dag), theirs(dag)
    config = {"recursion_limit": len(dag) + 10}
    mine = timed(lambda: us.ainvoke({"inputs": {}}), rounds)
    peers = timed(lambda: them.ainvoke({"results": {}}, config), rounds)
    return Figure(claim, mine * 1000, "ms", peer=peers * 1000, against="StateGraph", bound=bound)


async def durable(dag: Dag, folder: Path) -> tuple[float, float, float, float]:
    """Seconds and bytes with SQLite: ours (checkpoints and ledger), then StateGraph's."""
    config = {"configurable": {"thread_id": "t"}, "recursion_limit": len(dag) + 10}
    async with AsyncSqliteSaver.from_conn_string(str(folder / "ours.db")) as saver:
        ledger = SqliteLedger(folder / "ledger.db")
        graph = ours(dag, checkpointer=saver, ledger=ledger)
        before = time.perf_counter()
        await graph.ainvoke({"inputs": {}}, config)
        mine = time.perf_counter() - before
        ledger.close()
    async with AsyncSqliteSaver.from_conn_string(str(folder / "theirs.db")) as saver:
        graph = theirs(dag, saver)
        before = time.perf_counter()
        await graph.ainvoke({"results": {}}, config)
        peers = time.perf_counter() - before
    size = {
        name: sum(path.stat().st_size for path in folder.glob(name))
        for name in ("ours.db*", "ledger.db*", "theirs.db*")
    }
    return mine, peers, size["ours.db*"] + size["ledger.db*"], size["theirs.db*"]


def measure(quick: bool) -> Iterator[Figure]:
    warnings.simplefilter("ignore")
    yield compare("two chains of 10/100 ms tasks (550 ms critical path)", two_chains(), 0.6, 3)
    size = 200 if quick else 1_000
    for name, dag in (("wide", wide(size)), ("chain", chain(size)), ("diamonds", diamonds(size))):
        yield compare(f"no-op overhead, {name} of {size} tasks", dag, 1.5, 1 if quick else 3)
    with tempfile.TemporaryDirectory() as folder:
        mine, peers, my_bytes, their_bytes = asyncio.run(durable(chain(size), Path(folder)))
    yield Figure(
        f"chain of {size} tasks on SQLite", mine * 1000, "ms", peer=peers * 1000, against="StateGraph", bound=0.25
    )
    yield Figure(
        f"bytes on disk, chain of {size} tasks",
        my_bytes / 1e6,
        "MB",
        peer=their_bytes / 1e6,
        against="StateGraph",
        bound=0.25,
    )

"""A DAG against what LangGraph offers for one, and against bare asyncio: waiting for siblings, and overhead per task.

The two-chain case is two chains of ten tasks that take 10 and 100 ms in turns: supersteps pay 100 ms for every level.
LangGraph's functional API and asyncio know no DAGs; both run the same driver, written by hand as their users do.

Overhead is processor time, which other processes do not lengthen, of tasks that do nothing. The garbage of the
contenders before is collected first.
"""

from __future__ import annotations

import asyncio
import gc
import operator
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

from harness import Figure, best_of
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.ledgers import SqliteLedger

Body = Callable[[Any], Awaitable[int]]
Dag = Mapping[str, tuple[list[str], float]]
"""Task id -> dependencies and seconds."""

Run = Callable[[], Awaitable[Any]]
"""Carries a DAG out from its start."""

Clock = Callable[[], float]

Saver = BaseCheckpointSaver[Any]

NO_SUPERSTEP = "No superstep: nobody waits for a sibling"
OVERHEAD = "No-op overhead without a checkpointer at most StateGraph's at 1,000 tasks"
DURABLE = "With SQLite at most 0.25 of StateGraph's time on a chain of 1,000, bytes linear"


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


def ours(dag: Dag, saver: Saver | None = None, ledger: Ledger | None = None, **options: Any) -> Run:
    graph = RunGraph(RunPolicy(max_parallelism=64))
    for task_id, (deps, delay) in dag.items():
        graph.add_task(task_id, body(delay), deps=deps)
    compiled = graph.compile(checkpointer=saver, ledger=ledger, **options)
    return lambda: compiled.ainvoke({"inputs": {}}, config_of(dag))


class State(TypedDict):
    results: Annotated[dict[str, int], operator.or_]


def state_graph(dag: Dag, saver: Saver | None = None, _ledger: Ledger | None = None) -> Run:
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
    compiled = builder.compile(checkpointer=saver)
    return lambda: compiled.ainvoke({"results": {}}, config_of(dag))


def functional(dag: Dag, saver: Saver | None = None, _ledger: Ledger | None = None) -> Run:
    tasks = {task_id: task(name=task_id)(body(delay)) for task_id, (_, delay) in dag.items()}

    @entrypoint(checkpointer=saver)
    async def flow(_: Any) -> dict[str, Any]:
        return {"results": await by_hand(dag, lambda task_id, _: tasks[task_id](None))}

    return lambda: flow.ainvoke({}, config_of(dag))


def bare(dag: Dag, _saver: Saver | None = None, _ledger: Ledger | None = None) -> Run:
    bodies = {task_id: body(delay) for task_id, (_, delay) in dag.items()}

    async def run() -> dict[str, Any]:
        return {"results": await by_hand(dag, lambda task_id, _: asyncio.ensure_future(bodies[task_id](None)))}

    return run


async def by_hand(dag: Dag, start: Callable[[str, Mapping[str, Any]], Any]) -> dict[str, Any]:
    """Start each task, with the results so far, when its dependencies are done; ``start`` returns a future."""
    missing = {task_id: len(deps) for task_id, (deps, _) in dag.items()}
    followers: dict[str, list[str]] = {task_id: [] for task_id in dag}
    for task_id, (deps, _) in dag.items():
        for dep in deps:
            followers[dep].append(task_id)
    done: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    results: dict[str, Any] = {}

    def begin(task_id: str) -> None:
        start(task_id, results).add_done_callback(lambda future: done.put_nowait((task_id, future)))

    for task_id in [task_id for task_id, count in missing.items() if not count]:
        begin(task_id)
    while len(results) < len(dag):
        task_id, future = await done.get()
        results[task_id] = future.result()
        for follower in followers[task_id]:
            missing[follower] -= 1
            if not missing[follower]:
                begin(follower)
    return results


OURS, OURS_IN_STEPS, STATE_GRAPH = "ours", "ours in supersteps", "StateGraph"
CONTENDERS: Mapping[str, Callable[..., Run]] = {
    OURS: ours,
    STATE_GRAPH: state_graph,
    "functional API": functional,
    "bare asyncio": bare,
    OURS_IN_STEPS: partial(ours, mode="supersteps"),
}
OF_THIS_PACKAGE = {OURS, OURS_IN_STEPS}
"""Those that keep books."""

KEEP_NOTHING = {"bare asyncio"}


def config_of(dag: Dag) -> RunnableConfig:
    return {"configurable": {"thread_id": "t"}, "recursion_limit": len(dag) + 10}


async def seconds(run: Run, clock: Clock = time.perf_counter) -> float:
    started = clock()
    await run()
    return clock() - started


def compare(
    claim: str, dag: Dag, bound: float, rounds: int, must_hold: str, *, clock: Clock = time.perf_counter
) -> Iterator[Figure]:
    runs = [build(dag) for build in CONTENDERS.values()]

    def measure(run: Run) -> float:
        gc.collect()
        return asyncio.run(seconds(run, clock))

    least = best_of(rounds, *(partial(measure, run) for run in runs))
    yield from beside_peers(claim, dict(zip(CONTENDERS, least, strict=True)), bound, must_hold)


def beside_peers(
    claim: str,
    measured: Mapping[str, float],
    bound: float | None,
    must_hold: str,
    *,
    scale: float = 1000,
    unit: str = "ms",
) -> Iterator[Figure]:
    """A figure for each peer; the claim is about StateGraph alone."""
    for name, peer in measured.items():
        if name != OURS:
            yield Figure(
                claim=claim,
                ours=measured[OURS] * scale,
                unit=unit,
                peer=peer * scale,
                against=name,
                bound=bound if name == STATE_GRAPH else None,
                must_hold=must_hold,
            )


def durable(dag: Dag, name: str) -> tuple[float, int]:
    """Seconds and bytes of a run with SQLite: checkpoints and, for ours, the ledger."""

    async def run(folder: Path) -> float:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "runs.db")) as saver:
            with ExitStack() as books:
                ledger = None
                if name in OF_THIS_PACKAGE:
                    ledger = books.enter_context(closing(SqliteLedger(folder / "ledger.db")))
                return await seconds(CONTENDERS[name](dag, saver, ledger))

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder))), sum(path.stat().st_size for path in Path(folder).iterdir())


def on_sqlite(size: int, rounds: int) -> Iterator[Figure]:
    names = [name for name in CONTENDERS if name not in KEEP_NOTHING]
    *whole, (_, half_bytes) = best_of(
        rounds, *(partial(durable, chain(size), name) for name in names), partial(durable, chain(size // 2), OURS)
    )
    times, sizes = ({name: each[of] for name, each in zip(names, whole, strict=True)} for of in (0, 1))
    claim = f"chain of {size:,} tasks on SQLite"
    yield from beside_peers(claim, times, 0.25, DURABLE)
    yield from beside_peers(f"{claim}: on disk", sizes, None, "", scale=1e-6, unit="MB")
    yield Figure(
        claim=f"{claim}: bytes a task",
        ours=sizes[OURS] / size,
        unit="B",
        peer=half_bytes / (size // 2),
        against="ours at half the size",
        bound=1.1,
        must_hold=DURABLE,
    )


def measure(quick: bool) -> Iterator[Figure]:
    warnings.simplefilter("ignore")
    yield from compare("two chains of 10/100 ms tasks (550 ms critical path)", two_chains(), 0.6, 3, NO_SUPERSTEP)
    size, rounds = (200, 2) if quick else (1_000, 5)
    for name, shape in SHAPES.items():
        claim = f"no-op overhead, {name} of {size:,} tasks"
        yield from compare(claim, shape(size), 1, rounds, OVERHEAD, clock=time.process_time)
    yield from on_sqlite(size, 1 if quick else 3)

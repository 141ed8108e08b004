"""Ten thousand tasks in one run: does one cost what it costs among a thousand, and can the report be read?

Each run has a process of its own, which keeps checkpoints and ledger in SQLite files. What a task costs is processor
time: other processes do not count in it, as they would in the time on the clock. Tasks do nothing, so that whatever
grows with the graph is seen. Peers: the same shape at a tenth of the size, and, in memory, LangGraph's StateGraph.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench_dag import Dag, Run, chain, ours, state_graph, wide
from bench_dag import diamonds as layers
from bench_memory import PATIENCE, STATUS, peak_megabytes
from harness import Figure
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_runtime.contracts.run import Run as RunRecord
from langchain_runtime.contracts.run import TaskState
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.report import RunReport

LARGE = "10,000 tasks in one run within twice the cost a task at 1,000, database bytes linear"
READABLE = "A report of 10,000 tasks is readable: at most 2 MB of HTML"

PAGE = 2.0
"""Megabytes of HTML at most."""

LINES = 120
"""Lines of text that somebody reads."""


def scattered(size: int) -> Dag:
    """Each task waits for none to three of the hundred before it, by chance."""
    chance = random.Random(size)
    return {
        f"t{i}": (
            sorted({f"t{chance.randrange(max(0, i - 100), i)}" for _ in range(chance.randint(0, 3))} if i else ()),
            0,
        )
        for i in range(size)
    }


SHAPES: Mapping[str, Callable[[int], Dag]] = {
    "wide": wide,
    "chain": chain,
    "layered": partial(layers, width=100),
    "random": scattered,
}


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        completed: Tasks that did.
        seconds: Of the processor, from the call to its return.
        bytes: Of the files of checkpoints and ledger.
        peak: Megabytes of memory, libraries included.
        page: Megabytes of the HTML report.
        lines: Of the report as text.
    """

    completed: int
    seconds: float
    bytes: int
    peak: float
    page: float
    lines: int


async def processor_seconds(run: Run) -> tuple[float, Any]:
    started = time.process_time()
    output = await run()
    return time.process_time() - started, output


async def on_sqlite(dag: Dag, folder: Path) -> tuple[float, RunRecord]:
    async with AsyncSqliteSaver.from_conn_string(str(folder / "runs.db")) as saver:
        with closing(SqliteLedger(folder / "ledger.db")) as ledger:
            seconds, output = await processor_seconds(ours(dag, saver, ledger))
    return seconds, output["run"]


async def in_memory(dag: Dag, build: Callable[[Dag], Run]) -> float:
    seconds, _ = await processor_seconds(build(dag))
    return seconds


def durable(shape: str, size: int) -> Outcome:
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds, record = asyncio.run(on_sqlite(SHAPES[shape](size), folder))
        on_disk = sum(path.stat().st_size for path in folder.iterdir())
    peak = peak_megabytes()  # before the report: as a rule another process draws it
    report = RunReport(record)
    return Outcome(
        completed=sum(task.state is TaskState.COMPLETED for task in record.tasks.values()),
        seconds=seconds,
        bytes=on_disk,
        peak=peak,
        page=len(report.to_html().encode()) / 1e6,
        lines=len(report.to_text(120).splitlines()),
    )


def volatile(shape: str, size: int) -> float:
    return asyncio.run(in_memory(SHAPES[shape](size), ours))


def of_state_graph(shape: str, size: int) -> float:
    return asyncio.run(in_memory(SHAPES[shape](size), state_graph))


def tell(measure: Callable[..., Any], shape: str, size: int, answer: multiprocessing.Queue) -> None:
    warnings.simplefilter("ignore")
    measure(shape, 10)  # the first run of a process loads what all others find
    answer.put(measure(shape, size))


def alone(measure: Callable[..., Any], shape: str, size: int) -> Any:
    """Measured in a new process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=tell, args=(measure, shape, size, answer), daemon=True)
    process.start()
    measured = answer.get(timeout=PATIENCE)
    process.join()
    return measured


def growth(shape: str, base: int, size: int, rounds: int) -> Iterator[Figure]:
    """A task among many beside a task among few."""
    few = [alone(durable, shape, base) for _ in range(rounds)]
    many: Outcome = alone(durable, shape, size)
    claim, against = f"{shape} of {size:,} tasks on SQLite", f"ours at {base:,}"
    yield Figure(
        claim=f"{claim}: completed", ours=many.completed, unit="tasks", bound=size, at_least=True, must_hold=LARGE
    )
    yield Figure(
        claim=f"{claim}: processor time a task",
        ours=1e6 * many.seconds / size,
        unit="us",
        peer=1e6 * min(each.seconds for each in few) / base,
        against=against,
        bound=2,
        must_hold=LARGE,
    )
    yield Figure(
        claim=f"{claim}: bytes a task",
        ours=many.bytes / size,
        unit="B",
        peer=min(each.bytes for each in few) / base,
        against=against,
        bound=1.1,
        must_hold=LARGE,
    )
    yield Figure(claim=f"{claim}: peak memory", ours=many.peak, unit="MB", peer=few[0].peak, against=against)
    yield Figure(claim=f"{claim}: HTML report", ours=many.page, unit="MB", bound=PAGE, must_hold=READABLE)
    yield Figure(claim=f"{claim}: report as text", ours=many.lines, unit="lines", bound=LINES, must_hold=READABLE)


def beside_state_graph(shape: str, base: int, size: int, rounds: int) -> Iterator[Figure]:
    """Without a checkpointer; LangGraph's own graph of ten thousand nodes may take minutes, so a thousand."""
    few = min(alone(volatile, shape, base) for _ in range(rounds))
    peer = min(alone(of_state_graph, shape, base) for _ in range(rounds))
    many = alone(volatile, shape, size)
    claim = f"{shape} of {size:,} tasks in memory: processor time a task"
    for against, seconds, bound in ((f"ours at {base:,}", few, 2), (f"StateGraph at {base:,}", peer, None)):
        yield Figure(
            claim=claim,
            ours=1e6 * many / size,
            unit="us",
            peer=1e6 * seconds / base,
            against=against,
            bound=bound,
            must_hold=LARGE,
        )


def measure(quick: bool) -> Iterator[Figure]:
    if not STATUS.exists():
        print(f"not measured: peak memory is read from {STATUS}, which only Linux has")
        return
    base, size, rounds = (100, 1_000, 1) if quick else (1_000, 10_000, 3)
    for shape in SHAPES:
        yield from growth(shape, base, size, rounds)
        yield from beside_state_graph(shape, base, size, rounds)

"""What one guarded call costs in the books: reserve + settle pairs per second, and how long a pair takes.

The peer is the least that any durable ledger can do on the same disk: two commits of one row each, by one
process alone.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import Figure

from langchain_runtime.contracts.budget import Hold, Scope, Settlement
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

SCOPE = Scope(name="user:42", limit_nano=10**15)
USAGE = TokenUsage(input=900, output=100)
REQUIRED = {4: 500}
"""Pairs per second by number of processes."""

PATIENCE = 60
"""Seconds to wait for other processes: one that died never answers."""


def pair(ledger: Ledger) -> None:
    hold = Hold(scopes=(SCOPE.name,), nano=2_000, tokens=2_000, holder="bench", sent=True)
    ledger.reserve(hold)
    ledger.settle(Settlement(reservation_id=hold.id, nano=1_000, usage=USAGE))


def timed(work: Callable[[], None], seconds: float) -> list[float]:
    """Duration of each call of ``work``, for so many seconds."""
    durations, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        durations.append(time.perf_counter() - start)
    return durations


def hammer(path: Path, start: multiprocessing.Barrier, seconds: float, durations: multiprocessing.Queue) -> None:
    ledger = SqliteLedger(path)
    pair(ledger)
    start.wait(PATIENCE)
    durations.put(timed(lambda: pair(ledger), seconds))


def sqlite_pairs(folder: Path, processes: int, seconds: float) -> list[float]:
    path = folder / f"ledger-{processes}.db"
    SqliteLedger(path).open_scope(SCOPE)
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=hammer, args=(path, start, seconds, queue), daemon=True) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    durations = [duration for _ in workers for duration in queue.get(timeout=seconds + PATIENCE)]
    for worker in workers:
        worker.join()
    balance = SqliteLedger(path).balance(SCOPE.name)
    assert balance.spent_nano == 1_000 * (len(durations) + processes), "the books are wrong"
    return durations


def two_bare_commits(folder: Path, seconds: float) -> list[float]:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE row (value INTEGER)")

    def commits() -> None:
        connection.execute("INSERT INTO row VALUES (1)")
        connection.execute("INSERT INTO row VALUES (2)")

    return timed(commits, seconds)


def measure(quick: bool) -> Iterator[Figure]:
    seconds = 1.0 if quick else 5.0
    memory = InMemoryLedger()
    memory.open_scope(SCOPE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = two_bare_commits(folder, seconds)
        yield _rate("in memory", timed(lambda: pair(memory), seconds), bare, seconds)
        for processes in (1, 4, 16):
            durations = sqlite_pairs(folder, processes, seconds)
            where = f"SQLite FULL, {processes} {'process' if processes == 1 else 'processes'}"
            yield _rate(where, durations, bare, seconds, REQUIRED.get(processes))
            yield Figure(
                claim=f"99th percentile of a pair, {where}",
                ours=_p99(durations),
                unit="ms",
                peer=_p99(bare),
                against="two bare commits, 1 process",
            )


def _rate(
    where: str, durations: list[float], bare: list[float], seconds: float, required: float | None = None
) -> Figure:
    return Figure(
        claim=f"reserve + settle, {where}",
        ours=len(durations) / seconds,
        unit="pairs/s",
        peer=len(bare) / seconds,
        against="two bare commits, 1 process",
        bound=required,
        at_least=True,
        absolute=True,
        must_hold="SQLite FULL keeps the books of at least 500 calls a second over 4 processes" if required else "",
    )


def _p99(durations: list[float]) -> float:
    return statistics.quantiles(durations, n=100)[98] * 1e3

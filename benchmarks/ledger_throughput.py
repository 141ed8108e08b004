"""What one guarded call costs in the books: reserve + settle pairs per second, and how long a pair takes.

Run: python benchmarks/ledger_throughput.py [--quick] [--folder DIR]

Must hold: SQLite (synchronous=FULL) >= 500 pairs/s over 4 processes. The peer is the least that any durable ledger can
do on the same disk: two commits of one row each, by one process alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from langchain_runtime.contracts.budget import Hold, Scope, Settlement
from langchain_runtime.contracts.protocols import Ledger
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

REQUIRED = 500
USAGE = TokenUsage(input=900, output=100)


def pair(ledger: Ledger) -> None:
    hold = Hold(scopes=("user:42",), nano=2_000, tokens=2_000, holder="bench", sent=True)
    ledger.reserve(hold)
    ledger.settle(Settlement(reservation_id=hold.id, nano=1_000, usage=USAGE))


def timed(work: Callable[[], None], seconds: float) -> list[float]:
    """Duration of each call of ``work``, for so many seconds."""
    durations, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        durations.append(time.perf_counter() - start)
    return durations


def hammer(path: Path, start: multiprocessing.Barrier, seconds: float, results: multiprocessing.Queue) -> None:
    ledger = SqliteLedger(path)
    pair(ledger)
    start.wait()
    results.put(timed(lambda: pair(ledger), seconds))


def sqlite_pairs(folder: Path, processes: int, seconds: float) -> list[float]:
    path = folder / f"ledger-{processes}.db"
    SqliteLedger(path).open_scope(Scope(name="user:42", limit_nano=10**15))
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=hammer, args=(path, start, seconds, results)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    durations = [duration for _ in workers for duration in results.get()]
    for worker in workers:
        worker.join()
    balance = SqliteLedger(path).balance("user:42")
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


def show(name: str, durations: list[float], seconds: float) -> float:
    rate = len(durations) / seconds
    cuts = statistics.quantiles(durations, n=100)
    print(f"{name:32} {rate:10,.0f} pairs/s   p50 {cuts[49] * 1e3:9.3f} ms   p99 {cuts[98] * 1e3:9.3f} ms")
    return rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one second each instead of five")
    parser.add_argument("--folder", type=Path, help="where the SQLite files go (default: a temporary folder)")
    arguments = parser.parse_args()
    seconds = 1.0 if arguments.quick else 5.0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        memory = InMemoryLedger()
        memory.open_scope(Scope(name="user:42", limit_nano=10**15))
        show("memory", timed(lambda: pair(memory), seconds), seconds)
        bare = show("peer: two bare commits", two_bare_commits(Path(folder), seconds), seconds)
        rates = {}
        for processes in (1, 4, 16):
            durations = sqlite_pairs(Path(folder), processes, seconds)
            rates[processes] = show(f"sqlite FULL, {processes} processes", durations, seconds)
    held = "held" if rates[4] >= REQUIRED else "not held"
    print(f"sqlite over 4 processes: {rates[4] / bare:.2f}x the peer; >= {REQUIRED} pairs/s: {held}")
    return 0 if rates[4] >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())

"""One driver per run: a lock that the operating system lifts when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from langchain_runtime.contracts.errors import InvalidInputError


@contextlib.contextmanager
def driving(lock_file: Path, run_id: str) -> Iterator[None]:
    """Hold the run's lock.

    Raises:
        InvalidInputError: Another process drives the run.
    """
    with contextlib.closing(_connect(lock_file)) as connection:
        if not _locked(connection):
            raise InvalidInputError(
                f"run {run_id} is being driven by another process", hint="wait for it, or stop it before resuming"
            )
        yield


def is_driven(lock_file: Path) -> bool:
    """Whether a living process holds the lock."""
    if not lock_file.exists():
        return False
    with contextlib.closing(_connect(lock_file)) as connection:
        return not _locked(connection)


def _connect(lock_file: Path) -> sqlite3.Connection:
    # SQLite's exclusive transaction is the one file lock in the standard library that every platform has.
    return sqlite3.connect(lock_file, timeout=0, isolation_level=None)


def _locked(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True

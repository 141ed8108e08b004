"""A SQLite file as a store of books: the connection, and what its errors mean."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from langchain_runtime.contracts.errors import LedgerUnavailableError
from langchain_runtime.ledgers._sqlite_schema import migrate

_RETRY_SECONDS = 0.001

_inherited: Final[list[sqlite3.Connection]] = []
# Connections that a forked child got from its parent. SQLite forbids to use or to close them there, so they are kept
# from the garbage collector.

_DAMAGED: Final = ("is damaged", "restore it from a backup, or move it away to start with empty books")

_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: ("is locked by another process", "raise busy_timeout, or end the process that holds it"),
    sqlite3.SQLITE_LOCKED: ("is locked by another process", "raise busy_timeout, or end the process that holds it"),
    sqlite3.SQLITE_READONLY: ("is read-only", "make the file and its folder writable"),
    sqlite3.SQLITE_PERM: ("is not accessible", "make the file and its folder writable"),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some space; nothing was lost"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check that its folder exists and is writable"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,  # nothing is written that could violate one
    sqlite3.SQLITE_NOTADB: ("is not a database", "give the ledger a file of its own"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk; a network file system cannot hold a ledger"),
}


class DamagedRecordError(Exception):
    """A row holds what no release of the ledger writes."""


class SqliteStore:
    """One connection, opened at first use, and the lock that gives it to one thread at a time.

    Attributes:
        path: Absolute path of the file.
        busy_timeout: Seconds to wait for other processes.
        clock: Seconds since the epoch.
        lock: Held during a transaction. Re-entrant only to notice re-entry, see ``SqliteBooks``.
    """

    def __init__(self, path: Path, busy_timeout: float, clock: Callable[[], float]) -> None:
        self._connection: sqlite3.Connection | None = None
        self.path = path
        self.busy_timeout = busy_timeout
        self.clock = clock
        self.lock = threading.RLock()
        self._file: tuple[int, int] | None = None  # which one was opened; kept when an error closes the connection
        self._patience: int | None = None  # milliseconds that the connection waits by itself; None for not known

    def connection(self) -> sqlite3.Connection:
        """The open connection.

        Raises:
            LedgerUnavailableError: The file was removed or replaced since it was opened, or is no ledger.
            sqlite3.Error: It cannot be opened.
        """
        if self._file is not None and self._file != self._identity():
            self.close()
            self._refuse_another_file()
        if self._connection is None:
            self._connection = self._connect()
            self._file = self._identity()
        return self._connection

    def _refuse_another_file(self) -> None:
        # SQLite would go on with the unlinked file, and other processes with new, empty books.
        if self._identity() is None:
            raise LedgerUnavailableError(
                f"the ledger {self.path} was removed while it was in use",
                hint="put the file back; or close the ledger, which begins with empty books then",
            )
        self._file = None
        raise LedgerUnavailableError(
            f"the ledger {self.path} was replaced while it was in use",
            hint="put the file back, or go on: from the next call on, the file that is there now counts",
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self.busy_timeout, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            # Where several processes open a new file at once, this fails without waiting.
            self._check_log(self._insist(connection, "PRAGMA journal_mode = WAL"))
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._patience = None
        return connection

    def _check_log(self, answer: sqlite3.Cursor) -> None:
        (mode,) = answer.fetchone()
        if mode != "wal":
            raise LedgerUnavailableError(
                f"the ledger {self.path} cannot have a write-ahead log where it is (journal mode {mode})",
                hint="put it on a local disk",
            )

    def begin(self, connection: sqlite3.Connection, *, write: bool) -> None:
        """Begin a transaction; a writing one waits until nobody else writes, up to the busy timeout.

        Waiting writers ask once a millisecond. SQLite's own waiting sleeps ever longer: on a slow disk, 4 processes
        then do half as many calls, and single calls wait for seconds.
        """
        patience = 0 if write else int(self.busy_timeout * 1000)
        if patience != self._patience:
            connection.execute(f"PRAGMA busy_timeout = {patience}")
            self._patience = patience
        if write:
            self._insist(connection, "BEGIN IMMEDIATE")
        else:
            connection.execute("BEGIN")

    def _insist(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                return connection.execute(statement)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_SECONDS)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LedgerUnavailableError(
                f"the ledger {self.path} cannot be reached: {error}", hint="check the disk and its folder's permissions"
            ) from error
        return found.st_dev, found.st_ino

    def __del__(self) -> None:
        self.close()  # else Python warns of an unclosed database

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def leave(self) -> None:
        """Close the connection, and take whatever file is there next time."""
        self.close()
        self._file = None

    def after_fork(self) -> None:
        """Start afresh in a forked child."""
        self.lock = threading.RLock()
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def unavailable(self, error: Exception) -> LedgerUnavailableError:
        """What an error of the driver means, and what to do."""
        code = getattr(error, "sqlite_errorcode", None)
        cause, hint = _CAUSES.get(code & 0xFF if code is not None else -1, ("does not answer", "see the cause below"))
        if isinstance(error, OverflowError):
            cause, hint = "cannot hold sums this large", "open another scope, or use smaller amounts"
        elif isinstance(error, (UnicodeDecodeError, DamagedRecordError)) or "Could not decode" in str(error):
            cause, hint = _DAMAGED
        waited = f" (waited {self.busy_timeout:g} s)" if "locked" in cause else ""
        return LedgerUnavailableError(
            f"the ledger {self.path} {cause}{waited}: {error}; nothing was changed", hint=hint
        )

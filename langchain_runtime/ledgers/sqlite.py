"""A ledger in a SQLite file, shared by the threads and processes of one machine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.ledgers._bookkeeping import Bookkeeper
from langchain_runtime.ledgers._books import Books
from langchain_runtime.ledgers._forks import watch
from langchain_runtime.ledgers._sqlite_books import SqliteBooks
from langchain_runtime.ledgers._sqlite_store import SqliteStore

T = TypeVar("T")


class SqliteLedger(Bookkeeper):
    """Books in a SQLite file (write-ahead log, ``synchronous=FULL``): what it answered survives a crash of the machine.

    The file is opened, and made, at first use. Use it from any thread; async methods run on one thread of the ledger's
    own, so they never block the event loop. Copies are the same ledger; pickled, or after a fork, it opens the same
    file again. The file must be on a local disk.

    Args:
        path: The file; its folder must exist.
        busy_timeout: Seconds to wait while other processes write.
        clock: Seconds since the epoch, the same for all processes; None for the machine's clock.

    Raises:
        InvalidInputError: ``path`` names no file.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        busy_timeout: float = 30.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if str(path) in {"", ":memory:"}:
            raise InvalidInputError(f"{str(path)!r} is not a file", hint="use InMemoryLedger() for books in memory")
        self._clock = clock
        self._store = SqliteStore(Path(path).absolute(), busy_timeout, clock or time.time)
        self._worker: ThreadPoolExecutor | None = None
        self._worker_lock = threading.Lock()
        watch(self)

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return self._store.path

    def _write(self) -> Books:
        return SqliteBooks(self._store, write=True)

    def _read(self) -> Books:
        return SqliteBooks(self._store, write=False)

    async def _off_loop(self, call: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        future = self._submit(call)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if undo is not None:
                # Behind the call on the same thread. Should this fail as well, the lease ends the hold.
                self._submit(lambda: _undo(future, undo))
            raise

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        with self._worker_lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-ledger")
            return self._worker.submit(call)

    def close(self) -> None:
        """Finish what async callers asked for and close the file; a later call opens it again. Idempotent."""
        with self._worker_lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()
        with self._store.lock:
            self._store.leave()

    async def aclose(self) -> None:
        """Async twin of ``close``; on a thread of its own, since it waits for the ledger's."""
        await asyncio.to_thread(self.close)

    def after_fork(self) -> None:
        """Start afresh in a forked child: neither threads nor SQLite connections may be used there."""
        self._worker, self._worker_lock = None, threading.Lock()
        self._store.after_fork()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._store.path, "busy_timeout": self._store.busy_timeout, "clock": self._clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc] # a new ledger over the same file


def _undo(future: Future[T], undo: Callable[[T], None]) -> None:
    if future.exception() is None:
        undo(future.result())

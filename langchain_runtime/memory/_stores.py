"""LangGraph stores as memory needs them: for sync and async callers alike, and while other threads write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from langchain_core.runnables import run_in_executor
from langgraph.store.base import BaseStore, Op, Result
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, Passage, store_namespace
from langchain_runtime.contracts.errors import InvalidInputError

_ATTEMPTS: Final = 100

PROCESS_STORE: Final = InMemoryStore()
"""Shared by all histories of this process that were not given a store; ends with it."""


class AnyStore(BaseStore):
    """Another store behind the calls that some lack.

    LangGraph's ``SqliteStore`` has no async methods: here they wait for its sync ones in a thread. Its
    ``InMemoryStore`` reads live dictionaries, which fails when another thread writes meanwhile: here it reads again.

    Args:
        store: The store.
    """

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        # Nothing in it blocks as long as nothing is embedded, and nobody here asks for that.
        self._local = isinstance(store, InMemoryStore)
        self._sync_only = False

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations, blocking."""
        ops = list(ops)
        for _ in range(_ATTEMPTS if self._local else 0):
            try:
                return self._store.batch(ops)
            except RuntimeError as error:
                # "dictionary changed size during iteration": reads come before writes, so nothing was done.
                if "during iteration" not in str(error):
                    raise
        return self._store.batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Async twin of ``batch``."""
        ops = list(ops)
        if self._local:
            return self.batch(ops)
        if not self._sync_only:
            try:
                return await self._store.abatch(ops)
            except NotImplementedError:
                self._sync_only = True
        return await run_in_executor(None, self._store.batch, ops)


class FreshArchive(Archive):
    """An archive that several objects write, here or in other processes: every search sees what they wrote."""

    def search(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """As ``Archive.search``."""
        self.refresh()
        return super().search(query, limit=limit, handle=handle)

    async def asearch(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Async twin of ``search``."""
        self.refresh()
        return await super().asearch(query, limit=limit, handle=handle)


def namespace_of(kind: str, name: str, *labels: str) -> tuple[str, ...]:
    """The namespace of something that users name as they like: two names never share one.

    Stores refuse labels that are empty or hold dots or NUL, and SQLite half surrogate pairs.

    Raises:
        InvalidInputError: ``name`` is no text.
    """
    if not isinstance(name, str):
        raise InvalidInputError(
            f"an id of {kind} is text, got {type(name).__name__}",
            hint="pass str(...) of what tells conversations apart",
        )
    label = f"id={quote(name, safe='', errors='surrogatepass')}"
    return store_namespace("lcr", kind, label, *labels)

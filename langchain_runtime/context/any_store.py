"""LangGraph stores as a runtime needs them: for sync and async callers alike, and while other threads write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from langchain_core.runnables import run_in_executor
from langgraph.store.base import BaseStore, Op, Result

_ATTEMPTS: Final = 100


class AnyStore(BaseStore):
    """Another store behind the calls that some lack.

    LangGraph's ``SqliteStore`` has no async methods: here they wait for its sync ones in a thread. Its
    ``InMemoryStore`` reads live dictionaries, which fails when another thread writes meanwhile: here it reads again.

    Args:
        store: The store.
    """

    def __init__(self, store: BaseStore) -> None:
        # It is who asks for one that imports it: that costs as much as the rest of this package.
        from langgraph.store.memory import InMemoryStore  # noqa: PLC0415

        self._store = store
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config
        self._reads_live = isinstance(store, InMemoryStore)
        # Nothing in it blocks as long as nothing is embedded.
        self._is_quick = isinstance(store, InMemoryStore) and store.embeddings is None
        self._sync_only = False

    @classmethod
    def over(cls, store: BaseStore) -> Self:
        """The store itself if it is one of these already."""
        return store if isinstance(store, cls) else cls(store)

    @property
    def has_index(self) -> bool:
        """Whether what is put is embedded, so that ``search`` heeds a query; stores without an index ignore it."""
        return bool(getattr(self._store, "index_config", None))

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations, blocking."""
        ops = list(ops)
        for _ in range(_ATTEMPTS if self._reads_live else 0):
            try:
                return self._store.batch(ops)
            except RuntimeError as error:
                _check_was_disturbed(error)
        return self._store.batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Async twin of ``batch``."""
        ops = list(ops)
        if self._is_quick:
            return self.batch(ops)
        for _ in range(_ATTEMPTS if self._reads_live else 0):
            try:
                return await self._store.abatch(ops)
            except RuntimeError as error:
                _check_was_disturbed(error)
        if not self._sync_only:
            try:
                return await self._store.abatch(ops)
            except NotImplementedError:
                self._sync_only = True
        return await run_in_executor(None, self._store.batch, ops)


def _check_was_disturbed(error: RuntimeError) -> None:
    """Go on if another thread's write broke a read off: reads come before writes, so nothing was done."""
    if "during iteration" not in str(error):
        raise error

"""Key-value memory of a run, which its tasks read and write while it is under way."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from langgraph.store.base import BaseStore, Item, SearchItem
from pydantic import JsonValue

from langchain_runtime.context.archive import store_namespace
from langchain_runtime.contracts.errors import InvalidInputError

_PAGE = 10_000
"""Items asked for at once, since a store's own default is 10."""


class MemoryManager:
    """Memory by run and key on a LangGraph store.

    Values are copied in and out: changing one in hand does not change the memory. ``None`` is also what a missing key
    gives. Safe to share between threads.

    Args:
        store: Where memory lives; None for this process's memory.
    """

    def __init__(self, store: BaseStore | None = None) -> None:
        # A store of its own is the default only: importing it costs as much as the rest of this package.
        from langgraph.store.memory import InMemoryStore  # noqa: PLC0415

        self._store = InMemoryStore() if store is None else store
        # It iterates over live dictionaries, so a thread's write would break another's search; others lock for
        # themselves. Nothing in it blocks (without embeddings), so that async calls may take the sync way and its lock.
        self._local = isinstance(self._store, InMemoryStore) and self._store.embeddings is None
        self._lock: AbstractContextManager[Any] = threading.Lock() if self._local else nullcontext()
        self._clock = _Sequence()

    def get(self, run_id: str, key: str) -> JsonValue:
        """The value under ``key``; None if there is none."""
        with self._lock:
            item = self._store.get(_namespace(run_id), key)
        return _value(item)

    def put(self, run_id: str, key: str, value: JsonValue) -> None:
        """Set ``key`` to any JSON value.

        Raises:
            InvalidInputError: JSON cannot carry the value.
        """
        value = _json_copy(key, value)
        with self._lock:
            known = self._store.get(_namespace(run_id), key)
            self._store.put(_namespace(run_id), key, self._entry(known, value))

    def snapshot(self, run_id: str) -> dict[str, JsonValue]:
        """Every key and value, in the order the keys were first written."""
        with self._lock:
            limit = _PAGE
            while len(items := self._store.search(_namespace(run_id), limit=limit)) == limit:
                limit *= 2
        return _ordered(items, run_id)

    async def aget(self, run_id: str, key: str) -> JsonValue:
        """Async twin of ``get``."""
        if self._local:
            return self.get(run_id, key)
        return _value(await self._store.aget(_namespace(run_id), key))

    async def aput(self, run_id: str, key: str, value: JsonValue) -> None:
        """Async twin of ``put``."""
        if self._local:
            return self.put(run_id, key, value)
        value = _json_copy(key, value)
        known = await self._store.aget(_namespace(run_id), key)
        return await self._store.aput(_namespace(run_id), key, self._entry(known, value))

    async def asnapshot(self, run_id: str) -> dict[str, JsonValue]:
        """Async twin of ``snapshot``."""
        if self._local:
            return self.snapshot(run_id)
        limit = _PAGE
        while len(items := await self._store.asearch(_namespace(run_id), limit=limit)) == limit:
            limit *= 2
        return _ordered(items, run_id)

    def _entry(self, known: Item | None, value: JsonValue) -> dict[str, Any]:
        return {"value": value, "seq": self._clock.next() if known is None else known.value["seq"]}


class _Sequence:
    """Numbers that only grow: in this process by one lock, between processes by the clock."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return self._last


def _namespace(run_id: str) -> tuple[str, ...]:
    return store_namespace("lcr", run_id, "memory")


def _value(item: Item | None) -> JsonValue:
    return None if item is None else copy.deepcopy(item.value["value"])


def _ordered(items: Iterable[SearchItem], run_id: str) -> dict[str, JsonValue]:
    # A search is by prefix, and stores order by what they like: SQLite by last update.
    own = [item for item in items if item.namespace == _namespace(run_id)]
    return {item.key: _value(item) for item in sorted(own, key=lambda item: int(item.value["seq"]))}


def _json_copy(key: str, value: JsonValue) -> JsonValue:
    try:
        copied: JsonValue = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"the value for memory key {key!r} is not JSON: {error}",
            hint="put text, numbers, booleans, None, lists and dictionaries",
        ) from None
    return copied

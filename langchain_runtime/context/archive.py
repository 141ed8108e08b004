"""Keeps what left a view, gives it back exactly as it was, and finds it by its words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from langchain_core.messages import BaseMessage
from langgraph.store.base import BaseStore, Item, PutOp

from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.lexical_index import LexicalIndex, Passage
from langchain_runtime.context.message_records import decode_messages, encode_messages
from langchain_runtime.context.store_access import own_items
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Plan, acarry_out, carry_out


def store_namespace(*labels: str) -> tuple[str, ...]:
    """A namespace that every store accepts: labels may hold dots here, but not in a store.

    ``%`` is not in the alphabet of run and task ids, so two ids never share a namespace.
    """
    return tuple(label.replace(".", "%2E") for label in labels)


class Archive:
    """Messages by handle in a LangGraph store. Safe to share between threads.

    Write before a view is used: a failed write then aborts the compaction, and nothing is lost. The index of words is a
    cache over the store, made at the first search and kept up with what this object writes.

    Args:
        store: Where to keep them.
        namespace: The labels of one run or session; see ``store_namespace`` for ids with dots.
    """

    def __init__(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        self._store = AnyStore.over(store)
        self._namespace = store_namespace(*namespace)
        self._numbers = _Numbers()
        self._index: LexicalIndex | None = None

    def put(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> None:
        """Keep messages under their handles, in one batch. Handles name content, so repeating it changes nothing.

        Raises:
            InvalidInputError: A message holds an object that cannot be kept; nothing was written.
        """
        if evicted:
            self._store.batch(self._writes(evicted))
            self._found_out(evicted)

    async def aput(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> None:
        """Async twin of ``put``."""
        if evicted:
            await self._store.abatch(self._writes(evicted))
            self._found_out(evicted)

    def recall(self, handle: str) -> list[BaseMessage]:
        """The messages that were put under ``handle``, equal to what went in.

        Raises:
            InvalidInputError: There is no such handle.
        """
        return _read(handle, self._store.get(self._namespace, handle))

    async def arecall(self, handle: str) -> list[BaseMessage]:
        """Async twin of ``recall``."""
        return _read(handle, await self._store.aget(self._namespace, handle))

    def has(self, handle: str) -> bool:
        """Whether messages are kept under ``handle``."""
        return self._store.get(self._namespace, handle) is not None

    async def ahas(self, handle: str) -> bool:
        """Async twin of ``has``."""
        return await self._store.aget(self._namespace, handle) is not None

    def handles(self) -> list[str]:
        """All handles, in the order in which they were written."""
        return [item.key for item in carry_out(self._items())]

    async def ahandles(self) -> list[str]:
        """Async twin of ``handles``."""
        return [item.key for item in await acarry_out(self._items())]

    def search(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Passages that have words of ``query``, best first.

        Args:
            query: In plain words.
            limit: Passages at most.
            handle: Look at the messages under it only.
        """
        if self._index is None:
            self._index = _indexed(carry_out(self._items()))
        return self._index.search(query, limit=limit, handle=handle)

    async def asearch(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Async twin of ``search``."""
        if self._index is None:
            self._index = _indexed(await acarry_out(self._items()))
        return self._index.search(query, limit=limit, handle=handle)

    def refresh(self) -> None:
        """Have the next search read the store again, for what other processes have written."""
        self._index = None

    def _items(self) -> Plan[list[Item]]:
        items = yield from own_items(self._store, self._namespace)
        # Stores order by what they like.
        return sorted(items, key=lambda item: int(item.value.get("number", 0)))

    def _writes(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> list[PutOp]:
        # Not embedded: a recall is by handle, and embedding every evicted message would cost a call each.
        return [
            PutOp(
                self._namespace, handle, encode_messages(messages) | {"number": self._numbers.of(handle)}, index=False
            )
            for handle, messages in evicted.items()
        ]

    def _found_out(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> None:
        if self._index is not None:
            self._index.add(evicted)


class _Numbers:
    """Numbers handles in the order in which this process first writes them; between processes the clock orders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[str, int] = {}
        self._last = 0

    def of(self, handle: str) -> int:
        with self._lock:
            if handle not in self._given:
                self._last = self._given[handle] = max(self._last + 1, time.time_ns())
            return self._given[handle]


def _indexed(items: Iterable[Item]) -> LexicalIndex:
    index = LexicalIndex()
    index.add({item.key: _read(item.key, item) for item in items})
    return index


def _read(handle: str, item: Item | None) -> list[BaseMessage]:
    if item is None:
        raise InvalidInputError(
            f"no messages are kept under the handle {handle!r}", hint="a handle is the part of [recall:<id>] in <>"
        )
    return decode_messages(item.value)

"""Key-value memory of a run, which its tasks read and write while it is under way."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from langgraph.store.base import BaseStore, GetOp, Item, Op, PutOp, SearchOp, get_text_at_path
from pydantic import JsonValue

from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.archive import store_namespace
from langchain_runtime.context.memory_log import BodyLog, MemoryLog
from langchain_runtime.context.store_access import own_items
from langchain_runtime.context.stored_json import packed, unpacked
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out

_SECONDS_PER_MINUTE: Final = 60
_AT_ONCE: Final = 1_000
"""Writes in one batch at most: databases limit the parameters of a statement."""


_Entry = tuple[str, dict[str, Any]]
"""A key and its item's value."""


class MemoryMatch(NamedTuple):
    """What a search found.

    Attributes:
        key: Where it is.
        value: What is there.
        score: How well it fits the query by the measure of the store; None where there was no query.
    """

    key: str
    value: JsonValue
    score: float | None


class MemoryManager:
    """Memory by run and key on a LangGraph store.

    Values are copied in and out: changing one in hand does not change the memory. ``None`` is also what a missing key
    gives. Safe to share between threads.

    Each ``namespace`` of a run is a memory of its own. The one without a name is what prompts see.

    Args:
        store: Where memory lives; None for this process's memory.
    """

    def __init__(self, store: BaseStore | None = None) -> None:
        # A store of its own is the default only: importing it costs as much as the rest of this package.
        from langgraph.store.memory import InMemoryStore  # noqa: PLC0415

        self._store = AnyStore.over(InMemoryStore() if store is None else store)
        self._log = MemoryLog(self._store)
        self._clock = _Sequence()

    def get(self, run_id: str, key: str, *, namespace: str | None = None) -> JsonValue:
        """The value under ``key``; None if there is none."""
        return carry_out(self._get(run_id, key, namespace))

    async def aget(self, run_id: str, key: str, *, namespace: str | None = None) -> JsonValue:
        """Async twin of ``get``."""
        return await acarry_out(self._get(run_id, key, namespace))

    def put(
        self,
        run_id: str,
        key: str,
        value: JsonValue,
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
        along: Sequence[PutOp] = (),
    ) -> None:
        """Set ``key`` to any JSON value.

        Args:
            run_id: The run.
            key: Any text.
            value: Any JSON value.
            namespace: Which of the run's memories.
            ttl_minutes: After this time the key is missing; None to keep it. Reading does not prolong it.
            along: What else is written, or else nothing is.

        Raises:
            InvalidInputError: JSON cannot carry the value, or the time is not positive.
        """
        carry_out(self._put(run_id, {key: value}, namespace, ttl_minutes, along))

    async def aput(
        self,
        run_id: str,
        key: str,
        value: JsonValue,
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
        along: Sequence[PutOp] = (),
    ) -> None:
        """Async twin of ``put``."""
        await acarry_out(self._put(run_id, {key: value}, namespace, ttl_minutes, along))

    def put_many(
        self,
        run_id: str,
        values: Mapping[str, JsonValue],
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
    ) -> None:
        """As ``put`` for each, in batches of a thousand: on a disk that is much faster.

        Raises:
            InvalidInputError: JSON cannot carry a value, or the time is not positive; nothing was written.
        """
        carry_out(self._put(run_id, values, namespace, ttl_minutes))

    async def aput_many(
        self,
        run_id: str,
        values: Mapping[str, JsonValue],
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
    ) -> None:
        """Async twin of ``put_many``."""
        await acarry_out(self._put(run_id, values, namespace, ttl_minutes))

    def delete(self, run_id: str, key: str, *, namespace: str | None = None, along: Sequence[PutOp] = ()) -> None:
        """Drop a key, which need not be there; ``along`` as for ``put``."""
        carry_out(self._delete(run_id, key, namespace, along))

    async def adelete(
        self, run_id: str, key: str, *, namespace: str | None = None, along: Sequence[PutOp] = ()
    ) -> None:
        """Async twin of ``delete``."""
        await acarry_out(self._delete(run_id, key, namespace, along))

    def search(
        self, run_id: str, query: str | None = None, *, limit: int = 10, namespace: str | None = None
    ) -> list[MemoryMatch]:
        """What fits ``query`` by its meaning, best first; without one, what was written first.

        Args:
            run_id: The run.
            query: In plain words. The store must have an index, which embeds what is put; nulls are never found.
            limit: Matches at most.
            namespace: Which of the run's memories.

        Raises:
            InvalidInputError: There is a query, and the store has no index.
        """
        return carry_out(self._search(run_id, query, limit, namespace))

    async def asearch(
        self, run_id: str, query: str | None = None, *, limit: int = 10, namespace: str | None = None
    ) -> list[MemoryMatch]:
        """Async twin of ``search``."""
        return await acarry_out(self._search(run_id, query, limit, namespace))

    def snapshot(self, run_id: str, *, namespace: str | None = None) -> dict[str, JsonValue]:
        """Every key and value, in the order the keys were first written."""
        return carry_out(self._snapshot(run_id, namespace))

    async def asnapshot(self, run_id: str, *, namespace: str | None = None) -> dict[str, JsonValue]:
        """Async twin of ``snapshot``."""
        return await acarry_out(self._snapshot(run_id, namespace))

    def log_of(self, run_id: str, task_id: str) -> BodyLog:
        """What the body of a task did with memory; its entries can be written ``along``."""
        return self._log.of_body(run_id, task_id)

    # --- what they do ------------------------------------------------------------------------------------------------

    def _get(self, run_id: str, key: str, namespace: str | None) -> Plan[JsonValue]:
        (item,) = yield self._step(GetOp(_namespace(run_id, namespace), key, refresh_ttl=False))
        return unpacked(item.value) if _is_there(item) else None

    def _put(
        self,
        run_id: str,
        values: Mapping[str, JsonValue],
        namespace: str | None,
        ttl_minutes: float | None,
        along: Sequence[PutOp] = (),
    ) -> Plan[None]:
        place = _namespace(run_id, namespace)
        life = _lifetime(ttl_minutes)
        entries = [(key, {**packed(value, of=f"memory key {key!r}"), **life}) for key, value in values.items()]
        ttl = ttl_minutes if self._store.supports_ttl else None
        for part in self._parts(entries):
            known = yield self._step(*(GetOp(place, key, refresh_ttl=False) for key, _ in part))
            writes = [
                # The value is what a search is to find, and not what is kept about it.
                PutOp(place, key, {**entry, "seq": self._number(item)}, index=["value"], ttl=ttl)
                for (key, entry), item in zip(part, known, strict=True)
            ]
            yield self._step(*writes, *along)

    def _parts(self, entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
        """What is written at once: no equal texts that are to be embedded, of which ``InMemoryStore`` takes one."""
        part: list[_Entry] = []
        texts: set[str] = set()
        for entry in entries:
            own = set(get_text_at_path(entry[1], "value")) if self._store.has_index else set()
            if len(part) == _AT_ONCE or own & texts:
                yield part
                part, texts = [], set()
            part.append(entry)
            texts |= own
        if part:
            yield part

    def _delete(self, run_id: str, key: str, namespace: str | None, along: Sequence[PutOp]) -> Plan[None]:
        yield self._step(PutOp(_namespace(run_id, namespace), key, None), *along)

    def _search(self, run_id: str, query: str | None, limit: int, namespace: str | None) -> Plan[list[MemoryMatch]]:
        if query is None:
            everything = yield from self._snapshot(run_id, namespace)
            return [MemoryMatch(key, value, None) for key, value in list(everything.items())[:limit]]
        if not self._store.has_index:
            raise InvalidInputError(
                "memory cannot be searched by meaning: its store has no index",
                hint="pass a store with one, e.g. InMemoryStore(index={'embed': ..., 'dims': ...}), or give no query",
            )
        asked = max(limit, 1)
        while True:
            wanted = SearchOp(_namespace(run_id, namespace), limit=asked, query=query, refresh_ttl=False)
            (items,) = yield self._step(wanted)
            # A store in memory fills up with what was not embedded.
            found = [item for item in items if _is_there(item) and item.score is not None]
            if len(found) >= limit or len(items) < asked:
                return [MemoryMatch(item.key, unpacked(item.value), item.score) for item in found[:limit]]
            asked *= 2

    def _snapshot(self, run_id: str, namespace: str | None) -> Plan[dict[str, JsonValue]]:
        items = yield from own_items(self._store, _namespace(run_id, namespace))
        there = sorted(filter(_is_there, items), key=lambda item: int(item.value["seq"]))  # stores order as they like
        return {item.key: unpacked(item.value) for item in there}

    def _step(self, *ops: Op) -> Step:
        return Step(self._store, "batch", (ops,))

    def _number(self, known: Item | None) -> int:
        return known.value["seq"] if known is not None and _is_there(known) else self._clock.next()


class _Sequence:
    """Numbers that only grow: in this process by one lock, between processes by the clock."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return self._last


def _namespace(run_id: str, namespace: str | None) -> tuple[str, ...]:
    if namespace is None:
        return store_namespace("lcr", run_id, "memory")
    # Not below the other, whose searches would find it; people name it, so it may hold what no label may.
    label = f"name={quote(namespace, safe='', errors='surrogatepass')}"
    return store_namespace("lcr", run_id, "memory-of", label)


def _is_there(item: Item | None) -> bool:
    # Stores that know of an end give back what is past it until they are swept, and others do not know of one.
    return item is not None and item.value.get("ends", math.inf) > time.time()


def _lifetime(ttl_minutes: float | None) -> dict[str, Any]:
    if ttl_minutes is None:
        return {}
    if not 0 < ttl_minutes < math.inf:
        raise InvalidInputError(
            f"ttl_minutes is {ttl_minutes}", hint="give a positive number of minutes, or None to keep a key"
        )
    return {"ends": time.time() + ttl_minutes * _SECONDS_PER_MINUTE}

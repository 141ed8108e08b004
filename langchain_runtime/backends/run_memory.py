"""The memory of a run as the body of a task uses it: a body that is executed again finds what it found before."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from langchain_runtime.context.memory_manager import MemoryManager, MemoryMatch
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out

if TYPE_CHECKING:
    from langchain_runtime.context.memory_log import BodyLog


class RunMemory:
    """The memory of one run, for the body of one of its tasks. Safe to share between threads.

    What the body reads is what memory holds at that moment. Each read and write is recorded. When the same attempt is
    executed again, because its process died or because it asked a human, what is recorded is not done again: reads give
    what they gave, and writes are not made twice. So the body asks its models the same, and their replies are there.
    A retry after a failure reads anew. Once the body is over, its threads get an ``InvalidInputError``.

    A read and a write are two operations: between them, other tasks may write.

    Args:
        manager: The memory.
        run_id: The run.
        log: Records of the body; None to record nothing.
    """

    def __init__(self, manager: MemoryManager, run_id: str, log: BodyLog | None = None) -> None:
        self._manager = manager
        self._run_id = run_id
        self._log = log

    def get(self, key: str, *, namespace: str | None = None) -> JsonValue:
        """The value of ``key``; None if there is none. Each ``namespace`` is a memory of its own."""
        return carry_out(self._get(key, namespace))

    async def aget(self, key: str, *, namespace: str | None = None) -> JsonValue:
        """Async twin of ``get``."""
        return await acarry_out(self._get(key, namespace))

    def put(
        self, key: str, value: JsonValue, *, namespace: str | None = None, ttl_minutes: float | None = None
    ) -> None:
        """Keep ``value`` under ``key``, for ``ttl_minutes`` if they are given.

        Raises:
            InvalidInputError: JSON cannot carry the value, or the time is not positive.
        """
        carry_out(self._put(key, value, namespace, ttl_minutes))

    async def aput(
        self, key: str, value: JsonValue, *, namespace: str | None = None, ttl_minutes: float | None = None
    ) -> None:
        """Async twin of ``put``."""
        await acarry_out(self._put(key, value, namespace, ttl_minutes))

    def delete(self, key: str, *, namespace: str | None = None) -> None:
        """Drop ``key``, which need not be there."""
        carry_out(self._delete(key, namespace))

    async def adelete(self, key: str, *, namespace: str | None = None) -> None:
        """Async twin of ``delete``."""
        await acarry_out(self._delete(key, namespace))

    def search(self, query: str | None = None, *, limit: int = 10, namespace: str | None = None) -> list[MemoryMatch]:
        """What fits ``query`` by its meaning, best first; without one, what was written first.

        Raises:
            InvalidInputError: There is a query, and the run's store has no index.
        """
        return carry_out(self._search(query, limit, namespace))

    async def asearch(
        self, query: str | None = None, *, limit: int = 10, namespace: str | None = None
    ) -> list[MemoryMatch]:
        """Async twin of ``search``."""
        return await acarry_out(self._search(query, limit, namespace))

    def close(self) -> None:
        """The body is over, or was let go: its threads can use memory no more."""
        if self._log is not None:
            self._log.close()

    async def aend(self) -> None:
        """The attempt has ended, and its outcome is kept: what is done after it reads anew."""
        if self._log is not None and self._log.was_used:
            # Where even that fails, a next attempt goes by the records of this one, as if the process had died.
            with suppress(Exception):
                await acarry_out(self._log.end())

    def _get(self, key: str, namespace: str | None) -> Plan[JsonValue]:
        read = Step(self._manager, "get", (self._run_id, key), {"namespace": namespace})
        value: JsonValue = yield from self._read(read, "get", namespace, key)
        return value

    def _search(self, query: str | None, limit: int, namespace: str | None) -> Plan[list[MemoryMatch]]:
        options = {"limit": limit, "namespace": namespace}
        read = Step(self._manager, "search", (self._run_id, query), options)
        found: Any = yield from self._read(read, "search", namespace, query, limit)
        return [MemoryMatch(*match) for match in found]

    def _put(self, key: str, value: JsonValue, namespace: str | None, ttl_minutes: float | None) -> Plan[None]:
        options = {"namespace": namespace, "ttl_minutes": ttl_minutes}
        yield from self._write(Step(self._manager, "put", (self._run_id, key, value), options), "put", namespace, key)

    def _delete(self, key: str, namespace: str | None) -> Plan[None]:
        options = {"namespace": namespace}
        yield from self._write(Step(self._manager, "delete", (self._run_id, key), options), "delete", namespace, key)

    def _read(self, read: Step, *facts: JsonValue) -> Plan[Any]:
        log = self._log
        if log is None:
            return (yield read)
        place = yield from log.find(*facts)
        if place.is_recorded:
            return place.value
        value = yield read
        yield Step(log.store, "batch", ([log.entry(place, value)],))
        return value

    def _write(self, write: Step, *facts: JsonValue) -> Plan[None]:
        log = self._log
        if log is None:
            yield write
            return
        place = yield from log.find(*facts)
        if not place.is_recorded:
            yield write._replace(options={**write.options, "along": [log.entry(place)]})

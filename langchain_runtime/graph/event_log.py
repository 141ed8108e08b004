"""Lifecycle events go to the graph's ``custom`` stream and to observers at once, and to the journal in batches."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from langchain_runtime.contracts.errors import LedgerUnavailableError
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.protocols import RunObserver

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.2
"""How far the journal may lag: a live view still feels live, and a run of short tasks writes few transactions."""

_BATCH = 256
"""Events of a batch: more would only lie in memory, for the garbage collector to look at again and again."""


class EventLog:
    """Collects the events of one run; ``emit`` may be called from any thread.

    Args:
        ledger: Keeps the journal.
        write: The graph's stream writer; None where nobody can listen.
        observers: Told of every event; one that fails is not told any more.
    """

    def __init__(
        self, ledger: Ledger, write: Callable[[Any], None] | None, observers: Sequence[RunObserver] = ()
    ) -> None:
        self._ledger = ledger
        self._write = write
        self._observers = list(observers)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # LangGraph's writer reads its config from the context: always the driver's, whoever emits. Callbacks of the
        # loop run one after the other, so one context object can serve them all.
        self._context = contextvars.copy_context()
        self._buffer: list[LifecycleEvent] = []
        self._full = asyncio.Event()
        self._flusher = asyncio.create_task(self._flush_regularly())

    def emit(self, event: LifecycleEvent) -> None:
        """Publish an event."""
        if self._loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            self._publish(event)
        else:
            self._loop.call_soon_threadsafe(self._publish, event)

    def stream(self, value: Any) -> None:
        """Write a value of a body's own to the stream; it does not enter the journal."""
        if self._write is None or self._loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            self._context.run(self._write, value)
        else:
            self._loop.call_soon_threadsafe(self._write, value, context=self._context)

    async def close(self) -> None:
        """Publish what is under way and write the rest of the journal."""
        await asyncio.sleep(0)  # callbacks that were scheduled before this one
        self._flusher.cancel()
        await self._flush()

    def _publish(self, event: LifecycleEvent) -> None:
        self._buffer.append(event)
        if len(self._buffer) % _BATCH == 0:
            self._full.set()
        if self._write is not None:
            self._context.run(self._write, event.model_dump(mode="json"))
        for observer in tuple(self._observers):
            self._tell(observer, event)

    def _tell(self, observer: RunObserver, event: LifecycleEvent) -> None:
        try:
            observer.on_run_event(event)
        except Exception:  # noqa: BLE001 - whoever only looks on must not end a run that costs money
            _log.warning("%r failed, and hears no more of run %s", observer, event.run_id, exc_info=True)
            self._observers.remove(observer)

    async def _flush_regularly(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._full.wait()
            self._full.clear()
            await self._flush()

    async def _flush(self) -> None:
        batch, self._buffer = self._buffer, []
        if not batch:
            return
        try:
            await asyncio.shield(self._ledger.aappend_events(batch))
        except LedgerUnavailableError as error:  # no reason to lose a run: its outcomes are not kept here
            _log.warning("%d events of run %s are not in the journal yet: %s", len(batch), batch[0].run_id, error)
            self._buffer = batch + self._buffer

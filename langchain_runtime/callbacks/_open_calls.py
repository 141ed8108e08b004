"""Calls that have begun and not ended, by LangChain's run id."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

_MOST: Final = 10_000
"""LangChain does not tell of the end of every call; beyond this many, those that began first are forgotten."""


class OpenCalls(Generic[T]):
    """What is known of calls in flight; safe to share between threads.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._calls: OrderedDict[UUID, T] = OrderedDict()
        self._forgotten = 0

    def __len__(self) -> int:
        """Calls whose end nobody told of, forgotten ones included."""
        return len(self._calls) + self._forgotten

    def begin(self, run_id: UUID, call: T) -> T:
        """Keep ``call`` until it ends; returns the one that began before under this id, if there is one."""
        with self._lock:
            kept = self._calls.setdefault(run_id, call)
            if len(self._calls) > self._most:
                self._calls.popitem(last=False)
                self._forgotten += 1
            return kept

    def get(self, run_id: UUID) -> T | None:
        """The call, if it has begun and not ended."""
        return self._calls.get(run_id)

    def end(self, run_id: UUID) -> T | None:
        """The call, to the first who ends it; None to all others."""
        with self._lock:
            return self._calls.pop(run_id, None)

    def all(self) -> list[tuple[UUID, T]]:
        """Every call now, in the order they began."""
        with self._lock:
            return list(self._calls.items())

"""A thread-safe priority queue of task ids."""

from __future__ import annotations

import heapq
import math
from itertools import count
from threading import Lock


class QueueManager:
    """Gives out the most urgent task first, and equally urgent ones in the order they came.

    Urgencies compare like tuples, larger first; the default, the empty tuple, is the least urgent. An id may be queued
    more than once. O(log n) per operation.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._arrival = count()
        self._heap: list[tuple[tuple[float, ...], int, str]] = []

    def enqueue(self, task_id: str, urgency: tuple[float, ...] = ()) -> None:
        """Add ``task_id``."""
        # heapq gives the smallest first, so the order is reversed; the end mark puts a longer tuple before its prefix.
        key = (*(-part for part in urgency), math.inf)
        with self._lock:
            heapq.heappush(self._heap, (key, next(self._arrival), task_id))

    def dequeue(self) -> str | None:
        """Remove and return the most urgent task; None when empty."""
        with self._lock:
            return heapq.heappop(self._heap)[2] if self._heap else None

    def __len__(self) -> int:
        with self._lock:
            return len(self._heap)

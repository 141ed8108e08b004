"""How often tasks were tried, and when they are tried again."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from langchain_runtime.contracts.run import RetrySpec


class Retries:
    """Counts attempts, and keeps the tasks that wait for their next one.

    Args:
        usual: For every task that has none of its own.
        own: By task.
        random: Uniform in [0, 1), for the jitter.
    """

    def __init__(self, usual: RetrySpec, own: Mapping[str, RetrySpec], random: Callable[[], float]) -> None:
        self._usual = usual
        self._own = dict(own)
        self._random = random
        self._attempts: Counter[str] = Counter()
        self._until: dict[str, float] = {}
        self._alarms: list[tuple[float, str]] = []  # heap of the same

    @property
    def attempts(self) -> Mapping[str, int]:
        """A live, read-only view of how often each task was started; 0 for the others."""
        return MappingProxyType(self._attempts)

    @property
    def until(self) -> Mapping[str, float]:
        """A live, read-only view of when each task that waits may start again."""
        return MappingProxyType(self._until)

    @property
    def next_at(self) -> float:
        """When the first of them may; infinite if none waits."""
        return self._alarms[0][0] if self._alarms else math.inf

    def allow(self, task_id: str, retry: RetrySpec) -> None:
        """Give the task a rule of its own."""
        self._own[task_id] = retry

    def count(self, task_id: str) -> int:
        """The task starts; returns the number of the attempt, from 1."""
        self._attempts[task_id] += 1
        return self._attempts[task_id]

    def discount(self, task_id: str) -> None:
        """The last start of the task was no attempt."""
        self._attempts[task_id] -= 1

    def back_off(self, task_id: str, now: float) -> bool:
        """Let the task, whose attempt failed, wait for the next one; False if it has none left."""
        retry, failures = self._own.get(task_id, self._usual), self._attempts[task_id]
        if failures >= retry.max_attempts:
            return False
        self._until[task_id] = now + _pause_seconds(retry, failures=failures, random=self._random)
        heapq.heappush(self._alarms, (self._until[task_id], task_id))
        return True

    def leave(self, now: float) -> list[str]:
        """Take out the tasks whose time has come."""
        due = []
        while self.next_at <= now:
            _, task_id = heapq.heappop(self._alarms)
            del self._until[task_id]
            due.append(task_id)
        return due


def _pause_seconds(retry: RetrySpec, *, failures: int, random: Callable[[], float]) -> float:
    """How long to wait after ``failures`` failed attempts.

    Exponential up to the ceiling, half of it fixed and half of it random, so that tasks that failed together do not
    come back together ("equal jitter": M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
    """
    pause = float(retry.initial_interval_ms)
    for _ in range(failures - 1):
        pause = min(pause * retry.backoff_factor, retry.max_interval_ms)
    return min(pause, retry.max_interval_ms) * (1 + random()) / 2 / 1000

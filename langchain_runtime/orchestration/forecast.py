"""What a run would look like: the planner in virtual time.

The very planner that real drivers follow is played against durations that are known or assumed, so a forecast, a
replay with other limits and a benchmark of the schedule all show what a real run would do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.orchestration.executor_protocol import (
    Begin,
    Cancel,
    Ended,
    Event,
    Finish,
    Skip,
    Sleep,
    Start,
    Tick,
)
from langchain_runtime.orchestration.parallel_executor import ParallelExecutor


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt is assumed to do: how long it takes in seconds, and how it ends."""

    seconds: float
    state: TaskState = TaskState.COMPLETED
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt in a forecast, in seconds from the run's start."""

    task_id: str
    attempt: int
    started: float
    ended: float
    state: TaskState


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a simulated run went.

    Attributes:
        state: How the run ended.
        reason: Why, where ``Finish`` says so.
        makespan: Seconds from start to end.
        spans: Every attempt, in the order of their ends.
        skipped: Root cause by skipped task.
    """

    state: RunState
    reason: str | None
    makespan: float
    spans: tuple[Span, ...]
    skipped: dict[str, str]


def simulate(planner: ParallelExecutor, attempt: Callable[[str, int], Attempt]) -> Forecast:
    """Play a fresh planner to its end in virtual time.

    Args:
        planner: Not begun yet; used up.
        attempt: What the n-th attempt (from 1) of a task does. A cancelled one fails at once instead.
    """
    spans: list[Span] = []
    skipped: dict[str, str] = {}
    ends: list[tuple[float, int, Span, bool]] = []  # heap by time, then by order of starts; with "retryable"
    starts = count()
    event: Event = Begin(0.0)
    while True:
        wake_at = math.inf
        actions = planner.next(event)
        for action in actions:
            match action:
                case Start(task_id, number):
                    does = attempt(task_id, number)
                    span = Span(task_id, number, event.now, event.now + does.seconds, does.state)
                    heapq.heappush(ends, (span.ended, next(starts), span, does.retryable))
                case Cancel(task_id):
                    ends = [_cut(each, event.now) if each[2].task_id == task_id else each for each in ends]
                    heapq.heapify(ends)
                case Skip(task_id, because):
                    skipped[task_id] = because
                case Sleep(until):
                    wake_at = until
        if actions and isinstance(end := actions[-1], Finish):
            return Forecast(end.state, end.reason, event.now, tuple(spans), skipped)
        if ends and ends[0][0] <= wake_at:
            now, _, span, retryable = heapq.heappop(ends)
            spans.append(span)
            event = Ended(span.task_id, now, span.state, retryable)
        else:
            event = Tick(wake_at)


def _cut(end: tuple[float, int, Span, bool], now: float) -> tuple[float, int, Span, bool]:
    _, order, span, retryable = end
    return now, order, replace(span, ended=now, state=TaskState.FAILED), retryable

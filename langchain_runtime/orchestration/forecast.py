"""What a run would look like: the planner in virtual time.

The very planner that real drivers follow is played against durations that are known or assumed, so a forecast, a
replay with other limits and a benchmark of the schedule all show what a real run would do.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count

from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.orchestration.executor_protocol import (
    Action,
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


Obstacle = Callable[[str, float], Event | None]
"""What a driver would report of a task that is about to start at some moment, if it could not: ``Throttled``,
``Deferred``, or ``Grew`` of a task that has to wait for its children. None lets it start."""


def _nothing(_task_id: str, _now: float) -> None:
    return None


def _nobody(_span: Span) -> None:
    pass


def simulate(
    planner: ParallelExecutor,
    attempt: Callable[[str, int], Attempt],
    *,
    obstacle: Obstacle = _nothing,
    on_end: Callable[[Span], None] = _nobody,
) -> Forecast:
    """Play a fresh planner to its end in virtual time.

    Args:
        planner: Not begun yet; used up.
        attempt: What the n-th attempt (from 1) of a task does. A cancelled one fails at once instead.
        obstacle: Asked before every start. A task must not be put off for ever: the play would not end.
        on_end: Told of every attempt that has ended, before the planner is.
    """
    play = _Play(attempt, obstacle)
    play.news.append(Begin(0.0))
    while True:
        event = play.news.popleft()
        actions = planner.next(event)
        wake_at = play.carry_out(actions, event.now)
        if actions and isinstance(end := actions[-1], Finish):
            return Forecast(end.state, end.reason, event.now, tuple(play.spans), play.skipped)
        if play.news:
            continue
        if play.ends and play.ends[0][0] <= wake_at:
            now, _, span, retryable = heapq.heappop(play.ends)
            play.spans.append(span)
            on_end(span)
            play.news.append(Ended(span.task_id, now, span.state, retryable))
        else:
            play.news.append(Tick(wake_at))


_End = tuple[float, int, Span, bool]
"""An attempt that is under way: its end, its place among starts, what it will be, and whether it can be retried."""


class _Play:
    """What is under way.

    Attributes:
        news: What the planner is to be told now.
        ends: Heap by time, then by order of starts.
        spans: As in ``Forecast``.
        skipped: As in ``Forecast``.
    """

    def __init__(self, attempt: Callable[[str, int], Attempt], obstacle: Obstacle) -> None:
        self._attempt = attempt
        self._obstacle = obstacle
        self._starts = count()
        self.news: deque[Event] = deque()
        self.ends: list[_End] = []
        self.spans: list[Span] = []
        self.skipped: dict[str, str] = {}

    def carry_out(self, actions: Iterable[Action], now: float) -> float:
        """Do what the planner says; returns when it wants to be woken."""
        wake_at = math.inf
        for action in actions:
            match action:
                case Start(task_id, number):
                    self._start(task_id, number, now)
                case Cancel(task_id):
                    self.ends = [_cut(each, now) if each[2].task_id == task_id else each for each in self.ends]
                    heapq.heapify(self.ends)
                case Skip(task_id, because):
                    self.skipped[task_id] = because
                case Sleep(until):
                    wake_at = until
        return wake_at

    def _start(self, task_id: str, number: int, now: float) -> None:
        instead = self._obstacle(task_id, now)
        if instead is not None:
            self.news.append(instead)
            return
        does = self._attempt(task_id, number)
        span = Span(task_id, number, now, now + does.seconds, does.state)
        heapq.heappush(self.ends, (span.ended, next(self._starts), span, does.retryable))


def _cut(end: _End, now: float) -> _End:
    _, order, span, retryable = end
    return now, order, replace(span, ended=now, state=TaskState.FAILED), retryable

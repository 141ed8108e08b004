"""Where a run stands now, added up from its events; pure, so that every live view can share it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from langchain_runtime.contracts.events import (
    CallReserved,
    CallSettled,
    LifecycleEvent,
    RunEnded,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskRetried,
    TasksAdded,
    TaskStarted,
    TaskSuspended,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskError, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.figures import Total, share_of
from langchain_runtime.report.tally import SpendTally

_RECENT: Final = 200
"""Ended tasks that a view can list; no screen is higher."""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A task that runs or has ended.

    Attributes:
        id: Its id.
        state: Where it stands.
        model: The model it runs on; None for a body of its own.
        attempt: Which try it is at.
        started_at: First start in this sitting; None when it was skipped.
        ended_at: When it ended; None while it runs.
        usage: Tokens and cost; None while it runs.
        error: Of the attempt that failed last; None when none did.
    """

    id: str
    state: TaskState
    model: str | None = None
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    usage: Usage | None = None
    error: TaskError | None = None

    def seconds(self, now: datetime) -> float | None:
        """How long it has run; None when it never started."""
        return None if self.started_at is None else max(0.0, ((self.ended_at or now) - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class ProgressFigures:
    """A run at one moment.

    Attributes:
        run_id: Its id; None before the first event.
        state: Where the run stands.
        total: Tasks; None while unknown.
        ended: Tasks that will not change any more, those of earlier sittings included.
        states: How many tasks stand where; tasks that were not heard of count as pending.
        running: Tasks that run, longest first.
        recent: Tasks that ended, latest first.
        tokens: Used so far in this sitting.
        spent: Settled so far in this sitting; None when unknown.
        complete: Whether ``spent`` covers all calls that used tokens.
        held: Reserved for calls in flight; None when nothing is.
        limit: What the run may spend; None for no limit.
        elapsed: Seconds since the run was taken up.
        eta: Seconds until the end if tasks go on ending at the rate of this sitting; None before the first one.
    """

    run_id: str | None
    state: RunState
    total: int | None
    ended: int
    states: Counter[TaskState]
    running: tuple[TaskProgress, ...]
    recent: tuple[TaskProgress, ...]
    tokens: TokenUsage
    spent: Cost | None
    complete: bool
    held: Cost | None
    limit: Cost | None
    elapsed: float
    eta: float | None

    @property
    def done(self) -> float | None:
        """Share of the tasks that ended; None while their number is unknown."""
        return self.ended / self.total if self.total else None

    @property
    def share(self) -> float | None:
        """Share of the budget that is spent; None when either is unknown."""
        return share_of(self.spent, self.limit)


class Progress:
    """Adds up the events of a run, as they come or from its journal.

    Args:
        events: Events to begin with.
        total: Number of tasks until the run says it; None for unknown.
        limit: What the run may spend until the run says it; None for no limit.
    """

    def __init__(
        self, events: Iterable[LifecycleEvent] = (), *, total: int | None = None, limit: Cost | None = None
    ) -> None:
        self._total = total
        self._limit = limit
        self._run_id: str | None = None
        self._state = RunState.PENDING
        self._started_at: datetime | None = None
        self._seen_at: datetime | None = None
        self._tasks: dict[str, TaskProgress] = {}
        self._states: Counter[TaskState] = Counter()
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._restored = 0
        self._ended_in_sitting = 0
        self._tally = SpendTally(limit.currency if limit is not None else None)
        self._final: Usage | None = None
        self._holds: dict[str, tuple[str | None, Cost | None]] = {}
        for event in events:
            self.feed(event)

    def feed(self, event: LifecycleEvent) -> None:
        """Count one event; kinds that change nothing here are ignored."""
        self._run_id = event.run_id
        self._seen_at = event.at if self._seen_at is None else max(self._seen_at, event.at)
        self._started_at = self._started_at or event.at
        match event:
            case RunStarted():
                self._begin(event)
            case RunEnded():
                self._state = event.state
                self._final = event.usage
                self._holds.clear()
            case CallReserved():
                self._holds[event.reservation_id] = (event.task, event.worst_case)
            case CallSettled():
                self._holds.pop(event.reservation_id, None)
                usage = Usage(tokens=event.usage or TokenUsage(), cost=event.cost)
                self._tally.call(event.task, usage)
            case TasksAdded():
                self._total = None if self._total is None else self._total + len(event.tasks)
            case TaskReady() | TaskStarted() | TaskRetried() | TaskSuspended() | TaskFinished():
                self._move(event)
            case _:
                pass

    def _begin(self, event: RunStarted) -> None:
        # A new sitting keeps what was completed; what broke off, failed or was skipped starts anew.
        for task in self._tasks:
            self._tally.again(task)
        self._tasks = {id_: task for id_, task in self._tasks.items() if task.state is TaskState.COMPLETED}
        self._restored = max(0, event.finished - len(self._tasks))
        self._states = Counter({TaskState.COMPLETED: len(self._tasks) + self._restored})
        self._total = event.tasks
        self._limit = event.limit or self._limit
        self._state = RunState.RUNNING
        self._started_at = event.at
        self._ended_in_sitting = 0
        self._final = None
        self._holds.clear()

    def _move(self, event: TaskReady | TaskStarted | TaskRetried | TaskSuspended | TaskFinished) -> None:
        known = self._tasks.get(event.task)
        before = known or TaskProgress(event.task, TaskState.PENDING)
        match event:
            case TaskReady() | TaskSuspended():
                after = replace(before, state=TaskState.READY)
            case TaskStarted():
                after = replace(
                    before,
                    state=TaskState.RUNNING,
                    model=event.model or before.model,
                    attempt=event.attempt,
                    started_at=before.started_at or event.at,
                    ended_at=None,
                )
            case TaskRetried():
                after = replace(before, error=event.error)
            case _:
                after = self._finished(before, event)
        self._tasks[event.task] = after
        self._states[after.state] += 1
        if known is not None:
            self._states[known.state] -= 1

    def _finished(self, before: TaskProgress, event: TaskFinished) -> TaskProgress:
        self._ended_in_sitting += not before.state.ended
        self._recent.append(event.task)
        self._tally.tell(event.task, event.usage)
        self._holds = {id_: hold for id_, hold in self._holds.items() if hold[0] != event.task}
        return replace(
            before,
            state=event.state,
            attempt=event.attempts,
            ended_at=event.at,
            usage=event.usage,
            error=event.error,
        )

    @property
    def ended(self) -> int:
        """Tasks that will not change any more, those of earlier sittings included."""
        return sum(self._states[state] for state in TaskState if state.ended)

    @property
    def failed(self) -> int:
        """Tasks that failed in this sitting."""
        return self._states[TaskState.FAILED]

    @property
    def total(self) -> int | None:
        """Tasks of the run, children made on the way included; None while unknown."""
        return None if self._total is None else max(self._total, self._restored + len(self._tasks))

    @property
    def tenths(self) -> int:
        """How many tenths of the tasks have ended; 0 while their number is unknown."""
        return self.ended * 10 // self.total if self.total else 0

    def figures(self, now: datetime | None = None) -> ProgressFigures:
        """The run at ``now``; None means at its last event, as does every moment after its end."""
        if now is None or self._final is not None:
            now = self._seen_at
        total, ended = self.total, self.ended
        states = self._states.copy()
        states[TaskState.PENDING] += 0 if total is None else total - states.total()
        elapsed = 0.0
        if now is not None and self._started_at is not None:
            elapsed = max(0.0, (now - self._started_at).total_seconds())
        running = [task for task in self._tasks.values() if task.state is TaskState.RUNNING]
        spent = self._spent()
        return ProgressFigures(
            run_id=self._run_id,
            state=self._state,
            total=total,
            ended=ended,
            states=states,
            running=tuple(sorted(running, key=lambda task: (task.started_at or now, task.id))),
            recent=self._latest(),
            tokens=spent.tokens,
            spent=spent.cost,
            complete=spent.complete,
            held=self._held(),
            limit=self._limit,
            elapsed=elapsed,
            eta=elapsed * (total - ended) / self._ended_in_sitting if total and self._ended_in_sitting else None,
        )

    def _latest(self) -> tuple[TaskProgress, ...]:
        ids = dict.fromkeys(reversed(self._recent))
        return tuple(task for id_ in ids if (task := self._tasks.get(id_)) is not None and task.state.ended)

    def _spent(self) -> Total:
        """What the run says at its end; before, what its tasks and calls add up to."""
        if self._final is None or self._final == Usage():
            return self._tally.total()
        return Total.of([self._final], self._tally.currency)

    def _held(self) -> Cost | None:
        currency = self._tally.currency
        nano = [cost.nano for _, cost in self._holds.values() if cost is not None and cost.currency == currency]
        return Cost.from_nano(sum(nano), currency) if nano else None

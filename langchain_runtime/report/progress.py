"""Where a run stands now, added up from its events; pure, so that every live view can share it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.figures import Total
from langchain_runtime.report.progress_figures import GroupProgress, ProgressFigures, TaskProgress
from langchain_runtime.report.tally import SpendTally
from langchain_runtime.report.timing import parent_of

_RECENT: Final = 200
"""Ended tasks that a view can list; no screen is higher."""


@dataclass(slots=True)
class _Group:
    """Children of one ``for_each`` task, added up."""

    tally: SpendTally
    total: int | None = None
    states: Counter[TaskState] = field(default_factory=Counter)
    started_at: datetime | None = None

    def begin(self, completed: int) -> None:
        """A new sitting: what did not complete starts anew."""
        self.states = Counter({TaskState.COMPLETED: completed})
        self.started_at = None

    def figures(self, parent: TaskProgress) -> GroupProgress:
        state = TaskState.RUNNING if self.states[TaskState.RUNNING] else parent.state
        return GroupProgress(
            parent.id,
            parent.state if parent.state.ended else state,
            self.total,
            self.states.copy(),
            self.tally.total(),
            self.started_at,
            parent.ended_at,
        )


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
        self._running: dict[str, None] = {}
        self._groups: dict[str, _Group] = {}
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
                if event.task is not None and (group := self._group_of(event.task)) is not None:
                    group.tally.call(event.task, usage)
            case TasksAdded():
                self._total = None if self._total is None else self._total + len(event.tasks)
                if event.tasks and (group := self._group_of(event.tasks[0])) is not None:
                    group.total = len(event.tasks)
            case TaskReady() | TaskStarted() | TaskRetried() | TaskSuspended() | TaskFinished():
                self._move(event)
            case _:
                pass

    def _begin(self, event: RunStarted) -> None:
        # A new sitting keeps what was completed; what broke off, failed or was skipped starts anew.
        for task in self._tasks:
            self._tally.again(task)
            if (group := self._group_of(task)) is not None:
                group.tally.again(task)
        self._tasks = {id_: task for id_, task in self._tasks.items() if task.state is TaskState.COMPLETED}
        self._running.clear()
        kept = Counter(parent_of(task) for task in self._tasks)
        for parent, group in self._groups.items():
            group.begin(kept[parent])
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
        group = self._group_of(event.task)
        if group is not None:
            group.started_at = group.started_at or after.started_at
        for states in (self._states, *([] if group is None else [group.states])):
            states[after.state] += 1
            if known is not None:
                states[known.state] -= 1
        if after.state is TaskState.RUNNING:
            self._running[event.task] = None
        else:
            self._running.pop(event.task, None)

    def _finished(self, before: TaskProgress, event: TaskFinished) -> TaskProgress:
        self._ended_in_sitting += not before.state.ended
        self._recent.append(event.task)
        self._tally.tell(event.task, event.usage)
        if (group := self._group_of(event.task)) is not None:
            group.tally.tell(event.task, event.usage)
        self._holds = {id_: hold for id_, hold in self._holds.items() if hold[0] != event.task}
        return replace(
            before,
            state=event.state,
            attempt=event.attempts,
            ended_at=event.at,
            usage=event.usage,
            error=event.error,
        )

    def _group_of(self, task: str) -> _Group | None:
        """What the task is a child of; None for others."""
        parent = parent_of(task)
        if parent is None:
            return None
        if parent not in self._groups:
            self._groups[parent] = _Group(SpendTally(self._tally.currency if self._limit is not None else None))
        return self._groups[parent]

    @property
    def over(self) -> bool:
        """Whether the run has said that it ended."""
        return self._final is not None

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
        if now is None or self.over:
            now = self._seen_at
        total, ended = self.total, self.ended
        states = self._states.copy()
        states[TaskState.PENDING] += 0 if total is None else total - states.total()
        elapsed = 0.0
        if now is not None and self._started_at is not None:
            elapsed = max(0.0, (now - self._started_at).total_seconds())
        running = [self._tasks[task] for task in self._running]
        spent = self._spent()
        return ProgressFigures(
            run_id=self._run_id,
            state=self._state,
            total=total,
            ended=ended,
            states=states,
            running=tuple(sorted(running, key=lambda task: (task.started_at or now, task.id))),
            recent=self._latest(),
            groups=tuple(
                group.figures(self._tasks.get(parent) or TaskProgress(parent, TaskState.PENDING))
                for parent, group in self._groups.items()
            ),
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

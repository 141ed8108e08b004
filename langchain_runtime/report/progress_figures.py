"""A run at one moment, as every live view shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskError, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.figures import Total, share_of


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
        return _seconds(self.started_at, self.ended_at or now)


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """A ``for_each`` task and all its children.

    Attributes:
        id: Id of the ``for_each`` task.
        state: Where it stands: running while a child does.
        total: How many children it has; None where a run was taken up again and nobody said so in this sitting.
        states: How many children stand where, of those that were heard of.
        used: Tokens and money of its children.
        started_at: When its first child started in this sitting; None when none did.
        ended_at: When it ended; None while it runs.
    """

    id: str
    state: TaskState
    total: int | None
    states: Counter[TaskState]
    used: Total
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> int:
        """Children that will not change any more."""
        return sum(self.states[state] for state in TaskState if state.ended)

    def seconds(self, now: datetime) -> float | None:
        """How long its children have run; None when none started."""
        return _seconds(self.started_at, self.ended_at or now)


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max(0.0, (end - start).total_seconds())


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
        groups: ``for_each`` tasks that have children, in the order in which these were first heard of.
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
    groups: tuple[GroupProgress, ...]
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

"""Everything a run report shows, computed once: every view reads the same ``RunFigures``, so no two can disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskError, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.incidents import Incidents
from langchain_runtime.report.timing import Clock, PathStep


@dataclass(frozen=True, slots=True)
class Total:
    """Tokens and money of several tasks or calls.

    Attributes:
        tokens: Sum of what is known.
        cost: Sum of what is known; None when nothing is.
        complete: Whether the cost of everything that used tokens is known; else ``cost`` is a lower bound.
    """

    tokens: TokenUsage = field(default_factory=TokenUsage)
    cost: Cost | None = None
    complete: bool = True

    @classmethod
    def of(cls, usages: Iterable[Usage | None], currency: str) -> Total:
        """Add up; a cost in another currency than ``currency`` counts as unknown."""
        tokens, nano, known, complete = TokenUsage(), 0, False, True
        for usage in usages:
            if usage is None:
                continue
            tokens += usage.tokens
            if usage.cost is not None and usage.cost.currency == currency:
                nano += usage.cost.nano
                known = True
            elif usage.cost is not None or usage.tokens.total:
                complete = False
        return cls(tokens, Cost.from_nano(nano, currency) if known else None, complete)


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task.

    Attributes:
        id: Its id.
        state: Where it stands.
        model: The model it ran on; None for a body of its own.
        deps: What it waited for.
        attempts: How often its body was started.
        usage: Tokens and cost, failed attempts included; None when it never started.
        began: Seconds from the run's first start to its own; None when it never started.
        seconds: From its first start to its end, or to the run's last sign of life; None when it never started.
        output: What it produced.
        outputs: Named values it produced.
        error: Why it failed; None unless failed.
        skipped_because: Why it was skipped; None unless skipped.
        critical: Whether it is on the critical path.
        children: How many children a ``for_each`` task has; its usage is theirs and is not counted twice.
    """

    id: str
    state: TaskState
    model: str | None
    deps: tuple[str, ...]
    attempts: int
    usage: Usage | None
    began: float | None
    seconds: float | None
    output: JsonValue
    outputs: dict[str, JsonValue]
    error: TaskError | None
    skipped_because: str | None
    critical: bool
    children: int

    @property
    def cost(self) -> Cost | None:
        """What it cost; None when unknown."""
        return None if self.usage is None else self.usage.cost


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What ran on one model; ``model`` is None for tokens that no model is named for."""

    model: str | None
    tasks: int
    total: Total


@dataclass(frozen=True, slots=True)
class SpendPoint:
    """Settled so far, in nano units, at ``seconds`` of the run."""

    seconds: float
    nano: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Everything a run report shows.

    Attributes:
        id: The run's id.
        state: Where it stands.
        created_at: When it was first started.
        updated_at: When its state last changed.
        currency: The currency of its budget.
        tasks: By start; those that never started last, in the order they were added.
        states: How many tasks stand where.
        usage: Tokens of the whole run and their cost, as the run reports them.
        spent: Spent by the budget's account, else by the run; None when unknown.
        complete: Whether ``spent`` covers every task that used tokens; else it is a lower bound.
        limit: What it may spend; None for no limit.
        held: Reserved for calls in flight; None when the account was not given.
        forfeited: Part of ``spent`` charged at worst case for calls whose owner vanished; None as for ``held``.
        clock: Turns moments into seconds of the run.
        duration: Seconds from first start to last end, pauses left out; None when nothing started.
        work: Sum of the seconds of all tasks.
        path: The critical path actually taken.
        models: By cost, dearest first.
        spending: How spending grew.
        incidents: Retries, refusals, compactions, warnings.
    """

    id: str
    state: RunState
    created_at: datetime
    updated_at: datetime
    currency: str
    tasks: tuple[TaskFigures, ...]
    states: Counter[TaskState]
    usage: Usage
    spent: Cost | None
    complete: bool
    limit: Cost | None
    held: Cost | None
    forfeited: Cost | None
    clock: Clock
    duration: float | None
    work: float
    path: tuple[PathStep, ...]
    models: tuple[ModelFigures, ...]
    spending: tuple[SpendPoint, ...]
    incidents: Incidents

    @property
    def share(self) -> float | None:
        """Spent by limit; None when either is unknown."""
        return share_of(self.spent, self.limit)

    @property
    def speedup(self) -> float | None:
        """Task seconds by wall seconds: how many tasks ran at a time on average; None when nothing ran."""
        return self.work / self.duration if self.duration else None

    @property
    def paused(self) -> float:
        """Seconds between sittings, which ``duration`` leaves out."""
        return sum(pause.seconds for pause in self.clock.pauses)


def share_of(part: Cost | None, whole: Cost | None) -> float | None:
    """``part`` by ``whole``, for bars and percentages; None when either is unknown or the currencies differ."""
    if part is None or whole is None or part.currency != whole.currency or not whole.nano:
        return None
    return part.nano / whole.nano

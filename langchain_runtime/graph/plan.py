"""What a run would do, take and cost: the figures, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from langchain_runtime.contracts.money import Cost, format_amount
from langchain_runtime.contracts.usage import TokenUsage

_ROWS_SHOWN: Final = 60
"""Tasks in the table of a terminal; a longer one is not read."""

_NAMED: Final = 5
"""Tasks named in a sentence."""


class PlannedTask(BaseModel):
    """One task of a plan; a ``for_each`` task stands for all its children.

    Attributes:
        id: The task.
        model: Prompts: who answers; None for other bodies.
        deps: What it waits for.
        items: How many times it is carried out: 1, or the length of its list.
        expected: Tokens, all items together.
        worst: Tokens of each item's call at most; None where there is no bound, or no call that is known of.
        expected_cost: Of ``expected``; None when unknown.
        worst_cost: The most that it can cost, all items and attempts together; None when unknown, or without bound.
        seconds: Duration of one execution.
        critical: Whether it is on the critical path.
        samples: On how many earlier executions the figures rest; 0 for assumptions.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    model: str | None
    deps: tuple[str, ...]
    items: int = 1
    expected: TokenUsage
    worst: TokenUsage | None
    expected_cost: Cost | None
    worst_cost: Cost | None
    seconds: float
    critical: bool
    samples: int = 0


class OverBudget(BaseModel):
    """A task whose call would not fit a budget when its turn comes.

    Attributes:
        task: The task; children of ``for_each`` have numbers.
        scope: The budget that is short: ``run`` for the run's own.
        needed: The call's worst case.
        left: What the budget would have left then; None where it is short of tokens.
        then: What happens to it: its reply is ``capped``, it is ``refused``, ``moved`` down the ladder, a human is
            ``asked``, or it is only ``noted``.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    scope: str
    needed: Cost | None
    left: Cost | None
    then: Literal["capped", "refused", "moved", "asked", "noted"]


class RunPlan(BaseModel):
    """What a run would do, take and cost.

    Attributes:
        name: The graph's.
        tasks: In the order they would start.
        expected_cost: Of all tasks whose cost is known; None when none is.
        worst_cost: The most that all prompts can cost; None where one of them has no bound or no price. Calls that
            functions make are not in it.
        limit: The run's budget; None for no limit.
        over_budget: Calls that would not fit a budget, in the order of their turns.
        critical_path: Ids of the chain that decides the duration.
        critical_seconds: Its duration if its tasks take as long as usual; no parallelism makes the run shorter.
        makespan_seconds: Duration at ``max_parallelism``, by the scheduler in virtual time; with durations that varied
            in earlier runs, the mean of plays with the durations of each of them.
        makespan_range: The shortest and the longest of these plays.
        max_parallelism: Tasks at a time.
        suggested_parallelism: The fewest tasks at a time with which the run takes at most 5 % longer than with any
            number.
        suggested_seconds: How long it takes with them.
        warnings: What the reader should know, as sentences.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    tasks: tuple[PlannedTask, ...]
    expected_cost: Cost | None
    worst_cost: Cost | None
    limit: Cost | None
    over_budget: tuple[OverBudget, ...] = ()
    critical_path: tuple[str, ...]
    critical_seconds: float
    makespan_seconds: float
    makespan_range: tuple[float, float]
    max_parallelism: int
    suggested_parallelism: int
    suggested_seconds: float
    warnings: tuple[str, ...]

    def to_text(self) -> str:
        """A summary and a table for a terminal; of a long plan the first rows."""
        shown = self.tasks[:_ROWS_SHOWN]
        lines = [*self._summary(), "", *_table(shown)]
        if len(shown) < len(self.tasks):
            lines.append(f"  and {len(self.tasks) - len(shown):,} more tasks")
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])

    __str__ = to_text

    def _summary(self) -> list[str]:
        executions = sum(task.items for task in self.tasks)
        count = f"{len(self.tasks):,} tasks" + (f" ({executions:,} with their items)" if self._has_lists else "")
        limit = "no limit" if self.limit is None else f"limit {self.limit}"
        path = f"critical path {_duration(self.critical_seconds)}, marked *"
        lines = [
            f"plan {self.name}: {count}, {self.max_parallelism} at a time",
            f"cost: {self._cost()}, {limit}",
            f"time: about {_duration(self.makespan_seconds)}{self._spread()} ({path})",
            f"parallelism: {self._advice()}",
        ]
        return [*lines, *self._shortfalls()]

    def _cost(self) -> str:
        if self.expected_cost is None and all(task.model is None for task in self.tasks):
            return "none that is known of"
        at_most = "no bound" if self.worst_cost is None else f"{self.worst_cost} at most"
        return f"{self.expected_cost or 'unknown'} expected, {at_most}"

    @property
    def _has_lists(self) -> bool:
        return any(task.items != 1 for task in self.tasks)

    def _spread(self) -> str:
        low, high = self.makespan_range
        return "" if low == high else f", {_duration(low)} to {_duration(high)}"

    def _advice(self) -> str:
        slots, seconds = self.suggested_parallelism, _duration(self.suggested_seconds)
        if slots == self.max_parallelism:
            return f"{slots} at a time is what this run can use"
        if slots < self.max_parallelism:
            return f"{slots} at a time would do: {seconds}"
        return f"{slots} at a time would take {seconds}; more would hardly help"

    def _shortfalls(self) -> list[str]:
        lines = []
        for then, says in _CONSEQUENCES.items():
            tasks = [each.task for each in self.over_budget if each.then == then]
            if tasks:
                lines.append(f"budget: {listed(tasks)} {says}")
        return lines


_CONSEQUENCES: Final = {
    "capped": "would have to be cut short to fit the budget",
    "moved": "would be moved to a cheaper model to fit the budget",
    "refused": "would not fit the budget and be refused",
    "asked": "would not fit the budget: a human is asked",
    "noted": "would not fit the budget, which is only noted",
}


def _table(tasks: Sequence[PlannedTask]) -> list[str]:
    names = [f"{task.id} x{task.items}" if task.items != 1 else task.id for task in tasks]
    width = max([len(name) for name in names], default=4)
    model_width = max([len(task.model or "-") for task in tasks], default=5)
    sizes = f"{'in':>7}  {'out':>7}  {'expected':>10}  {'at most':>10}  {'time':>7}"
    header = f"  {'task':<{width}}  {'model':<{model_width}}  {sizes}"
    return [
        header,
        *(
            f"{'*' if task.critical else ' '} {name:<{width}}  {task.model or '-':<{model_width}}  "
            f"{task.expected.input:>7}  {task.expected.output:>7}  {_money(task.expected_cost):>10}  "
            f"{_money(task.worst_cost):>10}  {_duration(task.seconds):>7}"
            for name, task in zip(names, tasks, strict=True)
        ),
    ]


def listed(tasks: Sequence[str]) -> str:
    """Some tasks by name, and how many there are besides."""
    named = ", ".join(tasks[:_NAMED])
    return named if len(tasks) <= _NAMED else f"{named} and {len(tasks) - _NAMED:,} more"


def _duration(seconds: float) -> str:
    """Two digits, or whole seconds: a forecast tells no more."""
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"  # noqa: PLR2004 - two digits from here on


def _money(cost: Cost | None) -> str:
    return "-" if cost is None else format_amount(cost.amount)

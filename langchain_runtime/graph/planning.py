"""Makes the plan of a run: reads what is known, rehearses, and says what the reader should know.

::

    facts (store, ledger) ──> expectations of tasks ──> rehearsals in virtual time ──> RunPlan
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Final, Literal

from pydantic import JsonValue

from langchain_runtime.contracts.budget import Balance, Budget, OnExceed, Scope
from langchain_runtime.contracts.errors import BudgetNotSetError, InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.graph.expectations import Expectation, Expectations, known_seconds
from langchain_runtime.graph.made_tasks import MOST_CHILDREN
from langchain_runtime.graph.plan import OverBudget, PlannedTask, RunPlan
from langchain_runtime.graph.plan_notes import notes_on
from langchain_runtime.graph.rehearsal import PickSeconds, Purse, Rehearsed, Shortfall, rehearse
from langchain_runtime.graph.services import Services, all_budgets
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.orchestration import Durations, PastRuns, Scheduler, enough_slots, peak

_MOST_STEPS: Final = 30_000
"""Tasks played in all plays: a plan of thousands of tasks has fewer, since their durations even out."""

_OWN: Final = "plan"
"""Stands for the id of a run that does not exist yet."""


@dataclass(frozen=True)
class Facts:
    """What is known before a run.

    Attributes:
        past: Earlier runs.
        latest: How long tasks took in the latest of them.
        purses: What its budgets have left.
    """

    past: PastRuns
    latest: Sequence[Durations]
    purses: tuple[Purse, ...]


def facts_of(spec: GraphSpec, services: Services) -> Plan[Facts]:
    """Read the history and the balances; nothing is written."""
    past = yield from services.history.past_runs(spec.name)
    if not all(past.has(task_id, each.digest, each.model) for task_id, each in spec.tasks.items()):
        past = yield from services.history.past_runs(spec.name, others=True)
    purses: tuple[Purse, ...] = ()
    for budget in all_budgets(_OWN, spec, services):
        if budget.limit is not None or budget.token_limit is not None:
            purses += ((yield from _purse(budget, services)),)
    return Facts(past, (yield from services.history.durations(spec.name)), purses)


def _purse(budget: Budget, services: Services) -> Plan[Purse]:
    balance = Balance(scope=Scope.of(budget))
    if budget.scope != f"run:{_OWN}":
        with contextlib.suppress(BudgetNotSetError):  # then nobody has spent from it
            balance = yield Step(services.ledger, "balance", (budget.scope,))
    scope = balance.scope
    return Purse(
        budget.scope,
        scope.currency,
        None if scope.limit_nano is None else scope.limit_nano - balance.spent_nano - balance.held_nano,
        None if scope.token_limit is None else scope.token_limit - balance.tokens_spent - balance.tokens_held,
        budget.on_exceed,
    )


def plan_run(
    spec: GraphSpec,
    services: Services,
    facts: Facts,
    given: Mapping[str, JsonValue],
    *,
    max_parallelism: int | None = None,
    items: Mapping[str, int] | None = None,
    steps: bool = False,
) -> RunPlan:
    """Plan a run of ``spec``.

    Args:
        spec: The graph.
        services: Components.
        facts: What is known.
        given: The run's inputs.
        max_parallelism: Tasks at a time; None for the policy's.
        items: How long the lists of ``for_each`` tasks will be; None for as long as they were, or 1.
        steps: Whether LangGraph carries it out step by step.

    Raises:
        InputError: The run would be refused, or an argument is wrong.
    """
    inputs = check_run(spec, services, given)
    policy = _policy(spec.policy, max_parallelism)
    lengths = _checked_lengths(spec, items or {})
    expected = Expectations(spec, services, inputs, facts.past, items=lengths, limited=bool(facts.purses))
    seconds = {task_id: _typical_seconds(expected.of(task_id)) for task_id in spec.tasks}
    on_a_path = {task_id: each if expected.of(task_id).items else 0.0 for task_id, each in seconds.items()}
    critical = Scheduler(spec.dag, expected_seconds=on_a_path).critical_path()
    order_by = known_seconds(spec, facts.latest)

    def play(policy: RunPolicy, pick: PickSeconds = _typical_seconds, purses: Sequence[Purse] = ()) -> Rehearsed:
        return rehearse(spec, policy, expected.of, pick, priorities_by=order_by, purses=purses)

    typical = play(policy, purses=facts.purses)
    makespans = _makespans(typical, expected, spec, lambda pick: play(policy, pick, facts.purses))
    unlimited = play(policy.model_copy(update={"max_parallelism": max(1, _executions(spec, expected))}))
    enough = enough_slots(
        lambda slots: play(policy.model_copy(update={"max_parallelism": slots})).forecast.makespan,
        fastest=unlimited.forecast.makespan,
        work=sum(span.ended - span.started for span in unlimited.forecast.spans),
        at_most=max(1, peak(unlimited.forecast.spans)),
    )
    starts = {span.task_id: span.started for span in reversed(typical.forecast.spans)}
    tasks = tuple(
        _planned(spec, task_id, expected.of(task_id), seconds[task_id], critical=task_id in critical.task_ids)
        for task_id in sorted(spec.tasks, key=lambda task_id: starts[task_id])
    )
    bounds = [task.worst_cost for task in tasks if task.model is not None]
    worst = None if None in bounds else _sum(bounds)
    return RunPlan(
        name=spec.name,
        tasks=tasks,
        expected_cost=_sum(task.expected_cost for task in tasks),
        worst_cost=worst,
        limit=spec.policy.budget_limit,
        over_budget=tuple(_over_budget(each) for each in typical.shortfalls),
        critical_path=critical.task_ids,
        critical_seconds=critical.seconds,
        makespan_seconds=fmean(makespans),
        makespan_range=(min(makespans), max(makespans)),
        max_parallelism=policy.max_parallelism,
        suggested_parallelism=enough.slots,
        suggested_seconds=enough.makespan,
        warnings=tuple(notes_on(spec, services, expected, tasks, worst, steps=steps)),
    )


def check_run(spec: GraphSpec, services: Services, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The inputs of a run, if it would be let start.

    Raises:
        InputError: It would be refused.
    """
    inputs = spec.run_inputs(given)
    services.check_prices(services.ladder.all_models(spec), all_budgets(_OWN, spec, services))
    return inputs


def _policy(policy: RunPolicy, max_parallelism: int | None) -> RunPolicy:
    if max_parallelism is None:
        return policy
    if isinstance(max_parallelism, bool) or not isinstance(max_parallelism, int) or max_parallelism < 1:
        raise InvalidInputError(
            f"max_parallelism must be a whole number, 1 or more, got {max_parallelism!r}",
            hint="leave it out for the policy's",
        )
    return policy.model_copy(update={"max_parallelism": max_parallelism})


def _checked_lengths(spec: GraphSpec, items: Mapping[str, int]) -> Mapping[str, int]:
    lists = [task_id for task_id, definition in spec.tasks.items() if definition.spec.for_each is not None]
    for task_id, length in items.items():
        if task_id not in lists:
            raise InvalidInputError(
                f"items names {task_id!r}, which is no for_each task", hint=f"there are: {', '.join(lists) or 'none'}"
            )
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= MOST_CHILDREN:
            raise InvalidInputError(
                f"items of {task_id!r} must be a whole number from 0 to {MOST_CHILDREN:,}, got {length!r}",
                hint="leave it out for the length in earlier runs",
            )
    return items


def _executions(spec: GraphSpec, expected: Expectations) -> int:
    return sum(expected.of(task_id).items for task_id in spec.tasks)


def _makespans(
    typical: Rehearsed, expected: Expectations, spec: GraphSpec, play: Callable[[PickSeconds], Rehearsed]
) -> list[float]:
    """Durations of the run: if its tasks took as long as in each of the earlier runs, the latest first.

    Not of typical durations: the longest of several tasks takes longer than the longest of those. And not of durations
    drawn for each task by itself: in a slow hour all tasks of a run are slow.
    """
    told = Counter(run for task_id in spec.tasks for run in dict.fromkeys(expected.of(task_id).runs))
    if not told:
        return [typical.forecast.makespan]
    enough = max(told.values()) / 2  # runs of other graphs, which have a prompt in common with this one, tell less
    most = max(1, _MOST_STEPS // max(1, _executions(spec, expected)))
    plays = [run for run, tasks in told.items() if tasks >= enough][:most]
    draw = random.Random(spec.fingerprint)  # noqa: S311 - the same plan twice is the same
    return [play(partial(_seconds_in, run, draw)).forecast.makespan for run in plays]


def _typical_seconds(expectation: Expectation) -> float:
    return median(expectation.seconds)


def _seconds_in(run: str, draw: random.Random, expectation: Expectation) -> float:
    """As in a run; of the items of a list, or where that run does not tell, one of several."""
    return draw.choice(expectation.seconds_in(run))


def _planned(spec: GraphSpec, task_id: str, expected: Expectation, seconds: float, *, critical: bool) -> PlannedTask:
    definition, worst, items = spec.tasks[task_id], expected.worst, expected.items
    times = items * spec.retry_of(task_id).max_attempts
    return PlannedTask(
        id=task_id,
        model=definition.model,
        deps=tuple(dict.fromkeys(dependency.task for dependency in definition.spec.deps)),
        items=items,
        expected=_times(expected.tokens, items),
        worst=None if worst is None else TokenUsage(input=worst.input, output=worst.output),
        expected_cost=_scaled(expected.cost, items),
        worst_cost=None if worst is None else _scaled(worst.cost, times),
        seconds=seconds,
        critical=critical,
        samples=expected.samples,
    )


def _over_budget(shortfall: Shortfall) -> OverBudget:
    purse = shortfall.purse
    free = shortfall.free_nano
    return OverBudget(
        task=shortfall.task,
        scope="run" if purse.scope == f"run:{_OWN}" else purse.scope,
        needed=shortfall.needed.cost,
        left=None if free is None else Cost.from_nano(max(0, free), purse.currency),
        then="capped" if shortfall.shrunk else _CONSEQUENCES[purse.on_exceed],
    )


_CONSEQUENCES: Final[Mapping[OnExceed, Literal["refused", "moved", "asked", "noted"]]] = {
    "cap": "refused",
    "raise": "refused",
    "wait": "refused",
    "downgrade": "moved",
    "interrupt": "asked",
    "warn": "noted",
}


def _times(tokens: TokenUsage, items: int) -> TokenUsage:
    return TokenUsage(**{kind: value * items for kind, value in tokens})


def _scaled(cost: Cost | None, times: int) -> Cost | None:
    return None if cost is None else Cost.from_nano(cost.nano * times, cost.currency)


def _sum(costs: Iterable[Cost | None]) -> Cost | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known[1:], known[0]) if known else None

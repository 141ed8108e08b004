"""What a run would do and cost, before anything is spent.

Figures of a task whose dependencies have not run yet are assumptions: a reply is taken to have
``ASSUMED_OUTPUT_TOKENS`` tokens (or its cap, if smaller), at worst its cap; a prompt receives the sum of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict, JsonValue

from langchain_runtime.adapters.request_bounds import DEFAULT_CAP
from langchain_runtime.context import render, variables
from langchain_runtime.contracts.money import Cost, format_amount
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.graph.services import Services, run_budget
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.orchestration import Attempt, ParallelExecutor, Scheduler, simulate

ASSUMED_OUTPUT_TOKENS: Final = 400
"""A few paragraphs: the median of the replies in our recorded provider traffic is below it."""

_SECONDS_TO_FIRST_TOKEN: Final = 1.0
_TOKENS_PER_SECOND: Final = 60
"""Round figures of current hosted models; a task's ``expected_seconds`` replaces them."""

_SECONDS_OF_A_BODY: Final = 1.0
"""For functions and Runnables that say nothing of their duration."""


class PlannedTask(BaseModel):
    """One task of a plan.

    Attributes:
        id: The task.
        model: Prompts: who answers; None for other bodies, whose cost cannot be known here.
        deps: What it waits for.
        expected: Tokens assumed.
        worst: Tokens at most.
        expected_cost: Of ``expected``; None when unknown.
        worst_cost: Of ``worst``, and what is reserved at most; None when unknown.
        seconds: Duration assumed.
        critical: Whether it is on the critical path.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    model: str | None
    deps: tuple[str, ...]
    expected: TokenUsage
    worst: TokenUsage
    expected_cost: Cost | None
    worst_cost: Cost | None
    seconds: float
    critical: bool


class RunPlan(BaseModel):
    """What a run would do and cost.

    Attributes:
        name: The graph's.
        tasks: In the order they would start.
        expected_cost: Sum over prompts; None when no price is known.
        worst_cost: Likewise, at most.
        limit: The run's budget; None for no limit.
        critical_path: Ids of the chain that decides the duration.
        critical_seconds: Its duration: no parallelism makes the run shorter.
        makespan_seconds: Duration at ``max_parallelism``, by the scheduler in virtual time.
        max_parallelism: Tasks at a time.
        warnings: What the reader should know, as sentences.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    tasks: tuple[PlannedTask, ...]
    expected_cost: Cost | None
    worst_cost: Cost | None
    limit: Cost | None
    critical_path: tuple[str, ...]
    critical_seconds: float
    makespan_seconds: float
    max_parallelism: int
    warnings: tuple[str, ...]

    def to_text(self) -> str:
        """A table for a terminal."""
        width = max([len(task.id) for task in self.tasks], default=4)
        model_width = max([len(task.model or "-") for task in self.tasks], default=5)
        header = (
            f"  {'task':<{width}}  {'model':<{model_width}}  {'in':>7}  {'out':>7}  "
            f"{'expected':>10}  {'at most':>10}  {'s':>6}"
        )
        rows = [
            f"{'*' if task.critical else ' '} {task.id:<{width}}  {task.model or '-':<{model_width}}  "
            f"{task.expected.input:>7}  {task.expected.output:>7}  {_money(task.expected_cost):>10}  "
            f"{_money(task.worst_cost):>10}  {task.seconds:>6.1f}"
            for task in self.tasks
        ]
        limit = "no limit" if self.limit is None else f"limit {self.limit}"
        summary = [
            f"plan {self.name}: {len(self.tasks)} tasks, {self.max_parallelism} at a time",
            f"cost: {self.expected_cost or 'unknown'} expected, {self.worst_cost or 'unknown'} at most, {limit}",
            f"time: about {self.makespan_seconds:.0f} s (critical path {self.critical_seconds:.0f} s, marked *)",
        ]
        return "\n".join([*summary, "", header, *rows, *(f"note: {warning}" for warning in self.warnings)])

    __str__ = to_text


def plan_run(spec: GraphSpec, services: Services, given: Mapping[str, JsonValue]) -> RunPlan:
    """Plan a run of ``spec``.

    Raises:
        InputError: The run would be refused.
    """
    inputs = spec.run_inputs(given)
    budget = run_budget("plan", spec.policy, services.currency_of(spec.models))
    services.check_prices(services.ladder.all_models(spec), [budget, *services.budgets])
    sizes = _Sizes(spec, services, inputs)
    seconds = {task_id: _seconds(definition, sizes.of(task_id)) for task_id, definition in spec.tasks.items()}
    scheduler = Scheduler(spec.dag, expected_seconds=seconds)
    critical = scheduler.critical_path()
    path, path_seconds = critical.task_ids, critical.seconds
    forecast = simulate(
        ParallelExecutor(spec.dag, policy=spec.policy, models={}, expected_seconds=seconds),
        lambda task_id, _attempt: Attempt(seconds[task_id]),
    )
    started = sorted(forecast.spans, key=lambda span: span.started)
    tasks = tuple(
        _planned(
            spec.tasks[span.task_id],
            sizes.of(span.task_id),
            services,
            seconds=seconds[span.task_id],
            critical=span.task_id in path,
        )
        for span in started
    )
    worst = _sum(task.worst_cost for task in tasks)
    return RunPlan(
        name=spec.name,
        tasks=tasks,
        expected_cost=_sum(task.expected_cost for task in tasks),
        worst_cost=worst,
        limit=spec.policy.budget_limit,
        critical_path=tuple(path),
        critical_seconds=path_seconds,
        makespan_seconds=forecast.makespan,
        max_parallelism=spec.policy.max_parallelism,
        warnings=tuple(_warnings(spec, services, tasks, worst)),
    )


@dataclass(frozen=True)
class _Size:
    expected: TokenUsage
    worst: TokenUsage


@dataclass
class _Sizes:
    """Tokens of each task, from its prompt and the sizes of what it receives."""

    spec: GraphSpec
    services: Services
    inputs: Mapping[str, JsonValue]
    _known: dict[str, _Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task_id in self.spec.topological_order:
            self._known[task_id] = self._size(self.spec.tasks[task_id])

    def of(self, task_id: str) -> _Size:
        return self._known[task_id]

    def _size(self, definition: TaskDefinition) -> _Size:
        if definition.spec.prompt is None or definition.model is None:
            passed_on = TokenUsage(output=ASSUMED_OUTPUT_TOKENS)
            return _Size(TokenUsage(), TokenUsage()) if not definition.spec.deps else _Size(passed_on, passed_on)
        received = [self._known[dependency.task] for dependency in definition.spec.deps]
        blank = {dependency.alias: "" for dependency in definition.spec.deps}
        if definition.spec.for_each is not None:
            blank[definition.spec.for_each.as_] = ""
        values = {name: {**self.inputs, **blank}[name] for name in variables(definition.spec.prompt)}
        message = [HumanMessage(render(definition.spec.prompt, values))]
        model = self.services.priced_as(definition.model)
        expected = self.services.estimator.expected(message, model=model)
        worst = self.services.estimator.upper_bound(message, model=model)
        cap = self._cap(definition)
        policy = definition.spec.context or self.spec.policy.context
        ceiling = policy.max_tokens if policy is not None else None
        return _Size(
            TokenUsage(
                input=_at_most(expected + sum(size.expected.output for size in received), ceiling),
                output=min(cap, ASSUMED_OUTPUT_TOKENS),
            ),
            TokenUsage(input=max(worst, _at_most(worst + sum(s.worst.output for s in received), ceiling)), output=cap),
        )

    def _cap(self, definition: TaskDefinition) -> int:
        info = self.services.info(str(definition.model))
        limits = (definition.spec.max_output_tokens, info.max_output_tokens if info else None, DEFAULT_CAP)
        return min(limit for limit in limits if limit is not None)


def _planned(
    definition: TaskDefinition, size: _Size, services: Services, *, seconds: float, critical: bool
) -> PlannedTask:
    expected_cost = worst_cost = None
    info = services.info(definition.model) if definition.model is not None else None
    if definition.model is not None and info is not None and info.rates is not None:
        priced_as = services.priced_as(definition.model)
        expected_cost = services.calculator.cost(size.expected, priced_as)
        worst_cost = services.calculator.worst_case(size.worst.input, size.worst.output, priced_as)
    is_prompt = definition.model is not None
    return PlannedTask(
        id=definition.spec.id,
        model=definition.model,
        deps=tuple(dict.fromkeys(dependency.task for dependency in definition.spec.deps)),
        expected=size.expected if is_prompt else TokenUsage(),
        worst=size.worst if is_prompt else TokenUsage(),
        expected_cost=expected_cost,
        worst_cost=worst_cost,
        seconds=seconds,
        critical=critical,
    )


def _seconds(definition: TaskDefinition, size: _Size) -> float:
    if definition.spec.expected_seconds is not None:
        return definition.spec.expected_seconds
    if definition.model is None:
        return _SECONDS_OF_A_BODY
    return _SECONDS_TO_FIRST_TOKEN + size.expected.output / _TOKENS_PER_SECOND


def _warnings(spec: GraphSpec, services: Services, tasks: tuple[PlannedTask, ...], worst: Cost | None) -> list[str]:
    limit = spec.policy.budget_limit
    found = []
    if limit is None:
        found.append("no budget: spending is counted, not limited")
    elif worst is not None and worst.currency == limit.currency and worst > limit:
        found.append(
            f'the worst case is above the limit: on_exceed="{spec.policy.on_exceed}" decides what does not fit'
        )
    if any(task.model is None for task in tasks):
        found.append("model calls made by functions and Runnables are not in the figures, but charged to the budget")
    if repeated := [task_id for task_id, definition in spec.tasks.items() if definition.spec.for_each is not None]:
        found.append(f"planned as if their lists had one item: {', '.join(repeated)}")
    if unpriced := sorted({task.model for task in tasks if task.model and task.worst_cost is None}):
        found.append(f"no price is known for {', '.join(unpriced)}")
    if spec.policy.on_exceed == "downgrade" and not any(len(models) > 1 for models in _ladders(spec, services)):
        found.append("the ladder has nothing below the models of the prompts: calls that do not fit are refused")
    return found


def _ladders(spec: GraphSpec, services: Services) -> Iterable[tuple[str, ...]]:
    return (services.ladder.models_of(definition) for definition in spec.tasks.values())


def _sum(costs: Iterable[Cost | None]) -> Cost | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known[1:], known[0]) if known else None


def _at_most(tokens: int, ceiling: int | None) -> int:
    return tokens if ceiling is None else min(tokens, ceiling)


def _money(cost: Cost | None) -> str:
    return "-" if cost is None else format_amount(cost.amount)

"""What the reader of a plan should know besides its figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from langchain_runtime.contracts.money import Cost
from langchain_runtime.graph.expectations import Expectations
from langchain_runtime.graph.plan import PlannedTask, listed
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition


def notes_on(
    spec: GraphSpec,
    services: Services,
    expected: Expectations,
    tasks: Sequence[PlannedTask],
    worst: Cost | None,
    *,
    steps: bool,
) -> Iterator[str]:
    """The warnings of a plan.

    Args:
        spec: The graph.
        services: Components.
        expected: What its tasks are expected to take.
        tasks: As planned.
        worst: The most that the run can cost; None for no bound.
        steps: Whether LangGraph carries it out step by step.
    """
    yield from _on_money(spec, services, tasks, worst)
    yield from _on_assumptions(spec, expected)
    if steps:
        yield 'in mode "supersteps" a run takes longer than planned: the tasks of a step wait for one another'


def _on_money(spec: GraphSpec, services: Services, tasks: Sequence[PlannedTask], worst: Cost | None) -> Iterator[str]:
    limit = spec.policy.budget_limit
    if limit is None:
        yield "no budget: spending is counted, not limited"
    elif worst is not None and worst.currency == limit.currency and worst > limit:
        yield f'the worst case is above the limit: on_exceed="{spec.policy.on_exceed}" decides what does not fit'
    if any(task.model is None and not task.samples for task in tasks):
        yield "model calls made by functions and Runnables are not in the figures, but charged to the budget"
    if agents := _ids(each for each in spec.tasks.values() if each.tools):
        yield f"agents make as many calls as they like, so their cost has no bound but the budget: {listed(agents)}"
    if unpriced := sorted({model for model in spec.models if _has_no_price(services, model)}):
        yield f"no price is known for {', '.join(unpriced)}"
    rungs = [len(services.ladder.models_of(definition)) for definition in spec.tasks.values()]
    if spec.policy.on_exceed == "downgrade" and max(rungs, default=0) <= 1:
        yield "the ladder has nothing below the models of the prompts: calls that do not fit are refused"


def _on_assumptions(spec: GraphSpec, expected: Expectations) -> Iterator[str]:
    definitions = spec.tasks.values()
    if cut := [task_id for task_id in spec.tasks if expected.of(task_id).is_cut]:
        yield f"will not see all they are given, and may call some of it back: {listed(cut)}"
    lists = (each for each in definitions if each.spec.for_each is not None)
    if unknown := _ids(each for each in lists if expected.of(each.spec.id).items == 1):
        yield f"planned as if their lists had one item: {listed(unknown)}"
    if conditional := _ids(each for each in definitions if each.spec.when is not None):
        yield f"planned as if their conditions held: {listed(conditional)}"


def _ids(definitions: Iterable[TaskDefinition]) -> list[str]:
    return [definition.spec.id for definition in definitions]


def _has_no_price(services: Services, model: str) -> bool:
    info = services.info(model)
    return info is None or info.rates is None

"""Which models a run may move its prompts to when money runs short, and which one each task is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from langchain_runtime.adapters.providers import model_id
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import ModelLadder
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.cost.model_ladder import as_ladder
from langchain_runtime.graph.models import check_model_name
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition

GivenLadder = ModelLadder | Sequence[str | BaseChatModel]
"""A ladder of one's own making, or models from the dearest to the cheapest, by name or as objects."""


@dataclass(frozen=True)
class RunLadder:
    """The ladder of a graph's runs.

    Attributes:
        steps: Knows what is below a model; None where there is no ladder.
        listed: Names that the author wrote down; they are checked even if no task can come to them.
    """

    steps: ModelLadder | None = None
    listed: tuple[str, ...] = ()

    def models_of(self, definition: TaskDefinition) -> tuple[str, ...]:
        """Models that a task may run on, in the order to try: its own, then cheaper ones; empty without a prompt.

        Prompts with tools or a reply format stay on their own: their model is bound to them in its provider's format,
        and only its wrapper can change it, call by call.
        """
        if definition.model is None:
            return ()
        if self.steps is None or not definition.is_single_call:
            return (definition.model,)
        found = [definition.model]
        while (below := self.steps.below(found[-1])) is not None:
            if below in found:
                raise InvalidInputError(
                    f"the ladder leads in a circle: {' -> '.join([*found, below])}", hint="let it end at some model"
                )
            found.append(below)
        return tuple(found)

    def all_models(self, spec: GraphSpec) -> list[str]:
        """Every model that a run of ``spec`` may call for its prompts, and those that are only listed."""
        used = [model for definition in spec.tasks.values() for model in self.models_of(definition)]
        return list(dict.fromkeys([*used, *self.listed]))


def chosen_ladder(given: GivenLadder | None, policy: RunPolicy) -> tuple[RunLadder, dict[str, BaseChatModel]]:
    """The ladder to use, and the models of it that were passed as objects, by name.

    Args:
        given: At ``compile``; None takes the policy's.
        policy: The run's.

    Raises:
        InvalidInputError: It has fewer than two steps, repeats a model, or names something that is none.
    """
    rungs = (policy.ladder or None) if given is None else given
    if rungs is None:
        return RunLadder(), {}
    if isinstance(rungs, str) or not isinstance(rungs, Sequence):
        return RunLadder(as_ladder(rungs)), {}
    objects = {model_id(rung, {}): rung for rung in rungs if isinstance(rung, BaseChatModel)}
    names = [model_id(rung, {}) if isinstance(rung, BaseChatModel) else rung for rung in rungs]
    for name in names:
        if name not in objects:
            check_model_name(name)
    return RunLadder(as_ladder(names), tuple(names)), objects


def check_ladder(ladder: RunLadder, spec: GraphSpec, budgets: Sequence[Budget]) -> None:
    """Check that there is a ladder where a budget would move a prompt to a cheaper model.

    Raises:
        InvalidInputError: There is none.
    """
    wished = spec.policy.on_exceed == "downgrade" or any(budget.on_exceed == "downgrade" for budget in budgets)
    prompts = [task_id for task_id, definition in spec.tasks.items() if definition.model is not None]
    if wished and prompts and ladder.steps is None:
        raise InvalidInputError(
            f'on_exceed="downgrade" would move task {prompts[0]!r} to a cheaper model, but names none',
            hint="list models from the dearest to the cheapest in the policy's ladder, or in compile(ladder=[...])",
        )


class Descent:
    """Which model each task of one run is on: its own at first, a cheaper one once it was moved.

    A task that was moved stays where it is: what did not fit before will not fit after more was spent.

    Args:
        models: Tells a task's models, in the order to try; empty for a body of its own.
    """

    def __init__(self, models: Callable[[str], Sequence[str]]) -> None:
        self._models = models
        self._steps: dict[str, int] = {}

    def model_of(self, task_id: str) -> str | None:
        """The model that the task is on; None for a body of its own."""
        models = self._models(task_id)
        return models[self._steps.get(task_id, 0)] if models else None

    def was_moved(self, task_id: str) -> bool:
        """Whether the task is not on its own model any more."""
        return task_id in self._steps

    def has_next(self, task_id: str) -> bool:
        """Whether there is a cheaper model for the task."""
        return self._steps.get(task_id, 0) + 1 < len(self._models(task_id))

    def step_down(self, task_id: str) -> str:
        """Move the task to the next cheaper model, and return that."""
        self._steps[task_id] = self._steps.get(task_id, 0) + 1
        return self._models(task_id)[self._steps[task_id]]

"""Which tasks of a finished run a question puts on other models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.contracts.run import Run, Task, TaskState
from langchain_runtime.graph.models import check_model_name
from langchain_runtime.orchestration.task_ids import did_you_mean

ModelChoice = Mapping[str, str] | Callable[[Task], str | None]
"""Other models by task id or by the model they replace; or a function of the task."""


def models_of(run: Run) -> set[str]:
    """The models that a run's prompts were on."""
    return {task.model for task in run.tasks.values() if task.model is not None}


def models_chosen(run: Run, choice: ModelChoice | None, catalog: ModelCatalog) -> dict[str, str]:
    """Other models by task, for the tasks whose model changes.

    Args:
        run: The run.
        choice: What is asked for; None for nothing.
        catalog: Completes names without a provider.

    Raises:
        InvalidInputError: The choice names neither a prompt nor a model of the run, or chooses something that is none.
        UnknownModelError: A model's name has no provider, and the catalogue does not know it.
    """
    if choice is None:
        return {}
    prompts = _prompts(run)
    if isinstance(choice, Mapping):
        _check_keys(run, choice, prompts)
        chosen = {task.id: _entry(task, choice) for task in prompts}
    elif callable(choice):
        chosen = {task.id: choice(task) for task in prompts}
    else:
        raise InvalidInputError(
            f"models must be a mapping or a function, got {type(choice).__name__}",
            hint='write {"openai:gpt-5.4": "openai:gpt-5.4-mini"}, with models or task ids on the left',
        )
    named = {task_id: _name(task_id, model, catalog) for task_id, model in chosen.items() if model is not None}
    return {task_id: model for task_id, model in named.items() if model != run.tasks[task_id].model}


def _prompts(run: Run) -> list[Task]:
    """Tasks that called their model: a ``for_each`` task leaves that to its children, and results may be kept ones."""
    parents = {task.added_by for task in run.tasks.values() if task.added_by is not None}
    return [
        task for task in run.tasks.values() if task.model is not None and _called(task, is_parent=task.id in parents)
    ]


def _called(task: Task, *, is_parent: bool) -> bool:
    usage = task.actual_use
    if usage is not None and (usage.tokens.total or usage.cost is not None):
        return True
    is_cached = task.outputs is not None and "cached" in task.outputs.metadata
    return task.state is TaskState.COMPLETED and not is_parent and not is_cached


def _check_keys(run: Run, choice: Mapping[str, str], prompts: list[Task]) -> None:
    places = {key for task in prompts for key in _keys(task)}
    for key in choice:
        if key in places:
            continue
        if key in run.tasks:
            raise InvalidInputError(
                f"task {key!r} of run {run.id!r} called no model of its own",
                hint="leave it out: what a function calls, or a task that did not run, cannot be put on another model",
            )
        raise InvalidInputError(
            f"run {run.id!r} has neither a task nor a model {key!r}",
            hint=did_you_mean(str(key), [*run.tasks, *models_of(run)])
            or f"its models: {', '.join(sorted(models_of(run))) or 'none'}",
        )


def _entry(task: Task, choice: Mapping[str, str]) -> str | None:
    return next((choice[key] for key in _keys(task) if key in choice), None)


def _keys(task: Task) -> list[str]:
    """Under which names the task's entry is looked for, in this order."""
    model = str(task.model)
    _, separator, bare = model.partition(":")
    parent, is_child, _ = task.id.rpartition(CHILD_SEPARATOR)
    return [task.id, *([parent] if is_child else []), model, *([bare] if separator else [])]


def _name(task_id: str, model: str, catalog: ModelCatalog) -> str:
    if not isinstance(model, str):
        raise InvalidInputError(
            f"task {task_id!r} cannot be put on a {type(model).__name__}",
            hint='name the model, e.g. "openai:gpt-5-mini"',
        )
    try:
        check_model_name(model)
    except UnknownModelError as malformed:
        try:
            return catalog.get(model).id
        except UnknownModelError:
            raise malformed from None
    return model

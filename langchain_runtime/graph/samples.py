"""What the tasks of a run took, as samples for later runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from langchain_runtime.context.prompt_template import as_text, parse
from langchain_runtime.contracts.history import TaskSample
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.spec import TaskDefinition


def samples_of(
    tasks: RunTasks,
    inputs: Mapping[str, JsonValue],
    outcomes: Mapping[str, TaskOutcome],
    ended: Iterable[str],
) -> list[TaskSample]:
    """Samples of the tasks that completed; those that took their result from an equal task did not work for it.

    Where no prompt could read them, outputs are not measured.

    Args:
        tasks: All tasks of the run.
        inputs: The run's.
        outcomes: Of these tasks, and of those that they depend on.
        ended: Ids of the tasks to look at.
    """
    ended = list(ended)
    has_prompts = any(tasks.definition(task_id).spec.prompt is not None for task_id in ended)
    input_sizes = sizes_of(inputs) if has_prompts else {}
    written: dict[tuple[str, str | None], int] = {}

    def size_of(task_id: str, output: str | None) -> int:
        if (task_id, output) not in written:
            outcome = outcomes[task_id]
            written[task_id, output] = len(as_text(outcome.output if output is None else outcome.outputs.get(output)))
        return written[task_id, output]

    samples = []
    for task_id in ended:
        outcome, definition = outcomes[task_id], tasks.definition(task_id)
        if outcome.state is not TaskState.COMPLETED or "cached" in outcome.metadata or outcome.started_at is None:
            continue
        is_parent = tasks.is_expanded(task_id)
        received, read = 0, {}
        if definition.spec.prompt is not None and not is_parent:
            deps = {dep.alias: size_of(dep.task, dep.output) for dep in definition.spec.deps if dep.task in outcomes}
            received = round(prompt_size(definition, input_sizes, deps))
            read = {**deps, **sizes_of(definition.inputs)}
        samples.append(
            TaskSample(
                task=sample_name(task_id),
                body=definition.digest,
                model=outcome.model,
                seconds=max(0.0, ((outcome.ended_at or outcome.started_at) - outcome.started_at).total_seconds()),
                tokens=outcome.usage.tokens,
                cost=outcome.usage.cost,
                received=received,
                read=read,
                written=size_of(task_id, None) if has_prompts else 0,
                items=len(outcome.output) if is_parent and isinstance(outcome.output, list) else None,
            )
        )
    return samples


def sample_name(task_id: str) -> str:
    """The name under which samples of a task are kept: one for all children of a ``for_each`` task."""
    parent, separator, _ = task_id.rpartition(CHILD_SEPARATOR)
    return parent + separator if separator else task_id


def name_of_children(task_id: str) -> str:
    """The name under which samples of the children of a ``for_each`` task are kept."""
    return task_id + CHILD_SEPARATOR


def sizes_of(values: Mapping[str, JsonValue]) -> dict[str, int]:
    """Characters of each value, as a model reads it."""
    return {name: len(as_text(value)) for name, value in values.items()}


def prompt_size(definition: TaskDefinition, inputs: Mapping[str, float], received: Mapping[str, float]) -> float:
    """Characters of a task's prompt, filled in, and of the messages that come with it.

    Args:
        definition: Of a prompt.
        inputs: Characters of the run's inputs, by name.
        received: Characters of what comes from elsewhere, by name: from dependencies, and the item of a list.
    """
    own = sizes_of(definition.inputs)
    sizes = {**inputs, **received, **own}
    parts = parse(definition.spec.prompt or "")
    named = {part.name for part in parts}
    beside = sum(size for name, size in {**received, **own}.items() if name not in named)
    return beside + sum(len(part.text) if part.name is None else sizes.get(part.name, 0) for part in parts)

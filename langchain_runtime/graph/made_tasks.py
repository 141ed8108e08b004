"""What tasks made at run time are: the children of ``for_each``, and what a body enqueued.

Both follow from the graph and from outcomes alone, so they are the same in every execution of a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import JsonValue

from langchain_runtime.context import check_names, variables
from langchain_runtime.contracts.errors import (
    DependencyNotFoundError,
    InvalidDAGError,
    InvalidInputError,
    TaskNotFoundError,
)
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import DAG, DAGNode, EnqueuedTask, TaskOutcome
from langchain_runtime.contracts.task_spec import Dependency, ForEach, TaskSpec
from langchain_runtime.graph.conditions import MISSING, look_up
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition, check_variables
from langchain_runtime.orchestration import topological_order
from langchain_runtime.orchestration.task_ids import did_you_mean

MOST_CHILDREN: Final = 10_000
"""Of one task. A longer list is more likely a mistake than work to pay for, and runs are made and measured for this
many tasks; each is in the run's state and in its report."""

_SHOWN_OF_A_VALUE: Final = 80
"""Characters of a value in a message."""


# --- for_each --------------------------------------------------------------------------------------------------------


def children_of(definition: TaskDefinition, outcomes: Mapping[str, TaskOutcome]) -> list[TaskDefinition]:
    """One task for each item of the list that a ``for_each`` task is about, in its order.

    Args:
        definition: The ``for_each`` task.
        outcomes: Of its dependencies at least.

    Raises:
        InvalidInputError: There is no list, or too long a one.
    """
    source = definition.spec.for_each
    assert source is not None  # only such tasks have children
    spec = definition.spec.model_copy(
        update={"for_each": None, "when": None, "deps": deps_of_children(definition.spec, source)}
    )
    return [
        replace(
            definition,
            spec=spec.model_copy(update={"id": f"{spec.id}{CHILD_SEPARATOR}{index}"}),
            inputs={**definition.inputs, source.as_: item},
        )
        for index, item in enumerate(_items(spec.id, source, outcomes[source.task]))
    ]


def deps_of_children(spec: TaskSpec, source: ForEach) -> tuple[Dependency, ...]:
    """What each child receives besides its item.

    A model is not shown the whole list with every item of it, unless the prompt asks for it.
    """
    if spec.prompt is None:
        return spec.deps
    named = variables(spec.prompt)
    return tuple(dep for dep in spec.deps if dep.alias in named or not _holds_the_list(dep, source))


def _holds_the_list(dependency: Dependency, source: ForEach) -> bool:
    root = ["output"] if dependency.output is None else ["outputs", dependency.output]
    return dependency.task == source.task and source.path.split(".")[: len(root)] == root


def _items(task_id: str, source: ForEach, outcome: TaskOutcome) -> list[JsonValue]:
    found = look_up(outcome, source.path)
    wanted = f"task {task_id!r} runs for each item of {source.path!r} of task {source.task!r}"
    if found is MISSING:
        there, value = _nearest(outcome, source.path)
        raise InvalidInputError(
            f"{wanted}, where there is no value: {there!r} is {_described(value)}",
            hint=f"let {source.task!r} return it, or correct the path",
        )
    if not isinstance(found, list):
        raise InvalidInputError(
            f"{wanted}, which is no list but {_described(found)}", hint=f"let {source.task!r} return a list there"
        )
    if len(found) > MOST_CHILDREN:
        raise InvalidInputError(
            f"{wanted}, which is a list of {len(found):,} items; {MOST_CHILDREN:,} are the most",
            hint=f"let {source.task!r} return a list of batches, and handle one batch in each task",
        )
    return found


def _nearest(outcome: TaskOutcome, path: str) -> tuple[str, JsonValue]:
    """The part of the path that exists, and what is there."""
    part = path
    while (found := look_up(outcome, part)) is MISSING:
        part = part.rpartition(".")[0]
    return part, found


def _described(value: Any) -> str:
    match value:
        case None:
            return "null"
        case dict():
            return f"a mapping with the keys {_shortened(', '.join(value))}" if value else "an empty mapping"
        case list():
            return f"a list of {len(value):,} items"
        case str():
            return f"the text {_shortened(value)!r}"
        case _:
            return json.dumps(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_OF_A_VALUE else f"{text[:_SHOWN_OF_A_VALUE]}..."


# --- enqueued tasks --------------------------------------------------------------------------------------------------


def enqueued_by(outcome: TaskOutcome, graph: GraphSpec) -> list[TaskDefinition]:
    """The tasks that a body added, those of high priority first, else in the order they were added.

    Args:
        outcome: Of the task whose body added them; checked by ``check_references``.
        graph: The graph.
    """
    known = {*graph.tasks, outcome.task, *(task.id for task in outcome.enqueued)}
    by_urgency = sorted(outcome.enqueued, key=lambda task: -task.priority)
    return [_enqueued(task, graph, known) for task in by_urgency]


def _enqueued(task: EnqueuedTask, graph: GraphSpec, known: set[str]) -> TaskDefinition:
    if task.like is None:
        base = TaskDefinition(TaskSpec(id=task.id, prompt=task.prompt), model=graph.model, chat_model=graph.chat_model)
    else:
        base = graph.tasks[task.like]
    own = {
        "id": task.id,
        "deps": tuple(
            Dependency.parse(reference, alias=alias).resolved(known) for alias, reference in task.deps.items()
        ),
        "for_each": None,
        "when": None,
        "priority": task.priority,
        "max_output_tokens": task.max_output_tokens,
        "timeout_ms": task.timeout_ms,
    }
    kept = {name: value for name, value in own.items() if name not in _TAKEN_OVER or value is not None}
    definition = replace(base, spec=base.spec.model_copy(update=kept), inputs=dict(task.inputs))
    if task.model is None or task.model == base.model or definition.spec.prompt is None:
        return definition
    return replace(definition, model=task.model, chat_model=None)


_TAKEN_OVER: Final = frozenset({"max_output_tokens", "timeout_ms"})
"""Settings that a task takes over from the one that it is like, unless it was given its own."""


def check_references(outcome: TaskOutcome, graph: GraphSpec) -> None:
    """Check that what a body added hangs together with the graph.

    Raises:
        InvalidDAGError: An id is taken by the graph.
        TaskNotFoundError: A task is like one that does not exist.
        DependencyNotFoundError: A dependency is neither in the graph nor added by the same body.
        CyclicDependencyError: The new tasks wait for one another.
    """
    for task in outcome.enqueued:
        if task.id in graph.tasks:
            raise InvalidDAGError(
                f"task {outcome.task!r} added a task {task.id!r}, but the graph has a task of that id",
                hint="choose an id that no task of the graph has",
            )
        if task.like is not None and task.like not in graph.tasks:
            raise TaskNotFoundError(
                f"task {task.id!r}, which {outcome.task!r} added, is like {task.like!r}, which the graph does not have",
                task_id=task.like,
                hint=did_you_mean(task.like, graph.tasks) or "name a task of the graph",
            )
    added = {definition.spec.id: definition for definition in enqueued_by(outcome, graph)}
    followers: dict[str, list[str]] = {task_id: [] for task_id in [*graph.tasks, outcome.task, *added]}
    for task_id, definition in added.items():
        for dependency in definition.spec.deps:
            if dependency.task not in followers:
                raise DependencyNotFoundError(
                    f"task {task_id!r}, which {outcome.task!r} added, depends on {dependency.task!r}, which is neither "
                    "in the graph nor added by the same body",
                    task_id=task_id,
                    dependency=dependency.task,
                    hint=did_you_mean(dependency.task, followers) or "add the task, or drop the dependency",
                )
            followers[dependency.task].append(task_id)
    topological_order(DAG(nodes={task_id: DAGNode(id=task_id, next=followers[task_id]) for task_id in added}))


def check_supplies(definition: TaskDefinition, inputs: Iterable[str]) -> None:
    """Check that a task which a body added has a model, and gets every value that it names under a name of its own.

    Args:
        definition: The new task.
        inputs: Names of the run's inputs.

    Raises:
        InvalidInputError: It has not, or does not.
    """
    spec = definition.spec
    if spec.prompt is not None and definition.model is None:
        raise InvalidInputError(
            f"task {spec.id!r} was added with a prompt but no model", hint="pass model= to enqueue or to RunGraph"
        )
    received = {*inputs, *definition.inputs}
    check_names(spec, received)
    check_variables(spec, received)

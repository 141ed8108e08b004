"""Whether tasks may join a run that is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from langchain_runtime.contracts.errors import DependencyNotFoundError, InvalidDAGError, InvalidInputError
from langchain_runtime.contracts.run import DAG, DAGNode, TaskState
from langchain_runtime.orchestration.dependency_resolver import topological_order
from langchain_runtime.orchestration.executor_protocol import NewTask
from langchain_runtime.orchestration.task_ids import did_you_mean

_JOINS_AS: Final = frozenset({TaskState.PENDING, TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED})


def in_order_of_joining(
    tasks: Sequence[NewTask],
    *,
    parent: str,
    parent_waits: bool,
    states: Mapping[str, TaskState],
    following: Mapping[str, Sequence[str]],
) -> list[NewTask]:
    """The new tasks, each after those among them that it depends on.

    Args:
        tasks: They want to join.
        parent: The task that they come from.
        parent_waits: Whether it is to wait for all of them.
        states: Every task of the run.
        following: For each of these the tasks that depend on it.

    Raises:
        InvalidInputError: An id is malformed, or a task joins in a state that is neither pending nor an end.
        InvalidDAGError: An id is used twice.
        DependencyNotFoundError: A dependency is neither in the run nor among the new tasks.
        CyclicDependencyError: Tasks would wait for one another.
    """
    joining: dict[str, NewTask] = {}
    for task in tasks:
        if task.task_id in states or task.task_id in joining:
            raise InvalidDAGError(
                f"task id {task.task_id!r} is used more than once", hint="give every task that joins an id of its own"
            )
        if task.state not in _JOINS_AS:
            raise InvalidInputError(
                f"task {task.task_id!r} cannot join as {task.state}", hint="as pending, completed, failed or skipped"
            )
        joining[task.task_id] = task
    for task in tasks:
        _check_dependencies(task, states, joining)
    after: dict[str, list[str]] = {task_id: [] for task_id in joining}
    if parent_waits:
        after = {task_id: [parent] for task_id in joining}
        # Only a dependency that is still open can lead back to the parent; most growth has none and is not searched.
        open_ones = any(dep in states and not states[dep].ended for task in tasks for dep in task.deps)
        after |= _open_downstream(parent, states, following) if open_ones else {parent: []}
    for task in tasks:
        for dependency in task.deps:
            if dependency in after:
                after[dependency].append(task.task_id)
    nodes = {task_id: DAGNode(id=task_id, next=successors) for task_id, successors in after.items()}
    return [joining[task_id] for task_id in topological_order(DAG(nodes=nodes)) if task_id in joining]


def _check_dependencies(task: NewTask, states: Mapping[str, TaskState], joining: Mapping[str, NewTask]) -> None:
    for dependency in task.deps:
        if dependency not in states and dependency not in joining:
            raise DependencyNotFoundError(
                f"task {task.task_id!r} depends on {dependency!r}, which is neither in the run nor joins it",
                task_id=task.task_id,
                dependency=dependency,
                hint=did_you_mean(dependency, [*states, *joining]) or "add the task, or drop the dependency",
            )


def _open_downstream(
    task_id: str, states: Mapping[str, TaskState], following: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The task and every task downstream of it that has not ended, each with those that depend on it."""
    found: dict[str, list[str]] = {}
    unvisited = [task_id]
    while unvisited:
        at = unvisited.pop()
        if at not in found:
            found[at] = [successor for successor in following[at] if not states[successor].ended]
            unvisited += found[at]
    return found

"""Which tasks may start, the most urgent first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

from langchain_runtime.contracts.errors import InvalidInputError, TaskNotFoundError, TaskNotReadyError
from langchain_runtime.contracts.run import DAG, TaskState
from langchain_runtime.orchestration.dependency_resolver import topological_order
from langchain_runtime.orchestration.task_ids import did_you_mean, natural_key

_MICROSECONDS: Final = 1_000_000
"""Durations are added up as whole microseconds, so that paths of equal length compare equal."""

_NOT_STARTED: Final = frozenset({TaskState.PENDING, TaskState.READY})


class CriticalPath(NamedTuple):
    """The chain of dependencies that takes longest; no schedule is shorter than its ``seconds``."""

    task_ids: tuple[str, ...]
    seconds: float


class Scheduler:
    """Follows the tasks of one run from pending to their end.

    Ready tasks are ordered by the longest expected path from their start to the end of the run, then by priority
    (larger first), then by id as a person counts (``t2`` before ``t10``). Construction is O(n log n), each change
    O(1) for the task and each of its dependents.

    Args:
        dag: A validated graph; it is not changed.
        expected_seconds: Expected durations. A task without one is taken to be as long as the median of the known
            ones, and if none is known, 1 s: then the longest path is the one with most tasks.
        priorities: 0 unless given.
        completed: Tasks that completed earlier.

    Raises:
        InvalidInputError: ``dag`` is None, or a duration is negative or not finite.
        CyclicDependencyError: The graph has a cycle.
        TaskNotFoundError: A completed task is not in the graph.
    """

    def __init__(
        self,
        dag: DAG,
        *,
        expected_seconds: Mapping[str, float] | None = None,
        priorities: Mapping[str, int] | None = None,
        completed: Iterable[str] = (),
    ) -> None:
        self._position = {task_id: index for index, task_id in enumerate(topological_order(dag))}
        self._next = {task_id: tuple(node.next) for task_id, node in dag.nodes.items()}
        self._roots = [task_id for task_id, node in dag.nodes.items() if not node.deps]
        self._remaining = self._longest_remaining(expected_seconds or {})
        self._rank = self._ranking(priorities or {})
        self._states = dict.fromkeys(dag.nodes, TaskState.PENDING)
        for task_id in completed:
            self.state(task_id)
            self._states[task_id] = TaskState.COMPLETED
        self._blockers = {
            task_id: sum(self._states[dependency] is not TaskState.COMPLETED for dependency in node.deps)
            for task_id, node in dag.nodes.items()
        }
        self._ready: set[str] = set()
        self._unfinished = sum(not state.ended for state in self._states.values())
        for task_id, blockers in self._blockers.items():
            if not blockers and not self._states[task_id].ended:
                self._make_ready(task_id)

    @property
    def states(self) -> Mapping[str, TaskState]:
        """A live, read-only view of every task's state."""
        return MappingProxyType(self._states)

    @property
    def unfinished(self) -> int:
        """How many tasks have not ended."""
        return self._unfinished

    def state(self, task_id: str) -> TaskState:
        """Where the task stands.

        Raises:
            TaskNotFoundError: There is no such task.
        """
        state = self._states.get(task_id)
        if state is None:
            raise TaskNotFoundError(
                f"the run has no task {task_id!r}", task_id=task_id, hint=did_you_mean(task_id, self._states)
            )
        return state

    def next_ready(self) -> list[str]:
        """All ready tasks, most urgent first; they stay ready until started."""
        return sorted(self._ready, key=self._rank.__getitem__)

    def waiting(self) -> list[str]:
        """All tasks that have neither started nor ended, most urgent first."""
        return sorted(
            (task_id for task_id, state in self._states.items() if state in _NOT_STARTED), key=self._rank.__getitem__
        )

    def urgency(self, task_id: str) -> tuple[float]:
        """The task's place in the order of this class, for a ``QueueManager``."""
        return (-self._rank[task_id],)

    def critical_path(self) -> CriticalPath:
        """The longest chain of the whole graph by expected duration, completed tasks included."""
        path: list[str] = []
        choices: Sequence[str] = self._roots
        while choices:
            path.append(min(choices, key=self._rank.__getitem__))
            choices = self._next[path[-1]]
        return CriticalPath(tuple(path), self._remaining[path[0]] / _MICROSECONDS if path else 0.0)

    def mark_started(self, task_id: str) -> None:
        """Take a ready task.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It is not ready.
        """
        self._expect(task_id, {TaskState.READY})
        self._ready.remove(task_id)
        self._states[task_id] = TaskState.RUNNING

    def requeue(self, task_id: str) -> None:
        """Put a started task back among the ready ones: it must wait for money or for another attempt.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It was not started.
        """
        self._expect(task_id, {TaskState.RUNNING})
        self._make_ready(task_id)

    def mark_complete(self, task_id: str) -> list[str]:
        """Record a success, also of a task that was never started (its result came from elsewhere).

        Returns:
            The tasks that became ready, most urgent first.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It has ended before.
        """
        self._end(task_id, TaskState.COMPLETED)
        released = []
        for dependent in self._next[task_id]:
            self._blockers[dependent] -= 1
            if not self._blockers[dependent] and self._states[dependent] is TaskState.PENDING:
                self._make_ready(dependent)
                released.append(dependent)
        return sorted(released, key=self._rank.__getitem__)

    def mark_failed(self, task_id: str) -> list[str]:
        """Record a failure.

        Returns:
            The tasks that can never run and are skipped now, in topological order.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It has ended before.
        """
        self._end(task_id, TaskState.FAILED)
        return self._skip_downstream(task_id)

    def mark_skipped(self, task_id: str) -> list[str]:
        """Record that the task's condition was false; otherwise as ``mark_failed``."""
        self._end(task_id, TaskState.SKIPPED)
        return self._skip_downstream(task_id)

    def mark_cancelled(self, task_id: str) -> None:
        """Record that the task was stopped: it failed, but its dependents stay pending for a resumed run.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It has ended before.
        """
        self._end(task_id, TaskState.FAILED)

    def stand_down(self) -> None:
        """Make every ready task pending again: the run has ended without it."""
        self._states.update(dict.fromkeys(self._ready, TaskState.PENDING))
        self._ready.clear()

    def _longest_remaining(self, expected_seconds: Mapping[str, float]) -> dict[str, int]:
        """Microseconds from the start of each task to the end of the run, if nothing has to wait for a slot."""
        known = {task_id: seconds for task_id, seconds in expected_seconds.items() if task_id in self._position}
        for task_id, seconds in known.items():
            if not (math.isfinite(seconds) and seconds >= 0):
                raise InvalidInputError(
                    f"task {task_id!r} is expected to take {seconds} s", hint="give a finite number, 0 or more"
                )
        usual = median(known.values()) if known else 1.0
        remaining: dict[str, int] = {}
        for task_id in reversed(self._position):
            own = round(known.get(task_id, usual) * _MICROSECONDS)
            remaining[task_id] = own + max((remaining[after] for after in self._next[task_id]), default=0)
        return remaining

    def _ranking(self, priorities: Mapping[str, int]) -> dict[str, int]:
        """Place of each task in the order of urgency, 0 first."""
        by_urgency = sorted(
            self._next,
            key=lambda task_id: (-self._remaining[task_id], -priorities.get(task_id, 0), natural_key(task_id)),
        )
        return {task_id: rank for rank, task_id in enumerate(by_urgency)}

    def _expect(self, task_id: str, allowed: Iterable[TaskState]) -> None:
        state = self.state(task_id)
        if state not in allowed:
            raise TaskNotReadyError(
                f"task {task_id!r} is {state}, not {' or '.join(sorted(allowed))}", task_id=task_id, state=state
            )

    def _make_ready(self, task_id: str) -> None:
        self._states[task_id] = TaskState.READY
        self._ready.add(task_id)

    def _end(self, task_id: str, state: TaskState) -> None:
        self._expect(task_id, {TaskState.PENDING, TaskState.READY, TaskState.RUNNING})
        self._ready.discard(task_id)
        self._states[task_id] = state
        self._unfinished -= 1

    def _skip_downstream(self, task_id: str) -> list[str]:
        skipped: list[str] = []
        unvisited = [task_id]
        while unvisited:
            for dependent in self._next[unvisited.pop()]:
                if self._states[dependent] is TaskState.PENDING:
                    self._states[dependent] = TaskState.SKIPPED
                    skipped.append(dependent)
                    unvisited.append(dependent)
        self._unfinished -= len(skipped)
        return sorted(skipped, key=self._position.__getitem__)

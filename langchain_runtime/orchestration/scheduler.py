"""Which tasks may start, the most urgent first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from langchain_runtime.contracts.errors import TaskNotFoundError, TaskNotReadyError
from langchain_runtime.contracts.run import DAG, TaskState
from langchain_runtime.orchestration.dependency_resolver import topological_order
from langchain_runtime.orchestration.executor_protocol import NewTask
from langchain_runtime.orchestration.growth import in_order_of_joining
from langchain_runtime.orchestration.task_ids import did_you_mean
from langchain_runtime.orchestration.urgency import CriticalPath, Urgency

_NOT_STARTED: Final = frozenset({TaskState.PENDING, TaskState.READY})
_OPEN: Final = _NOT_STARTED | {TaskState.RUNNING}


class Scheduler:
    """Follows the tasks of one run from pending to their end.

    Ready tasks are ordered by the longest expected path from their start to the end of the run, then by priority
    (larger first), then by id as a person counts (``t2`` before ``t10``). Tasks that join later stand at their
    parent's place, in the order given. Construction is O(n log n), each change O(1) for the task and each of its
    dependents.

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
        order = topological_order(dag)
        self._urgency = Urgency(dag, order=order, expected_seconds=expected_seconds or {}, priorities=priorities or {})
        self._position = {task_id: index for index, task_id in enumerate(order)}
        self._next = {task_id: list(node.next) for task_id, node in dag.nodes.items()}
        self._causes: dict[str, str] = {}
        self._states = dict.fromkeys(dag.nodes, TaskState.PENDING)
        for task_id in completed:
            self.state(task_id)
            self._states[task_id] = TaskState.COMPLETED
        self._blockers = {
            task_id: sum(self._states[dependency] is not TaskState.COMPLETED for dependency in node.deps)
            for task_id, node in dag.nodes.items()
        }
        self._ready: dict[str, None] = {}  # an ordered set, for tasks of equal urgency
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

    def cause(self, task_id: str) -> str:
        """Root cause why tasks that depend on this one, which failed or was skipped, can never run."""
        return self._causes[task_id]

    def next_ready(self) -> list[str]:
        """All ready tasks, most urgent first; they stay ready until started."""
        return self._urgency.sort(self._ready)

    def waiting(self) -> list[str]:
        """All tasks that have neither started nor ended, most urgent first."""
        return self._urgency.sort(task_id for task_id, state in self._states.items() if state in _NOT_STARTED)

    def most_urgent_first(self, task_ids: Iterable[str]) -> list[str]:
        """The tasks in the order of this class."""
        return self._urgency.sort(task_ids)

    def urgency(self, task_id: str) -> tuple[float, ...]:
        """The task's place in the order of this class, for a ``QueueManager``."""
        return self._urgency.of(task_id)

    def critical_path(self) -> CriticalPath:
        """The longest chain of the whole graph by expected duration: completed tasks included, later ones not."""
        return self._urgency.critical_path

    def add(self, tasks: Sequence[NewTask], *, parent: str, parent_waits: bool = False) -> list[str]:
        """Let tasks join the run at their parent's place: ahead of what is less urgent, in the order given.

        Those without open dependencies are ready. Nothing has changed when this raises.

        Args:
            tasks: They may depend on one another, and on any task of the run, whatever its state.
            parent: The task that they come from.
            parent_waits: The parent, whether it was started or not, is pending until all of them are completed, too.

        Returns:
            The tasks that can never run and are skipped now, in topological order: new ones that depend on a task
            that failed or was skipped; and with ``parent_waits`` the parent and what is downstream of it, if such a
            task is among the new ones.

        Raises:
            TaskNotFoundError: There is no such parent.
            TaskNotReadyError: The parent is to wait and has ended.
            InvalidInputError: A new task's id is malformed, or its state is neither pending nor an end.
            InvalidDAGError: A new task's id is used already.
            DependencyNotFoundError: A dependency is neither in the run nor among the new tasks.
            CyclicDependencyError: Tasks would wait for one another.
        """
        self._expect(parent, _OPEN if parent_waits else set(TaskState))
        joining = in_order_of_joining(
            tasks, parent=parent, parent_waits=parent_waits, states=self._states, following=self._next
        )
        for task in tasks:
            self._urgency.add(task.task_id, parent=parent)
        skipped = [task.task_id for task in joining if self._join(task)]
        if parent_waits:
            self._states[parent] = TaskState.PENDING
            self._ready.pop(parent, None)
            if self._wait_for(parent, [task.task_id for task in joining]):
                skipped += [parent, *self._skip_downstream(parent)]
        return skipped

    def mark_started(self, task_id: str) -> None:
        """Take a ready task.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It is not ready.
        """
        self._expect(task_id, {TaskState.READY})
        del self._ready[task_id]
        self._states[task_id] = TaskState.RUNNING

    def requeue(self, task_id: str) -> None:
        """Put a started task back among the ready ones: it must wait for money or for another attempt.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It was not started.
        """
        self._expect(task_id, {TaskState.RUNNING})
        self._make_ready(task_id)

    def set_aside(self, task_id: str) -> None:
        """Make a started task pending for the rest of this execution: it waits for an answer that comes after it.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It was not started.
        """
        self._expect(task_id, {TaskState.RUNNING})
        self._states[task_id] = TaskState.PENDING

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
        return self._urgency.sort(released)

    def mark_failed(self, task_id: str, *, because: str | None = None) -> list[str]:
        """Record a failure.

        Args:
            task_id: The task.
            because: Root cause for tasks that depend on it; None for the task itself.

        Returns:
            The tasks that can never run and are skipped now, in topological order.

        Raises:
            TaskNotFoundError: There is no such task.
            TaskNotReadyError: It has ended before.
        """
        self._end(task_id, TaskState.FAILED)
        self._causes[task_id] = because or task_id
        return self._skip_downstream(task_id)

    def mark_skipped(self, task_id: str, *, because: str | None = None) -> list[str]:
        """Record that the task's condition was false; otherwise as ``mark_failed``."""
        self._end(task_id, TaskState.SKIPPED)
        self._causes[task_id] = because or task_id
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

    def _expect(self, task_id: str, allowed: Iterable[TaskState]) -> None:
        state = self.state(task_id)
        if state not in allowed:
            raise TaskNotReadyError(
                f"task {task_id!r} is {state}, not {' or '.join(sorted(allowed))}", task_id=task_id, state=state
            )

    def _make_ready(self, task_id: str) -> None:
        self._states[task_id] = TaskState.READY
        self._ready[task_id] = None

    def _end(self, task_id: str, state: TaskState) -> None:
        self._expect(task_id, _OPEN)
        self._ready.pop(task_id, None)
        self._states[task_id] = state
        self._unfinished -= 1

    def _join(self, task: NewTask) -> bool:
        """Take up a task whose dependencies are known; True if it is skipped now."""
        task_id = task.task_id
        self._position[task_id] = len(self._position)
        self._next[task_id] = []
        self._blockers[task_id] = 0
        self._states[task_id] = task.state
        if task.state is TaskState.PENDING:
            self._unfinished += 1
            return self._wait_for(task_id, task.deps)
        if task.state is TaskState.SKIPPED:
            self._causes[task_id] = self._cause_among(task.deps) or task_id
        elif task.state is TaskState.FAILED:
            self._causes[task_id] = task_id
        return False

    def _wait_for(self, task_id: str, deps: Sequence[str]) -> bool:
        """Let a pending task wait for these, too: ready if nothing is open, skipped (True) if one never completes."""
        for dependency in deps:
            self._next[dependency].append(task_id)
        self._blockers[task_id] += sum(self._states[dependency] is not TaskState.COMPLETED for dependency in deps)
        if cause := self._cause_among(deps):
            self._skip(task_id, cause)
            return True
        if not self._blockers[task_id]:
            self._make_ready(task_id)
        return False

    def _cause_among(self, task_ids: Iterable[str]) -> str | None:
        return next((self._causes[task_id] for task_id in task_ids if task_id in self._causes), None)

    def _skip(self, task_id: str, cause: str) -> None:
        self._states[task_id] = TaskState.SKIPPED
        self._causes[task_id] = cause
        self._unfinished -= 1

    def _skip_downstream(self, task_id: str) -> list[str]:
        skipped: list[str] = []
        unvisited = [task_id]
        while unvisited:
            for dependent in self._next[unvisited.pop()]:
                if self._states[dependent] is TaskState.PENDING:
                    self._skip(dependent, self._causes[task_id])
                    skipped.append(dependent)
                    unvisited.append(dependent)
        return self._in_topological_order(skipped)

    def _in_topological_order(self, task_ids: Collection[str]) -> list[str]:
        """By position where dependencies leave a choice; a task that waits for later ones comes after them."""
        blockers = dict.fromkeys(task_ids, 0)
        for task_id in task_ids:
            for dependent in self._next[task_id]:
                if dependent in blockers:
                    blockers[dependent] += 1
        free = [(self._position[task_id], task_id) for task_id in task_ids if not blockers[task_id]]
        heapq.heapify(free)
        order: list[str] = []
        while free:
            order.append(heapq.heappop(free)[1])
            for dependent in self._next[order[-1]]:
                if dependent in blockers:
                    blockers[dependent] -= 1
                    if not blockers[dependent]:
                        heapq.heappush(free, (self._position[dependent], dependent))
        return order

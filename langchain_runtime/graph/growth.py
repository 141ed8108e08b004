"""Placeholder by the lead until the real module comes: overwrite this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_runtime.contracts.run import TaskOutcome
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.orchestration import Grew, NewTask


class RunTasks:
    """All tasks of a run."""

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec

    def definition(self, task_id: str) -> TaskDefinition:
        """A task."""
        found = self._spec.tasks[task_id]
        if not hasattr(found, "inputs"):
            object.__setattr__(found, "inputs", {})
        return found

    def next_of(self, task_id: str) -> Sequence[str]:
        """Direct dependents."""
        return self._spec.dag.nodes[task_id].next

    def is_expanded(self, task_id: str) -> bool:
        """Whether the children of a ``for_each`` task are there."""
        return False

    def expand(self, task_id: str, outcomes: Mapping[str, TaskOutcome]) -> list[NewTask]:
        """The children."""
        raise NotImplementedError

    def gather(self, task_id: str, outcomes: Mapping[str, TaskOutcome]) -> TaskOutcome:
        """What the children made."""
        raise NotImplementedError

    def enqueue(self, outcome: TaskOutcome, outcomes: Mapping[str, TaskOutcome]) -> list[NewTask]:
        """What a body added."""
        raise NotImplementedError

    def origin(self, task_id: str) -> str:
        """The graph's own task from which it came."""
        return task_id

    def members(self, origin: str) -> Sequence[str]:
        """The graph's own task, and all that came from it so far."""
        return [origin]

    def restore(self, outcomes: Mapping[str, TaskOutcome]) -> list[Grew]:
        """Growth of an earlier execution."""
        return []

    def accept(self, outcome: TaskOutcome) -> TaskOutcome:
        """Judge a success before it is kept."""
        return outcome

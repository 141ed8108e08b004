"""Tasks that run, and bodies that do so longer than they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from langchain_runtime.contracts.errors import TaskNotReadyError
from langchain_runtime.contracts.run import TaskState
from langchain_runtime.orchestration.slots import Slots


class Running:
    """The tasks that were started and have not ended, in the order of their starts; each occupies a slot.

    Args:
        slots: Where they come from and go back to.
        state: Of a task, for messages; raises for a task that is not in the run.
    """

    def __init__(self, slots: Slots, state: Callable[[str], TaskState]) -> None:
        self._slots = slots
        self._state = state
        self._tasks: dict[str, None] = {}
        self._zombies: Counter[str] = Counter()

    @property
    def zombies(self) -> int:
        """Bodies that outlived their attempts and still occupy slots."""
        return self._zombies.total()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task_id: str) -> None:
        """The task, which has a slot, runs."""
        self._tasks[task_id] = None

    def require(self, task_id: str) -> None:
        """Refuse what only a running task can do.

        Raises:
            TaskNotFoundError: The run has no such task.
            TaskNotReadyError: It does not run.
        """
        self._check(task_id, task_id in self._tasks, "does not run")

    def leave(self, task_id: str, *, body_alive: bool = False) -> None:
        """The task runs no more; its slot stays taken while the body lives. Raises as ``require``."""
        self.require(task_id)
        del self._tasks[task_id]
        if body_alive:
            self._zombies[task_id] += 1
        else:
            self._slots.give_back(task_id)

    def body_stopped(self, task_id: str) -> None:
        """A body that outlived its attempt has ended.

        Raises:
            TaskNotFoundError: The run has no such task.
            TaskNotReadyError: It has no such body.
        """
        self._check(task_id, self._zombies[task_id] > 0, "has no body that outlived its attempt")
        self._zombies[task_id] -= 1
        self._slots.give_back(task_id, oldest=True)

    def _check(self, task_id: str, holds: bool, otherwise: str) -> None:
        state = self._state(task_id)
        if not holds:
            raise TaskNotReadyError(f"task {task_id!r} is {state} and {otherwise}", task_id=task_id, state=state)

"""Where tasks wait that stand in no line: until they are released, or for money."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

DEFERRED_POLL_SECONDS: Final = 0.5
"""How often tasks that wait for money are tried again while nothing runs whose end could free some."""


class Gate:
    """Held tasks; a ready one waits here until it is released.

    Args:
        held: Their ids.
    """

    def __init__(self, held: Iterable[str]) -> None:
        self._held = set(held)
        self._waiting: set[str] = set()

    @property
    def waiting(self) -> Collection[str]:
        """Held tasks that are ready."""
        return self._waiting

    def lets_pass(self, task_id: str) -> bool:
        """Whether the ready task may start; if not, it waits here."""
        if task_id not in self._held:
            return True
        self._waiting.add(task_id)
        return False

    def release(self, task_id: str) -> bool:
        """Hold the task no longer; True if it waited here and may start now."""
        self._held.discard(task_id)
        if task_id not in self._waiting:
            return False
        self._waiting.remove(task_id)
        return True


class ShortOfMoney:
    """Tasks that were turned away; they are tried again together."""

    def __init__(self) -> None:
        self._tasks: list[str] = []
        self.poll_at = math.inf

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task_id: str) -> None:
        """Let the task wait."""
        self._tasks.append(task_id)

    def leave(self) -> list[str]:
        """Take all of them out."""
        left, self._tasks, self.poll_at = self._tasks, [], math.inf
        return left

    def start_polling(self, now: float) -> None:
        """Nothing runs whose end could free money: they are tried again soon, and not later than said before."""
        self.poll_at = min(self.poll_at, now + DEFERRED_POLL_SECONDS)

    def stop_polling(self) -> None:
        """Something runs."""
        self.poll_at = math.inf

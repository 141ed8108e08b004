"""Which of two ready tasks starts first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import DAG
from langchain_runtime.orchestration.task_ids import natural_key

_MICROSECONDS: Final = 1_000_000
"""Durations are added up as whole microseconds, so that paths of equal length compare equal."""

_GENERATIONS: Final = 64
"""How many generations of tasks that join are told apart. Those after it share the place of their ancestor there: a
task that adds the next one, which adds the next one, must not cost more each time."""


class CriticalPath(NamedTuple):
    """The chain of dependencies that takes longest; no schedule is shorter than its ``seconds``."""

    task_ids: tuple[str, ...]
    seconds: float


class Urgency:
    """The order of tasks: longest expected path to the end of the run, then priority, then id.

    Tasks that join later stand at the place of the task that they come from.

    Args:
        dag: A validated graph.
        order: Its tasks, each after its dependencies.
        expected_seconds: As for ``Scheduler``.
        priorities: As for ``Scheduler``.

    Raises:
        InvalidInputError: A duration is negative or not finite.
    """

    def __init__(
        self,
        dag: DAG,
        *,
        order: Sequence[str],
        expected_seconds: Mapping[str, float],
        priorities: Mapping[str, int],
    ) -> None:
        remaining = _longest_remaining(dag, order, expected_seconds)
        by_urgency = sorted(
            order, key=lambda task_id: (-remaining[task_id], -priorities.get(task_id, 0), natural_key(task_id))
        )
        self._places: dict[str, tuple[int, ...]] = {task_id: (-rank,) for rank, task_id in enumerate(by_urgency)}
        self._children: Counter[str] = Counter()
        self.critical_path = self._longest_chain(dag, remaining)

    def of(self, task_id: str) -> tuple[int, ...]:
        """The task's place; the largest is the most urgent."""
        return self._places[task_id]

    def sort(self, task_ids: Iterable[str]) -> list[str]:
        """The tasks, most urgent first."""
        return sorted(task_ids, key=self._places.__getitem__, reverse=True)

    def add(self, task_id: str, *, parent: str) -> None:
        """Give the task the next place at its parent's: after those given before, ahead of what is less urgent."""
        self._places[task_id] = (*self._places[parent], -self._children[parent])[: 1 + _GENERATIONS]
        self._children[parent] += 1

    def _longest_chain(self, dag: DAG, remaining: Mapping[str, int]) -> CriticalPath:
        path: list[str] = []
        choices = [task_id for task_id, node in dag.nodes.items() if not node.deps]
        while choices:
            path.append(max(choices, key=self._places.__getitem__))
            choices = dag.nodes[path[-1]].next
        return CriticalPath(tuple(path), remaining[path[0]] / _MICROSECONDS if path else 0.0)


def _longest_remaining(dag: DAG, order: Sequence[str], expected_seconds: Mapping[str, float]) -> dict[str, int]:
    """Microseconds from the start of each task to the end of the run, if nothing has to wait for a slot."""
    known = {task_id: seconds for task_id, seconds in expected_seconds.items() if task_id in dag.nodes}
    for task_id, seconds in known.items():
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidInputError(
                f"task {task_id!r} is expected to take {seconds} s", hint="give a finite number, 0 or more"
            )
    usual = median(known.values()) if known else 1.0
    remaining: dict[str, int] = {}
    for task_id in reversed(order):
        own = round(known.get(task_id, usual) * _MICROSECONDS)
        remaining[task_id] = own + max((remaining[after] for after in dag.nodes[task_id].next), default=0)
    return remaining

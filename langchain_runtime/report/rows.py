"""The table of tasks at a bounded length: children of one ``for_each`` in one row, then only the rows that matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report.figures import RunFigures, TaskFigures, Total
from langchain_runtime.report.formats import plural
from langchain_runtime.report.timing import parent_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One task, or all children of one ``for_each`` task.

    Attributes:
        label: The task's id; for children the parent's, with their number.
        tasks: The task, or the parent (where it is known) and its children.
        total: Tokens and money of all of them; None when none of them used anything.
        seconds: Sum of the seconds they ran; None when none started.
    """

    label: str
    tasks: tuple[TaskFigures, ...]
    total: Total | None
    seconds: float | None

    @property
    def state(self) -> TaskState | None:
        """The state that all of them share; None where they differ."""
        states = {task.state for task in self.tasks}
        return states.pop() if len(states) == 1 else None

    @property
    def model(self) -> str | None:
        """The model that all of them share; None where they differ or have none."""
        models = {task.model for task in counted(self.tasks)}
        return models.pop() if len(models) == 1 else None

    @property
    def attempts(self) -> int:
        """How often their bodies were started."""
        return sum(task.attempts for task in counted(self.tasks))

    @property
    def critical(self) -> bool:
        """Whether one of them is on the critical path."""
        return any(task.critical for task in self.tasks)


def counted(tasks: Sequence[TaskFigures]) -> Sequence[TaskFigures]:
    """Without a ``for_each`` task beside its children, whose figures it repeats; alone it speaks for itself."""
    return [task for task in tasks if not task.children] or tasks


def rows_of(figures: RunFigures, *, at_most: int) -> list[Row]:
    """One row for each task; where they are more than ``at_most``, one row for all children of a ``for_each``."""
    if len(figures.tasks) <= at_most:
        return [_row(task.id, [task], figures.currency) for task in figures.tasks]
    parents = {task.id for task in figures.tasks if task.children}
    groups: dict[str, list[TaskFigures]] = {}
    for task in figures.tasks:
        parent = parent_of(task.id)
        groups.setdefault(task.id if parent is None or task.id in parents else parent, []).append(task)
    return [
        _row(
            name if len(tasks) == 1 else f"{name} x{sum(not task.children for task in tasks)}", tasks, figures.currency
        )
        for name, tasks in groups.items()
    ]


def _row(label: str, tasks: list[TaskFigures], currency: str) -> Row:
    usages = [task.usage for task in counted(tasks) if task.usage is not None]
    ran = [task.seconds for task in counted(tasks) if task.seconds is not None]
    return Row(label, tuple(tasks), Total.of(usages, currency) if usages else None, sum(ran) if ran else None)


def that_matter(rows: Sequence[Row], at_most: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows to show, in their order, and those to leave out: what failed is shown first, then the dearest."""
    ranked = sorted(rows, key=_weight, reverse=True)
    shown = {row.label for row in ranked[:at_most]}
    return [row for row in rows if row.label in shown], ranked[at_most:]


def _weight(row: Row) -> tuple[bool, int, float]:
    failed = any(task.state is TaskState.FAILED for task in row.tasks)
    return failed, 0 if row.total is None or row.total.cost is None else row.total.cost.nano, row.seconds or 0.0


def cut_middle(items: Sequence[T], at_most: int) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
    """Split into a head, a middle to leave out and a tail, so that head and tail hold ``at_most`` in all."""
    if len(items) <= at_most:
        return items, (), ()
    head = (at_most + 1) // 2
    tail = len(items) - (at_most - head)
    return items[:head], items[head:tail], items[tail:]


def states_in_words(states: Iterable[TaskState]) -> str:
    """``3 completed, 1 failed``, in the order of the states' life."""
    counts = Counter(states)
    return ", ".join(f"{counts[state]:,} {state}" for state in TaskState if counts[state])


def left_out(rows: Iterable[Row]) -> str:
    """One line on rows that are not shown: ``9 more tasks, cheaper or shorter: 7 completed, 2 skipped``."""
    tasks = [task for row in rows for task in row.tasks]
    return f"{plural(len(tasks), 'more task')}, cheaper or shorter: {states_in_words(task.state for task in tasks)}"

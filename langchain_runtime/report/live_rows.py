"""Which tasks a live view lists: a tree of bounded length, the same in a terminal and in a notebook.

Children of a ``for_each`` task stand below it while it runs; once it has ended its own row speaks for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report.figures import Total
from langchain_runtime.report.formats import UNKNOWN, amount, at_the_point, count, duration
from langchain_runtime.report.progress_figures import GroupProgress, ProgressFigures, TaskProgress
from langchain_runtime.report.timing import parent_of

_TOLD: Final = (TaskState.FAILED, TaskState.SKIPPED, TaskState.RUNNING)
"""States that are counted beside how many ended."""


_RECENT: Final = 3
"""Most children that have ended which a running group lists: those that failed first, else the latest."""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One line of the tree.

    Attributes:
        task: What it shows; None for a line that only counts.
        more: How many running tasks a line counts that have none of their own; 0 for every other line.
        child: Whether it stands below a ``for_each`` task.
        last: Whether it is the last one there.
    """

    task: TaskProgress | GroupProgress | None
    more: int = 0
    child: bool = False
    last: bool = False

    @property
    def used(self) -> Usage | Total | None:
        """Tokens and money; None while a task runs."""
        return self.task.used if isinstance(self.task, GroupProgress) else self.task.usage if self.task else None


@dataclass(slots=True)
class _Node:
    """A task, or a ``for_each`` task with what is to be listed below it."""

    task: TaskProgress | GroupProgress
    running: list[TaskProgress]
    recent: list[TaskProgress]
    lines: int = 0
    """For its running children."""

    @property
    def runs(self) -> int:
        return len(self.running) if isinstance(self.task, GroupProgress) else 1


def live_rows(figures: ProgressFigures, room: int) -> list[LiveRow]:
    """At most ``room`` lines (2 or more): what runs in up to two thirds of them, what ended last in the rest."""
    groups = {group.id: group for group in figures.groups}
    open_groups = {id_: group for id_, group in groups.items() if not group.state.ended}
    recent = _recent(figures, open_groups)
    nodes = _nodes(figures, open_groups)
    for_running = room - min(len(recent), room // 3)
    shown = nodes if len(nodes) <= for_running else nodes[: for_running - 1]
    hidden = sum(node.runs for node in nodes[len(shown) :])
    free = for_running - len(shown) - (len(nodes) > len(shown))
    _share_out(shown, free)
    free = room - len(shown) - (len(nodes) > len(shown)) - sum(node.lines for node in shown)
    listed = {node.task.id: node for node in shown}
    ended: list[TaskProgress | GroupProgress] = []
    for task in recent[: max(0, free)]:
        parent = parent_of(task.id)
        if parent is None:
            ended.append(groups.get(task.id, task))
        elif parent in listed:
            listed[parent].recent.append(task)
    rows = [row for node in shown for row in _rows(node)]
    rows += [LiveRow(None, more=hidden)] if hidden else []
    return rows + [LiveRow(task) for task in ended]


def _recent(figures: ProgressFigures, groups: dict[str, GroupProgress]) -> list[TaskProgress]:
    """What ended last, latest first; of children only some, and none whose group has ended, too."""
    children: dict[str, list[TaskProgress]] = {id_: [] for id_ in groups}
    for task in figures.recent:
        if (parent := parent_of(task.id)) in groups and parent is not None:
            children[parent].append(task)
    told = {
        task.id
        for siblings in children.values()
        for task in sorted(siblings, key=lambda task: task.state is not TaskState.FAILED)[:_RECENT]
    }
    return [task for task in figures.recent if parent_of(task.id) is None or task.id in told]


def _nodes(figures: ProgressFigures, groups: dict[str, GroupProgress]) -> list[_Node]:
    """What is under way, longest first; groups none of whose children has started come last."""
    nodes = {id_: _Node(group, [], []) for id_, group in groups.items()}
    single = []
    for task in figures.running:
        parent = parent_of(task.id)
        if parent in nodes:
            nodes[parent].running.append(task)
        elif task.id not in nodes:
            single.append(_Node(task, [], []))
    under_way = [node for node in (*nodes.values(), *single) if node.task.started_at is not None]
    waiting = [node for node in nodes.values() if node.task.started_at is None]
    return sorted(under_way, key=lambda node: (node.task.started_at, node.task.id)) + waiting


def _share_out(nodes: Sequence[_Node], free: int) -> None:
    """Give lines for running children in turn, so that a large group leaves some to the others."""
    while free > 0:
        wanting = [node for node in nodes if node.lines < len(node.running)]
        if not wanting:
            return
        for node in wanting[:free]:
            node.lines += 1
        free -= len(wanting[:free])


def _rows(node: _Node) -> list[LiveRow]:
    below = [LiveRow(task, child=True) for task in node.running[: node.lines]]
    if 0 < node.lines < len(node.running):
        # The last of its lines counts those that have none.
        below[-1] = LiveRow(None, more=len(node.running) - node.lines + 1, child=True)
    below += [LiveRow(task, child=True) for task in node.recent]
    if below:
        below[-1] = LiveRow(below[-1].task, below[-1].more, child=True, last=True)
    return [LiveRow(node.task), *below]


def state_of_task(state: TaskState, *, stopped: bool) -> str:
    """Its name; what ran when its run was ``stopped`` does not run any more."""
    return "stopped" if stopped and state is TaskState.RUNNING else str(state)


def children_in_words(group: GroupProgress, *, stopped: bool = False) -> str:
    """``412 of 1,000, 3 failed, 8 running``."""
    ended = f"{group.ended:,}" if group.total is None else f"{group.ended:,} of {group.total:,}"
    return ", ".join([ended, *states_in_words(group.states, stopped=stopped)])


def states_in_words(states: Counter[TaskState], *, stopped: bool) -> list[str]:
    """``3 failed``, ``8 running``: what a count of tasks that ended leaves open, what went wrong first."""
    return [f"{states[each]:,} {state_of_task(each, stopped=stopped)}" for each in _TOLD if states[each]]


def name_in_tree(row: LiveRow) -> str:
    """Its id; below a ``for_each`` task only what tells it from its siblings: ``#412``."""
    if row.task is None:
        return f"and {row.more:,} more running"
    return row.task.id.removeprefix(parent_of(row.task.id) or "") if row.child else row.task.id


def figures_of_rows(rows: Sequence[LiveRow], moment: datetime, *, blank: str = " ") -> list[tuple[str, str, str]]:
    """Tokens, cost and time of each row as text, costs at one point; blank for rows that only count."""
    costs = at_the_point(("" if row.task is None else _cost(row) for row in rows), blank=blank)
    return [
        ("", cost, "")
        if row.task is None
        else (
            UNKNOWN if row.used is None else count(row.used.tokens.total),
            cost,
            duration(row.task.seconds(moment)),
        )
        for row, cost in zip(rows, costs, strict=True)
    ]


def _cost(row: LiveRow) -> str:
    used = row.used
    return UNKNOWN if used is None else amount(used.cost, complete=used.complete if isinstance(used, Total) else True)

"""What a finished run would have taken and cost under other settings: the figures, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState

_ROWS_SHOWN: Final = 20
"""Tasks in the table of a terminal."""

_STEPS_SHOWN: Final = 12
"""Tasks of the critical path that are named."""


class Totals(BaseModel):
    """A run as a whole.

    Attributes:
        max_parallelism: Tasks at a time.
        makespan_seconds: From the first start to the last end, pauses between executions left out.
        cost: At list price; None when unknown.
    """

    model_config = ConfigDict(frozen=True)

    max_parallelism: int
    makespan_seconds: float
    cost: Cost | None


class ChangedTask(BaseModel):
    """A task that is not as it was in the run.

    Attributes:
        id: The task.
        model_before: Who answered; None for a body of its own.
        model_after: Who answers.
        seconds_before: How long its body took.
        seconds_after: How long it takes.
        cost_before: What it cost; None when unknown.
        cost_after: What the same tokens cost; None when unknown.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    model_before: str | None
    model_after: str | None
    seconds_before: float
    seconds_after: float
    cost_before: Cost | None
    cost_after: Cost | None


class WhatIf(BaseModel):
    """What a finished run would have taken and cost under other settings.

    Attributes:
        run_id: The run.
        state: How it ended.
        before: As recorded.
        replayed: Played again under its own settings, and its tokens priced again: how far it is from ``before`` is how
            far ``after`` may be wrong for want of a better record.
        after: Under the other settings.
        changes: What is different in them, as phrases.
        tasks: Those that differ.
        critical_path: Ids of the tasks that decide the duration under the other settings.
        assumptions: What the reader should know, as sentences.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    state: RunState
    before: Totals
    replayed: Totals
    after: Totals
    changes: tuple[str, ...]
    tasks: tuple[ChangedTask, ...]
    critical_path: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_text(self) -> str:
        """Before and after for a terminal; of many tasks the first."""
        lines = [
            f"run {self.run_id} took {_figures(self.before)}, {self.before.max_parallelism} at a time",
            f"replayed as it was: {_figures(self.replayed)}",
        ]
        if self.changes:
            lines.append(f"with {_enumerated(self.changes)}: {_figures(self.after)}")
        shown = self.tasks[:_ROWS_SHOWN]
        if shown:
            lines += ["", *_table(shown)]
        if len(shown) < len(self.tasks):
            lines.append(f"  and {len(self.tasks) - len(shown):,} more tasks")
        return "\n".join(
            [*lines, "", f"critical path: {self._path()}", *(f"note: {each}" for each in self.assumptions)]
        )

    __str__ = to_text

    def _path(self) -> str:
        path = self.critical_path
        if len(path) <= _STEPS_SHOWN:
            return " > ".join(path)
        half = _STEPS_SHOWN // 2
        return " > ".join([*path[:half], f"... {len(path) - 2 * half:,} more ...", *path[-half:]])


def _figures(totals: Totals) -> str:
    cost = "at unknown cost" if totals.cost is None else f"and {totals.cost}"
    return f"{duration(totals.makespan_seconds)} {cost}"


def _enumerated(phrases: Sequence[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)


def _table(tasks: Sequence[ChangedTask]) -> list[str]:
    rows = [("task", "model", "seconds", "cost"), *map(_row, tasks)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _row(task: ChangedTask) -> tuple[str, str, str, str]:
    return (
        task.id,
        _turned(task.model_before or "-", task.model_after or "-"),
        _turned(f"{task.seconds_before:.3g}", f"{task.seconds_after:.3g}"),
        _turned(_money(task.cost_before), _money(task.cost_after)),
    )


def _turned(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _money(cost: Cost | None) -> str:
    return "unknown" if cost is None else str(cost)


def duration(seconds: float) -> str:
    """Seconds for people: two digits of short ones, minutes and hours of long ones."""
    if seconds < 10:  # noqa: PLR2004 - two digits tell enough
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

"""The live view of a run in a terminal, drawn with rich: totals, the budget, what runs and what ended last.

It never takes more lines than the screen has: what does not fit is counted.
"""

from __future__ import annotations

import sys
import threading
from datetime import datetime
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.run import RunState, TaskState, now
from langchain_runtime.report.formats import (
    UNKNOWN,
    amount,
    count,
    duration,
    money,
    one_line,
    percent,
    shorten,
    shorten_id,
    spent_of_limit,
)
from langchain_runtime.report.progress import Progress, ProgressFigures, TaskProgress

_REFRESH: Final = 8
"""Redraws per second: smooth to the eye, and little work."""

_HEADER: Final = 4
"""Lines above the table of tasks."""

_BAR: Final = (8, 40)
"""Least and most columns of a bar."""

_BESIDE_BAR: Final = 70
"""Columns of amounts, shares and times beside a bar."""

_NEARLY: Final = 0.9
"""Share of the budget from which its bar warns."""

_ROOMY: Final = 110
"""Columns from which the table has room for the model and the error."""

_STYLES: Final = {
    TaskState.RUNNING: "bold cyan",
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "bold red",
    TaskState.SKIPPED: "yellow",
    RunState.RUNNING: "bold cyan",
    RunState.FAILED: "bold red",
    RunState.ABORTED: "bold red",
}


class TerminalView:
    """Redraws a run in place; a context manager.

    Args:
        stream: The terminal.
        progress: What to draw.
    """

    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._renderable,
            console=Console(file=stream),
            refresh_per_second=_REFRESH,
            transient=True,
            # Only what would be written across the table: results on another stream stay where they are sent.
            redirect_stdout=stream is sys.stdout,
            redirect_stderr=stream is sys.stderr,
        )

    def feed(self, event: LifecycleEvent) -> None:
        """Count ``event``; the next redraw shows it."""
        with self._lock:
            self._progress.feed(event)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _renderable(self) -> RenderableType:
        moment = now()
        # rich draws in a thread of its own.
        with self._lock:
            return Screen(self._progress.figures(moment), moment)


class Screen:
    """One picture of a run, fitted to the console it is drawn on.

    Args:
        figures: The run.
        moment: When the picture is taken, for the seconds of tasks that run.
    """

    def __init__(self, figures: ProgressFigures, moment: datetime) -> None:
        self._figures = figures
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        # One line stays free for the cursor.
        room = max(2, (options.height or console.height) - _HEADER - 1)
        yield Group(self._head(width), self._table(width, room))

    def _head(self, width: int) -> RenderableType:
        figures = self._figures
        grid = Table.grid(padding=(0, 2))
        bar = max(_BAR[0], min(_BAR[1], width - _BESIDE_BAR))
        grid.add_column(no_wrap=True, min_width=5, style="dim")
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, min_width=bar)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        total = UNKNOWN if figures.total is None else f"{figures.total:,}"
        grid.add_row(
            "tasks",
            f"{figures.ended:,} of {total}",
            _bar(figures.done, bar, "cyan"),
            f"{percent(figures.done)}, {duration(figures.elapsed)}" + self._left(),
        )
        held = f", held {money(figures.held)}" if figures.held is not None else ""
        grid.add_row(
            "spent",
            spent_of_limit(figures.spent, figures.limit, None, complete=figures.complete),
            _bar(figures.share, bar, "red" if (figures.share or 0) > _NEARLY else "green"),
            f"{percent(figures.share)}{held}" if figures.limit else f"no limit{held}",
        )
        states = "  ".join(f"{figures.states[state]:,} {state}" for state in TaskState if figures.states[state])
        tokens = f"{count(figures.tokens.input)} in, {count(figures.tokens.output)} out"
        name = shorten_id(figures.run_id or "", max(16, width // 4))
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append(f"{name} ", style="bold").append(str(figures.state), style=_STYLES.get(figures.state, ""))
        title.append(f"  tokens {tokens}", style="dim")
        return Group(title, grid, Text(states, no_wrap=True, overflow="ellipsis"))

    def _left(self) -> str:
        figures = self._figures
        return f", about {duration(figures.eta)} left" if figures.eta and figures.state is RunState.RUNNING else ""

    def _table(self, width: int, room: int) -> RenderableType:
        """Running tasks take up to two thirds of the room, tasks that ended last the rest."""
        figures = self._figures
        running, recent = figures.running, figures.recent
        for_running = min(len(running), max(room - len(recent), room * 2 // 3))
        shown = running[: for_running if for_running == len(running) else for_running - 1]
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=9, no_wrap=True)
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        if width >= _ROOMY:
            table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
            table.add_column(ratio=2, no_wrap=True, overflow="ellipsis", style="dim")
        table.add_column(justify="right", no_wrap=True, min_width=8)
        table.add_column(justify="right", no_wrap=True, min_width=9)
        table.add_column(justify="right", no_wrap=True, min_width=12)
        for task in shown:
            self._add(table, task, width)
        if more := len(running) - len(shown):
            table.add_row("", Text(f"and {more:,} more running", style="dim"))
        for task in recent[: room - for_running]:
            self._add(table, task, width)
        return table

    def _add(self, table: Table, task: TaskProgress, width: int) -> None:
        tokens, cost = UNKNOWN, UNKNOWN
        if task.usage is not None:
            tokens, cost = count(task.usage.tokens.total), amount(task.usage.cost)
        row: list[RenderableType] = [
            Text(str(task.state), style=_STYLES.get(task.state, "")),
            shorten_id(task.id, max(12, width // 3)) + (f" (try {task.attempt})" if task.attempt > 1 else ""),
        ]
        if width >= _ROOMY:
            error = "" if task.error is None else shorten(f"[{task.error.code}] {task.error.message}", width)
            row += [Text(one_line(task.model or "")), Text(error)]
        table.add_row(*row, tokens, cost, duration(task.seconds(self._moment)))


def _bar(share: float | None, width: int, style: str) -> RenderableType:
    if share is None:
        return ""
    return ProgressBar(total=1.0, completed=min(share, 1.0), width=width, complete_style=style, finished_style=style)

"""Live views in a terminal, drawn with rich: of a run totals, the budget, and as a tree what runs and what ended last.

It never takes more lines than the screen has: what does not fit is counted.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.run import RunState, TaskState, now
from langchain_runtime.report.calls import CallFigures
from langchain_runtime.report.formats import (
    UNKNOWN,
    count,
    duration,
    money,
    one_line,
    percent,
    shorten,
    shorten_id,
    spent_of_limit,
)
from langchain_runtime.report.lines import last_line
from langchain_runtime.report.live_rows import LiveRow, children_in_words, figures_of_rows, live_rows, name_in_tree
from langchain_runtime.report.progress import Progress
from langchain_runtime.report.progress_figures import GroupProgress, ProgressFigures

_REFRESH: Final = 4
"""Redraws per second: a picture takes some milliseconds, which the run then lacks."""

_MODELS: Final = 8
"""Most models that calls outside of runs are told apart by."""

_HEADER: Final = 4
"""Lines above the table of tasks."""

_BAR: Final = (8, 40)
"""Least and most columns of a bar."""

_BESIDE_BAR: Final = 70
"""Columns of amounts, shares and times beside a bar."""

_NEARLY: Final = 0.9
"""Share of the budget from which its bar warns."""

_ROOMY: Final = 130
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


class TerminalScreen:
    """The part of a terminal that is redrawn; it has but one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, markup=False, highlight=False, emoji=False, force_jupyter=False)
        self._live: Live | None = None

    def show(self, draw: Callable[[], RenderableType]) -> None:
        """Draw from now on, in a thread of its own, until ``close``."""
        self._live = Live(
            get_renderable=draw,
            console=self._console,
            refresh_per_second=_REFRESH,
            transient=True,
            # Only what would be written across the table: results on another stream stay where they are sent.
            redirect_stdout=self._stream is sys.stdout,
            redirect_stderr=self._stream is sys.stderr,
        )
        # LangChain does not tell of the end of every call that was cancelled, and the cursor is hidden meanwhile.
        atexit.register(self.close)
        self._live.start()

    def write(self, line: str) -> None:
        """Append a line, above what is drawn."""
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Take away what is drawn, and give the terminal to others; a second time it does nothing."""
        atexit.unregister(self.close)
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        with _claims:
            if _screens.get(id(self._stream)) is self:
                del _screens[id(self._stream)]


_claims = threading.Lock()
_screens: Final[dict[int, TerminalScreen]] = {}
"""Terminals that are drawn on, by their stream's id."""


def screen_of(stream: TextIO, write: Callable[[str], None]) -> tuple[TerminalScreen | None, Callable[[str], None]]:
    """The terminal's screen, to be closed, and how lines get there; None while somebody else draws on it.

    Args:
        stream: The terminal.
        write: How lines get there where this package does not draw.
    """
    # What rich puts in the place of a stream while something is drawn.
    terminal = getattr(stream, "rich_proxied_file", stream)
    with _claims:
        if (taken := _screens.get(id(terminal))) is not None:
            return None, taken.write
        if terminal is not stream:
            return None, write
        screen = _screens[id(terminal)] = TerminalScreen(terminal)
        return screen, screen.write


class TerminalView:
    """Redraws a run in place.

    Args:
        screen: Where to.
        progress: What to draw.
        says_end: Whether a line says how the run ended, once the picture is taken away.
    """

    def __init__(self, screen: TerminalScreen, progress: Progress, *, says_end: bool = False) -> None:
        self._screen = screen
        self._progress = progress
        self._says_end = says_end
        self._lock = threading.Lock()
        screen.show(self._draw)

    def feed(self, event: LifecycleEvent) -> None:
        """Count ``event``; the next redraw shows it."""
        with self._lock:
            self._progress.feed(event)

    def close(self) -> None:
        """Take the picture away."""
        self._screen.close()
        if self._says_end:
            run_id = self._progress.figures().run_id
            self._screen.write(f"{run_id}: {last_line(self._progress)}")
        self._says_end = False

    def _draw(self) -> RenderableType:
        moment = now()
        # rich draws in a thread of its own.
        with self._lock:
            return Screen(self._progress.figures(moment), moment)


class TerminalCallsView:
    """Redraws what calls outside of runs used.

    Args:
        screen: Where to.
        figures: Gives the calls so far; it is told whether they have ended.
    """

    def __init__(self, screen: TerminalScreen, figures: Callable[[bool], CallFigures]) -> None:
        self._screen = screen
        self._figures = figures
        self._closed = False
        screen.show(lambda: calls_picture(figures(False)))

    def changed(self) -> None:
        """The next redraw shows it."""

    def close(self) -> None:
        """Take the picture away, and leave its sum."""
        self._screen.close()
        if not self._closed:
            self._screen.write(str(self._figures(True)))
        self._closed = True


def calls_picture(figures: CallFigures) -> RenderableType:
    """The sum, and below it each model where there are several."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for model, usage in figures.models[:_MODELS] if len(figures.models) > 1 else ():
        tokens = usage.tokens
        table.add_row(
            Text(one_line(model)), f"{count(tokens.input)} in", f"{count(tokens.output)} out", money(usage.cost)
        )
    return Group(Text(str(figures), style="bold", no_wrap=True, overflow="ellipsis"), table)


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
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=9, no_wrap=True)
        table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
        if width >= _ROOMY:
            table.add_column(ratio=2, no_wrap=True, overflow="ellipsis", style="dim")
            table.add_column(ratio=4, no_wrap=True, overflow="ellipsis", style="dim")
        table.add_column(justify="right", no_wrap=True, min_width=8)
        table.add_column(no_wrap=True, min_width=9)
        table.add_column(justify="right", no_wrap=True, min_width=12)
        rows = live_rows(self._figures, room)
        for row, (tokens, cost, time) in zip(rows, figures_of_rows(rows, self._moment), strict=True):
            # rich drops blanks at the end of what it aligns right, and with them the decimal points' column.
            table.add_row(*_described(row, width), tokens, cost.rjust(9), time)
        return table


def _described(row: LiveRow, width: int) -> list[RenderableType]:
    """State and name, and where there is room the model and the error."""
    branch = ("\u2514 " if row.last else "\u251c ") if row.child else ""
    name = Text(branch, style="dim", no_wrap=True, overflow="ellipsis")
    task, beside = row.task, [Text(), Text()]
    if task is None:
        name.append(name_in_tree(row), style="dim")
    else:
        name.append(shorten_id(name_in_tree(row), max(12, width // 3)), style="not dim")
    if isinstance(task, GroupProgress):
        name.append(f"  {children_in_words(task)}", style="dim")
    elif task is not None:
        name.append(f" (try {task.attempt})" if task.attempt > 1 else "", style="not dim")
        error = "" if task.error is None else shorten(f"[{task.error.code}] {task.error.message}", width)
        beside = [Text(one_line(task.model or "")), Text(error)]
    state = Text() if task is None else Text(task.state.value, style=_STYLES.get(task.state, ""))
    return [state, name, *(beside if width >= _ROOMY else [])]


def _bar(share: float | None, width: int, style: str) -> RenderableType:
    if share is None:
        return ""
    return ProgressBar(total=1.0, completed=min(share, 1.0), width=width, complete_style=style, finished_style=style)

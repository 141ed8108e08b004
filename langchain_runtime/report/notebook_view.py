"""Live views in a notebook: one output of HTML for each run, updated in place; no widgets, no script."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.run import RunState, TaskState, now
from langchain_runtime.report.calls import CallFigures
from langchain_runtime.report.figures import share_of
from langchain_runtime.report.formats import (
    UNKNOWN,
    amount,
    count,
    duration,
    money,
    percent,
    shorten,
    spent_of_limit,
)
from langchain_runtime.report.lines import last_line, state_in_words, status
from langchain_runtime.report.live_rows import (
    LiveRow,
    children_in_words,
    figures_of_rows,
    live_rows,
    name_in_tree,
    state_of_task,
    states_in_words,
)
from langchain_runtime.report.markup import Markup, tag
from langchain_runtime.report.page_tables import FIGURE_SPACE
from langchain_runtime.report.progress import Progress
from langchain_runtime.report.progress_figures import GroupProgress, ProgressFigures
from langchain_runtime.report.style import STYLE

_log = logging.getLogger(__name__)

_PAUSE: Final = 0.25
"""Least seconds between two updates: each is sent to the browser as a whole."""

_TICK: Final = 1.0
"""Seconds after which the picture is updated though nothing happened but the time."""

_WAIT: Final = 2.0
"""Seconds that closing waits for an update under way."""

_ROWS: Final = 14
"""Lines of tasks: what is below the output should stay in sight."""

_MESSAGE: Final = 160
"""Characters of an error."""

_LIVE_STYLE: Final = """
.lcr-report.lcr-live{padding:12px 16px}
.lcr-report.lcr-live h1{font-size:15px;margin:0 0 2px}
.lcr-report.lcr-live .bar{margin:8px 0 2px;height:8px}
.lcr-report.lcr-live table{margin-top:8px;color:inherit;font-size:12px}
.lcr-report.lcr-live td,.lcr-report.lcr-live th{padding-top:2px;padding-bottom:2px}
.lcr-report.lcr-live td:first-child{min-width:84px;width:84px;white-space:nowrap}
.lcr-report.lcr-live .said{font-size:12px}
.lcr-report.lcr-live .child{padding-left:18px}
.lcr-report.lcr-live .why{display:block;font-size:11px}
.lcr-report.lcr-live .s-running{color:var(--crit)}
"""

Picture = tuple[Markup, str]
"""HTML, and the same in one line for whoever shows no HTML."""

_open: Final[set[UpdatingDisplay]] = set()


def open_displays() -> int:
    """How many displays are updated now."""
    return len(_open)


class UpdatingDisplay:
    """An output of the current cell, redrawn in a thread of its own when something changed.

    Args:
        draw: Makes the picture; called from several threads, one after the other.
    """

    def __init__(self, draw: Callable[[], Picture]) -> None:
        from IPython.display import display  # noqa: PLC0415 - optional, and slow to load

        self._draw = draw
        self._changed = threading.Event()
        self._closing = threading.Event()
        show: Any = display
        self._handle: Any = show(_bundle(draw()), raw=True, display_id=True)
        # The kernel knows by the context which cell's output this is.
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._keep_drawing,), name="lcr-display", daemon=True)
        self._thread.start()
        _open.add(self)

    def changed(self) -> None:
        """Redraw soon."""
        self._changed.set()

    def close(self) -> None:
        """Draw for the last time; a second time it does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        _open.discard(self)
        self._thread.join(_WAIT)
        self._handle.update(_bundle(self._draw()), raw=True)

    def _keep_drawing(self) -> None:
        drawn_at = time.monotonic()
        try:
            while not self._closing.wait(_PAUSE):
                if self._changed.is_set() or time.monotonic() - drawn_at >= _TICK:
                    self._changed.clear()
                    self._handle.update(_bundle(self._draw()), raw=True)
                    drawn_at = time.monotonic()
        except Exception:  # noqa: BLE001 - whoever only looks on must not disturb the work
            _log.warning("a live display stands still", exc_info=True)


def _bundle(picture: Picture) -> dict[str, str]:
    return {"text/html": str(picture[0]), "text/plain": picture[1]}


class NotebookRunView:
    """Shows one run.

    Args:
        progress: What to draw.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._closed_at: datetime | None = None
        self._display = UpdatingDisplay(self._draw)

    def feed(self, event: LifecycleEvent) -> None:
        """Count ``event``, and show it soon."""
        with self._lock:
            self._progress.feed(event)
        self._display.changed()

    def close(self) -> None:
        """Show how the run stands; a second time it does nothing."""
        with self._lock:
            self._closed_at = self._closed_at or now()
        self._display.close()

    def _draw(self) -> Picture:
        with self._lock:
            moment = self._closed_at or now()
            figures = self._progress.figures(moment)
            text = last_line(self._progress) if self._closed_at else f"{figures.state}: {status(figures)}"
        return run_picture(figures, moment, closed=self._closed_at is not None), text


class NotebookCallsView:
    """Shows what calls outside of runs used.

    Args:
        figures: Gives the calls so far; it is told whether they have ended.
    """

    def __init__(self, figures: Callable[[bool], CallFigures]) -> None:
        self._figures = figures
        self._closed = False
        self._display = UpdatingDisplay(self._draw)

    def changed(self) -> None:
        """Show it soon."""
        self._display.changed()

    def close(self) -> None:
        """Show the sum; a second time it does nothing."""
        self._closed = True
        self._display.close()

    def _draw(self) -> Picture:
        figures = self._figures(self._closed)
        return calls_picture(figures), str(figures)


def run_picture(figures: ProgressFigures, moment: datetime, *, closed: bool = False) -> Markup:
    """A run at ``moment``: state, how far it is, its budget, what runs and what ended last.

    Args:
        figures: The run at that moment.
        moment: For the seconds of tasks that run.
        closed: Whether nobody drives it any more.
    """
    state = state_in_words(figures) if closed else str(figures.state)
    stopped = closed and figures.state is RunState.RUNNING
    return tag(
        "div",
        tag("style", Markup(STYLE + _LIVE_STYLE)),
        tag("h1", f"Run {figures.run_id or ''}", tag("span", state, class_=f"badge s-{figures.state}")),
        _tasks_bar(figures, stopped=stopped),
        _budget_bar(figures),
        _table(figures, moment, stopped=stopped),
        class_="lcr-report lcr-live",
    )


def calls_picture(figures: CallFigures) -> Markup:
    """Calls outside of runs: the sum, and each model."""
    rows = [
        tag(
            "tr",
            tag("td", model),
            *(
                tag("td", text, class_="n")
                for text in (count(each.tokens.input), count(each.tokens.output), amount(each.cost))
            ),
        )
        for model, each in figures.models
    ]
    state = "completed" if figures.ended else "running"
    cost = figures.total.cost
    return tag(
        "div",
        tag("style", Markup(STYLE + _LIVE_STYLE)),
        tag("h1", "Calls", tag("span", "ended" if figures.ended else state, class_=f"badge s-{state}")),
        tag("div", str(figures), class_="dim said"),
        _in_table(["Model", "Tokens in", "Tokens out", f"Cost {cost.currency if cost else ''}".strip()], rows, texts=1),
        class_="lcr-report lcr-live",
    )


def _tasks_bar(figures: ProgressFigures, *, stopped: bool) -> Markup:
    states = figures.states
    parts = [
        ("ok", states[TaskState.COMPLETED]),
        ("bad", states[TaskState.FAILED]),
        ("open", states[TaskState.SKIPPED]),
        ("task", states[TaskState.RUNNING]),
    ]
    words = [f"{figures.ended:,} of {UNKNOWN if figures.total is None else f'{figures.total:,}'} tasks"]
    words += states_in_words(states, stopped=stopped)
    words.append(duration(figures.elapsed))
    if figures.eta and figures.state is RunState.RUNNING and not stopped:
        words.append(f"about {duration(figures.eta)} left")
    return _bar([(colour, number / figures.total if figures.total else 0.0) for colour, number in parts], words)


def _budget_bar(figures: ProgressFigures) -> Markup:
    tokens = f"{count(figures.tokens.input)} tokens in, {count(figures.tokens.output)} out"
    held = [] if figures.held is None else [f"held {money(figures.held)}"]
    if figures.limit is None:
        spent = f"spent {money(figures.spent, complete=figures.complete)}, no limit"
        return tag("div", ", ".join([spent, *held, tokens]), class_="dim said")
    spent = f"spent {spent_of_limit(figures.spent, figures.limit, figures.share, complete=figures.complete)}"
    settled = min(1.0, figures.share or 0.0)
    parts = [("crit", settled), ("held", min(1.0 - settled, share_of(figures.held, figures.limit) or 0.0))]
    return _bar(parts, [spent, *held, tokens])


def _bar(parts: list[tuple[str, float]], words: list[str]) -> Markup:
    """A bar with its parts as shares of the whole, and what it says below it."""
    caption = ", ".join(words)
    segments = [
        tag("i", style=f"width:{100 * share:.2f}%;background:var(--{colour})", title=percent(share))
        for colour, share in parts
        if share
    ]
    bar = tag("div", *segments, class_="bar", role="img", aria_label=caption)
    return tag("div", bar, tag("div", caption, class_="dim said"))


def _table(figures: ProgressFigures, moment: datetime, *, stopped: bool) -> Markup | None:
    listed = live_rows(figures, _ROWS)
    numbers = figures_of_rows(listed, moment, blank=FIGURE_SPACE)
    rows = [_row(row, each, stopped=stopped) for row, each in zip(listed, numbers, strict=True)]
    cost = figures.spent or figures.limit
    titles = ["State", "Task", "Model", "Tokens", f"Cost {cost.currency if cost else ''}".strip(), "Time"]
    return _in_table(titles, rows, texts=3) if rows else None


def _row(row: LiveRow, numbers: tuple[str, ...], *, stopped: bool) -> Markup:
    look = "child" if row.child else None
    task = row.task
    if task is None:
        return tag("tr", tag("td"), tag("td", tag("span", name_in_tree(row), class_="dim"), class_=look, colspan=5))
    if isinstance(task, GroupProgress):
        model, note = "", children_in_words(task, stopped=stopped)
    else:
        tries = f"try {task.attempt}" if task.attempt > 1 else None
        error = None if task.error is None else shorten(f"[{task.error.code}] {task.error.message}", _MESSAGE)
        model, note = task.model or "", ", ".join(part for part in (tries, error) if part)
    return tag(
        "tr",
        tag("td", tag("span", state_of_task(task.state, stopped=stopped), class_=f"s-{task.state}")),
        tag("td", name_in_tree(row), tag("span", note, class_="dim why") if note else None, class_=look),
        tag("td", tag("span", model, class_="dim")),
        *(tag("td", text, class_="n") for text in numbers),
    )


def _in_table(titles: list[str], rows: list[Markup], *, texts: int) -> Markup:
    """Columns are numbers but for the first ``texts``."""
    heads = [tag("th", title, class_="n" if place >= texts else None) for place, title in enumerate(titles)]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))

"""A run, or calls outside of runs, while they go on: redrawn in a notebook and a terminal, lines everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final, Protocol, TextIO

from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.money import Cost
from langchain_runtime.report.calls import CallFigures, is_told
from langchain_runtime.report.lines import last_line, plain_line
from langchain_runtime.report.progress import Progress

_DISPLAYS: Final = 8
"""Most displays that are open at a time in one notebook's kernel; what begins meanwhile is told in lines."""


class LiveView(Protocol):
    """Shows a run as its events come in."""

    def feed(self, event: LifecycleEvent) -> None:
        """Show what ``event`` changed."""
        ...

    def close(self) -> None:
        """Let go of the screen; a second time it does nothing."""
        ...


class CallsView(Protocol):
    """Shows calls outside of runs."""

    def changed(self) -> None:
        """A call ended."""
        ...

    def close(self) -> None:
        """As for ``LiveView``; the last figures are shown first."""
        ...


@contextmanager
def open_live_view(stream: TextIO, *, limit: Cost | None = None, total: int | None = None) -> Iterator[LiveView]:
    """A view of one run on ``stream``, until the block ends.

    In a terminal a table is redrawn in place and taken away at the end (rich, extra ``cli``; honours ``NO_COLOR``);
    in a file, a pipe, a dumb terminal or without rich, lines are appended. A terminal has room for one table: a view
    that is opened meanwhile appends its lines above it.

    Args:
        stream: Where to draw; keep it apart from where results are printed.
        limit: What the run may spend, until its first event says it; None for no limit.
        total: Number of tasks, likewise; None for unknown.
    """
    view = _on_stream(stream, Progress(total=total, limit=limit))
    try:
        yield view
    finally:
        view.close()


def view_of_run(run_id: str, stream: TextIO | None, *, alone: bool) -> LiveView:
    """A view of the run that leaves its last figures behind.

    Args:
        run_id: Its id.
        stream: Where to draw; None for the notebook that this runs in, or else standard error.
        alone: Whether no other run is shown; else lines begin with the id.
    """
    progress, name = Progress(), "" if alone else f"{run_id}: "
    if stream is None and is_notebook():
        from langchain_runtime.report.notebook_view import NotebookRunView, open_displays  # noqa: PLC0415 - IPython

        if open_displays() < _DISPLAYS:
            return NotebookRunView(progress)
        return _LinesView(_printer(sys.stdout), progress, name=name, says_end=True)
    return _on_stream(stream or sys.stderr, progress, name=name, says_end=True)


def view_of_calls(figures: Callable[[bool], CallFigures], stream: TextIO | None) -> CallsView:
    """A view of calls outside of runs that leaves its last figures behind.

    Args:
        figures: Gives the calls so far; it is told whether they have ended.
        stream: As for ``view_of_run``.
    """
    if stream is None and is_notebook():
        from langchain_runtime.report.notebook_view import NotebookCallsView, open_displays  # noqa: PLC0415 - IPython

        if open_displays() < _DISPLAYS:
            return NotebookCallsView(figures)
        return _CallLines(_printer(sys.stdout), figures)
    stream = stream or sys.stderr
    write = _printer(stream)
    if _is_terminal(stream):
        from langchain_runtime.report.terminal import TerminalCallsView, screen_of  # noqa: PLC0415 - rich is optional

        screen, write = screen_of(stream, write)
        if screen is not None:
            return TerminalCallsView(screen, figures)
    return _CallLines(write, figures)


def is_notebook() -> bool:
    """Whether this runs in an IPython kernel, whose outputs can be updated."""
    ipython: Any = sys.modules.get("IPython")  # imported by every kernel
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _on_stream(stream: TextIO, progress: Progress, *, name: str = "", says_end: bool = False) -> LiveView:
    write = _printer(stream)
    if _is_terminal(stream):
        from langchain_runtime.report.terminal import TerminalView, screen_of  # noqa: PLC0415 - rich is optional

        screen, write = screen_of(stream, write)
        if screen is not None:
            return TerminalView(screen, progress, says_end=says_end)
    return _LinesView(write, progress, name=name, says_end=says_end)


def _is_terminal(stream: TextIO) -> bool:
    dumb = os.environ.get("TERM", "").lower() in {"dumb", "unknown"}
    return stream.isatty() and not dumb and find_spec("rich") is not None


def _printer(stream: TextIO) -> Callable[[str], None]:
    return lambda line: print(line, file=stream, flush=True)


class _LinesView:
    def __init__(self, write: Callable[[str], None], progress: Progress, *, name: str, says_end: bool) -> None:
        self._write = write
        self._progress = progress
        self._name = name
        self._says_end = says_end

    def feed(self, event: LifecycleEvent) -> None:
        tenths = self._progress.tenths
        self._progress.feed(event)
        line = plain_line(self._progress, event, tenths=tenths)
        if line is not None:
            self._tell(line)

    def close(self) -> None:
        # A run that ended has said so itself.
        if self._says_end and not self._progress.over:
            self._tell(last_line(self._progress))
        self._says_end = False

    def _tell(self, lines: str) -> None:
        for line in lines.splitlines():
            self._write(self._name + line)


class _CallLines:
    def __init__(self, write: Callable[[str], None], figures: Callable[[bool], CallFigures]) -> None:
        self._write = write
        self._figures = figures
        self._told = 0
        self._closed = False

    def changed(self) -> None:
        figures = self._figures(False)
        if figures.calls > self._told and is_told(figures.calls):
            self._told = figures.calls
            self._write(str(figures))

    def close(self) -> None:
        if not self._closed:
            self._write(str(self._figures(True)))
        self._closed = True

"""A run while it runs: a live table in a terminal, lines everywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol, TextIO

from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.money import Cost
from langchain_runtime.report.lines import plain_line
from langchain_runtime.report.progress import Progress


class LiveView(Protocol):
    """Shows a run as its events come in."""

    def feed(self, event: LifecycleEvent) -> None:
        """Show what ``event`` changed."""
        ...


@contextmanager
def open_live_view(stream: TextIO, *, limit: Cost | None = None, total: int | None = None) -> Iterator[LiveView]:
    """A view of one run on ``stream``, until the block ends.

    In a terminal a table is redrawn in place and taken away at the end (rich, extra ``cli``; honours ``NO_COLOR``);
    in a file, a pipe, a dumb terminal or without rich, lines are appended.

    Args:
        stream: Where to draw; keep it apart from where results are printed.
        limit: What the run may spend, until its first event says it; None for no limit.
        total: Number of tasks, likewise; None for unknown.
    """
    progress = Progress(total=total, limit=limit)
    if stream.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"} and find_spec("rich"):
        from langchain_runtime.report.terminal import TerminalView  # noqa: PLC0415 - rich is optional

        with TerminalView(stream, progress) as view:
            yield view
    else:
        yield _PlainView(stream, progress)


class _PlainView:
    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def feed(self, event: LifecycleEvent) -> None:
        tenths = self._progress.tenths
        self._progress.feed(event)
        line = plain_line(self._progress, event, tenths=tenths)
        if line is not None:
            print(line, file=self._stream, flush=True)

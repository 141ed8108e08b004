"""``RunReport``: one run, seen after the fact or while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Final

from langchain_runtime.contracts.budget import Balance
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.run import Run
from langchain_runtime.report.compute import figures_of
from langchain_runtime.report.figures import RunFigures
from langchain_runtime.report.json_form import as_json
from langchain_runtime.report.page import render_fragment, render_page
from langchain_runtime.report.png import render_png
from langchain_runtime.report.text import render_text

_WIDTH: Final = (60, 120)
"""Columns: the least that a report is drawn for, and the most that is easy to read."""


class RunReport:
    """What a run did, when, and what it cost.

    ``print`` shows it as text, a notebook as HTML with a timeline; every view shows the same ``figures``.

    Args:
        run: The run, finished or not.
        balance: Account of its scope ``run:<id>``; None leaves held and forfeited unknown.
        events: Its journal; without it, retries and compactions are unknown.
    """

    def __init__(self, run: Run, *, balance: Balance | None = None, events: Sequence[LifecycleEvent] = ()) -> None:
        self._run = run
        self._balance = balance
        self._events = tuple(events)

    @cached_property
    def figures(self) -> RunFigures:
        """Everything that the views show, computed at first use."""
        return figures_of(self._run, balance=self._balance, events=self._events)

    def to_text(self, width: int | None = None) -> str:
        """The report in lines of at most ``width`` columns; None takes the terminal's, 60 to 120."""
        if width is None:
            width = min(max(shutil.get_terminal_size().columns, _WIDTH[0]), _WIDTH[1])
        return render_text(self.figures, width)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values: amounts are decimal strings, what is unknown is None."""
        return as_json(self.figures)

    def to_html(self, path: str | PathLike[str] | None = None) -> str:
        """One self-contained HTML file as a string, and written to ``path`` where one is given.

        Nothing is loaded and no script runs; light and dark follow the reader's system.
        """
        page = render_page(self.figures)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def to_png(self, path: str | PathLike[str] | None = None) -> bytes:
        """The summary, the timeline and the spending as one picture, and written to ``path`` where one is given.

        It is 1,584 pixels wide, and light. As in HTML, a run of more than 60 tasks is drawn in lanes, and one of more
        than 2,000 as how many tasks ran at a time.

        Raises:
            InvalidInputError: matplotlib (extra ``notebook``) is not installed.
        """
        picture = render_png(self.figures)
        if path is not None:
            Path(path).write_bytes(picture)
        return picture

    def to_jsonl(self) -> str:
        """The journal: one JSON object for each event, in their order, each on a line; empty without a journal.

        ``contracts.events.parse_event`` reads a line back.
        """
        return "".join(f"{event.model_dump_json()}\n" for event in self._events)

    def _repr_html_(self) -> str:
        return str(render_fragment(self.figures))

    def __repr__(self) -> str:
        return self.to_text()

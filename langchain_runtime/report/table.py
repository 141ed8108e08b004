"""Plain text tables that fit a width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_runtime.report.formats import at_the_point, cells, shorten_id

_GAP = 2
_LEAST_SHARED = 8
"""Columns that a shrinking column keeps at least."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: Its heading.
        numeric: Right-aligned at the decimal point.
        shrinks: Longest values are shortened in their middle where the table is too wide.
        optional: Left out where shrinking is not enough; higher numbers go first, 0 always stays.
    """

    title: str
    numeric: bool = False
    shrinks: bool = False
    optional: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Heading and rows as lines of at most ``width`` columns."""
    shown = list(range(len(columns)))
    values = [_values(column, [row[place] for row in rows]) for place, column in enumerate(columns)]
    natural = [
        max([cells(column.title), *map(cells, of_column)]) for column, of_column in zip(columns, values, strict=True)
    ]
    while (widths := _fit(columns, natural, shown, width)) is None:
        shown.remove(max(shown, key=lambda place: columns[place].optional))
    lines = [[columns[place].title for place in shown], *([values[p][i] for p in shown] for i in range(len(rows)))]
    return [_line([columns[place] for place in shown], line, widths) for line in lines]


def _values(column: Column, values: list[str]) -> list[str]:
    return at_the_point(values) if column.numeric else values


def _fit(columns: Sequence[Column], natural: list[int], shown: list[int], width: int) -> list[int] | None:
    """Widths of the shown columns; None when an optional one has to go."""
    room = width - _GAP * (len(shown) - 1)
    widths = {place: natural[place] for place in shown}
    shrinking = [place for place in shown if columns[place].shrinks]
    while sum(widths.values()) > room:
        widest = max(shrinking, key=lambda place: widths[place])
        if widths[widest] <= _LEAST_SHARED:
            if any(columns[place].optional for place in shown):
                return None
            break
        widths[widest] -= 1
    return [widths[place] for place in shown]


def _line(columns: Sequence[Column], values: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for column, value, width in zip(columns, values, widths, strict=True):
        text = shorten_id(value, width) if column.shrinks else value
        blank = " " * (width - cells(text))
        parts.append(blank + text if column.numeric else text + blank)
    return (" " * _GAP).join(parts).rstrip()

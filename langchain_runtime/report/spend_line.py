"""How spending grew over the run's time, against its limit, as inline SVG."""

from __future__ import annotations

import math
from typing import Final

from langchain_runtime.contracts.money import Cost
from langchain_runtime.report.figures import RunFigures
from langchain_runtime.report.formats import money
from langchain_runtime.report.markup import Markup, tag

_POINTS: Final = 400
"""More cannot be told apart on a screen."""

_HEIGHT: Final = 90
_HEADROOM: Final = 1.05

_NEAR: Final = 3
"""A limit of more than so many times what was spent would press the line flat; it is left to the budget bar."""


def limit_in_sight(figures: RunFigures) -> int | None:
    """The limit in nano units, where the line comes near it; None where not, or without a limit."""
    settled = figures.spending[-1].nano if figures.spending else 0
    return figures.limit.nano if figures.limit is not None and figures.limit.nano <= _NEAR * settled else None


def spend_note(figures: RunFigures) -> str:
    """What the line reached, and its limit."""
    settled = f"{money(Cost.from_nano(figures.spending[-1].nano, figures.currency))} settled"
    return settled if limit_in_sight(figures) is None else f"{settled}, limit {money(figures.limit)} (dashed)"


def spend_corners(figures: RunFigures) -> tuple[list[tuple[float, int]], float] | None:
    """The line's corners, in seconds of the run and nano units, and the height in nano units that shows all of it.

    None where there is too little to draw a line through.
    """
    points = _thinned([(point.seconds, point.nano) for point in figures.spending])
    if len(points) <= 1 or not figures.duration or not points[-1][1]:
        return None
    corners = [(0.0, 0)]
    for seconds, nano in points:
        at = min(seconds, figures.duration)
        corners += [(at, corners[-1][1]), (at, nano)]
    corners.append((figures.duration, corners[-1][1]))
    return corners, max(points[-1][1], limit_in_sight(figures) or 0) * _HEADROOM


def spend_line(figures: RunFigures) -> Markup | None:
    """Money settled over time; None where there is too little to draw a line through."""
    drawn = spend_corners(figures)
    if drawn is None or not figures.duration:
        return None
    corners, top = drawn
    length, limit = figures.duration, limit_in_sight(figures)

    def y(nano: int) -> float:
        return _HEIGHT * (1 - nano / top)

    line = " ".join(f"{100 * at / length:.2f},{y(nano):.1f}" for at, nano in corners)
    parts = [
        tag("polygon", points=f"{line} 100,{_HEIGHT}", class_="spend-area"),
        tag("polyline", points=line, class_="spend-line", vector_effect="non-scaling-stroke"),
    ]
    if limit is not None:
        level = y(limit)
        parts.append(tag("line", x1=0, x2=100, y1=level, y2=level, class_="limit", vector_effect="non-scaling-stroke"))
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 100 {_HEIGHT}",
        preserveAspectRatio="none",
        width="100%",
        height=_HEIGHT,
        style=f"height:{_HEIGHT}px",  # Jupyter would set it by the view box
        role="img",
        aria_label="money settled over time",
    )


def _thinned(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most about ``_POINTS`` points, the last one among them."""
    stride = math.ceil(len(points) / _POINTS) or 1
    return points[::stride] + (points[-1:] if (len(points) - 1) % stride else [])

"""How spending grew over the run's time, against its limit, as inline SVG."""

from __future__ import annotations

import math
from typing import Final

from langchain_runtime.report.figures import RunFigures
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


def spend_line(figures: RunFigures) -> Markup | None:
    """Money settled over time; None where there is too little to draw a line through."""
    points = _thinned([(point.seconds, point.nano) for point in figures.spending])
    length = figures.duration
    if len(points) <= 1 or not length or not points[-1][1]:
        return None
    limit = limit_in_sight(figures)
    top = max(points[-1][1], limit or 0) * _HEADROOM

    def y(nano: int) -> float:
        return _HEIGHT * (1 - nano / top)

    corners = [(0.0, y(0))]
    for at, nano in points:
        x = min(100.0, 100.0 * at / length)
        corners += [(x, corners[-1][1]), (x, y(nano))]
    corners.append((100.0, corners[-1][1]))
    line = " ".join(f"{x:.2f},{height:.1f}" for x, height in corners)
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
        role="img",
        aria_label="money settled over time",
    )


def _thinned(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most about ``_POINTS`` points, the last one among them."""
    stride = math.ceil(len(points) / _POINTS) or 1
    return points[::stride] + (points[-1:] if (len(points) - 1) % stride else [])

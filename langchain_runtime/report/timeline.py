"""The run as a picture: a Gantt chart with the critical path marked, and how spending grew, as inline SVG.

Horizontal positions are percentages and vertical ones pixels, so that a chart fills any width while its text keeps its
size. Colours are classes; ``page.py`` gives them for light and dark.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report.figures import RunFigures, TaskFigures
from langchain_runtime.report.formats import UNKNOWN, count, duration, money, shorten_id
from langchain_runtime.report.markup import Markup, join, tag

_ROWS: Final = 60
"""Most tasks that get a row with their name; more are packed into lanes, as many as ran at a time."""

_ROW: Final = 20
_BAR: Final = 12
_AXIS: Final = 20
_LANES_HEIGHT: Final = 900
_LANE: Final = (4, 18)
"""Least and most height of a lane in pixels."""

_LABEL: Final = 30
"""Characters of a task's id beside its row."""

_THIN: Final = 0.15
"""Per cent of the width below which a bar could not be seen."""

_ROOM: Final = 22.0
"""Per cent of the width that hold a duration such as "12 min 05 s" on a phone."""

_EDGE: Final = 95.0
"""Per cent of the width beyond which a centred label would be cut."""

_MINUTE: Final = 60
_DAY: Final = 86_400
_ROUND_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
"""Seconds between two ticks that a reader can count in."""

_SPEND_POINTS: Final = 400
_SPEND_HEIGHT: Final = 90.0


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds of the run to per cent of the width."""

    seconds: float

    def __call__(self, at: float) -> float:
        return min(100.0, 100.0 * at / self.seconds) if self.seconds else 0.0


def timeline(figures: RunFigures) -> Markup | None:
    """The Gantt chart; None when nothing was started."""
    drawn = [task for task in figures.tasks if task.began is not None and not task.children]
    if not drawn or figures.duration is None:
        return None
    scale = _Scale(figures.duration)
    if len(drawn) <= _ROWS:
        return _rows(figures, drawn, scale)
    return _lanes(figures, drawn, scale)


def _rows(figures: RunFigures, tasks: Sequence[TaskFigures], scale: _Scale) -> Markup:
    height = _ROW * len(tasks) + _AXIS
    tops = {task.id: place * _ROW + (_ROW - _BAR) // 2 for place, task in enumerate(tasks)}
    labels = [
        tag(
            "text",
            tag("title", task.id),
            shorten_id(task.id, _LABEL),
            x="100%",
            y=tops[task.id] + 10,
            text_anchor="end",
            class_="crit-label" if task.critical else None,
        )
        for task in tasks
    ]
    bars = [join(_bar(task, scale, tops[task.id], _BAR), _beside(task, scale, tops[task.id] + 10)) for task in tasks]
    return tag(
        "div",
        tag("div", _svg(height, "names of tasks", *labels), class_="names"),
        tag("div", _svg(height, "timeline", _axis(figures, scale, height), _links(figures, scale, tops), *bars)),
        class_="gantt",
    )


def _lanes(figures: RunFigures, tasks: Sequence[TaskFigures], scale: _Scale) -> Markup:
    lanes = _packed(tasks)
    lane_count = max(lanes.values()) + 1
    lane = max(_LANE[0], min(_LANE[1], _LANES_HEIGHT // lane_count))
    height = lane * lane_count + _AXIS
    bars = [_bar(task, scale, lanes[task.id] * lane, max(2, lane - 2)) for task in tasks]
    return tag("div", tag("div", _svg(height, "timeline", _axis(figures, scale, height), *bars)), class_="gantt lanes")


def _packed(tasks: Sequence[TaskFigures]) -> dict[str, int]:
    """The lowest lane that is free at each task's start; tasks come ordered by start."""
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    lanes: dict[str, int] = {}
    for task in tasks:
        began = task.began or 0.0
        while busy and busy[0][0] <= began:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (began + (task.seconds or 0.0), lane))
        lanes[task.id] = lane
    return lanes


def _bar(task: TaskFigures, scale: _Scale, top: int, height: int) -> Markup:
    left = min(scale(task.began or 0.0), 100.0 - _THIN)
    width = max(_THIN, scale((task.began or 0.0) + (task.seconds or 0.0)) - left)
    return tag(
        "rect",
        tag("title", _tooltip(task)),
        x=f"{left:.3f}%",
        y=top,
        width=f"{width:.3f}%",
        height=height,
        rx=2,
        class_=_look(task),
    )


def _look(task: TaskFigures) -> str:
    look = task.state.value if task.state in {TaskState.COMPLETED, TaskState.FAILED} else "unfinished"
    return f"{look} crit" if task.critical else look


def _tooltip(task: TaskFigures) -> str:
    tokens = (
        UNKNOWN if task.usage is None else f"{count(task.usage.tokens.input)} in, {count(task.usage.tokens.output)} out"
    )
    tries = f", {task.attempts} tries" if task.attempts > 1 else ""
    return f"{task.id}: {task.state}{tries}, {duration(task.seconds)}, tokens {tokens}, cost {money(task.cost)}"


def _beside(task: TaskFigures, scale: _Scale, baseline: int) -> Markup:
    """The duration, right of the bar; where there is no room left of it, else in it."""
    left, right = scale(task.began or 0.0), scale((task.began or 0.0) + (task.seconds or 0.0))
    text = duration(task.seconds)
    if right < 100 - _ROOM:
        return tag("text", text, x=f"{right:.3f}%", dx=5, y=baseline, class_="dim")
    if left > _ROOM:
        return tag("text", text, x=f"{left:.3f}%", dx=-5, y=baseline, text_anchor="end", class_="dim")
    return tag(
        "text",
        text,
        x=f"{right:.3f}%",
        dx=-5,
        y=baseline,
        text_anchor="end",
        class_="inside-crit" if task.critical or task.state is TaskState.FAILED else "inside",
    )


def _links(figures: RunFigures, scale: _Scale, tops: dict[str, int]) -> Markup:
    """From the end of each step of the critical path down to the start of the next; waiting is dashed."""
    lines = []
    at = 0.0
    for before, after in zip(figures.path, figures.path[1:], strict=False):
        at += before.waited + before.seconds
        x, y = f"{scale(at):.3f}%", tops[after.task] + _BAR // 2
        if after.waited:
            until = f"{scale(at + after.waited):.3f}%"
            lines.append(tag("line", x1=x, x2=until, y1=y, y2=y, class_="wait"))
        lines.append(tag("line", x1=x, x2=x, y1=tops[before.task] + _BAR // 2, y2=y, class_="link"))
    return join(*lines)


def _axis(figures: RunFigures, scale: _Scale, height: int) -> Markup:
    bottom = height - _AXIS
    parts = []
    for at in ticks(scale.seconds):
        x = f"{scale(at):.3f}%"
        anchor = "start" if at == 0 else "end" if scale(at) > _EDGE else "middle"
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=bottom, class_="grid"))
        parts.append(tag("text", _tick(at), x=x, y=height - 5, text_anchor=anchor, class_="dim"))
    for pause in figures.clock.pauses:
        x = f"{scale(figures.clock.seconds(pause.start)):.3f}%"
        note = tag("title", f"paused {duration(pause.seconds)}")
        parts.append(tag("line", note, x1=x, x2=x, y1=0, y2=bottom, class_="pause"))
    return join(*parts)


def ticks(seconds: float) -> list[float]:
    """Round moments from 0 up to ``seconds``, four to seven of them."""
    if seconds <= 0:
        return [0.0]
    rough = seconds / 5
    power = 10.0 ** math.floor(math.log10(rough))
    below_a_second = (power * factor for factor in (1, 2, 5, 10))
    steps = below_a_second if rough < 1 else (*_ROUND_STEPS, _DAY * math.ceil(rough / _DAY))
    step = next(float(step) for step in steps if step >= rough)
    return [step * place for place in range(int(seconds / step + 1e-9) + 1)]


def _tick(at: float) -> str:
    if at < _MINUTE:
        return f"{at:g} s"
    minutes, rest = divmod(round(at), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def spending(figures: RunFigures) -> Markup | None:
    """Money settled over the run's time against its limit; None without two points to draw a line through."""
    points = _thinned([(point.seconds, point.nano) for point in figures.spending])
    if len(points) < 2 or not figures.duration or not points[-1][1]:  # noqa: PLR2004 - a line has two ends
        return None
    scale = _Scale(figures.duration)
    limit = figures.limit.nano if figures.limit is not None and figures.limit.currency == figures.currency else None
    # A limit far above what was spent would press the line flat: then it is left to the budget bar.
    near = limit is not None and limit <= 3 * points[-1][1]
    top = max(points[-1][1], limit if near and limit is not None else 0) * 1.05

    def y(nano: int) -> float:
        return _SPEND_HEIGHT * (1 - nano / top)

    corners = [(0.0, _SPEND_HEIGHT)]
    for at, nano in points:
        corners += [(scale(at), corners[-1][1]), (scale(at), y(nano))]
    corners.append((100.0, corners[-1][1]))
    line = " ".join(f"{x:.2f},{height:.1f}" for x, height in corners)
    parts = [
        tag("polygon", points=f"{line} 100,{_SPEND_HEIGHT:.0f}", class_="spend-area"),
        tag("polyline", points=line, class_="spend-line", vector_effect="non-scaling-stroke"),
    ]
    if near and limit is not None:
        parts.append(
            tag("line", x1=0, x2=100, y1=y(limit), y2=y(limit), class_="limit", vector_effect="non-scaling-stroke")
        )
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 100 {_SPEND_HEIGHT:.0f}",
        preserveAspectRatio="none",
        width="100%",
        height=_SPEND_HEIGHT,
        role="img",
        aria_label="money settled over time",
    )


def _thinned(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most about ``_SPEND_POINTS`` points, the last one among them."""
    stride = math.ceil(len(points) / _SPEND_POINTS) or 1
    return points[::stride] + (points[-1:] if (len(points) - 1) % stride else [])


def _svg(height: int, label: str, *children: Markup) -> Markup:
    return tag(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        width="100%",
        height=height,
        role="img",
        aria_label=label,
    )

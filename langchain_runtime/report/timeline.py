"""The run as a Gantt chart with the critical path marked, as inline SVG.

Horizontal positions are percentages and vertical ones pixels, so that a chart fills any width while its text keeps its
size. Colours are classes; ``style.py`` gives them for light and dark.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report.figures import RunFigures, TaskFigures
from langchain_runtime.report.formats import SHOWN, UNKNOWN, count, duration, money, plural, shorten_id
from langchain_runtime.report.load_chart import load_chart
from langchain_runtime.report.markup import Markup, join, tag

_ROWS: Final = 60
"""Most tasks that get a row with their name; more are packed into lanes, as many as ran at a time."""

_BARS: Final = 2_000
_LANES: Final = 150
"""Most tasks that get a bar, and most lanes; beyond either, the chart shows how many ran at a time."""

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


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds of the run to per cent of the width."""

    seconds: float

    def __call__(self, at: float) -> float:
        return min(100.0, 100.0 * at / self.seconds) if self.seconds else 0.0


def timeline(figures: RunFigures) -> Markup | None:
    """The Gantt chart; None when nothing was started."""
    drawn = drawn_tasks(figures)
    if not drawn or figures.duration is None:
        return None
    scale = _Scale(figures.duration)
    if has_names(figures):
        return _rows(figures, drawn, scale)
    if shows_load(figures):
        return _load(figures, drawn, scale)
    return _lanes(figures, drawn, scale)


def has_names(figures: RunFigures) -> bool:
    """Whether each bar has a row with its name, left of the time axis."""
    return len(drawn_tasks(figures)) <= _ROWS


def shows_load(figures: RunFigures) -> bool:
    """Whether the chart shows how many tasks ran at a time instead of each of them."""
    drawn = drawn_tasks(figures)
    too_many = len(drawn) > _BARS or (len(drawn) > _ROWS and max(lanes_of(drawn).values()) >= _LANES)
    return too_many and bool(figures.duration)


def drawn_tasks(figures: RunFigures) -> list[TaskFigures]:
    """Tasks with a bar; a ``for_each`` task is drawn by its children."""
    return [task for task in figures.tasks if task.began is not None and not task.children]


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
    lanes = lanes_of(tasks)
    lane_count = max(lanes.values()) + 1
    lane = max(_LANE[0], min(_LANE[1], _LANES_HEIGHT // lane_count))
    height = lane * lane_count + _AXIS
    bars = [_bar(task, scale, lanes[task.id] * lane, max(2, lane - 2)) for task in tasks]
    return tag("div", tag("div", _svg(height, "timeline", _axis(figures, scale, height), *bars)), class_="gantt lanes")


def _load(figures: RunFigures, tasks: Sequence[TaskFigures], scale: _Scale) -> Markup:
    chart, height = load_chart(tasks, scale.seconds)
    height += _AXIS
    return tag("div", tag("div", _svg(height, "tasks at a time", _axis(figures, scale, height), chart)), class_="gantt")


def lanes_of(tasks: Sequence[TaskFigures]) -> dict[str, int]:
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
    """The duration, right of the bar where there is room; else in it, else left of it."""
    left, right = scale(task.began or 0.0), scale((task.began or 0.0) + (task.seconds or 0.0))
    text = duration(task.seconds)
    match room_beside(left, right):
        case "right":
            return tag("text", text, x=f"{right:.3f}%", dx=5, y=baseline, class_="dim")
        case "left":
            return tag("text", text, x=f"{left:.3f}%", dx=-5, y=baseline, text_anchor="end", class_="dim")
        case _:
            look = "inside-crit" if task.critical or task.state is TaskState.FAILED else "inside"
            return tag("text", text, x=f"{right:.3f}%", dx=-5, y=baseline, text_anchor="end", class_=look)


def room_beside(left: float, right: float) -> Literal["left", "inside", "right"]:
    """Where the duration of a bar from ``left`` to ``right``, in per cent of the width, has room."""
    if right < 100 - _ROOM:
        return "right"
    return "left" if right - left < _ROOM else "inside"


def _links(figures: RunFigures, scale: _Scale, tops: dict[str, int]) -> Markup:
    """From the end of each step of the critical path down to the start of the next; waiting is dashed."""
    lines = []
    for link in path_links(figures):
        x, y = f"{scale(link.ended):.3f}%", tops[link.after] + _BAR // 2
        if link.began > link.ended:
            lines.append(tag("line", x1=x, x2=f"{scale(link.began):.3f}%", y1=y, y2=y, class_="wait"))
        lines.append(tag("line", x1=x, x2=x, y1=tops[link.before] + _BAR // 2, y2=y, class_="link"))
    return join(*lines)


class PathLink(NamedTuple):
    """From one step of the critical path to the next: their tasks, the end of the one and the start of the other."""

    before: str
    after: str
    ended: float
    began: float


def path_links(figures: RunFigures) -> list[PathLink]:
    """What joins the steps of the critical path, in seconds of the run."""
    links = []
    at = 0.0
    for before, after in zip(figures.path, figures.path[1:], strict=False):
        at += before.waited + before.seconds
        links.append(PathLink(before.task, after.task, at, at + after.waited))
    return links


def legend(figures: RunFigures) -> tuple[list[tuple[str, str]], list[str]]:
    """What the colours of the chart mean, by their names in ``style.py``, and notes on what it does not show."""
    running, waiting = sum(step.seconds for step in figures.path), sum(step.waited for step in figures.path)
    never = sum(task.began is None for task in figures.tasks)
    colours = [
        ("crit", f"critical path: {plural(len(figures.path), 'task')}, {duration(running)}"),
        ("task", "all tasks" if shows_load(figures) else "other tasks"),
    ]
    if any(task.error for task in figures.tasks):
        colours.append(("bad", "failed"))
    if figures.clock.pauses:
        colours.append(("held", f"paused {duration(figures.paused)}"))
    dashed = " (dashed)" if has_names(figures) else ""
    notes = [f"of that path, {duration(waiting)} waiting{dashed}"] if waiting >= SHOWN else []
    notes += [f"{plural(never, 'task')} never started"] if never else []
    return colours, notes


def _axis(figures: RunFigures, scale: _Scale, height: int) -> Markup:
    bottom = height - _AXIS
    parts = []
    for at in ticks(scale.seconds):
        x = f"{scale(at):.3f}%"
        anchor = "start" if at == 0 else "end" if scale(at) > _EDGE else "middle"
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=bottom, class_="grid"))
        parts.append(tag("text", tick_label(at), x=x, y=height - 5, text_anchor=anchor, class_="dim"))
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


def tick_label(at: float) -> str:
    """A moment below the axis: ``40 s``, ``2:05``, ``1:00:00``."""
    if at < _MINUTE:
        return f"{at:g} s"
    minutes, rest = divmod(round(at), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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

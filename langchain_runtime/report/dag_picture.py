"""The DAG of a run as inline SVG: each task with its state and its bill, right of what it depends on.

Children of a ``for_each`` stand in its box. Where there are too many boxes, each layer is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report.figures import RunFigures, TaskFigures, Total
from langchain_runtime.report.formats import count, money, plural, shorten_id
from langchain_runtime.report.markup import Markup, join, tag
from langchain_runtime.report.rows import counted, states_in_words
from langchain_runtime.report.timing import parent_of

_BOXES: Final = 150
"""More are not read one by one."""

_WIDTH: Final = 176
_HEIGHT: Final = 40
_APART: Final = (44, 12)
"""Pixels between two layers, and between two boxes of one."""

_LABEL: Final = 24
"""Characters of a name in a box."""

_MARGIN: Final = 4

_TELLING: Final = (TaskState.FAILED, TaskState.RUNNING, TaskState.READY, TaskState.PENDING, TaskState.SKIPPED)
"""The state that the mark of a box shows, if one of its tasks is in it; else all are completed."""


@dataclass
class _Box:
    """One task, the children of one, or a layer."""

    name: str
    tasks: list[TaskFigures] = field(default_factory=list)
    deps: set[str] = field(default_factory=set)

    @property
    def state(self) -> TaskState:
        states = {task.state for task in self.tasks}
        return next((state for state in _TELLING if state in states), TaskState.COMPLETED)

    @property
    def critical(self) -> bool:
        return any(task.critical for task in self.tasks)

    def note(self, currency: str) -> str:
        """State and bill; of several tasks how many have ended."""
        tasks = counted(self.tasks)
        usages = [task.usage for task in tasks if task.usage is not None]
        total = Total.of(usages, currency)
        cost = f", {money(total.cost, complete=total.complete)}" if total.cost is not None and total.cost.nano else ""
        if len(tasks) == 1:
            return f"{tasks[0].state}{cost}"
        states = Counter(task.state for task in tasks)
        failed = f", {states[TaskState.FAILED]:,} failed" if states[TaskState.FAILED] else ""
        return f"{states[TaskState.COMPLETED]:,} of {count(len(tasks))}{failed}{cost}"


@dataclass(frozen=True)
class _Place:
    """Upper left corner of a box in pixels."""

    x: int
    y: int


def dag_picture(figures: RunFigures) -> Markup | None:
    """The picture; None for a run without tasks."""
    boxes = _boxes(figures.tasks)
    if not boxes:
        return None
    layers = _layers(boxes)
    if len(boxes) > _BOXES:
        boxes, layers = _one_a_layer(boxes, layers)
    places = _places(boxes, layers)
    edges = [
        _edge(places[dep], places[name], boxes[dep], box) for name, box in boxes.items() for dep in sorted(box.deps)
    ]
    drawn = [_drawn(box, places[name], figures.currency) for name, box in boxes.items()]
    width = max(place.x for place in places.values()) + _WIDTH + _MARGIN
    height = max(place.y for place in places.values()) + _HEIGHT + _MARGIN
    picture = tag(
        "svg",
        join(*edges),
        join(*drawn),
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        role="img",
        aria_label="tasks and what they depend on",
    )
    return tag("div", picture, class_="scroll dag")


def _boxes(tasks: Iterable[TaskFigures]) -> dict[str, _Box]:
    """By name; a ``for_each`` task and its children are one."""
    tasks = list(tasks)
    known = {task.id for task in tasks}

    def name_of(task_id: str) -> str:
        parent = parent_of(task_id)
        return parent if parent in known else task_id

    boxes: dict[str, _Box] = {}
    for task in tasks:
        box = boxes.setdefault(name_of(task.id), _Box(name_of(task.id)))
        box.tasks.append(task)
        box.deps |= {name_of(dep) for dep in task.deps if dep in known}
    for name, box in boxes.items():
        box.deps.discard(name)
    return boxes


def _layers(boxes: Mapping[str, _Box]) -> list[list[str]]:
    """Names by the length of the longest way to them."""
    depths: dict[str, int] = {}
    waiting = dict(boxes)
    while waiting:
        ready = [name for name, box in waiting.items() if box.deps <= depths.keys()]
        for name in ready or list(waiting):  # children of two lists that wait for one another: drawn side by side
            depths[name] = 1 + max((depths.get(dep, -1) for dep in waiting.pop(name).deps), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(depths.values()) + 1)]
    for name, depth in depths.items():
        layers[depth].append(name)
    return layers


def _one_a_layer(boxes: Mapping[str, _Box], layers: Sequence[Sequence[str]]) -> tuple[dict[str, _Box], list[list[str]]]:
    """A box for each layer, or for several in a row where there are too many of those, too."""
    stride = -(-len(layers) // _BOXES)
    merged: dict[str, _Box] = {}
    for first in range(0, len(layers), stride):
        names = [name for layer in layers[first : first + stride] for name in layer]
        tasks = [task for name in names for task in boxes[name].tasks]
        whole = _Box(boxes[names[0]].name if len(names) == 1 else plural(len(counted(tasks)), "task"), tasks)
        whole.deps = {str(first - stride)} if first else set()
        merged[str(first)] = whole
    return merged, [[name] for name in merged]


def _places(boxes: Mapping[str, _Box], layers: Sequence[Sequence[str]]) -> dict[str, _Place]:
    """Each box near the middle of what it depends on, so that few lines cross."""
    rows: dict[str, float] = {}
    places: dict[str, _Place] = {}
    for depth, layer in enumerate(layers):
        wished = {
            name: fmean(rows.get(dep, 0.0) for dep in boxes[name].deps) if boxes[name].deps else 0.0 for name in layer
        }
        for row, name in enumerate(sorted(layer, key=lambda name: wished[name])):
            rows[name] = row
            places[name] = _Place(_MARGIN + depth * (_WIDTH + _APART[0]), _MARGIN + row * (_HEIGHT + _APART[1]))
    return places


def _edge(start: _Place, end: _Place, before: _Box, after: _Box) -> Markup:
    x1, y1 = start.x + _WIDTH, start.y + _HEIGHT // 2
    x2, y2 = end.x, end.y + _HEIGHT // 2
    bend = max(_APART[0] // 2, (x2 - x1) // 2)
    look = "edge crit-edge" if before.critical and after.critical else "edge"
    return tag("path", d=f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", class_=look)


def _drawn(box: _Box, place: _Place, currency: str) -> Markup:
    note = box.note(currency)
    about = states_in_words(task.state for task in counted(box.tasks))
    x, y = place.x, place.y
    look = "box crit" if box.critical else "box"
    return join(
        tag(
            "g",
            tag("title", f"{box.name}: {about}"),
            tag("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=6, class_=look),
            tag("rect", x=x, y=y, width=6, height=_HEIGHT, rx=3, class_=f"mark m-{box.state}"),
            tag("text", shorten_id(box.name, _LABEL), x=x + 14, y=y + 17, class_="box-name"),
            tag("text", note, x=x + 14, y=y + 32, class_="dim"),
        )
    )

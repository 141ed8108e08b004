"""A run of very many tasks as a chart: how many ran at a time, and below it when its critical path ran and what failed.

A bar for each of ten thousand tasks is a wall without a gap, and megabytes. The three strips have a size of their own
instead, whatever the run's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.report.figures import TaskFigures
from langchain_runtime.report.formats import count, duration
from langchain_runtime.report.markup import Markup, join, tag

COLUMNS: Final = 400
"""More cannot be told apart on a screen."""

_LOAD: Final = 180
"""Height of the chart in pixels."""

_STRIP: Final = 18
_MARK: Final = 10
"""Heights of a strip below it, and of what is drawn in it."""

_HEADROOM: Final = 1.1

_APART: Final = 0.15
"""Per cent of the width: less between two tasks cannot be seen, and they are drawn as one."""


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks of a strip that are drawn as one, in seconds of the run."""

    began: float
    ended: float
    tasks: list[TaskFigures]


def load_chart(tasks: Sequence[TaskFigures], seconds: float) -> tuple[Markup, int]:
    """The chart without its axis, and its height.

    Args:
        tasks: Those that were started, ordered by start.
        seconds: How long the run took, more than 0.
    """
    below = strips(tasks)
    parts = [_area(load(tasks, seconds))]
    for place, (look, of_strip) in enumerate(below):
        top = _LOAD + place * _STRIP + (_STRIP - _MARK)
        parts += [_mark(block, seconds, top, look) for block in blocks(of_strip, seconds)]
    return join(*parts), _LOAD + len(below) * _STRIP


def strips(tasks: Sequence[TaskFigures]) -> list[tuple[str, list[TaskFigures]]]:
    """What stands below the chart, by its look: the critical path, and what failed if anything did."""
    failed = [task for task in tasks if task.state is TaskState.FAILED]
    return [("crit", [task for task in tasks if task.critical]), *([("failed", failed)] if failed else [])]


def load(tasks: Sequence[TaskFigures], seconds: float) -> list[float]:
    """How many tasks ran at a time, on average, in each of ``COLUMNS`` equal parts of the run."""
    partly = [0.0] * COLUMNS
    wholly = [0] * (COLUMNS + 1)  # by how many more than in the part before
    for task in tasks:
        began = (task.began or 0.0) / seconds * COLUMNS
        ended = min(began + (task.seconds or 0.0) / seconds * COLUMNS, COLUMNS)
        first, last = (min(int(at), COLUMNS - 1) for at in (began, ended))
        if first == last:
            partly[first] += ended - began
        else:
            partly[first] += first + 1 - began
            partly[last] += ended - last
            wholly[first + 1] += 1
            wholly[last] -= 1
    return [part + whole for part, whole in zip(partly, accumulate(wholly), strict=False)]


def _area(at_a_time: Sequence[float]) -> Markup:
    most = max(at_a_time)
    scale = _LOAD / (most * _HEADROOM or 1)
    corners = [f"{x:g},{_LOAD - each * scale:.1f}" for place, each in enumerate(at_a_time) for x in (place, place + 1)]
    area = tag("polygon", points=f"0,{_LOAD} {' '.join(corners)} {COLUMNS},{_LOAD}", class_="load")
    level = round(_LOAD - most * scale)
    return join(
        tag(
            "svg",
            area,
            viewBox=f"0 0 {COLUMNS} {_LOAD}",
            preserveAspectRatio="none",
            width="100%",
            height=_LOAD,
            style=f"height:{_LOAD}px",  # Jupyter would set it by the view box
        ),
        tag("line", x1=0, x2="100%", y1=level, y2=level, class_="grid"),
        tag("text", f"{count(round(most))} at a time", x=2, y=level - 4, class_="dim"),
    )


def blocks(tasks: Sequence[TaskFigures], seconds: float) -> list[Block]:
    """Tasks, ordered by start, joined where nobody could see what lies between them in a run of ``seconds``."""
    apart = _APART / 100 * seconds
    joined: list[Block] = []
    for task in tasks:
        began = task.began or 0.0
        ended = began + (task.seconds or 0.0)
        if joined and began - joined[-1].ended < apart:
            last = joined[-1]
            joined[-1] = Block(last.began, max(last.ended, ended), last.tasks)
            last.tasks.append(task)
        else:
            joined.append(Block(began, ended, [task]))
    return joined


def _mark(block: Block, seconds: float, top: int, look: str) -> Markup:
    first, more = block.tasks[0], len(block.tasks) - 1
    names = f"{first.id} and {more:,} more" if more else first.id
    left = min(100 * block.began / seconds, 100.0 - _APART)
    width = max(_APART, min(100.0, 100 * block.ended / seconds) - left)
    return tag(
        "rect",
        tag("title", f"{names}: {duration(block.ended - block.began)}"),
        x=f"{left:.3f}%",
        y=top,
        width=f"{width:.3f}%",
        height=_MARK,
        class_=f"block {look}",
    )

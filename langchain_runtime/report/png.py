"""The run report as one picture: what it came to, its timeline with the critical path marked, how spending grew.

The same charts as in HTML (``timeline.py``, ``load_chart.py``, ``spend_line.py`` compute them), drawn with matplotlib.
Everything is drawn on a ``Figure`` of its own and styled here: neither pyplot's state nor the user's styles count.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.report.figures import RunFigures, TaskFigures, share_of
from langchain_runtime.report.formats import UNKNOWN, count, duration, money, plural, shorten_id, spent_of_limit
from langchain_runtime.report.load_chart import COLUMNS, blocks, load, strips
from langchain_runtime.report.rows import states_in_words
from langchain_runtime.report.spend_line import limit_in_sight, spend_corners, spend_note
from langchain_runtime.report.style import LIGHT
from langchain_runtime.report.timeline import (
    drawn_tasks,
    has_names,
    lanes_of,
    legend,
    path_links,
    room_beside,
    shows_load,
    tick_label,
    ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final = {name.removeprefix("--"): value for name, value in (rule.split(":") for rule in LIGHT.split(";"))}

_DPI: Final = 144
_WIDTH: Final = 11.0
_MARGIN: Final = 0.3
_NAMES: Final = 2.3
"""Width of the names beside the rows."""

_HEADER: Final = 1.15
_TITLE: Final = 0.34
_LEGEND: Final = 0.62
"""Heights of the header, of a chart's title, and of an axis with its legend; all in inches, as everything here."""

_ROW: Final = 0.235
_LANE: Final = (0.04, 0.16)
_LANES_HEIGHT: Final = 6.5
_LOAD: Final = 2.2
_STRIP: Final = 0.2
_SPENDING: Final = 1.1

_ID: Final = 32
"""Characters of a task's id beside its row."""

_BAR: Final = 0.6
"""Share of a row, or of a strip, that its bar takes."""

_LEAST: Final = 0.0012
"""Share of the width below which a bar could not be seen."""

_FONT: Final[dict[str, Any]] = {"family": "DejaVu Sans", "parse_math": False, "usetex": False}
"""Comes with matplotlib; a dollar in a name is a dollar."""

_STATES: Final = {RunState.COMPLETED: "ok", RunState.FAILED: "bad", RunState.ABORTED: "bad"}
_UNUSUAL: Final = {TaskState.FAILED: "bad", TaskState.COMPLETED: "task"}


def render_png(figures: RunFigures) -> bytes:
    """The picture, 1,584 pixels wide; as high as its tasks need, up to some 2,900.

    Raises:
        InvalidInputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional, and slow to load
        from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    except ImportError as error:
        raise InvalidInputError(
            "a report as PNG needs matplotlib, which is not installed",
            hint='pip install "langchain-runtime-layer[notebook]", or take to_html()',
        ) from error
    page = _Page(figures, has_timeline=bool(drawn_tasks(figures)) and figures.duration is not None)
    figure = Figure(figsize=(_WIDTH, page.height), dpi=_DPI, facecolor=_COLOURS["bg"])
    figure.set_layout_engine("none")
    canvas: Any = FigureCanvasAgg(figure)
    page.draw_on(figure)
    out = io.BytesIO()
    # Figure.savefig would cut the picture as the user's settings say.
    canvas.print_png(out, metadata={"Title": f"run {figures.id}"})
    return out.getvalue()


class _Page:
    """Places the parts below one another; measures are inches from the top."""

    def __init__(self, figures: RunFigures, *, has_timeline: bool) -> None:
        self._figures = figures
        self._spending = spend_corners(figures) if has_timeline else None
        self._tasks = drawn_tasks(figures) if has_timeline else []
        self._lanes = {} if not self._tasks or has_names(figures) else lanes_of(self._tasks)
        self._chart = self._chart_height() if has_timeline else 0.0
        self.height = _MARGIN + _HEADER + _MARGIN
        self.height += _TITLE + self._chart + _LEGEND if has_timeline else 0.0
        self.height += _TITLE + _SPENDING + _MARGIN if self._spending is not None else 0.0

    def _chart_height(self) -> float:
        if not self._lanes:
            return _ROW * len(self._tasks)
        if shows_load(self._figures):
            return _LOAD + _STRIP * len(strips(self._tasks))
        lanes = max(self._lanes.values()) + 1
        return lanes * max(_LANE[0], min(_LANE[1], _LANES_HEIGHT / lanes))

    def draw_on(self, figure: Figure) -> None:
        self._header(figure)
        if not self._tasks:
            return
        top = _MARGIN + _HEADER
        self._title(figure, "Timeline", top)
        axes = self._axes(figure, top + _TITLE, self._chart)
        self._time_axis(axes)
        if not self._lanes:
            _rows(axes, self._figures, self._tasks)
        elif shows_load(self._figures):
            _load(axes, self._figures, self._tasks, self._chart)
        else:
            _lanes(axes, self._figures, self._tasks, self._lanes)
        self._legend(figure, top + _TITLE + self._chart + 0.42)
        if self._spending is not None:
            top += _TITLE + self._chart + _LEGEND
            self._title(figure, "Spending", top, note=spend_note(self._figures))
            self._spent(self._axes(figure, top + _TITLE, _SPENDING), *self._spending)

    def _axes(self, figure: Figure, top: float, height: float) -> Axes:
        """An empty chart; all of them share one time axis."""
        left = _MARGIN + (_NAMES if has_names(self._figures) else 0.0)
        place = (
            left / _WIDTH,
            1 - (top + height) / self.height,
            1 - (left + _MARGIN) / _WIDTH,
            height / self.height,
        )
        axes = figure.add_axes(place, facecolor=_COLOURS["bg"])
        axes.set_xlim(0.0, self._figures.duration or 1.0)
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set(color=_COLOURS["line"], linewidth=0.8)
        axes.grid(visible=False)
        axes.tick_params(which="both", left=False, labelleft=False, bottom=False, labelbottom=False)
        return axes

    def _time_axis(self, axes: Axes) -> None:
        moments = ticks(self._figures.duration or 0.0)
        axes.set_xticks(moments, [tick_label(at) for at in moments], **_FONT)
        axes.tick_params(axis="x", labelbottom=True, labelsize=8, labelcolor=_COLOURS["dim"], pad=2)
        for at in moments:
            axes.axvline(at, color=_COLOURS["line"], linewidth=0.8, zorder=0)
        clock = self._figures.clock
        for pause in clock.pauses:
            at = clock.seconds(pause.start)
            axes.axvline(at, color=_COLOURS["held"], linewidth=2, linestyle=(0, (4, 3)), zorder=4)

    def _header(self, figure: Figure) -> None:
        figures = self._figures
        write = _Writer(figure, self.height)
        end = write(f"Run {shorten_id(figures.id, 70)}", _MARGIN, _MARGIN + 0.12, size=15, weight="bold")
        state = _COLOURS[_STATES.get(figures.state, "dim")]
        write(str(figures.state), end + 0.15, _MARGIN + 0.14, size=11, color=state, weight="bold")
        at_a_time = "" if figures.speedup is None else f", {figures.speedup:.1f} tasks at a time"
        paused = f", paused {duration(figures.paused)}" if figures.paused else ""
        states = states_in_words(task.state for task in figures.tasks)
        done = f"{plural(len(figures.tasks), 'task')}{f': {states}' if states else ''}"
        write(f"{done}.  {duration(figures.duration)}{at_a_time}{paused}", _MARGIN, _MARGIN + 0.44, size=10)
        tokens = figures.usage.tokens
        spent = spent_of_limit(figures.spent, figures.limit, figures.share, complete=figures.complete)
        limit = ", no limit" if figures.limit is None else ""
        held = f", held {money(figures.held)}" if figures.held is not None and figures.held.nano else ""
        words = f"spent {spent if figures.spent else UNKNOWN}{limit}{held}.  "
        words += f"{count(tokens.input)} tokens in ({count(tokens.cache_read)} cached), {count(tokens.output)} out"
        write(words, _MARGIN, _MARGIN + 0.67, size=10)
        if figures.limit is not None and figures.share is not None:
            settled = min(1.0, figures.share)
            held_share = min(1.0 - settled, share_of(figures.held, figures.limit) or 0.0)
            self._bar(figure, [("line", 0.0, 1.0), ("crit", 0.0, settled), ("held", settled, held_share)])

    def _bar(self, figure: Figure, parts: Sequence[tuple[str, float, float]]) -> None:
        from matplotlib.patches import Rectangle  # noqa: PLC0415 - optional

        width = 1 - 2 * _MARGIN / _WIDTH
        for colour, left, share in parts:
            corner = (_MARGIN / _WIDTH + left * width, 1 - (_MARGIN + 0.95) / self.height)
            height = 0.09 / self.height
            figure.add_artist(Rectangle(corner, share * width, height, color=_COLOURS[colour], linewidth=0))

    def _title(self, figure: Figure, title: str, top: float, *, note: str = "") -> None:
        write = _Writer(figure, self.height)
        end = write(title, _MARGIN, top + 0.14, size=11, weight="bold")
        write(note, end + 0.15, top + 0.145, size=9, color=_COLOURS["dim"])

    def _legend(self, figure: Figure, top: float) -> None:
        write = _Writer(figure, self.height)
        colours, notes = legend(self._figures)
        at = _MARGIN
        for colour, words in colours:
            at = write("\u25a0", at, top, size=11, color=_COLOURS[colour]) + 0.05
            at = write(words, at, top, size=8.5, color=_COLOURS["dim"]) + 0.22
        for words in notes:
            at = write(words, at, top, size=8.5, color=_COLOURS["dim"]) + 0.22

    def _spent(self, axes: Axes, corners: Sequence[tuple[float, int]], top: float) -> None:
        at, nano = [corner[0] for corner in corners], [corner[1] for corner in corners]
        axes.set_ylim(0, top)
        axes.fill_between(at, nano, color=_COLOURS["task"], alpha=0.3, linewidth=0)
        axes.plot(at, nano, color=_COLOURS["crit"], linewidth=1.6, clip_on=False)
        limit = limit_in_sight(self._figures)
        if limit is not None:
            axes.axhline(limit, color=_COLOURS["bad"], linewidth=1.2, linestyle=(0, (5, 4)))


class _Writer:
    """Writes on the whole figure; positions are inches from its left and to the middle of the line from its top."""

    def __init__(self, figure: Figure, height: float) -> None:
        self._figure = figure
        self._height = height

    def __call__(self, words: str, left: float, middle: float, **look: Any) -> float:
        """Write one line, and return where it ends."""
        default: dict[str, Any] = {"color": _COLOURS["text"], "va": "center_baseline", **_FONT}
        text = self._figure.text(left / _WIDTH, 1 - middle / self._height, words, **{**default, **look})
        return float(text.get_window_extent().x1) / _DPI if words else left


def _rows(axes: Axes, figures: RunFigures, tasks: Sequence[TaskFigures]) -> None:
    """A row with its name for each task, top down by start."""
    axes.set_ylim(len(tasks), 0)
    rows = {task.id: row + 0.5 for row, task in enumerate(tasks)}
    _bars(axes, figures, [(task, rows[task.id] - _BAR / 2, _BAR) for task in tasks])
    for link in path_links(figures):
        line: dict[str, Any] = {"color": _COLOURS["crit"], "linewidth": 0.8, "zorder": 1}
        axes.plot([link.ended, link.ended], [rows[link.before], rows[link.after]], **line)
        if link.began > link.ended:
            axes.plot([link.ended, link.began], [rows[link.after]] * 2, **{**line, "linestyle": (0, (2, 3))})
    for task in tasks:
        _label(axes, figures, task, rows[task.id])


def _label(axes: Axes, figures: RunFigures, task: TaskFigures, row: float) -> None:
    weight = "bold" if task.critical else "normal"
    look: dict[str, Any] = {"va": "center_baseline", "annotation_clip": False, "textcoords": "offset points", **_FONT}
    name = shorten_id(task.id, _ID)
    axes.annotate(name, (0.0, row), (-7, 0), ha="right", fontsize=8.5, weight=weight, color=_COLOURS["text"], **look)
    length = figures.duration or 1.0
    left, right = task.began or 0.0, (task.began or 0.0) + (task.seconds or 0.0)
    dark = task.critical or task.state is TaskState.FAILED
    at, offset, align, colour = {
        "right": (right, 4, "left", "dim"),
        "left": (left, -4, "right", "dim"),
        "inside": (min(right, length), -4, "right", "on-dark" if dark else "on-task"),
    }[room_beside(100 * left / length, 100 * right / length)]
    # Lines of the axis and of the critical path stop at what would be hard to read across them.
    back = {"facecolor": _COLOURS["bg"] if colour == "dim" else "none", "edgecolor": "none", "pad": 0.5}
    text = duration(task.seconds)
    axes.annotate(text, (at, row), (offset, 0), ha=align, fontsize=7.5, color=_COLOURS[colour], bbox=back, **look)


def _lanes(axes: Axes, figures: RunFigures, tasks: Sequence[TaskFigures], lanes: dict[str, int]) -> None:
    """As many lanes as tasks ran at a time."""
    axes.set_ylim(max(lanes.values()) + 1, 0)
    _bars(axes, figures, [(task, lanes[task.id] + 0.08, 0.84) for task in tasks])


def _bars(axes: Axes, figures: RunFigures, bars: Sequence[tuple[TaskFigures, float, float]]) -> None:
    """One bar for each task, with its top and its height."""
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - optional

    length = figures.duration or 1.0
    corners, faces, edges = [], [], []
    # What is on the critical path is drawn last: its outline is on top.
    for task, top, height in sorted(bars, key=lambda bar: bar[0].critical):
        width = max(task.seconds or 0.0, _LEAST * length)
        left = min(task.began or 0.0, length - width) if width < length else 0.0
        corners.append([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
        usual = "crit" if task.critical and task.state is TaskState.COMPLETED else None
        faces.append(_COLOURS[usual or _UNUSUAL.get(task.state, "open")])
        edges.append(_COLOURS["crit"] if task.critical else "none")
    axes.add_collection(PolyCollection(corners, facecolors=faces, edgecolors=edges, linewidths=1.0, zorder=2))


def _load(axes: Axes, figures: RunFigures, tasks: Sequence[TaskFigures], height: float) -> None:
    """How many ran at a time, and below it when the critical path ran and what failed."""
    length = figures.duration or 1.0
    at_a_time = load(tasks, length)
    most = max(at_a_time)
    # From inches below the chart's base to its own unit.
    inch = most * 1.15 / _LOAD or 1.0
    axes.set_ylim(-(height - _LOAD) * inch, _LOAD * inch)
    edges = [length * place / COLUMNS for place in range(COLUMNS + 1)]
    axes.stairs(at_a_time, edges, fill=True, color=_COLOURS["task"], linewidth=0)
    axes.axhline(most, color=_COLOURS["line"], linewidth=0.8, zorder=0)
    text = f"{count(round(most))} at a time"
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": _COLOURS["dim"], **_FONT}
    axes.annotate(text, (0.0, most), (3, 3), **look)
    for place, (kind, of_strip) in enumerate(strips(tasks)):
        spans = [(block.began, max(block.ended - block.began, _LEAST * length)) for block in blocks(of_strip, length)]
        bottom = -(place + 0.5 + _BAR / 2) * _STRIP * inch
        colour = _COLOURS["bad" if kind == "failed" else "crit"]
        axes.broken_barh(spans, (bottom, _BAR * _STRIP * inch), color=colour, linewidth=0)

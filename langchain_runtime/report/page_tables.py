"""The tables of the HTML report: cost by model and task, incidents, compactions, the critical path, results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report.figures import RunFigures, TaskFigures
from langchain_runtime.report.formats import UNKNOWN, amount, at_the_point, count, plural, printable, seconds, shorten
from langchain_runtime.report.incidents import Incident
from langchain_runtime.report.markup import Markup, join, tag
from langchain_runtime.report.rows import Row, cut_middle, left_out, rows_of, states_in_words, that_matter
from langchain_runtime.report.text import as_text, named, results_of, why_later

_TASKS: Final = 1000
"""Most rows of the table of tasks."""

_OUTPUTS: Final = 200_000
"""Characters of outputs in the whole page; each task gets its share."""

_RESULTS: Final = 40_000
"""The same for outputs that no task waits for, which are shown at length."""

_OUTPUT: Final = 4_000
_PREVIEW: Final = 90
_INCIDENTS: Final = 30
_NAMES: Final = 400
_STEPS: Final = 60
FIGURE_SPACE: Final = "\u2007"


def _table(
    titles: Sequence[str], numeric: set[int], rows: Sequence[Sequence[str | Markup]], *, wide: set[int]
) -> Markup:
    """A table; columns in ``wide`` are left out where there is little room."""
    look = [
        " ".join(name for name, where in (("n", numeric), ("wide", wide)) if place in where) or None
        for place in range(len(titles))
    ]
    columns = [
        at_the_point([str(row[place]) for row in rows], blank=FIGURE_SPACE)
        if place in numeric
        else [row[place] for row in rows]
        for place in range(len(titles))
    ]
    lines = [
        tag("tr", *(tag("td", column[line], class_=look[place]) for place, column in enumerate(columns)))
        for line in range(len(rows))
    ]
    head = tag("tr", *(tag("th", title, class_=look[place]) for place, title in enumerate(titles)))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *lines)), class_="scroll")


def models_section(figures: RunFigures) -> Markup | None:
    """What each model cost, dearest first."""
    if not figures.models:
        return None
    rows = [
        [
            row.model or "(none named)",
            count(row.tasks),
            count(row.total.tokens.input),
            count(row.total.tokens.output),
            amount(row.total.cost, complete=row.total.complete),
        ]
        for row in figures.models
    ]
    titles = ["model", "tasks", "in", "out", figures.currency]
    return tag("section", tag("h2", "Cost by model"), _table(titles, {1, 2, 3, 4}, rows, wide=set()))


def tasks_section(figures: RunFigures) -> Markup | None:
    """Every task, children of large ``for_each`` tasks in one row; of very many the rows that matter."""
    if not figures.tasks:
        return None
    shown_rows, rest = that_matter(rows_of(figures, at_most=_TASKS), _TASKS)
    shown = min(_OUTPUT, _OUTPUTS // len(figures.tasks))
    rows = [_task_cells(row, shown) for row in shown_rows]
    titles = ["task", "state", "model", "tries", "in", "out", figures.currency, "seconds", "output"]
    return tag(
        "section",
        tag("h2", "Cost by task"),
        _table(titles, {3, 4, 5, 6, 7}, rows, wide={2, 3, 4, 5, 8}),
        tag("p", f"Not shown: {left_out(rest)}.", class_="dim") if rest else None,
    )


def _task_cells(row: Row, shown: int) -> list[str | Markup]:
    total = row.total
    return [
        tag("span", row.label, class_="crit" if row.critical else None),
        tag("span", row.state, class_=f"one-state s-{row.state}")
        if row.state
        else states_in_words(task.state for task in row.tasks),
        row.model or UNKNOWN,
        count(row.attempts) if row.attempts else UNKNOWN,
        UNKNOWN if total is None else count(total.tokens.input),
        UNKNOWN if total is None else count(total.tokens.output),
        UNKNOWN if total is None else amount(total.cost, complete=total.complete),
        seconds(row.seconds),
        _output(row.tasks[0], shown) if len(row.tasks) == 1 else "",
    ]


def _output(task: TaskFigures, shown: int) -> str | Markup:
    if task.output is None:
        return ""
    text = as_text(task.output)
    if len(text) <= _PREVIEW or shown <= _PREVIEW:
        return shorten(text, min(_PREVIEW, shown))
    return tag("details", tag("summary", shorten(text, _PREVIEW)), tag("pre", _cut(text, shown)))


def _cut(text: str, at_most: int) -> str:
    if len(text) <= at_most:
        return printable(text)
    return f"{printable(text[:at_most])}\n... {len(text) - at_most:,} more characters"


def incidents_section(title: str, incidents: Sequence[Incident], *, what: str = "what happened") -> Markup | None:
    """Incidents of one kind, with the tasks they happened to."""
    if not incidents:
        return None
    rows = [[_long(incident.what), named(incident.tasks, _NAMES)] for incident in incidents[:_INCIDENTS]]
    more = incidents[_INCIDENTS:]
    rest = f"{plural(len(more), 'more cause')}, {plural(sum(len(item.tasks) for item in more), 'task')}"
    return tag(
        "section",
        tag("h2", title),
        _table([what, "tasks"], set(), rows, wide=set()),
        tag("p", rest, class_="dim") if more else None,
        class_="incidents",
    )


def _long(text: str) -> str | Markup:
    if len(text) <= 3 * _PREVIEW:
        return text
    return tag("details", tag("summary", shorten(text, 2 * _PREVIEW)), tag("pre", _cut(text, _OUTPUT)))


def compactions_section(figures: RunFigures) -> Markup | None:
    """What was left out of the views of tasks, by task."""
    compactions = figures.incidents.compactions
    if not compactions:
        return None
    head, middle, tail = cut_middle(compactions, _INCIDENTS)
    rows = [
        [
            item.task,
            ", ".join(item.strategy),
            count(item.times),
            count(item.tokens_before),
            count(item.tokens_after),
            count(item.evicted),
            count(item.clipped),
            count(item.recalls),
            UNKNOWN if item.summary == Usage() else amount(item.summary.cost),
        ]
        for item in (*head, *tail)
    ]
    titles = ["task", "strategy", "times", "tokens before", "after", "evicted", "clipped", "recalls"]
    titles.append(f"summary, {figures.currency}")
    return tag(
        "section",
        tag("h2", "Compactions"),
        _table(titles, {2, 3, 4, 5, 6, 7, 8}, rows, wide={1, 2, 5, 6, 7}),
        tag("p", f"{plural(len(middle), 'more task')} in between.", class_="dim") if middle else None,
    )


def path_section(figures: RunFigures) -> Markup | None:
    """The critical path step by step."""
    if not figures.path:
        return None
    head, middle, tail = cut_middle(figures.path, _STEPS)
    rows = [[step.task, seconds(step.waited), seconds(step.seconds), why_later(step)] for step in (*head, *tail)]
    return tag(
        "section",
        tag("h2", "Critical path"),
        _table(["task", "waited, s", "ran, s", "started"], {1, 2}, rows, wide={3}),
        tag("p", f"{plural(len(middle), 'more task')} in between.", class_="dim") if middle else None,
    )


def results_section(figures: RunFigures) -> Markup | None:
    """Outputs of tasks that no other task waits for, at more length than in the table."""
    results = results_of(figures)[-_INCIDENTS:]
    if not results:
        return None
    shown = min(_OUTPUT, _RESULTS // len(results))
    return tag(
        "section",
        tag("h2", "Results"),
        *(join(tag("p", tag("b", task.id)), tag("pre", _cut(as_text(task.output), shown))) for task in results),
    )

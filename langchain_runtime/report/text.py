"""The run report as plain text, for terminals and logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report.figures import RunFigures, TaskFigures
from langchain_runtime.report.formats import (
    SHOWN,
    UNKNOWN,
    amount,
    cells,
    count,
    duration,
    money,
    plural,
    seconds,
    shorten,
    shorten_id,
    spent_of_limit,
)
from langchain_runtime.report.incidents import CompactionFigures, Incident
from langchain_runtime.report.rows import Row, cut_middle, left_out, rows_of, states_in_words, that_matter
from langchain_runtime.report.table import Column, table
from langchain_runtime.report.timing import PathStep

# A report is read on a screen or two, however large the run: most rows of each section.
_TASKS: Final = 40
_TASKS_OF_MANY: Final = 24
"""Rows that are left of a table of more than ``_TASKS`` tasks."""
_MODELS: Final = 8
_INCIDENTS: Final = 4
_STEPS: Final = 8
_RESULTS: Final = 4

_BAR: Final = 24
_LABEL: Final = 10
_NARROWEST: Final = 40


def render_text(figures: RunFigures, width: int) -> str:
    """The report in lines of at most ``width`` columns (40 at least)."""
    width = max(width, _NARROWEST)
    incidents = figures.incidents
    sections = [
        _summary(figures),
        _tasks(figures, width),
        _models(figures, width),
        _incidents("errors", incidents.errors, width),
        _incidents("skipped", incidents.skips, width),
        _incidents("retries", incidents.retries, width),
        _incidents("warnings", incidents.warnings, width),
        _compactions(incidents.compactions),
        _path(figures, width),
        _results(figures, width),
    ]
    return "\n\n".join("\n".join(_clip(line, width) for line in lines) for lines in sections if lines)


def _summary(figures: RunFigures) -> list[str]:
    tokens = figures.usage.tokens
    facts = [
        ("run", f"{figures.id}  {figures.state}"),
        (
            "tasks",
            f"{len(figures.tasks):,}: {states_in_words(t.state for t in figures.tasks)}" if figures.tasks else "0",
        ),
        ("time", _time(figures)),
        ("tokens", f"{count(tokens.input)} in ({count(tokens.cache_read)} cached), {count(tokens.output)} out"),
        ("spent", spent_of_limit(figures.spent, figures.limit, figures.share, complete=figures.complete)),
    ]
    if figures.limit is None:
        facts.append(("", "no limit"))
    elif figures.share is not None:
        facts.append(("", budget_bar(figures)))
    facts.append(("held", f"{money(figures.held)}, forfeited {money(figures.forfeited)}"))
    lines = [f"{name:<{_LABEL}}{fact}" for name, fact in facts]
    if not figures.complete:
        lines.append(f"{'':<{_LABEL}}+ means at least: some calls have no known price")
    return lines


def _time(figures: RunFigures) -> str:
    if figures.duration is None:
        return "nothing was started"
    if figures.speedup is None:
        return duration(figures.duration)
    paused = f", paused {duration(figures.paused)}" if figures.paused else ""
    return f"{duration(figures.duration)}{paused}; tasks took {duration(figures.work)}, {figures.speedup:.1f} at a time"


def budget_bar(figures: RunFigures, width: int = _BAR) -> str:
    """``[####==------]``: spent, held, free."""
    limit = figures.limit.nano if figures.limit is not None else 1
    spent = min(width, round(width * (figures.share or 0.0)))
    held = min(width - spent, round(width * figures.held.nano / limit)) if figures.held is not None else 0
    return f"[{'#' * spent}{'=' * held}{'-' * (width - spent - held)}]"


def _tasks(figures: RunFigures, width: int) -> list[str]:
    if not figures.tasks:
        return []
    rows = rows_of(figures, at_most=_TASKS)
    shown, rest = that_matter(rows, _TASKS if len(figures.tasks) <= _TASKS else _TASKS_OF_MANY)
    columns = [
        Column("task", shrinks=True),
        Column("state"),
        Column("model", shrinks=True, optional=3),
        Column("tries", numeric=True, optional=2),
        Column("in", numeric=True, optional=1),
        Column("out", numeric=True, optional=1),
        Column(figures.currency, numeric=True),
        Column("seconds", numeric=True),
    ]
    lines = table(columns, [_task_cells(row) for row in shown], width)
    return [*lines, f"... {left_out(rest)}"] if rest else lines


def _task_cells(row: Row) -> list[str]:
    total = row.total
    return [
        f"{row.label}{' *' if row.critical else ''}",
        str(row.state or "mixed"),
        row.model or UNKNOWN,
        count(row.attempts) if row.attempts else UNKNOWN,
        UNKNOWN if total is None else count(total.tokens.input),
        UNKNOWN if total is None else count(total.tokens.output),
        UNKNOWN if total is None else amount(total.cost, complete=total.complete),
        seconds(row.seconds),
    ]


def _models(figures: RunFigures, width: int) -> list[str]:
    if not figures.models:
        return []
    columns = [
        Column("model", shrinks=True),
        Column("tasks", numeric=True),
        Column("in", numeric=True, optional=1),
        Column("out", numeric=True, optional=1),
        Column(figures.currency, numeric=True),
    ]
    shown = figures.models[:_MODELS]
    rows = [
        [
            row.model or "(none named)",
            count(row.tasks),
            count(row.total.tokens.input),
            count(row.total.tokens.output),
            amount(row.total.cost, complete=row.total.complete),
        ]
        for row in shown
    ]
    more = len(figures.models) - len(shown)
    return table(columns, rows, width) + ([f"... {plural(more, 'more model')}"] if more else [])


def _incidents(title: str, incidents: Sequence[Incident], width: int) -> list[str]:
    """Two lines for each: what happened, and to which tasks."""
    if not incidents:
        return []
    lines = [title]
    for incident in incidents[:_INCIDENTS]:
        lines += [f"  {shorten(incident.what, width - 2)}", f"    {named(incident.tasks, width - 4)}"]
    if rest := incidents[_INCIDENTS:]:
        tasks = sum(len(incident.tasks) for incident in rest)
        lines.append(f"  ... {plural(len(rest), 'more cause')}, {plural(tasks, 'task')}")
    return lines


def named(tasks: Sequence[str], width: int) -> str:
    """Names as far as they fit into ``width`` columns, then how many more there are."""
    if len(tasks) == 1:
        return shorten_id(tasks[0], width)
    text = shorten_id(tasks[0], max(4, width - len(_and_more(len(tasks)))))
    for place, task in enumerate(tasks[1:], start=1):
        longer = f"{text}, {task}"
        rest = len(tasks) - place - 1
        if len(longer) > width - (len(_and_more(rest)) if rest else 0):
            return text + _and_more(rest + 1)
        text = longer
    return text


def _and_more(number: int) -> str:
    return f" and {number:,} more"


def _compactions(compactions: Sequence[CompactionFigures]) -> list[str]:
    if not compactions:
        return []
    lines = [f"compactions: {sum(item.times for item in compactions):,}"]
    for item in compactions[:_INCIDENTS]:
        sizes = f"{count(item.tokens_before)} -> {count(item.tokens_after)} tokens"
        moved = f"{item.evicted:,} evicted, {item.clipped:,} clipped"
        lines.append(f"  {shorten_id(item.task, 24)}: {sizes} ({', '.join(item.strategy)}; {moved})")
        made_up_for = [plural(item.recalls, "recall")] if item.recalls else []
        if item.summary != Usage():
            made_up_for.append(f"summaries for {money(item.summary.cost)}")
        if made_up_for:
            lines.append(f"    {', '.join(made_up_for)}")
    if len(compactions) > _INCIDENTS:
        lines.append(f"  ... {plural(len(compactions) - _INCIDENTS, 'more task')}")
    return lines


def _path(figures: RunFigures, width: int) -> list[str]:
    if not figures.path:
        return []
    running = sum(step.seconds for step in figures.path)
    waiting = sum(step.waited for step in figures.path)
    waits = f" + {duration(waiting)} waiting" if waiting >= SHOWN else ""
    lines = [f"critical path (*): {plural(len(figures.path), 'task')}, {duration(running)}{waits}"]
    head, middle, tail = cut_middle(figures.path, _STEPS)
    rows = [[step.task, duration(step.seconds), why_later(step)] for step in (*head, *tail)]
    _, *steps = table([Column("", shrinks=True), Column(""), Column("", optional=1)], rows, width - 2)
    if middle:
        steps.insert(len(head), f"... {plural(len(middle), 'more task')}, {duration(sum(s.seconds for s in middle))}")
    return lines + [f"  {step}" for step in steps]


def why_later(step: PathStep) -> str:
    """What a step of the critical path waited for besides its dependencies; empty where for nothing."""
    queued = "in the slot of the task before" if step.queued else ""
    waited = f"after waiting {duration(step.waited)}" if step.waited >= SHOWN else ""
    return ", ".join(part for part in (queued, waited) if part)


def _results(figures: RunFigures, width: int) -> list[str]:
    """Outputs of tasks that no other task waits for."""
    shown = results_of(figures)
    if not shown:
        return []
    lines = ["results"]
    for task in shown[-_RESULTS:]:
        name = shorten_id(task.id, 24)
        lines.append(f"  {name}: {shorten(as_text(task.output), width - len(name) - 4)}")
    if len(shown) > _RESULTS:
        lines.insert(1, f"  ... {plural(len(shown) - _RESULTS, 'more result')}")
    return lines


def results_of(figures: RunFigures) -> list[TaskFigures]:
    """Completed tasks with an output that no other task waits for, in order of start."""
    wanted = {dep for task in figures.tasks for dep in task.deps}
    return [
        task
        for task in figures.tasks
        if task.state is TaskState.COMPLETED and task.output is not None and task.id not in wanted
    ]


def as_text(value: JsonValue) -> str:
    """A task's output as text: strings as they are, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _clip(line: str, width: int) -> str:
    # Lines that hold text of models were shortened to fit; here only our own words are left to cut.
    return line if cells(line) <= width else line[: width - 3] + "..."

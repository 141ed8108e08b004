"""Progress without a terminal: one line for each tenth of the tasks, and for each failure."""

from __future__ import annotations

from typing import Final

from langchain_runtime.contracts.events import LifecycleEvent, RunEnded, RunStarted, TaskFinished
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.report.formats import count, duration, money, one_line, plural, shorten, spent_of_limit
from langchain_runtime.report.progress import Progress
from langchain_runtime.report.progress_figures import ProgressFigures

_FAILURES: Final = 20
"""Failures that get a line of their own; more are only counted."""

_MESSAGE: Final = 200
"""Columns of an error's message."""


def plain_line(progress: Progress, event: LifecycleEvent, *, tenths: int) -> str | None:
    """What a log should say about ``event``; None for nothing.

    Args:
        progress: After it was fed ``event``.
        event: What happened.
        tenths: ``progress.tenths`` before that.

    Returns:
        One line, or two where a failure completes a tenth.
    """
    match event:
        case RunStarted():
            done = f", {event.finished:,} of them done before" if event.finished else ""
            limit = "no limit" if event.limit is None else f"limit {money(event.limit)}"
            return f"started: {plural(event.tasks, 'task')}{done}, {limit}"
        case RunEnded():
            reason = f" ({one_line(event.reason)})" if event.reason else ""
            return f"{event.state}{reason}: {status(progress.figures())}"
        case TaskFinished():
            lines = [_failure(progress, event)] if event.state is TaskState.FAILED else []
            if progress.tenths > tenths:
                figures = progress.figures()
                lines.append(f"{100 * figures.ended // (figures.total or 1):>3} %  {status(figures)}")
            return "\n".join(line for line in lines if line) or None
        case _:
            return None


def last_line(progress: Progress) -> str:
    """How the run stands when it is let go of: ended, or stopped for an answer or by an error."""
    figures = progress.figures()
    return f"{state_in_words(figures)}: {status(figures, over=True)}"


def state_in_words(figures: ProgressFigures) -> str:
    """The state of a run that nobody drives any more."""
    return str(figures.state) if figures.state is not RunState.RUNNING else "stopped before its end"


def _failure(progress: Progress, event: TaskFinished) -> str | None:
    if progress.failed > _FAILURES:
        return None
    why = f"[{event.error.code}] {event.error.message}" if event.error is not None else "no error was recorded"
    last = " (further failures are only counted)" if progress.failed == _FAILURES else ""
    return f"failed: {event.task}: {shorten(why, _MESSAGE)}{last}"


def status(figures: ProgressFigures, *, over: bool = False) -> str:
    """``36 of 120 tasks, 1 failed, 45,678 tokens, 0.12 of 0.50 USD (24.0 %), 45.2 s, about 1 min 45 s left``.

    A run that is ``over`` has no time left.
    """
    total = "" if figures.total is None else f" of {figures.total:,}"
    parts = [f"{figures.ended:,}{total} {'task' if (figures.total or figures.ended) == 1 else 'tasks'}"]
    parts += [
        f"{figures.states[state]:,} {state}" for state in (TaskState.FAILED, TaskState.SKIPPED) if figures.states[state]
    ]
    parts.append(f"{count(figures.tokens.total)} tokens")
    parts.append(spent_of_limit(figures.spent, figures.limit, figures.share, complete=figures.complete))
    parts.append(duration(figures.elapsed))
    if figures.eta and figures.state is RunState.RUNNING and not over:
        parts.append(f"about {duration(figures.eta)} left")
    return ", ".join(parts)

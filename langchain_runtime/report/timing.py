"""When tasks ran: spans, pauses between sittings, and the chain of tasks that determined the end of the run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import Task
from langchain_runtime.orchestration.sittings import pauses_between, promptly


@dataclass(frozen=True, slots=True)
class Span:
    """When a task ran: first start to final state, or to the last sign of life of a run that broke off."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length; 0 where clocks of two machines disagree."""
        return max(0.0, (self.end - self.start).total_seconds())


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since the first start, less the pauses between two sittings of a run.

    A run that was interrupted in the evening and resumed in the morning did not take a night.

    Attributes:
        origin: First start.
        pauses: Gaps in which no task ran, long ones only, in order.
    """

    origin: datetime
    pauses: tuple[Span, ...] = ()

    @classmethod
    def of(cls, spans: Iterable[Span], *, default: datetime) -> Clock:
        """The clock of tasks that ran in ``spans``; starts at ``default`` where none did."""
        known = list(spans)
        if not known:
            return cls(default)
        origin = min(span.start for span in known)

        def after(at: datetime) -> float:
            return (at - origin).total_seconds()

        pauses = pauses_between((after(span.start), after(span.end)) for span in known)
        return cls(
            origin,
            tuple(Span(origin + timedelta(seconds=start), origin + timedelta(seconds=end)) for start, end in pauses),
        )

    def seconds(self, at: datetime) -> float:
        """Seconds of work before ``at``; 0 before the first start."""
        paused = sum(Span(pause.start, min(pause.end, at)).seconds for pause in self.pauses)
        return max(0.0, (at - self.origin).total_seconds() - paused)


@dataclass(frozen=True, slots=True)
class PathStep:
    """One task on the critical path.

    Attributes:
        task: Its id.
        seconds: How long it ran.
        waited: Seconds between the end of the step before (the first start, for the first) and its own start.
        queued: It does not depend on the step before, but started when that one ended: it waited for its slot or money.
    """

    task: str
    seconds: float
    waited: float
    queued: bool = False


def spans_of(tasks: Mapping[str, Task], *, last_sign: datetime) -> dict[str, Span]:
    """When each task ran; tasks that never started are left out, and unfinished ones end at ``last_sign``."""
    return {
        task.id: Span(task.started_at, max(task.started_at, task.ended_at or last_sign))
        for task in tasks.values()
        if task.started_at is not None
    }


def parent_of(task_id: str) -> str | None:
    """The ``for_each`` task that ``task_id`` is a child of; None for other tasks."""
    parent, separator, _ = task_id.rpartition(CHILD_SEPARATOR)
    return parent if separator else None


def children_of(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The children of each ``for_each`` task that has any."""
    children: dict[str, list[str]] = {}
    for task in tasks:
        if (parent := parent_of(task)) is not None:
            children.setdefault(parent, []).append(task)
    return children


def critical_path(tasks: Mapping[str, Task], spans: Mapping[str, Span], clock: Clock) -> tuple[PathStep, ...]:
    """The path actually taken: the chain of tasks whose ends determined the end of the run.

    From the task that ended last, back over the dependency that ended last; where the task did not start then, back
    over the task that ended just before it started, since that one had its slot or its money. The seconds and waits of
    the steps add up to the run's duration. A ``for_each`` task is represented by its child that ended last.
    """
    children = children_of(spans)
    # In order of their ends, to find the one before a moment.
    ended = sorted((span.end, task) for task, span in spans.items() if task not in children)
    prompt = timedelta(seconds=promptly(clock.seconds(ended[-1][0]))) if ended else timedelta()
    path: list[tuple[str, bool]] = []
    seen: set[str] = set()
    latest, queued = (ended[-1][1] if ended else None), False
    while latest is not None:
        seen.add(latest)
        path.append((latest, queued))
        before = _last_dependency(latest, tasks, spans, children)
        latest, queued = (before if before not in seen else None), False
        ready = clock.origin if before is None else spans[before].end
        start = spans[path[-1][0]].start
        if start - ready > prompt:
            place = bisect_right(ended, start, key=lambda end: end[0]) - 1
            if place >= 0 and ended[place][0] - ready > prompt and ended[place][1] not in seen:
                latest, queued = ended[place][1], True
    return _steps(path, spans, clock)


def _last_dependency(
    task: str, tasks: Mapping[str, Task], spans: Mapping[str, Span], children: Mapping[str, list[str]]
) -> str | None:
    parent = tasks.get(parent_of(task) or "")
    deps = tasks[task].deps or ([] if parent is None else parent.deps)
    leaves = (leaf for dep in deps for leaf in children.get(dep, [dep]) if leaf in spans)
    return max(leaves, key=lambda leaf: (spans[leaf].end, leaf), default=None)


def _steps(path: Sequence[tuple[str, bool]], spans: Mapping[str, Span], clock: Clock) -> tuple[PathStep, ...]:
    """``path`` from its start on; each ``queued`` was noted at the step before the one it belongs to."""
    steps = []
    before = 0.0
    queued = False
    for task, next_queued in reversed(path):
        start, end = clock.seconds(spans[task].start), clock.seconds(spans[task].end)
        steps.append(PathStep(task, end - start, max(0.0, start - before), queued))
        before, queued = end, next_queued
    return tuple(steps)

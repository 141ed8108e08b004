"""What a finished run's record tells of its course: when each task had its turn, and how long that took.

A task ran from its first instruction to its last; its turn is longer. The executor needs time to hand over from one
task to the next, so each turn is taken to begin when it could have begun: when the last dependency had ended and a slot
was free. Turns played one after another then take as long as the run did, however short its tasks were.

Times are whole microseconds, as records have them, so that what happened together is played together.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import Run, Task
from langchain_runtime.orchestration.sittings import pauses_between, promptly

MICROSECONDS: Final = 1_000_000
"""In a second."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a task did with its slot; all times in microseconds.

    Attributes:
        sitting: In which execution of the run, from 0.
        lag: How long it had the slot before its body began: the executor's work, or attempts that failed.
        wait: How long it waited although a slot was free: for money, for its model, for an answer.
        lasted: How long its body took.
    """

    sitting: int
    lag: int
    wait: int
    lasted: int


@dataclass(frozen=True)
class Trace:
    """The course of a run.

    Attributes:
        run: Its record.
        turns: Of the tasks that ran, by id.
        lengths: Microseconds of each execution, from its first start to its last end.
        paused: Microseconds between them.
    """

    run: Run
    turns: Mapping[str, Turn]
    lengths: tuple[int, ...]
    paused: int

    @property
    def makespan(self) -> int:
        """Microseconds that the run took, pauses left out."""
        return sum(self.lengths)


def trace_of(run: Run) -> Trace:
    """Read the course of a run from its record.

    Raises:
        InvalidInputError: No task has times.
    """
    spans = _spans(run.tasks.values())
    if not spans:
        raise InvalidInputError(
            f"run {run.id!r} has no task with a start and an end, so there is nothing to replay",
            hint="ask about a run in which at least one task has ended",
        )
    pauses = pauses_between((start / MICROSECONDS, end / MICROSECONDS) for start, end in spans.values())
    begins = [0, *(round(end * MICROSECONDS) for _, end in pauses)]
    sittings = {task_id: bisect_right(begins, start) - 1 for task_id, (start, _) in spans.items()}
    members: list[dict[str, tuple[int, int]]] = [{} for _ in begins]
    for task_id, (start, end) in spans.items():
        begin = begins[sittings[task_id]]
        members[sittings[task_id]][task_id] = (start - begin, end - begin)
    lengths = tuple(max(end for _, end in each.values()) for each in members)
    late = round(promptly(sum(lengths) / MICROSECONDS) * MICROSECONDS)
    turns = {
        task_id: turn
        for number, each in enumerate(members)
        for task_id, turn in _turns(run, each, number, late=late).items()
    }
    paused = sum(after - begin - length for (begin, after), length in zip(pairwise(begins), lengths, strict=False))
    return Trace(run, turns, lengths, paused)


def _spans(tasks: Iterable[Task]) -> dict[str, tuple[int, int]]:
    """Start and end of every task that ran, in microseconds since the first start."""
    known = [(task.id, task.started_at, task.ended_at) for task in tasks if task.state.ended]
    times = [(task_id, start, end) for task_id, start, end in known if start is not None and end is not None]
    origin = min((start for _, start, _ in times), default=None)
    if origin is None:
        return {}
    return {
        task_id: (
            round((start - origin).total_seconds() * MICROSECONDS),
            # Clocks of two machines may disagree.
            round((max(start, end) - origin).total_seconds() * MICROSECONDS),
        )
        for task_id, start, end in times
    }


def _turns(run: Run, spans: Mapping[str, tuple[int, int]], sitting: int, *, late: int) -> dict[str, Turn]:
    """The turns of one execution's tasks, whose times count from its first start."""
    slots = _Slots(run.policy.max_parallelism)
    of_models = {
        model: _Slots(limits.parallelism)
        for model, limits in run.policy.per_model.items()
        if limits.parallelism is not None
    }
    turns: dict[str, Turn] = {}
    for task_id in sorted(spans, key=lambda task_id: (spans[task_id], task_id)):
        start, end = spans[task_id]
        task = run.tasks[task_id]
        needed: Sequence[_Slots] = [slots, *([of_models[task.model]] if task.model in of_models else [])]
        ready = max((spans[dep][1] for dep in _timed_deps(task, run) if dep in spans), default=0)
        start = max(start, min(ready, end))  # by another machine's clock it began before its dependencies had ended
        could = min(start, max(ready, *(each.free_since(start) for each in needed)))
        for each in needed:
            each.take(start, end)
        # Earlier attempts are not in the record; nobody else had the slot, so nothing else would have come of it.
        waited = start - could > late and task.attempts <= 1
        lag, wait = (0, start - could) if waited else (start - could, 0)
        turns[task_id] = Turn(sitting, lag, wait, end - start)
    return turns


def _timed_deps(task: Task, run: Run) -> Iterator[str]:
    """What the task waited for; in place of results that were written by hand, what these rest on."""
    waiting = list(task.deps)
    seen: set[str] = set()
    while waiting:
        dep = waiting.pop()
        if dep in seen or dep not in run.tasks:
            continue
        seen.add(dep)
        if run.tasks[dep].started_at is None:
            waiting += run.tasks[dep].deps
        else:
            yield dep


class _Slots:
    """Slots as tasks are seen to take them, the one that was free for longest first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ends: list[int] = []  # heap; one for each slot that was ever taken

    def free_since(self, start: int) -> int:
        """Since when a slot had been free for a task that started at ``start``, or then if none seems to have been."""
        too_many = len(self._ends) - self._count
        if too_many < 0:
            return 0
        return min(self._ends[0] if not too_many else heapq.nsmallest(too_many + 1, self._ends)[-1], start)

    def take(self, start: int, end: int) -> None:
        """A task ran; more at a time than there are slots are possible where records are inexact."""
        heapq.heappush(self._ends, end)
        while len(self._ends) > self._count and self._ends[0] <= start:
            heapq.heappop(self._ends)

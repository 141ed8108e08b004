"""A finished run, played again in virtual time: the real planner, the run's own turns, other settings.

A run of several executions is played as several: what one of them did not do, the next one does. The virtual clock
counts microseconds, see ``trace``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from langchain_runtime.contracts.run import DAG, ModelLimits, RetrySpec, RunPolicy, Task, TaskState
from langchain_runtime.orchestration.dependency_resolver import DependencyResolver
from langchain_runtime.orchestration.executor_protocol import Event, Grew, NewTask, Suspended, Throttled
from langchain_runtime.orchestration.forecast import Attempt, Span, simulate
from langchain_runtime.orchestration.parallel_executor import ParallelExecutor
from langchain_runtime.orchestration.trace import MICROSECONDS, Trace, Turn

_MILLISECONDS_A_TICK: Final = 1_000
"""By which the planner's milliseconds become what the virtual clock counts."""


@dataclass(frozen=True)
class Settings:
    """Under what a run is played.

    Attributes:
        max_parallelism: Tasks at a time.
        parallelism: Tasks at a time, by model; None or no entry for no limit.
        models: Model by task, where it is another than the run's.
        seconds: Duration of a task's body, where it is another than the run's.
    """

    max_parallelism: int
    parallelism: Mapping[str, int | None] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class Pace:
    """When models take calls: here, always. Times are seconds since the run's first start."""

    def governs(self, model: str | None) -> bool:  # noqa: ARG002 - for others
        """Whether it decides when calls of the model start: what they waited for in the run does not count then."""
        return False

    def closed_for(self, task_id: str, now: float) -> float:  # noqa: ARG002 - as above
        """Seconds until the task's model takes its call; 0 for at once."""
        return 0.0

    def started(self, task_id: str, now: float) -> None:
        """The task's call is made."""


@dataclass(frozen=True)
class Replayed:
    """How a replay went.

    Attributes:
        seconds: From the first start to the last end, pauses left out.
        path: The tasks that decided that, in order: each began when the one before it ended, which it depends on or
            had the slot from.
    """

    seconds: float
    path: tuple[str, ...]


def replay(
    trace: Trace, settings: Settings, *, expected_seconds: Mapping[str, float], pace: Pace | None = None
) -> Replayed:
    """Play a run again.

    Args:
        trace: Its course.
        settings: Under what.
        expected_seconds: By which its planner ordered ready tasks.
        pace: When models take calls.
    """
    graph = _Graph.of(trace)
    states: dict[str, TaskState] = {}
    ticks = 0
    path: list[str] = []
    for number in range(len(trace.lengths)):
        sitting = _Sitting(trace, graph, settings, pace or Pace(), states, number, ticks)
        spans = sitting.play(expected_seconds)
        ticks += max((round(span.ended) for span in spans.values()), default=0)
        path += _path(spans, trace)
    return Replayed(ticks / MICROSECONDS, tuple(path))


@dataclass(frozen=True)
class _Graph:
    """The tasks that were in the run from the start, and those that joined it.

    Attributes:
        dag: Of the former.
        added: Tasks that joined, by the task that they come from, in the order of joining.
        deps: What each task waits for, as far as it did.
    """

    dag: DAG
    added: Mapping[str, list[str]]
    deps: Mapping[str, list[str]]

    @classmethod
    def of(cls, trace: Trace) -> _Graph:
        tasks = trace.run.tasks
        added: dict[str, list[str]] = {}
        for task in tasks.values():
            if task.added_by in tasks:
                added.setdefault(str(task.added_by), []).append(task.id)
        joined = {task_id for each in added.values() for task_id in each}
        deps = {task.id: [dep for dep in task.deps if _had_ended(trace, dep, task)] for task in tasks.values()}
        drawn = [
            Task(id=task_id, deps=[dep for dep in needed if dep not in joined])
            for task_id, needed in deps.items()
            if task_id not in joined
        ]
        return cls(DependencyResolver().build(drawn), added, deps)


def _had_ended(trace: Trace, dep: str, task: Task) -> bool:
    """Whether a task that ran can be seen to have waited for ``dep``: results may be edited, clocks may disagree."""
    if task.id not in trace.turns:
        return dep in trace.run.tasks
    if dep not in trace.run.tasks or trace.run.tasks[dep].state is not TaskState.COMPLETED:
        return False
    return dep not in trace.turns or trace.turns[dep].sitting <= trace.turns[task.id].sitting


@dataclass
class _Sitting:
    """One execution of a run, played.

    Attributes:
        trace: The run's course.
        graph: Its tasks.
        settings: Under what it is played.
        pace: When models take calls.
        states: How tasks ended in the executions before; brought up to date by ``play``.
        number: Of this execution.
        begun: Ticks that the executions before took.
    """

    trace: Trace
    graph: _Graph
    settings: Settings
    pace: Pace
    states: dict[str, TaskState]
    number: int
    begun: int
    _joined: set[str] = field(init=False)
    _planner: ParallelExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._joined = set(self.graph.dag.nodes)

    def play(self, expected_seconds: Mapping[str, float]) -> dict[str, Span]:
        """Play it; returns when the tasks ran that had their turns in it, in the order of their ends."""
        self._planner = ParallelExecutor(
            self.graph.dag,
            policy=RunPolicy(
                max_parallelism=self.settings.max_parallelism,
                per_model={model: ModelLimits(parallelism=count) for model, count in self.settings.parallelism.items()},
            ),
            models={task_id: self._model(task_id) for task_id in self.graph.dag.nodes},
            retries={
                task_id: once for task_id in self.graph.dag.nodes if (once := self._patience(task_id)) is not None
            },
            expected_seconds={
                task_id: seconds for task_id, seconds in expected_seconds.items() if task_id in self.graph.dag.nodes
            },
            priorities={task_id: self.trace.run.tasks[task_id].priority for task_id in self.graph.dag.nodes},
            completed=self._earlier(TaskState.COMPLETED),
            failed=self._earlier(TaskState.FAILED),
            skipped=self._earlier(TaskState.SKIPPED),
            random=lambda: 1.0,  # the whole of each wait
        )
        for parent in self.graph.added:
            self._rejoin(parent)
        forecast = simulate(self._planner, self._attempt, obstacle=self._obstacle)
        self.states.update({task_id: state for task_id, state in self._planner.states.items() if state.ended})
        last: dict[str, Span] = {}
        for span in forecast.spans:
            if span.task_id in self.trace.turns:
                last.pop(span.task_id, None)
                last[span.task_id] = span
        return last

    def _earlier(self, state: TaskState) -> list[str]:
        return [task_id for task_id in self.graph.dag.nodes if self.states.get(task_id) is state]

    # --- what the planner is told ------------------------------------------------------------------------------------

    def _obstacle(self, task_id: str, now: float) -> Event | None:
        if children := self._open_children(task_id):
            return Grew(now, tuple(self._join(children)), task_id, parent_waits=True)
        turn = self.trace.turns.get(task_id)
        if turn is None and self.trace.run.tasks[task_id].state not in {TaskState.COMPLETED, TaskState.SKIPPED}:
            return Suspended(task_id, now)  # it never ran
        if turn is not None and turn.sitting != self.number:
            return Suspended(task_id, now)
        seconds = self.pace.closed_for(task_id, self._seconds(now))
        if seconds > 0:
            return Throttled(task_id, now, now + max(1, round(seconds * MICROSECONDS)))
        self.pace.started(task_id, self._seconds(now))
        self._grow(task_id, now)
        return None

    def _attempt(self, task_id: str, number: int) -> Attempt:
        turn = self.trace.turns.get(task_id)
        state = self.trace.run.tasks[task_id].state
        if turn is None:  # its condition did not hold, or its result was written by hand
            return Attempt(0, state)
        if number == 1 and self._wait(task_id, turn):
            return Attempt(0, TaskState.FAILED, retryable=True)  # gives its slot back and waits
        seconds = self.settings.seconds.get(task_id)
        lasted = turn.lasted if seconds is None else round(seconds * MICROSECONDS)
        return Attempt(turn.lag + lasted, state)

    def _seconds(self, now: float) -> float:
        return (self.begun + now) / MICROSECONDS

    def _model(self, task_id: str) -> str | None:
        return self.settings.models.get(task_id, self.trace.run.tasks[task_id].model)

    def _patience(self, task_id: str) -> RetrySpec | None:
        """As the planner sees it, a task that waited without a slot backs off once."""
        turn = self.trace.turns.get(task_id)
        wait = 0 if turn is None else self._wait(task_id, turn)
        interval = wait * _MILLISECONDS_A_TICK
        return RetrySpec(max_attempts=2, initial_interval_ms=interval, max_interval_ms=interval) if wait else None

    def _wait(self, task_id: str, turn: Turn) -> int:
        return 0 if self.pace.governs(self._model(task_id)) else turn.wait

    # --- growth ------------------------------------------------------------------------------------------------------

    def _open_children(self, task_id: str) -> list[str]:
        """Children of a ``for_each`` task, for which it waits, that are not in the run yet."""
        deps = set(self.graph.deps[task_id])
        return [each for each in self.graph.added.get(task_id, ()) if each in deps and each not in self._joined]

    def _grow(self, task_id: str, now: float) -> None:
        """Let what the task's body enqueued join as soon as it starts: it waits for the task's end in any case."""
        enqueued = [each for each in self.graph.added.get(task_id, ()) if each not in self._joined]
        if enqueued:
            self._planner.next(Grew(now, tuple(self._join(enqueued)), task_id))

    def _rejoin(self, parent: str) -> None:
        """Let everything join that had joined in an earlier execution, as a resumed run does."""
        if parent not in self._joined:
            return
        over = parent in self.states
        back = [each for each in self.graph.added[parent] if each in self.states or over]
        if back:
            self._planner.next(Grew(-math.inf, tuple(self._join(back)), parent))

    def _join(self, task_ids: list[str]) -> Iterator[NewTask]:
        for task_id in task_ids:
            self._joined.add(task_id)
            yield NewTask(
                task_id,
                deps=tuple(self.graph.deps[task_id]),
                state=self.states.get(task_id, TaskState.PENDING),
                model=self._model(task_id),
                retry=self._patience(task_id),
            )


def _path(spans: dict[str, Span], trace: Trace) -> list[str]:
    """The chain that decided when the last task ended."""
    order = {task_id: place for place, task_id in enumerate(spans)}
    ending: dict[float, list[str]] = {}
    for task_id, span in spans.items():
        ending.setdefault(span.ended, []).append(task_id)

    def before(task_id: str) -> str | None:
        deps = [dep for dep in trace.run.tasks[task_id].deps if order.get(dep, math.inf) < order[task_id]]
        last = max(deps, key=lambda dep: (spans[dep].ended, order[dep]), default=None)
        start = spans[task_id].started
        if last is not None and spans[last].ended >= start:
            return last
        had_the_slot = [each for each in ending.get(start, ()) if order[each] < order[task_id]]
        return had_the_slot[-1] if had_the_slot else last

    path: list[str] = [next(reversed(spans))] if spans else []
    while path and (previous := before(path[-1])) is not None:
        path.append(previous)
    return path[::-1]

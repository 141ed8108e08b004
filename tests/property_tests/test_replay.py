"""Runs that were planned in virtual time, recorded, and played again: the replay must be the run."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_runtime.contracts.run import ModelLimits, Run, RunPolicy, RunState, Task, TaskState
from langchain_runtime.orchestration import (
    Attempt,
    DependencyResolver,
    Grew,
    NewTask,
    ParallelExecutor,
    Span,
    simulate,
)
from langchain_runtime.orchestration.replay import Settings, replay
from langchain_runtime.orchestration.trace import MICROSECONDS, trace_of

T0 = datetime(2026, 11, 23, tzinfo=UTC)
MODELS = ("fast", "slow", None)
SECONDS = st.sampled_from([0.0, 0.25, 1.0, 1.5, 4.0])
ENDS = st.one_of(
    *[st.builds(Attempt, SECONDS)] * 6,
    st.builds(Attempt, SECONDS, st.just(TaskState.FAILED)),
    st.just(Attempt(0.0, TaskState.SKIPPED)),  # no condition takes long
)


@dataclass
class Drawn:
    """One task: what it waits for, does, and adds to its run."""

    id: str
    deps: list[str]
    does: Attempt
    model: str | None
    priority: int
    expected: float | None
    children: int | None = None
    enqueues: int = 0


@dataclass
class Course:
    """A run in the making, driven as real ones are: children join when their task starts, the others at its end."""

    tasks: dict[str, Drawn]
    policy: RunPolicy
    added: dict[str, NewTask] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)

    def record(self) -> Run:
        dag = DependencyResolver().build([Task(id=each.id, deps=each.deps) for each in self.tasks.values()])
        self.planner = ParallelExecutor(
            dag,
            policy=self.policy,
            models={task_id: each.model for task_id, each in self.tasks.items()},
            expected_seconds={task_id: e.expected for task_id, e in self.tasks.items() if e.expected is not None},
            priorities={task_id: each.priority for task_id, each in self.tasks.items()},
        )
        self.forecast = simulate(self.planner, self.attempt, obstacle=self.expand, on_end=self.ended)
        return Run(
            id="r",
            state=self.forecast.state,
            policy=self.policy,
            tasks={task_id: self.task(task_id) for task_id in [*self.tasks, *self.added]},
        )

    def origin(self, task_id: str) -> Drawn:
        while task_id in self.parents:
            task_id = self.parents[task_id]
        return self.tasks[task_id]

    def attempt(self, task_id: str, _number: int) -> Attempt:
        drawn = self.origin(task_id)
        gathers = task_id in self.tasks and drawn.children is not None and task_id in self.parents.values()
        return Attempt(0.0) if gathers else drawn.does

    def expand(self, task_id: str, now: float) -> Grew | None:
        drawn = self.tasks.get(task_id)
        if drawn is None or drawn.children is None or f"{task_id}#0" in self.added:
            return None
        children = [NewTask(f"{task_id}#{i}", tuple(drawn.deps), model=drawn.model) for i in range(drawn.children)]
        return Grew(now, self.join(children, task_id), task_id, parent_waits=True) if children else None

    def ended(self, span: Span) -> None:
        self.spans[span.task_id] = span
        drawn = self.tasks.get(span.task_id)
        if drawn is None or not drawn.enqueues or span.state is not TaskState.COMPLETED:
            return
        new = [NewTask(f"{drawn.id}-{i}", (drawn.id,), model=drawn.model) for i in range(drawn.enqueues)]
        new[-1] = NewTask(new[-1].task_id, (drawn.id, *(each.task_id for each in new[:-1])), model=drawn.model)
        self.planner.next(Grew(span.ended, self.join(new, drawn.id), drawn.id))

    def join(self, new: list[NewTask], parent: str) -> tuple[NewTask, ...]:
        self.added.update({each.task_id: each for each in new})
        self.parents.update({each.task_id: parent for each in new})
        return tuple(new)

    def task(self, task_id: str) -> Task:
        span, drawn = self.spans.get(task_id), self.tasks.get(task_id)
        state = self.planner.states[task_id]
        ran = span is not None and state is not TaskState.SKIPPED
        own = self.added[task_id].deps if drawn is None else drawn.deps
        children = [each for each, parent in self.parents.items() if parent == task_id and "#" in each]
        return Task(
            id=task_id,
            state=state,
            deps=[*own, *children],
            model=self.origin(task_id).model,
            priority=0 if drawn is None else drawn.priority,
            expected_seconds=None if drawn is None else drawn.expected,
            attempts=int(ran),
            started_at=T0 + timedelta(seconds=span.started) if ran else None,
            ended_at=T0 + timedelta(seconds=span.ended) if ran else None,
            added_by=self.parents.get(task_id),
        )


@st.composite
def courses(draw, *, growing: bool) -> Course:
    ids = draw(st.permutations([f"t{i}" for i in range(draw(st.integers(1, 12)))]))
    tasks = {}
    for at, task_id in enumerate(ids):
        deps = draw(st.lists(st.sampled_from(ids[:at]), max_size=3, unique=True)) if at else []
        drawn = Drawn(
            id=task_id,
            deps=deps,
            does=draw(ENDS),
            model=draw(st.sampled_from(MODELS)),
            priority=draw(st.integers(-1, 1)),
            expected=draw(st.none() | SECONDS),
        )
        if growing:
            drawn.children = draw(st.none() | st.integers(1, 4))
            drawn.enqueues = 0 if drawn.children else draw(st.integers(0, 3))
        tasks[task_id] = drawn
    limits = st.builds(ModelLimits, parallelism=st.none() | st.integers(1, 2))
    return Course(
        tasks,
        RunPolicy(max_parallelism=draw(st.integers(1, 4)), per_model={"fast": draw(limits), "slow": draw(limits)}),
    )


def played(run: Run, **changes):
    expected = {task.id: task.expected_seconds for task in run.tasks.values() if task.expected_seconds is not None}
    limits = {model: each.parallelism for model, each in run.policy.per_model.items()}
    return replay(
        trace_of(run),
        Settings(**{"max_parallelism": run.policy.max_parallelism, "parallelism": limits, **changes}),
        expected_seconds=expected,
    )


def ran(run: Run) -> bool:
    return any(task.started_at is not None for task in run.tasks.values())


@given(courses(growing=False) | courses(growing=True))
@settings(max_examples=300, deadline=None)
def test_under_its_own_settings_a_replay_is_the_run(course):
    run = course.record()
    if ran(run):
        spans = [span for task_id, span in course.spans.items() if run.tasks[task_id].started_at is not None]
        length = max(span.ended for span in spans) - min(span.started for span in spans)
        trace = trace_of(run)
        assert trace.makespan == round(length * MICROSECONDS)
        assert played(run).seconds == length
        assert not any(turn.lag or turn.wait for turn in trace.turns.values())


@given(courses(growing=False) | courses(growing=True), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_with_other_parallelism_a_replay_is_the_run_that_would_have_been(course, slots):
    run = course.record()
    other = Course(course.tasks, course.policy.model_copy(update={"max_parallelism": slots}))
    there = other.record()
    if ran(run) and run.state is RunState.COMPLETED:
        assert played(run, max_parallelism=slots).seconds == trace_of(there).makespan / MICROSECONDS


@given(courses(growing=True))
@settings(max_examples=100, deadline=None)
def test_the_path_ends_with_the_run_and_each_step_waits_for_the_one_before(course):
    run = course.record()
    if ran(run):
        path = played(run).path
        assert len(set(path)) == len(path)
        last = max(run.tasks[each].ended_at for each in path)
        assert last == max(task.ended_at for task in run.tasks.values() if task.ended_at is not None)
        for before, after in pairwise(path):
            assert run.tasks[before].ended_at <= run.tasks[after].started_at

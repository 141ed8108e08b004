"""Whole runs of random graphs in virtual time: what holds whatever happens."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.run import DAG, ModelLimits, RetrySpec, RunPolicy, RunState, Task, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Attempt,
    Begin,
    Cancel,
    DependencyResolver,
    Ended,
    Forecast,
    ParallelExecutor,
    Scheduler,
    Start,
    simulate,
    topological_order,
)

MODELS = ("fast", "slow", None)
CONTINUE = st.just("continue")
FAIL_FAST = st.just("fail_fast")


@dataclass(frozen=True)
class Case:
    """A graph, how it is run, and what each of its attempts will do."""

    deps: dict[str, list[str]]
    policy: RunPolicy
    models: dict[str, str | None]
    expected: dict[str, float]
    priorities: dict[str, int]
    attempts: dict[str, list[Attempt]]

    @property
    def dag(self) -> DAG:
        return DependencyResolver().build([Task(id=task_id, deps=deps) for task_id, deps in self.deps.items()])

    def planner(self, **earlier) -> ParallelExecutor:
        return ParallelExecutor(
            self.dag,
            policy=self.policy,
            models=self.models,
            expected_seconds=self.expected,
            priorities=self.priorities,
            random=Random(1).random,
            **earlier,
        )

    def forecast(self) -> Forecast:
        return simulate(self.planner(), lambda task_id, number: self.attempts[task_id][number - 1])

    def downstream(self, roots: set[str]) -> set[str]:
        reached = set(roots)
        for task_id in topological_order(self.dag):
            if reached & set(self.deps[task_id]):
                reached.add(task_id)
        return reached - roots


SECONDS = st.sampled_from([0.0, 0.25, 1.0, 1.5, 4.0])


@st.composite
def cases(draw, *, failures=True, failure_policy=CONTINUE, ceilings=True) -> Case:
    size = draw(st.integers(0, 14))
    ids = draw(st.permutations([f"t{i}" for i in range(size)]))
    deps = {
        task_id: draw(st.lists(st.sampled_from(ids[:at]), max_size=3, unique=True)) if at else []
        for at, task_id in enumerate(ids)
    }
    max_attempts = draw(st.integers(1, 3)) if failures else 1
    ends = st.builds(
        Attempt,
        SECONDS,
        st.sampled_from([TaskState.COMPLETED] * 4 + [TaskState.FAILED] * 2 + [TaskState.SKIPPED]),
        st.booleans(),
    )
    limits = st.builds(ModelLimits, parallelism=st.none() | st.integers(1, 2))
    return Case(
        deps=dict(draw(st.permutations(list(deps.items())))),
        policy=RunPolicy(
            max_parallelism=draw(st.integers(1, 4)),
            on_task_failure=draw(failure_policy),
            retry=RetrySpec(max_attempts=max_attempts, initial_interval_ms=draw(st.sampled_from([0, 300]))),
            per_model=draw(st.dictionaries(st.sampled_from(["fast", "slow"]), limits)) if ceilings else {},
        ),
        models={task_id: draw(st.sampled_from(MODELS)) for task_id in ids},
        expected=draw(st.dictionaries(st.sampled_from(ids), SECONDS)) if ids else {},
        priorities=draw(st.dictionaries(st.sampled_from(ids), st.integers(-2, 2))) if ids else {},
        attempts={
            task_id: [draw(ends if failures else st.builds(Attempt, SECONDS)) for _ in range(max_attempts)]
            for task_id in ids
        },
    )


ANY_CASE = cases(failure_policy=CONTINUE | FAIL_FAST)


def peak(spans) -> int:
    """Most spans at a time; a span that ends when another starts does not overlap it."""
    changes = sorted([(span.ended, -1) for span in spans if span.ended > span.started]
                     + [(span.started, 1) for span in spans if span.ended > span.started])  # fmt: skip
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


@given(ANY_CASE)
def test_no_task_starts_before_its_dependencies_completed(case):
    completed = {}
    spans = case.forecast().spans
    for span in spans:
        if span.state is TaskState.COMPLETED:
            completed[span.task_id] = span.ended
    assert all(completed[dep] <= span.started for span in spans for dep in case.deps[span.task_id])


@given(ANY_CASE)
def test_slots_of_the_run_and_of_each_model_are_never_exceeded(case):
    spans = case.forecast().spans
    assert peak(spans) <= case.policy.max_parallelism
    for model, limits in case.policy.per_model.items():
        if limits.parallelism is not None:
            assert peak([span for span in spans if case.models[span.task_id] == model]) <= limits.parallelism


@given(ANY_CASE)
def test_every_run_ends_and_says_how(case):
    run = case.planner()
    forecast = simulate(run, lambda task_id, number: case.attempts[task_id][number - 1])
    failed = TaskState.FAILED in run.states.values()
    assert forecast.state is (RunState.FAILED if failed else RunState.COMPLETED)
    assert run.running == frozenset()
    if case.policy.on_task_failure == "continue" or not failed:
        assert all(state.ended for state in run.states.values())


@given(ANY_CASE)
def test_each_task_is_tried_at_most_as_often_as_allowed_and_never_after_it_ended_well(case):
    tried: dict[str, list] = {}
    for span in case.forecast().spans:
        tried.setdefault(span.task_id, []).append(span)
    for spans in tried.values():
        assert [span.attempt for span in spans] == list(range(1, len(spans) + 1))
        assert len(spans) <= case.policy.retry.max_attempts
        assert all(span.state is TaskState.FAILED for span in spans[:-1])
        assert all(earlier.ended <= later.started for earlier, later in pairwise(spans))


@given(cases())
def test_skipped_tasks_are_exactly_those_downstream_and_name_a_root_cause(case):
    run = case.planner()
    forecast = simulate(run, lambda task_id, number: case.attempts[task_id][number - 1])
    ran = {span.task_id: span.state for span in forecast.spans}  # the last attempt counts
    roots = {task_id for task_id, state in ran.items() if state is not TaskState.COMPLETED}
    assert set(forecast.skipped) == case.downstream(roots)
    assert all(cause in roots and task_id in case.downstream({cause}) for task_id, cause in forecast.skipped.items())


@given(cases(failure_policy=FAIL_FAST))
def test_failing_fast_starts_nothing_after_the_first_final_failure(case):
    run = case.planner()
    forecast = simulate(run, lambda task_id, number: case.attempts[task_id][number - 1])
    if forecast.state is RunState.FAILED:
        assert all(span.started <= forecast.makespan for span in forecast.spans)
        assert forecast.spans[-1].ended == forecast.makespan
        assert TaskState.READY not in run.states.values()


@given(ANY_CASE)
def test_the_same_case_is_always_run_the_same_way(case):
    assert case.forecast() == case.forecast()


@given(ANY_CASE, st.randoms(use_true_random=False))
def test_the_order_in_which_tasks_were_declared_does_not_matter(case, shuffler):
    items = list(case.deps.items())
    shuffler.shuffle(items)
    shuffled = Case(dict(items), case.policy, case.models, case.expected, case.priorities, case.attempts)
    assert shuffled.forecast().spans == case.forecast().spans


@given(cases(failures=False, ceilings=False))
def test_makespan_keeps_grahams_bound_for_list_schedules(case):
    """Makespan <= work/m + (1 - 1/m) critical path (Bounds for Certain Multiprocessing Anomalies, 1966)."""
    seconds = {task_id: attempts[0].seconds for task_id, attempts in case.attempts.items()}
    slots = case.policy.max_parallelism
    longest = Scheduler(case.dag, expected_seconds=seconds).critical_path().seconds
    makespan = case.forecast().makespan
    assert max(longest, sum(seconds.values()) / slots) <= makespan + 1e-9
    assert makespan <= sum(seconds.values()) / slots + (1 - 1 / slots) * longest + 1e-9


@given(cases())
def test_ready_order_is_by_path_then_priority_then_id(case):
    scheduler = Scheduler(case.dag, expected_seconds=dict.fromkeys(case.deps, 1.0), priorities=case.priorities)
    following = {task_id: node.next for task_id, node in case.dag.nodes.items()}

    @cache
    def remaining(task_id: str) -> int:
        return 1 + max(map(remaining, following[task_id]), default=0)

    expected = sorted(
        (task_id for task_id, deps in case.deps.items() if not deps),
        key=lambda task_id: (-remaining(task_id), -case.priorities.get(task_id, 0), int(task_id[1:])),
    )
    assert scheduler.next_ready() == expected


@given(cases(failures=False), st.integers(0, 20))
def test_an_aborted_run_resumes_where_it_was(case, aborted_after):
    first, started = case.planner(), []
    answer = first.next(Begin(0.0))
    for _ in range(aborted_after):
        started += [action.task_id for action in answer if isinstance(action, Start)]
        if running := [task_id for task_id in started if task_id in first.running]:
            answer = first.next(Ended(running[0], 0.0, TaskState.COMPLETED))
    for action in first.next(Abort(0.0)):
        if isinstance(action, Cancel):
            first.next(Ended(action.task_id, 0.0, TaskState.FAILED))
    done = {task_id for task_id, state in first.states.items() if state is TaskState.COMPLETED}
    assert len(done) == min(aborted_after, len(case.deps))

    second = case.planner(completed=done)
    forecast = simulate(second, lambda task_id, _: case.attempts[task_id][0])
    assert forecast.state is RunState.COMPLETED
    assert sorted(span.task_id for span in forecast.spans) == sorted(set(case.deps) - done)

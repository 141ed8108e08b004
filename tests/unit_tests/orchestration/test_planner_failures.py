"""Failures: skipping, failing fast, trying again, and failures of an earlier driver."""

import pytest

from langchain_runtime.contracts.errors import TaskNotReadyError
from langchain_runtime.contracts.run import RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Attempt,
    Begin,
    Cancel,
    Drain,
    Ended,
    Finish,
    ParallelExecutor,
    Skip,
    Sleep,
    Start,
    Tick,
    simulate,
)

COMPLETED, FAILED, SKIPPED = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED
CHAIN = {"a": [], "b": ["a"], "c": ["b"]}


# --- skipping --------------------------------------------------------------------------------------------------------


def test_dependents_of_a_failure_are_skipped_and_name_it_R8(planner):
    """The earlier implementation left C pending; here a run says what became of every task it will not reach."""
    run = planner({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    run.next(Begin(0))
    run.next(Ended("a", 1, COMPLETED))
    assert run.next(Ended("b", 2, FAILED)) == [Skip("c", "b"), Skip("d", "b"), Finish(RunState.FAILED)]
    assert run.states == {"a": COMPLETED, "b": FAILED, "c": SKIPPED, "d": SKIPPED}


def test_everything_that_is_not_downstream_still_runs_Z11(planner):
    run = planner({"a": [], "a2": ["a"], "b": [], "b2": ["b"]}, max_parallelism=1)
    forecast = simulate(run, lambda task_id, _: Attempt(1, FAILED if task_id == "a" else COMPLETED))
    assert [span.task_id for span in forecast.spans] == ["a", "b", "b2"]
    assert forecast.skipped == {"a2": "a"}
    assert forecast.state is RunState.FAILED


@pytest.mark.parametrize(
    ("failing", "finished"), [pytest.param("a", {"b", "c"}, id="Z1"), pytest.param("c", {"a", "b"}, id="Z2")]
)
def test_siblings_of_a_failure_keep_their_results(planner, failing, finished):
    run = planner({"a": [], "b": [], "c": []})
    simulate(run, lambda task_id, _: Attempt(1, FAILED if task_id == failing else COMPLETED))
    assert {task_id for task_id, state in run.states.items() if state is COMPLETED} == finished


def test_task_downstream_of_two_failures_names_the_first(planner):
    run = planner({"a": [], "b": [], "c": ["a", "b"]})
    run.next(Begin(0))
    assert run.next(Ended("b", 1, FAILED)) == [Skip("c", "b")]
    assert run.next(Ended("a", 2, FAILED)) == [Finish(RunState.FAILED)]


def test_false_condition_skips_dependents_but_is_no_failure(planner):
    run = planner(CHAIN)
    run.next(Begin(0))
    assert run.next(Ended("a", 1, SKIPPED)) == [Skip("b", "a"), Skip("c", "a"), Finish(RunState.COMPLETED)]


def test_driver_may_name_another_root_cause(planner):
    run = planner({"map#0": [], "b": ["map#0"]})
    run.next(Begin(0))
    assert run.next(Ended("map#0", 1, FAILED, because="map"))[0] == Skip("b", "map")


# --- failing fast ----------------------------------------------------------------------------------------------------


def test_failing_fast_cancels_what_runs_and_starts_nothing_more(planner):
    deps = {"a": [], "b": [], "c": [], "a2": ["a"], "b2": ["b"], "b3": ["b"]}
    run = planner(deps, on_task_failure="fail_fast", max_parallelism=2)
    assert run.next(Begin(0)) == [Start("a", 1), Start("b", 1)]
    assert run.next(Ended("a", 1, FAILED)) == [Cancel("b", "fail_fast"), Skip("a2", "a")]
    assert run.next(Tick(1.5)) == []
    assert run.next(Ended("b", 2, FAILED, retryable=True)) == [Finish(RunState.FAILED)]
    assert run.states == {
        "a": FAILED,
        "b": FAILED,
        "c": TaskState.PENDING,
        "a2": SKIPPED,
        "b2": TaskState.PENDING,
        "b3": TaskState.PENDING,
    }


def test_cancelled_sibling_that_still_finishes_keeps_its_result_Z1_Z2(planner):
    run = planner({"a": [], "b": [], "b2": ["b"]}, on_task_failure="fail_fast")
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED))
    assert run.next(Ended("b", 1, COMPLETED)) == [Finish(RunState.FAILED)]
    assert run.states == {"a": FAILED, "b": COMPLETED, "b2": TaskState.PENDING}


def test_failing_fast_waits_for_the_last_attempt(planner):
    run = planner(
        {"a": [], "b": []}, on_task_failure="fail_fast", retry=RetrySpec(max_attempts=2, initial_interval_ms=0)
    )
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, retryable=True)) == [Start("a", 2)]
    assert run.next(Ended("a", 2, FAILED, retryable=True)) == [Cancel("b", "fail_fast")]


def test_abort_after_failing_fast_cancels_nobody_twice(planner):
    run = planner({"a": [], "b": []}, on_task_failure="fail_fast")
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED))
    assert run.next(Abort(2)) == []
    assert run.next(Ended("b", 3, FAILED)) == [Finish(RunState.FAILED)]


# --- trying again ----------------------------------------------------------------------------------------------------


def test_failed_attempt_gives_its_slot_back_and_waits(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    assert run.next(Ended("a", 10, FAILED, retryable=True)) == [Start("b", 1), Sleep(11.0)]
    assert run.states["a"] is TaskState.READY
    assert run.backing_off == {"a": 11.0}
    assert run.next(Ended("b", 10.5, COMPLETED)) == [Sleep(11.0)]
    assert run.next(Tick(11.0)) == [Start("a", 2)]
    assert run.backing_off == {}
    assert run.next(Ended("a", 12, COMPLETED)) == [Finish(RunState.COMPLETED)]
    assert run.attempts == {"a": 2, "b": 1}


def test_early_tick_starts_nothing(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    run.next(Ended("a", 0, FAILED, retryable=True))
    assert run.next(Tick(0.999)) == [Sleep(1.0)]


def test_failure_that_is_not_retryable_is_final(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=5))
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED)) == [Finish(RunState.FAILED)]


def test_last_attempt_is_final(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=3, initial_interval_ms=0))
    forecast = simulate(run, lambda *_: Attempt(1, FAILED, retryable=True))
    assert [span.attempt for span in forecast.spans] == [1, 2, 3]
    assert forecast.state is RunState.FAILED


def test_task_has_its_own_retries_before_those_of_the_policy(planner):
    run = planner(
        {"a": [], "b": []},
        retry=RetrySpec(max_attempts=1),
        retries={"a": RetrySpec(max_attempts=2, initial_interval_ms=0)},
    )
    simulate(run, lambda *_: Attempt(1, FAILED, retryable=True))
    assert run.attempts == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("jitter", "starts"),
    [(lambda: 0.0, [0, 1.5, 3.5, 6.5, 10]), (lambda: 1.0, [0, 2, 5, 10, 16])],
    ids=["least", "most"],
)
def test_back_off_is_exponential_up_to_its_ceiling_and_jittered(graph, jitter, starts):
    retry = RetrySpec(max_attempts=5, initial_interval_ms=1000, backoff_factor=2, max_interval_ms=5000)
    run = ParallelExecutor(graph({"a": []}), policy=RunPolicy(retry=retry), random=jitter)
    forecast = simulate(run, lambda *_: Attempt(1, FAILED, retryable=True))
    assert [span.started for span in forecast.spans] == starts


def test_enormous_back_off_factor_ends_at_the_ceiling(planner):
    retry = RetrySpec(max_attempts=100, initial_interval_ms=1, backoff_factor=1e300, max_interval_ms=2)
    forecast = simulate(planner({"a": []}, retry=retry), lambda *_: Attempt(0, FAILED, retryable=True))
    assert forecast.makespan == pytest.approx(0.001 + 98 * 0.002)


def test_first_interval_is_not_above_the_ceiling(planner):
    retry = RetrySpec(max_attempts=2, initial_interval_ms=1000, max_interval_ms=100)
    assert simulate(planner({"a": []}, retry=retry), lambda *_: Attempt(0, FAILED, True)).makespan == 0.1


def test_drained_run_does_not_try_again(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=0))
    run.next(Begin(0))
    run.next(Drain(0))
    assert run.next(Ended("a", 1, FAILED, retryable=True)) == [Finish(RunState.RUNNING, "drain")]
    assert run.states == {"a": TaskState.PENDING}


def test_drained_run_is_not_woken_for_an_attempt_that_it_will_not_make(planner):
    run = planner({"a": [], "b": []}, retry=RetrySpec(max_attempts=2))
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED, retryable=True))
    assert run.next(Drain(1)) == []


# --- failures of an earlier driver -----------------------------------------------------------------------------------


def test_earlier_failures_are_not_tried_again_and_fail_the_run_Z19(planner):
    run = planner({"a": [], "a2": ["a"], "b": []}, failed=["a"])
    assert run.states["a2"] is SKIPPED
    assert run.next(Begin(0)) == [Skip("a2", "a"), Start("b", 1)]
    assert run.next(Ended("b", 1, COMPLETED)) == [Finish(RunState.FAILED)]
    with pytest.raises(TaskNotReadyError):
        run.next(Ended("a", 2, COMPLETED))


def test_earlier_skips_are_not_announced_again(planner):
    run = planner({**CHAIN, "d": ["c"]}, failed=["a"], skipped=["b", "c"])
    assert run.next(Begin(0)) == [Skip("d", "a"), Finish(RunState.FAILED)]


def test_earlier_false_condition_keeps_its_dependents_from_running(planner):
    run = planner({"a": [], "b": ["a"], "c": []}, skipped=["a"], completed=["c"])
    assert run.next(Begin(0)) == [Skip("b", "a"), Finish(RunState.COMPLETED)]


def test_earlier_failure_fails_fast_at_once(planner):
    run = planner({"a": [], "b": []}, failed=["a"], on_task_failure="fail_fast")
    assert run.next(Begin(0)) == [Finish(RunState.FAILED)]
    assert run.states["b"] is TaskState.PENDING

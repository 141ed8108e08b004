"""Deadlines, aborts, shutdowns, pauses, and bodies that outlive their attempts."""

import pytest

from langchain_runtime.contracts.errors import InvalidInputError, TaskNotReadyError
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Attempt,
    Begin,
    BodyStopped,
    Cancel,
    Deferred,
    Drain,
    Ended,
    Finish,
    ModelPaused,
    ParallelExecutor,
    Sleep,
    Start,
    Throttled,
    Tick,
    simulate,
)

COMPLETED, FAILED, SKIPPED = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED
CHAIN = {"a": [], "b": ["a"], "c": ["b"]}


# --- deadline --------------------------------------------------------------------------------------------------------


def test_deadline_counts_for_the_whole_run_Z4_F20(planner):
    run = planner(CHAIN, timeout_ms=100)
    forecast = simulate(run, lambda *_: Attempt(0.06))
    assert (forecast.state, forecast.reason, forecast.makespan) == (RunState.ABORTED, "deadline", 0.1)
    assert run.states == {"a": COMPLETED, "b": FAILED, "c": TaskState.PENDING}


def test_deadline_cancels_everything_that_runs(planner):
    run = planner({"a": [], "b": [], "c": [], "d": ["a"]}, timeout_ms=1000, max_parallelism=2)
    assert run.next(Begin(5)) == [Start("a", 1), Start("b", 1), Sleep(6.0)]
    assert run.next(Tick(6.0)) == [Cancel("a", "deadline"), Cancel("b", "deadline")]
    assert run.next(Ended("a", 6.1, FAILED)) == []
    assert run.next(Ended("b", 6.2, FAILED)) == [Finish(RunState.ABORTED, "deadline")]
    assert [run.states[task_id] for task_id in "abcd"] == ["failed", "failed", "pending", "pending"]


def test_expired_deadline_aborts_before_anything_starts_Z20(graph):
    policy = RunPolicy.model_construct(**{**RunPolicy().__dict__, "timeout_ms": 0})
    assert ParallelExecutor(graph(CHAIN), policy=policy).next(Begin(7)) == [Finish(RunState.ABORTED, "deadline")]


def test_run_that_completes_at_the_deadline_completed(planner):
    run = planner({"a": []}, timeout_ms=1000)
    assert simulate(run, lambda *_: Attempt(1.0)).state is RunState.COMPLETED


def test_task_that_completes_in_spite_of_the_deadline_keeps_its_result(planner):
    run = planner(CHAIN, timeout_ms=1000)
    run.next(Begin(0))
    run.next(Tick(1))
    assert run.next(Ended("a", 1.1, COMPLETED)) == [Finish(RunState.ABORTED, "deadline")]
    assert run.states == {"a": COMPLETED, "b": TaskState.PENDING, "c": TaskState.PENDING}


def test_run_whose_last_task_fails_at_the_deadline_failed(planner):
    run = planner({"a": []}, timeout_ms=1000)
    assert simulate(run, lambda *_: Attempt(1.0, FAILED)).state is RunState.FAILED


def test_deadline_ends_the_wait_for_another_attempt(planner):
    run = planner({"a": []}, timeout_ms=1000, retry=RetrySpec(max_attempts=2, initial_interval_ms=60_000))
    run.next(Begin(0))
    assert run.next(Ended("a", 0.5, FAILED, retryable=True)) == [Sleep(1.0)]
    assert run.next(Tick(1.0)) == [Finish(RunState.ABORTED, "deadline")]


def test_clock_that_goes_back_does_not_move_the_run_back(planner):
    run = planner({"a": []}, timeout_ms=1000, retry=RetrySpec(max_attempts=2, initial_interval_ms=100))
    run.next(Begin(0))
    run.next(Tick(0.5))
    assert run.next(Ended("a", 0.1, FAILED, retryable=True)) == [Sleep(0.6)]


# --- abort and shutdown ----------------------------------------------------------------------------------------------


def test_abort_in_mid_task_ends_as_aborted_R9_Z5(planner):
    run = planner(CHAIN)
    run.next(Begin(0))
    assert run.next(Abort(0.05, "user")) == [Cancel("a", "user")]
    assert run.next(Ended("a", 0.06, FAILED, retryable=True)) == [Finish(RunState.ABORTED, "user")]


def test_abort_when_nothing_runs_ends_at_once_Q6_F19(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=2))
    run.next(Begin(0))
    run.next(Ended("a", 0, FAILED, retryable=True))
    assert run.next(Abort(0)) == [Finish(RunState.ABORTED, "abort")]
    assert run.states == {"a": TaskState.PENDING}


def test_second_abort_cancels_nobody_twice_Z28(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Abort(1))
    assert run.next(Abort(2, "again")) == []
    assert run.next(Ended("a", 3, FAILED)) == [Finish(RunState.ABORTED, "abort")]


def test_abort_that_comes_too_late_changes_nothing(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Abort(1))
    assert run.next(Ended("a", 1, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_cancelled_task_that_turns_out_to_lack_money_is_not_started_again(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Abort(1))
    assert run.next(Deferred("a", 1)) == []
    assert run.next(Ended("b", 1, FAILED)) == [Finish(RunState.ABORTED, "abort")]
    assert run.states["a"] is TaskState.PENDING


def test_drained_run_lets_what_runs_finish_and_stays_unfinished(planner):
    run = planner({**CHAIN, "d": []}, timeout_ms=9000)
    run.next(Begin(0))
    assert run.next(Drain(1)) == [Sleep(9.0)]
    run.next(Ended("a", 2, COMPLETED))
    assert run.next(Ended("d", 3, COMPLETED)) == [Finish(RunState.RUNNING, "drain")]
    assert run.states["b"] is TaskState.PENDING


@pytest.mark.parametrize(("end", "state"), [(COMPLETED, RunState.COMPLETED), (FAILED, RunState.FAILED)])
def test_drained_run_without_work_left_has_ended(planner, end, state):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Drain(1))
    assert run.next(Ended("a", 2, end)) == [Finish(state)]


def test_abort_overrules_a_shutdown(planner):
    run = planner(CHAIN)
    run.next(Begin(0))
    run.next(Drain(1))
    assert run.next(Abort(2)) == [Cancel("a", "abort")]
    assert run.next(Ended("a", 3, FAILED)) == [Finish(RunState.ABORTED, "abort")]


# --- pauses ----------------------------------------------------------------------------------------------------------


def test_paused_model_starts_nothing_before_its_time_and_lets_others_pass(planner):
    run = planner({"a": [], "b": [], "c": []}, models={"a": "m", "b": "m"}, max_parallelism=1)
    run.next(Begin(0))
    assert run.next(ModelPaused("m", 1, until=10.0)) == []
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("c", 1), Sleep(10.0)]
    assert run.next(Ended("c", 3, COMPLETED)) == [Sleep(10.0)]
    assert run.next(Tick(10.0)) == [Start("b", 1)]


def test_longer_pause_wins(planner):
    run = planner({"a": [], "b": ["a"]}, models={"b": "m"})
    run.next(Begin(0))
    run.next(ModelPaused("m", 0, until=10.0))
    run.next(ModelPaused("m", 1, until=5.0))
    assert run.next(Ended("a", 2, COMPLETED)) == [Sleep(10.0)]
    run.next(ModelPaused("m", 3, until=20.0))
    assert run.next(Tick(10.0)) == [Sleep(20.0)]


def test_pause_that_nobody_waits_for_wakes_nobody(planner):
    run = planner({"a": []}, models={"a": "m"})
    run.next(Begin(0))
    assert run.next(ModelPaused("m", 1, until=10.0)) == []


def test_pause_in_the_past_is_no_pause(planner):
    run = planner({"a": [], "b": ["a"]}, models={"b": "m"})
    run.next(Begin(0))
    run.next(ModelPaused("m", 5, until=4.0))
    assert run.next(Ended("a", 6, COMPLETED)) == [Start("b", 1)]


def test_model_comes_back_from_a_pause_with_the_slots_it_has_left(planner):
    run = planner(
        {f"t{i}": [] for i in range(6)},
        models={f"t{i}": "m" for i in range(6)},
        per_model={"m": ModelLimits(parallelism=3)},
    )
    assert run.next(Begin(0)) == [Start("t0", 1), Start("t1", 1), Start("t2", 1)]
    run.next(ModelPaused("m", 1, until=10.0))
    assert run.next(Ended("t0", 2, COMPLETED)) == [Sleep(10.0)]
    assert run.next(Ended("t1", 3, COMPLETED)) == [Sleep(10.0)]
    assert run.next(Tick(10.0)) == [Start("t3", 1), Start("t4", 1)]
    assert run.next(Ended("t3", 11, COMPLETED)) == [Start("t5", 1)]


def test_first_of_several_pauses_wakes(planner):
    run = planner({"a": [], "b": ["a"], "c": ["a"]}, models={"b": "m", "c": "n"})
    run.next(Begin(0))
    run.next(ModelPaused("m", 0, until=9.0))
    run.next(ModelPaused("n", 0, until=7.0))
    assert run.next(Ended("a", 1, COMPLETED)) == [Sleep(7.0)]
    assert run.next(Tick(7.0)) == [Start("c", 1), Sleep(9.0)]


def test_throttled_task_stands_in_its_models_line_again_and_it_was_no_attempt(planner):
    run = planner({"a": [], "b": [], "c": []}, models={"a": "m", "b": "m"}, max_parallelism=1)
    run.next(Begin(0))
    assert run.next(Throttled("a", 1, until=10.0)) == [Start("c", 1), Sleep(10.0)]
    assert run.attempts["a"] == 0
    assert run.states["a"] is TaskState.READY
    assert run.next(Ended("c", 3, COMPLETED)) == [Sleep(10.0)]
    assert run.next(Tick(10.0)) == [Start("a", 1)]
    assert run.next(Ended("a", 11, COMPLETED)) == [Start("b", 1)]


def test_what_runs_on_a_throttled_model_goes_on(planner):
    run = planner({"a": [], "b": [], "b2": ["b"]}, models={"a": "m", "b": "m", "b2": "m"})
    run.next(Begin(0))
    assert run.next(Throttled("a", 1, until=10.0)) == [Sleep(10.0)]
    assert run.next(Ended("b", 2, COMPLETED)) == [Sleep(10.0)]
    assert run.next(Tick(10.0)) == [Start("a", 1), Start("b2", 1)]


def test_throttling_pauses_the_model_that_the_task_was_moved_to(planner):
    run = planner({"a": [], "b": [], "b2": ["b"], "c": []}, models={"a": "large", "b2": "large", "c": "small"})
    run.next(Begin(0))
    assert run.next(Deferred("a", 0, model="small")) == [Start("a", 1)]
    assert run.next(Throttled("a", 1, until=10.0)) == [Sleep(10.0)]
    assert run.next(Ended("b", 2, COMPLETED)) == [Start("b2", 1), Sleep(10.0)]


def test_task_that_is_throttled_without_end_is_tried_again_at_each_end_of_the_pause(planner):
    run = planner({"a": []}, models={"a": "m"}, retry=RetrySpec(max_attempts=1))
    run.next(Begin(0))
    for until in (10.0, 20.0, 30.0):
        assert run.next(Throttled("a", until - 10, until=until)) == [Sleep(until)]
        assert run.next(Tick(until)) == [Start("a", 1)]


def test_task_without_a_model_cannot_be_throttled(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    with pytest.raises(InvalidInputError, match="'a' was throttled and has no model"):
        run.next(Throttled("a", 1, until=10.0))
    assert run.running == {"a"}


def test_only_a_running_task_is_throttled(planner):
    run = planner({"a": [], "b": ["a"]}, models={"b": "m"})
    run.next(Begin(0))
    with pytest.raises(TaskNotReadyError, match="'b' is pending and does not run"):
        run.next(Throttled("b", 1, until=10.0))


def test_task_that_is_throttled_in_a_shutdown_is_left_for_later(planner):
    run = planner({"a": []}, models={"a": "m"})
    run.next(Begin(0))
    run.next(Drain(1))
    assert run.next(Throttled("a", 1, until=10.0)) == [Finish(RunState.RUNNING, "drain")]
    assert run.states == {"a": TaskState.PENDING}


# --- bodies that cannot be stopped -----------------------------------------------------------------------------------


def test_slot_stays_taken_until_the_body_ends_Z6(planner):
    run = planner({"a": [], "b": [], "c": []}, max_parallelism=1)
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, body_alive=True)) == []
    assert run.zombies == 1
    assert run.running == frozenset()
    assert run.next(Tick(2)) == []
    assert run.next(BodyStopped("a", 3)) == [Start("b", 1)]
    assert run.zombies == 0


def test_slot_of_the_model_stays_taken_too_Z6(planner):
    run = planner({"a": [], "b": [], "c": []}, models={"a": "m", "b": "m"}, per_model={"m": ModelLimits(parallelism=1)})
    assert run.next(Begin(0)) == [Start("a", 1), Start("c", 1)]
    assert run.next(Ended("a", 1, FAILED, body_alive=True)) == []
    assert run.next(BodyStopped("a", 2)) == [Start("b", 1)]


def test_deadline_still_counts_while_bodies_hold_all_slots(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1, timeout_ms=9000)
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, body_alive=True)) == [Sleep(9.0)]
    assert run.next(Tick(9.0)) == [Finish(RunState.ABORTED, "deadline")]


def test_attempts_of_one_task_may_leave_several_bodies_behind(planner):
    run = planner({"a": []}, max_parallelism=2, retry=RetrySpec(max_attempts=9, initial_interval_ms=0))
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, retryable=True, body_alive=True)) == [Start("a", 2)]
    assert run.next(Ended("a", 2, FAILED, retryable=True, body_alive=True)) == []
    assert run.zombies == 2
    assert run.next(BodyStopped("a", 3)) == [Start("a", 3)]


def test_run_does_not_wait_for_bodies_to_end(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Abort(1))
    assert run.next(Ended("a", 1.1, FAILED, body_alive=True)) == [Finish(RunState.ABORTED, "abort")]
    assert run.next(BodyStopped("a", 5)) == []
    assert run.zombies == 0


def test_body_that_was_not_left_behind_cannot_stop(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    with pytest.raises(TaskNotReadyError, match="has no body that outlived its attempt"):
        run.next(BodyStopped("a", 1))

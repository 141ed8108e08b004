"""Tasks that are held until somebody releases them, and tasks that ask a human from within their bodies."""

import pytest

from langchain_runtime.contracts.errors import DeadlockError, InvalidInputError, TaskNotFoundError, TaskNotReadyError
from langchain_runtime.contracts.run import DAG, DAGNode, RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration import (
    DEFERRED_POLL_SECONDS,
    Abort,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Deferred,
    Drain,
    Ended,
    Finish,
    Grew,
    NewTask,
    ParallelExecutor,
    Released,
    Skip,
    Sleep,
    Start,
    Suspended,
    Tick,
    ToppedUp,
)

COMPLETED, FAILED, PENDING, READY = TaskState.COMPLETED, TaskState.FAILED, TaskState.PENDING, TaskState.READY
PAUSED = Finish(RunState.RUNNING, "paused")
SUSPENDED = Finish(RunState.RUNNING, "suspended")


# --- held ------------------------------------------------------------------------------------------------------------


def test_held_task_is_ready_and_does_not_start(planner):
    run = planner({"a": [], "b": []}, held=["a"])
    assert run.next(Begin(0)) == [Start("b", 1)]
    assert run.states["a"] is READY
    assert run.held_ready == ["a"]


def test_released_task_starts(planner):
    run = planner({"a": [], "b": []}, held=["a"])
    run.next(Begin(0))
    assert run.next(Released(1, ("a",))) == [Start("a", 1)]
    assert run.held_ready == []


def test_task_that_was_released_early_is_not_held_when_it_becomes_ready(planner):
    run = planner({"a": [], "b": ["a"]}, held=["b"])
    run.next(Begin(0))
    assert run.next(Released(1, ("b",))) == []
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("b", 1)]


def test_releasing_what_is_not_held_changes_nothing(planner):
    run = planner({"done": [], "runs": ["done"], "waits": ["runs"]}, max_parallelism=1)
    run.next(Begin(0))
    run.next(Ended("done", 1, COMPLETED))
    assert run.next(Released(2, ("done", "runs", "waits"))) == []
    assert run.next(Ended("runs", 3, COMPLETED)) == [Start("waits", 1)]
    assert run.next(Ended("waits", 4, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_releasing_a_task_twice_starts_it_once(planner):
    run = planner({"a": []}, held=["a"], gated=True)
    run.next(Begin(0))
    assert run.next(Released(1, ("a", "a"))) == [Start("a", 1)]
    assert run.next(Released(2, ("a",))) == []


def test_held_tasks_are_named_most_urgent_first(planner):
    run = planner({"a": [], "b": [], "c": [], "z": ["c"]}, held=["a", "b", "c", "z"], priorities={"b": 1})
    run.next(Begin(0))
    assert run.held_ready == ["c", "b", "a"]


@pytest.mark.parametrize("event", [Released(1, ("a", "zzz")), Released(1, ("zzz",))])
def test_releasing_an_unknown_task_is_refused(planner, event):
    run = planner({"a": [], "b": []}, held=["a"])
    run.next(Begin(0))
    with pytest.raises(TaskNotFoundError):
        run.next(event)
    assert run.held_ready == ["a"]


def test_holding_an_unknown_task_is_refused(planner):
    with pytest.raises(TaskNotFoundError):
        planner({"a": []}, held=["zzz"])


def test_nothing_is_released_before_the_run_begins(planner):
    with pytest.raises(InvalidInputError):
        planner({"a": []}, held=["a"]).next(Released(0, ("a",)))


def test_run_in_which_only_held_tasks_could_start_is_paused(planner):
    run = planner({"a": [], "b": ["a"], "c": ["b"]}, held=["b"])
    run.next(Begin(0))
    assert run.next(Ended("a", 1, COMPLETED)) == [PAUSED]
    assert run.states == {"a": COMPLETED, "b": PENDING, "c": PENDING}
    assert run.held_ready == ["b"]


def test_run_that_failed_in_part_is_paused_all_the_same(planner):
    run = planner({"a": [], "b": []}, held=["b"])
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED)) == [PAUSED]


def test_everything_else_runs_before_the_pause(planner):
    run = planner({"a": [], "b": [], "c": []}, held=["a"], retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    assert run.next(Ended("b", 1, FAILED, retryable=True)) == [Sleep(2.0)]
    assert run.next(Deferred("c", 1)) == [Sleep(1 + DEFERRED_POLL_SECONDS)]
    assert run.next(Tick(2)) == [Start("b", 2), Start("c", 1)]
    run.next(Ended("b", 3, COMPLETED))
    assert run.next(Ended("c", 3, COMPLETED)) == [PAUSED]


def test_pause_does_not_wait_for_bodies_whose_slots_nobody_wants(planner):
    run = planner({"a": [], "b": []}, held=["b"])
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, body_alive=True)) == [PAUSED]


def test_pause_waits_for_a_body_whose_slot_a_task_needs(planner):
    run = planner({"a": [], "b": [], "c": []}, held=["c"], max_parallelism=1)
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED, body_alive=True)) == []
    assert run.next(BodyStopped("a", 2)) == [Start("b", 1)]
    assert run.next(Ended("b", 3, COMPLETED)) == [PAUSED]


def test_held_task_behind_a_failure_is_skipped(planner):
    run = planner({"a": [], "b": ["a"]}, held=["b"])
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED)) == [Skip("b", "a"), Finish(RunState.FAILED)]
    assert run.held_ready == []


def test_tasks_that_join_are_never_held(planner):
    run = planner({"map": []}, held=["map"], gated=True)
    run.next(Begin(0))
    run.next(Released(0, ("map",)))
    assert run.next(Grew(1, (NewTask("map#0"),), "map", parent_waits=True)) == [Start("map#0", 1)]
    assert run.next(Ended("map#0", 2, COMPLETED)) == [Start("map", 1)]


def test_held_tasks_are_no_part_of_a_question(planner):
    run = planner({"a": [], "b": []}, held=["b"])
    run.next(Begin(0))
    assert run.next(Deferred("a", 0, ask=True)) == [Ask(("a",))]
    run.next(ToppedUp(1))
    assert run.next(Ended("a", 2, COMPLETED)) == [PAUSED]


# --- gated -----------------------------------------------------------------------------------------------------------


def test_gated_run_waits_for_a_release(planner):
    run = planner({"a": [], "b": ["a"]}, held=["a", "b"], gated=True)
    assert run.next(Begin(0)) == []
    assert run.next(Tick(100)) == []
    assert run.next(Released(101, ("a",))) == [Start("a", 1)]
    assert run.next(Ended("a", 102, COMPLETED)) == []
    assert run.held_ready == ["b"]
    assert run.next(Released(103, ("b",))) == [Start("b", 1)]
    assert run.next(Ended("b", 104, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_gated_run_that_cannot_go_on_whoever_releases_what_is_a_deadlock():
    cycle = {
        task_id: DAGNode(id=task_id, deps=[other], pending=1) for task_id, other in (("a", "b"), ("b", "a"))
    }  # without its "next", the cycle is not found beforehand
    run = ParallelExecutor(DAG(nodes=cycle), policy=RunPolicy(), held=["a", "b"], gated=True)
    with pytest.raises(DeadlockError) as caught:
        run.next(Begin(0))
    assert caught.value.waiting == ("a", "b")


@pytest.mark.parametrize("gated", [True, False])
def test_verdicts_end_a_run_with_held_tasks(planner, gated):
    deps = {"a": [], "b": [], "held": []}
    run = planner(deps, held=["held"], gated=gated, on_task_failure="fail_fast")
    run.next(Begin(0))
    assert run.next(Ended("a", 1, FAILED)) == [Cancel("b", "fail_fast")]
    assert run.next(Ended("b", 2, FAILED)) == [Finish(RunState.FAILED)]

    run = planner(deps, held=["held"], gated=gated)
    run.next(Begin(0))
    assert run.next(Abort(1)) == [Cancel("a", "abort"), Cancel("b", "abort")]
    run.next(Ended("a", 1, FAILED))
    assert run.next(Ended("b", 2, FAILED)) == [Finish(RunState.ABORTED, "abort")]

    run = planner(deps, held=["held"], gated=gated)
    run.next(Begin(0))
    run.next(Drain(0))
    run.next(Ended("a", 1, COMPLETED))
    assert run.next(Ended("b", 2, COMPLETED)) == [Finish(RunState.RUNNING, "drain")]


def test_deadline_ends_a_gated_run_that_waits_for_a_release(planner):
    run = planner({"a": []}, held=["a"], gated=True, timeout_ms=10_000)
    assert run.next(Begin(0)) == [Sleep(10.0)]
    assert run.next(Tick(10)) == [Finish(RunState.ABORTED, "deadline")]


def test_abort_and_shutdown_end_a_gated_run_that_waits_for_a_release(planner):
    for event, end in [
        (Abort(1), Finish(RunState.ABORTED, "abort")),
        (Drain(1), Finish(RunState.RUNNING, "drain")),
    ]:
        run = planner({"a": []}, held=["a"], gated=True)
        run.next(Begin(0))
        assert run.next(event) == [end]
        assert run.states == {"a": PENDING}


# --- suspended -------------------------------------------------------------------------------------------------------


def test_suspended_task_leaves_its_slot_and_everything_that_is_not_downstream_goes_on(planner):
    run = planner({"a": [], "b": [], "after": ["a"], "b2": ["b"]}, max_parallelism=1)
    run.next(Begin(0))
    assert run.next(Suspended("a", 1)) == [Start("b", 1)]
    assert run.states["a"] is PENDING
    assert run.suspended == {"a"}
    assert run.attempts["a"] == 0
    assert run.next(Ended("b", 2, COMPLETED)) == [Start("b2", 1)]
    assert run.next(Ended("b2", 3, COMPLETED)) == [SUSPENDED]
    assert run.states == {"a": PENDING, "b": COMPLETED, "after": PENDING, "b2": COMPLETED}


def test_several_tasks_may_be_suspended(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    assert run.next(Suspended("a", 1)) == []
    assert run.next(Suspended("b", 1)) == [SUSPENDED]
    assert run.suspended == {"a", "b"}


def test_only_a_running_task_is_suspended(planner):
    run = planner({"a": [], "b": ["a"]})
    run.next(Begin(0))
    with pytest.raises(TaskNotReadyError):
        run.next(Suspended("b", 1))
    assert run.suspended == frozenset()


def test_suspension_frees_money_for_deferred_tasks(planner):
    run = planner({"a": [], "b": [], "c": []})
    run.next(Begin(0))
    run.next(Deferred("b", 0))
    assert run.next(Suspended("a", 1)) == [Start("b", 1)]


def test_money_is_asked_for_before_the_run_stands_still(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Deferred("b", 0, ask=True))
    assert run.next(Suspended("a", 1)) == [Ask(("b",))]
    assert run.next(ToppedUp(2)) == [Start("b", 1)]
    assert run.next(Ended("b", 3, COMPLETED)) == [SUSPENDED]


def test_retries_come_before_the_run_stands_still(planner):
    run = planner({"a": [], "b": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    run.next(Suspended("a", 0))
    assert run.next(Ended("b", 1, FAILED, retryable=True)) == [Sleep(2.0)]
    assert run.next(Tick(2)) == [Start("b", 2)]
    assert run.next(Ended("b", 3, FAILED)) == [SUSPENDED]


@pytest.mark.parametrize("gated", [True, False])
def test_suspended_task_ends_a_run_in_which_only_held_tasks_could_start(planner, gated):
    run = planner({"a": [], "b": []}, held=["b"], gated=gated)
    run.next(Begin(0))
    assert run.next(Suspended("a", 1)) == [SUSPENDED]
    assert run.held_ready == ["b"]


def test_released_task_runs_before_the_run_stands_still(planner):
    run = planner({"a": [], "b": []}, held=["a", "b"], gated=True)
    run.next(Begin(0))
    assert run.next(Released(1, ("a", "b"))) == [Start("a", 1), Start("b", 1)]
    assert run.next(Suspended("a", 1)) == []
    assert run.next(Ended("b", 2, COMPLETED)) == [SUSPENDED]


def test_waiting_parent_of_a_suspended_task_is_left_for_later(planner):
    run = planner({"map": [], "after": ["map"]})
    run.next(Begin(0))
    run.next(Grew(1, (NewTask("map#0"), NewTask("map#1")), "map", parent_waits=True))
    run.next(Suspended("map#0", 2))
    assert run.next(Ended("map#1", 3, COMPLETED)) == [SUSPENDED]
    assert run.states == {"map": PENDING, "after": PENDING, "map#0": PENDING, "map#1": COMPLETED}


def test_failing_fast_comes_before_standing_still(planner):
    run = planner({"a": [], "b": []}, on_task_failure="fail_fast")
    run.next(Begin(0))
    run.next(Suspended("a", 1))
    assert run.next(Ended("b", 2, FAILED)) == [Finish(RunState.FAILED)]


def test_task_that_is_suspended_in_an_aborted_run_is_left_for_later(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    assert run.next(Abort(1)) == [Cancel("a", "abort")]
    assert run.next(Suspended("a", 2)) == [Finish(RunState.ABORTED, "abort")]
    assert run.states == {"a": PENDING}


def test_shutdown_comes_before_standing_still(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Drain(1))
    assert run.next(Suspended("a", 2)) == []
    assert run.next(Suspended("b", 2)) == [Finish(RunState.RUNNING, "drain")]


def test_deadline_counts_while_a_task_is_suspended_and_others_run(planner):
    run = planner({"a": [], "b": []}, timeout_ms=10_000)
    run.next(Begin(0))
    assert run.next(Suspended("a", 1)) == [Sleep(10.0)]
    assert run.next(Tick(10)) == [Cancel("b", "deadline")]
    assert run.next(Ended("b", 11, FAILED)) == [Finish(RunState.ABORTED, "deadline")]

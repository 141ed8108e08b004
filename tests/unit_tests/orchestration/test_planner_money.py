"""Waiting for money: tasks that are turned away, and asking a human."""

from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunState, TaskState
from langchain_runtime.orchestration import (
    DEFERRED_POLL_SECONDS,
    Abort,
    Ask,
    Begin,
    BodyStopped,
    Deferred,
    Drain,
    Ended,
    Finish,
    Sleep,
    Start,
    Tick,
    ToppedUp,
)
from langchain_runtime.orchestration.slots import Slots

COMPLETED, FAILED = TaskState.COMPLETED, TaskState.FAILED
POLL = DEFERRED_POLL_SECONDS


# --- money may come back ---------------------------------------------------------------------------------------------


def test_deferred_task_is_ready_and_lets_others_pass_Z11(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1)
    run.next(Begin(0))
    assert run.next(Deferred("a", 0)) == [Start("b", 1)]
    assert run.states == {"a": TaskState.READY, "b": TaskState.RUNNING}


def test_deferred_task_is_tried_again_when_something_ends(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1)
    run.next(Begin(0))
    run.next(Deferred("a", 0))
    assert run.next(Ended("b", 1, COMPLETED)) == [Start("a", 1)]


def test_failed_attempt_of_another_task_also_frees_money(planner):
    run = planner({"a": [], "b": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    run.next(Deferred("a", 0))
    assert run.next(Ended("b", 1, FAILED, retryable=True)) == [Start("a", 1), Sleep(2.0)]


def test_being_turned_away_is_no_attempt(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=1))
    run.next(Begin(0))
    for _ in range(3):
        [sleep] = run.next(Deferred("a", 0))
        assert run.attempts["a"] == 0
        assert run.next(Tick(sleep.until)) == [Start("a", 1)]
    assert run.next(Ended("a", 9, COMPLETED)) == [Finish(RunState.COMPLETED)]
    assert run.attempts == {"a": 1}


def test_deferred_tasks_are_polled_when_nothing_runs(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    assert run.next(Deferred("b", 0)) == []
    assert run.next(Deferred("a", 1)) == [Sleep(1 + POLL)]
    assert run.next(Tick(1 + POLL / 2)) == [Sleep(1 + POLL)]
    assert run.next(Tick(1 + POLL)) == [Start("a", 1), Start("b", 1)]


def test_deferred_tasks_are_not_polled_while_something_runs(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    assert run.next(Deferred("b", 0)) == []
    assert run.next(Tick(100)) == []


def test_poll_is_forgotten_once_something_runs_again(planner):
    run = planner({"a": [], "b": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    run.next(Ended("b", 0, FAILED, retryable=True))
    assert run.next(Deferred("a", 0.9)) == [Sleep(1.0)]
    assert run.next(Tick(1.0)) == [Start("b", 2)]
    assert run.next(Tick(5.0)) == []


def test_deferred_task_frees_the_slot_of_its_model(planner):
    run = planner(
        {"a": [], "b": []}, models={"a": "m", "b": "m"}, per_model={"m": ModelLimits(parallelism=1)}, max_parallelism=2
    )
    assert run.next(Begin(0)) == [Start("a", 1)]
    assert run.next(Deferred("a", 0)) == [Start("b", 1)]


def test_body_that_outlives_its_attempt_does_not_stop_the_poll(planner):
    run = planner({"a": [], "b": []}, max_parallelism=2)
    run.next(Begin(0))
    run.next(Ended("b", 1, FAILED, body_alive=True))
    assert run.next(Deferred("a", 1)) == [Sleep(1 + POLL)]


# --- only a human can help -------------------------------------------------------------------------------------------


def test_question_stops_dispatch_lets_what_runs_finish_then_asks(planner):
    run = planner({"a": [], "b": [], "c": [], "d": []}, max_parallelism=2)
    run.next(Begin(0))
    assert run.next(Deferred("a", 0, ask=True)) == []
    assert run.next(Ended("b", 1, COMPLETED)) == [Ask(("a", "c", "d"))]
    assert run.states["a"] is TaskState.READY
    assert run.next(ToppedUp(50)) == [Start("a", 1), Start("c", 1)]


def test_waiting_tasks_are_named_most_urgent_first_those_between_attempts_too(planner):
    deps = {"a": [], "b": [], "c": [], "c2": ["c"]}
    run = planner(deps, priorities={"b": 1}, retry=RetrySpec(max_attempts=2))
    run.next(Begin(0))
    run.next(Ended("c", 1, FAILED, retryable=True))
    run.next(Deferred("a", 1))
    assert run.next(Deferred("b", 1, ask=True)) == [Ask(("c", "b", "a"))]


def test_question_is_asked_once(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    assert run.next(Deferred("a", 0, ask=True)) == [Ask(("a",))]
    assert run.next(Tick(1)) == []


def test_too_small_an_answer_leads_to_another_question(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(ToppedUp(1)) == [Start("a", 1)]
    assert run.next(Deferred("a", 1, ask=True)) == [Ask(("a",))]


def test_answer_before_the_question_saves_it(planner):
    run = planner({"a": [], "b": []}, timeout_ms=10_000)
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(ToppedUp(1)) == [Start("a", 1), Sleep(10.0)]


def test_deferred_task_does_not_start_while_the_run_waits_to_ask(planner):
    run = planner({"a": [], "b": [], "c": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(Ended("b", 1, COMPLETED)) == []
    assert run.next(Ended("c", 1, COMPLETED)) == [Ask(("a",))]


def test_deadline_does_not_run_while_a_human_thinks(planner):
    run = planner({"a": []}, timeout_ms=10_000)
    assert run.next(Begin(0)) == [Start("a", 1), Sleep(10.0)]
    assert run.next(Deferred("a", 1, ask=True)) == [Ask(("a",))]
    assert run.next(Tick(500)) == []
    assert run.next(ToppedUp(1000)) == [Start("a", 1), Sleep(1010.0)]


def test_deadline_runs_while_the_run_waits_to_ask(planner):
    run = planner({"a": [], "b": []}, timeout_ms=10_000)
    run.next(Begin(0))
    assert run.next(Deferred("a", 1, ask=True)) == [Sleep(10.0)]


def test_abort_ends_the_wait_for_an_answer(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(Abort(1)) == [Finish(RunState.ABORTED, "abort")]


def test_shutdown_comes_before_a_question(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    run.next(Drain(0))
    assert run.next(Ended("b", 1, COMPLETED)) == [Finish(RunState.RUNNING, "drain")]


def test_failure_while_the_run_waits_to_ask_does_not_lose_the_question(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(Ended("b", 1, FAILED)) == [Ask(("a",))]
    assert run.next(ToppedUp(2)) == [Start("a", 1)]
    assert run.next(Ended("a", 3, COMPLETED)) == [Finish(RunState.FAILED)]


def test_question_does_not_wait_for_bodies_that_cannot_be_stopped(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Deferred("a", 0, ask=True))
    assert run.next(Ended("b", 1, FAILED, body_alive=True)) == [Ask(("a",))]
    assert run.next(BodyStopped("b", 2)) == []


# --- another model ---------------------------------------------------------------------------------------------------


def test_a_task_that_is_moved_to_another_model_starts_at_once_and_it_was_no_attempt(planner):
    run = planner({"a": [], "b": []}, models={"a": "large", "b": "large"}, max_parallelism=2)
    run.next(Begin(0))
    assert run.next(Deferred("a", 0, model="small")) == [Start("a", 1)]
    assert run.running == {"a", "b"}


def test_a_moved_task_keeps_to_the_slots_of_its_new_model_and_frees_those_of_the_old_one(planner):
    run = planner(
        {"a": [], "b": [], "c": []},
        models={"a": "large", "b": "small", "c": "large"},
        per_model={"large": ModelLimits(parallelism=1), "small": ModelLimits(parallelism=1)},
    )
    assert run.next(Begin(0)) == [Start("a", 1), Start("b", 1)]
    assert run.next(Deferred("a", 0, model="small")) == [Start("c", 1)]
    assert run.next(Ended("b", 1, COMPLETED)) == [Start("a", 1)]
    assert run.next(Ended("a", 2, COMPLETED)) == []
    assert run.next(Ended("c", 2, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_a_body_that_outlived_its_attempt_and_the_moved_attempt_each_give_back_their_own_slot():
    slots = Slots(
        9,
        limits={"large": 2, "small": 1},
        models={"a": "large", "b": "large", "c": "small", "d": "large"},
        urgency=lambda task_id: (),
    )
    slots.enqueue("a")
    assert slots.take() == "a"  # its body will outlive this attempt
    slots.enqueue("a")
    assert slots.take() == "a"
    slots.give_back("a")  # the second attempt is turned away
    slots.move("a", "small")
    for task_id in ("a", "b", "c", "d"):
        slots.enqueue(task_id)
    assert [slots.take(), slots.take(), slots.take()] == ["a", "b", None]
    slots.give_back("a", oldest=True)
    assert [slots.take(), slots.take()] == ["d", None]
    slots.give_back("a")
    assert slots.take() == "c"

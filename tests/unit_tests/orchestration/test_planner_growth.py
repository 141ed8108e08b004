"""Tasks that join a run which is under way."""

import pytest

from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    DependencyNotFoundError,
    InvalidDAGError,
    InvalidInputError,
    TaskNotFoundError,
    TaskNotReadyError,
)
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunState, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Ask,
    Begin,
    Cancel,
    Deferred,
    Drain,
    Ended,
    Finish,
    Grew,
    NewTask,
    Skip,
    Sleep,
    Start,
)

COMPLETED, FAILED, SKIPPED, PENDING = TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED, TaskState.PENDING
READY, RUNNING = TaskState.READY, TaskState.RUNNING


def new(*task_ids, **fields):
    return tuple(NewTask(task_id, **fields) for task_id in task_ids)


def expanded(run, *tasks, parent="map", now=1.0):
    """Tell the planner that ``parent`` waits for ``tasks``."""
    return run.next(Grew(now, tasks, parent, parent_waits=True))


# --- the parent goes on ----------------------------------------------------------------------------------------------


def test_task_that_joins_runs_beside_the_one_it_comes_from(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    assert run.next(Grew(1, new("b"), "a")) == [Start("b", 1)]
    assert run.running == {"a", "b"}
    assert run.next(Ended("a", 2, COMPLETED)) == []
    assert run.next(Ended("b", 3, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_task_that_joins_waits_for_its_dependencies(planner):
    run = planner({"a": [], "z": []})
    run.next(Begin(0))
    tasks = (NewTask("c", ("b", "z")), NewTask("b", ("a",)))
    assert run.next(Grew(1, tasks, "a")) == []
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("b", 1)]
    assert run.next(Ended("b", 3, COMPLETED)) == []
    assert run.next(Ended("z", 4, COMPLETED)) == [Start("c", 1)]


def test_dependency_named_twice_is_waited_for_once(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Grew(1, new("b", deps=("a", "a")), "a"))
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("b", 1)]


def test_dependency_that_completed_long_ago_counts(planner):
    run = planner({"a": [], "b": []}, completed=["a"])
    run.next(Begin(0))
    assert run.next(Grew(1, new("c", deps=("a",)), "b")) == [Start("c", 1)]


def test_nobody_waits_for_tasks_that_join_beside_the_parent(planner):
    run = planner({"a": [], "after": ["a"]})
    run.next(Begin(0))
    run.next(Grew(1, new("b"), "a"))
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("after", 1)]


def test_failure_of_the_parent_skips_the_tasks_that_depend_on_it(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Grew(1, (NewTask("b", ("a",)), NewTask("c", ("b",))), "a"))
    assert run.next(Ended("a", 2, FAILED)) == [Skip("b", "a"), Skip("c", "a"), Finish(RunState.FAILED)]


def test_task_between_attempts_is_not_started_early_by_those_that_it_added(planner):
    run = planner({"a": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=1000))
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED, retryable=True))
    assert run.next(Grew(1.5, new("b"), "a")) == [Start("b", 1), Sleep(2.0)]


# --- the parent waits ------------------------------------------------------------------------------------------------


def test_waiting_parent_starts_again_when_all_its_tasks_are_completed(planner):
    run = planner({"map": [], "after": ["map"]})
    assert run.next(Begin(0)) == [Start("map", 1)]
    assert expanded(run, *new("map#0", "map#1")) == [Start("map#0", 1), Start("map#1", 1)]
    assert run.states == {"map": PENDING, "after": PENDING, "map#0": RUNNING, "map#1": RUNNING}
    assert run.attempts["map"] == 0
    assert run.next(Ended("map#0", 2, COMPLETED)) == []
    assert run.next(Ended("map#1", 2, COMPLETED)) == [Start("map", 1)]
    assert run.next(Ended("map", 3, COMPLETED)) == [Start("after", 1)]


def test_waiting_parent_gives_its_slot_and_that_of_its_model_back(planner):
    run = planner(
        {"map": [], "other": []},
        max_parallelism=1,
        models={"map": "m"},
        per_model={"m": ModelLimits(parallelism=1)},
        priorities={"map": 1},
    )
    assert run.next(Begin(0)) == [Start("map", 1)]
    assert expanded(run, *new("map#0", model="m")) == [Start("map#0", 1)]
    assert run.next(Ended("map#0", 2, COMPLETED)) == [Start("map", 1)]


def test_waiting_keeps_the_number_of_the_attempt(planner):
    run = planner({"map": []}, retry=RetrySpec(max_attempts=2, initial_interval_ms=0))
    run.next(Begin(0))
    assert run.next(Ended("map", 1, FAILED, retryable=True)) == [Start("map", 2)]
    expanded(run, *new("map#0"))
    assert run.next(Ended("map#0", 2, COMPLETED)) == [Start("map", 2)]
    assert run.next(Ended("map", 3, FAILED, retryable=True)) == [Finish(RunState.FAILED)]


def test_parent_that_waits_for_nothing_starts_again_at_once(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    assert expanded(run) == [Start("map", 1)]


def test_parent_may_wait_more_than_once(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    expanded(run, *new("map#0"))
    run.next(Ended("map#0", 2, COMPLETED))
    assert expanded(run, NewTask("map#1", ("map#0",))) == [Start("map#1", 1)]
    assert run.next(Ended("map#1", 3, COMPLETED)) == [Start("map", 1)]
    assert run.next(Ended("map", 4, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_tasks_that_were_completed_before_are_not_started_again(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    assert expanded(run, *new("map#0", state=COMPLETED), NewTask("map#1", ("map#0",))) == [Start("map#1", 1)]
    assert run.next(Ended("map#1", 2, COMPLETED)) == [Start("map", 1)]


def test_parent_of_nothing_but_completed_tasks_starts_again_at_once(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    assert expanded(run, *new("map#0", "map#1", state=COMPLETED)) == [Start("map", 1)]


def test_failure_of_one_task_skips_the_waiting_parent_and_the_others_go_on(planner):
    run = planner({"map": [], "after": ["map"]})
    run.next(Begin(0))
    expanded(run, *new("map#0", "map#1"))
    assert run.next(Ended("map#0", 2, FAILED)) == [Skip("map", "map#0"), Skip("after", "map#0")]
    assert run.next(Ended("map#1", 3, COMPLETED)) == [Finish(RunState.FAILED)]
    assert run.states["map"] is SKIPPED
    assert run.attempts["map"] == 0


def test_waiting_parent_is_skipped_after_everything_that_it_would_have_waited_for(planner):
    run = planner({"map": [], "after": ["map"]})
    run.next(Begin(0))
    expanded(run, NewTask("map#0"), NewTask("map#2", ("map#1",)), NewTask("map#1", ("map#0",)))
    skips = run.next(Ended("map#0", 2, FAILED))[:-1]
    assert [skip.task_id for skip in skips] == ["map#1", "map#2", "map", "after"]


def test_false_condition_of_one_task_skips_the_waiting_parent(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    expanded(run, *new("map#0"))
    assert run.next(Ended("map#0", 2, SKIPPED)) == [Skip("map", "map#0"), Finish(RunState.COMPLETED)]


def test_failed_attempt_of_a_task_that_may_be_tried_again_skips_nobody(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    expanded(run, *new("map#0", retry=RetrySpec(max_attempts=2, initial_interval_ms=0)), *new("map#1"))
    assert run.next(Ended("map#0", 2, FAILED, retryable=True)) == [Start("map#0", 2)]
    assert run.next(Ended("map#1", 2, FAILED, retryable=True)) == [Skip("map", "map#1")]


def test_growth_may_nest(planner):
    run = planner({"map": []}, max_parallelism=1)
    run.next(Begin(0))
    assert expanded(run, *new("map#0")) == [Start("map#0", 1)]
    assert expanded(run, *new("map#0#0", "map#0#1"), parent="map#0") == [Start("map#0#0", 1)]
    assert run.next(Ended("map#0#0", 2, COMPLETED)) == [Start("map#0#1", 1)]
    assert run.next(Ended("map#0#1", 3, COMPLETED)) == [Start("map#0", 1)]
    assert run.next(Ended("map#0", 4, COMPLETED)) == [Start("map", 1)]
    assert run.next(Ended("map", 5, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_waiting_parent_frees_money_for_deferred_tasks(planner):
    run = planner({"map": [], "poor": []})
    run.next(Begin(0))
    run.next(Deferred("poor", 0))
    assert expanded(run, *new("map#0")) == [Start("map#0", 1), Start("poor", 1)]


def test_task_that_joins_keeps_to_the_slots_of_its_model(planner):
    run = planner({"map": []}, per_model={"m": ModelLimits(parallelism=1)})
    run.next(Begin(0))
    assert expanded(run, *new("map#0", "map#1", model="m"), NewTask("map#2")) == [Start("map#0", 1), Start("map#2", 1)]


# --- urgency ---------------------------------------------------------------------------------------------------------


def test_tasks_that_join_start_at_their_parents_place_in_the_order_given(planner):
    run = planner({"first": [], "map": [], "last": []}, priorities={"first": 1, "last": -1}, max_parallelism=2)
    assert run.next(Begin(0)) == [Start("first", 1), Start("map", 1)]
    assert expanded(run, *new("z", "y", "x")) == [Start("z", 1)]
    order = []
    for _ in range(4):
        [start, *_] = run.next(Ended(min(run.running - {"first"}), 2, COMPLETED))
        order.append(start.task_id)
    assert order == ["y", "x", "map", "last"]


def test_tasks_of_a_task_that_joined_come_before_its_siblings(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1)
    run.next(Begin(0))
    expanded(run, *new("a#0", "a#1"), parent="a")
    assert expanded(run, *new("a#0#0", "a#0#1"), parent="a#0") == [Start("a#0#0", 1)]
    order = []
    while not isinstance((actions := run.next(Ended(*run.running, 2, COMPLETED)))[-1], Finish):
        order.append(actions[0].task_id)
    assert order == ["a#0#1", "a#0", "a#1", "a", "b"]


def test_tasks_that_one_task_adds_at_different_times_keep_their_order(planner):
    run = planner({"a": [], "b": []}, max_parallelism=1)
    run.next(Begin(0))
    run.next(Grew(1, new("second"), "a"))
    run.next(Grew(1, new("first"), "a"))
    assert run.next(Ended("a", 2, COMPLETED)) == [Start("second", 1)]
    assert run.next(Ended("second", 3, COMPLETED)) == [Start("first", 1)]


# --- earlier ends ----------------------------------------------------------------------------------------------------


def test_task_that_failed_before_skips_the_waiting_parent(planner):
    run = planner({"map": [], "after": ["map"], "other": []})
    run.next(Begin(0))
    actions = expanded(run, *new("map#0", state=FAILED), NewTask("map#1", ("map#0",)), NewTask("map#2"))
    assert actions == [
        Skip("map#1", "map#0"),
        Skip("map", "map#0"),
        Skip("after", "map#0"),
        Start("map#2", 1),
    ]
    run.next(Ended("map#2", 2, COMPLETED))
    assert run.next(Ended("other", 2, COMPLETED)) == [Finish(RunState.FAILED)]


def test_task_that_failed_before_fails_the_run_fast(planner):
    run = planner({"map": [], "other": []}, on_task_failure="fail_fast")
    run.next(Begin(0))
    actions = expanded(run, *new("map#0", state=FAILED), NewTask("map#1"))
    assert actions == [Cancel("other", "fail_fast"), Skip("map", "map#0")]
    assert run.next(Ended("other", 2, FAILED)) == [Finish(RunState.FAILED)]
    assert run.states["map#1"] is PENDING


def test_task_that_was_skipped_before_names_what_it_was_skipped_for(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    tasks = (NewTask("c", ("b",)), NewTask("b", ("f",), state=SKIPPED), NewTask("f", state=FAILED))
    assert run.next(Grew(1, tasks, "a")) == [Skip("c", "f")]
    assert run.next(Grew(1, (NewTask("e", ("d",)), NewTask("d", state=SKIPPED)), "a")) == [Skip("e", "d")]


@pytest.mark.parametrize("because", [None, "root"])
def test_new_task_behind_a_task_that_failed_is_skipped_for_the_same_cause(planner, because):
    run = planner({"a": [], "b": ["a"], "c": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, FAILED, because=because))
    assert run.next(Grew(2, (NewTask("d", ("c", "b")), NewTask("e", ("a",))), "c")) == [
        Skip("d", because or "a"),
        Skip("e", because or "a"),
    ]


def test_tasks_of_an_earlier_execution_join_before_the_run_begins(planner):
    run = planner({"a": [], "z": []}, completed=["a", "z"])
    assert run.next(Grew(0, (NewTask("b", ("a",), state=COMPLETED), NewTask("c", ("a",))), "a")) == []
    assert run.next(Grew(0, (NewTask("d", ("b",)), NewTask("e", ("f",)), NewTask("f", state=SKIPPED)), "b")) == []
    assert run.next(Begin(0)) == [Skip("e", "f"), Start("d", 1), Start("c", 1)]
    run.next(Ended("c", 1, COMPLETED))
    assert run.next(Ended("d", 1, COMPLETED)) == [Finish(RunState.COMPLETED)]


def test_parent_that_waited_in_an_earlier_execution_waits_again_before_it_is_started(planner):
    run = planner({"a": [], "map": ["a"], "after": ["map"]}, completed=["a"], max_parallelism=1)
    tasks = (*new("map#0", state=COMPLETED), *new("map#1"))
    assert run.next(Grew(0, tasks, "map", parent_waits=True)) == []
    assert run.next(Begin(0)) == [Start("map#1", 1)]
    assert run.next(Ended("map#1", 1, COMPLETED)) == [Start("map", 1)]
    assert run.next(Ended("map", 2, COMPLETED)) == [Start("after", 1)]


def test_parent_that_waited_in_an_earlier_execution_is_skipped_for_what_failed_there(planner):
    run = planner({"map": [], "after": ["map"]})
    assert run.next(Grew(0, new("map#0", state=FAILED), "map", parent_waits=True)) == []
    assert run.next(Begin(0)) == [Skip("map", "map#0"), Skip("after", "map#0"), Finish(RunState.FAILED)]


def test_failure_of_an_earlier_execution_that_joins_before_the_run_begins_fails_it_fast(planner):
    run = planner({"a": [], "z": []}, completed=["a"], on_task_failure="fail_fast")
    assert run.next(Grew(0, new("b", state=FAILED), "a")) == []
    assert run.next(Begin(0)) == [Finish(RunState.FAILED)]


# --- the run ends meanwhile ------------------------------------------------------------------------------------------


def test_parent_that_would_wait_in_a_run_that_is_aborted_ends_as_cancelled(planner):
    run = planner({"map": [], "after": ["map"], "other": []})
    run.next(Begin(0))
    run.next(Abort(1))
    assert expanded(run, *new("map#0")) == []
    assert run.states == {"map": FAILED, "after": PENDING, "other": RUNNING}
    assert run.next(Ended("other", 2, FAILED)) == [Finish(RunState.ABORTED, "abort")]


def test_tasks_that_join_a_run_that_is_aborted_stay_pending(planner):
    run = planner({"a": [], "b": []})
    run.next(Begin(0))
    run.next(Abort(1))
    run.next(Ended("b", 1, FAILED))
    assert run.next(Grew(1, (NewTask("c"), NewTask("d", ("b",))), "a")) == []
    assert run.next(Ended("a", 2, COMPLETED)) == [Finish(RunState.ABORTED, "abort")]
    assert run.states == {"a": COMPLETED, "b": FAILED, "c": PENDING, "d": PENDING}


def test_parent_that_waits_in_a_shutdown_is_left_for_later(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    run.next(Drain(1))
    assert expanded(run, *new("map#0")) == [Finish(RunState.RUNNING, "drain")]
    assert run.states == {"map": PENDING, "map#0": PENDING}


def test_tasks_that_join_while_the_run_waits_to_ask_are_part_of_the_question(planner):
    run = planner({"map": [], "poor": []})
    run.next(Begin(0))
    run.next(Deferred("poor", 0, ask=True))
    assert expanded(run, *new("map#0")) == [Ask(("map#0", "poor"))]


def test_growth_that_comes_too_late_changes_nothing(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    run.next(Ended("a", 1, COMPLETED))
    assert run.next(Grew(2, new("b"), "a")) == []
    assert run.states == {"a": COMPLETED}


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(run, event, error):
    before = dict(run.states)
    with pytest.raises(error) as caught:
        run.next(event)
    assert run.states == before
    return caught.value


def test_parent_that_does_not_run_cannot_wait(planner):
    run = planner({"a": [], "b": ["a"]})
    run.next(Begin(0))
    error = refused(run, Grew(1, new("c"), "b", parent_waits=True), TaskNotReadyError)
    assert "'b' is pending and does not run" in str(error)
    assert error.state == "pending"


def test_parent_that_ended_in_an_earlier_execution_cannot_wait(planner):
    run = planner({"a": []}, completed=["a"])
    refused(run, Grew(0, new("b"), "a", parent_waits=True), TaskNotReadyError)


@pytest.mark.parametrize("parent_waits", [True, False])
def test_unknown_parent_is_refused(planner, parent_waits):
    run = planner({"a": []})
    run.next(Begin(0))
    refused(run, Grew(1, new("c"), "zzz", parent_waits=parent_waits), TaskNotFoundError)


@pytest.mark.parametrize("tasks", [new("b"), new("c", "c")])
def test_id_that_is_in_use_is_refused(planner, tasks):
    run = planner({"a": [], "b": ["a"]})
    run.next(Begin(0))
    error = refused(run, Grew(1, tasks, "a", parent_waits=True), InvalidDAGError)
    assert f"{tasks[0].task_id!r} is used more than once" in str(error)


def test_malformed_id_is_refused(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    refused(run, Grew(1, new("no/slash"), "a"), InvalidInputError)


@pytest.mark.parametrize("state", [READY, RUNNING])
def test_task_cannot_join_half_way(planner, state):
    run = planner({"a": []})
    run.next(Begin(0))
    error = refused(run, Grew(1, new("b", state=state), "a"), InvalidInputError)
    assert f"'b' cannot join as {state}" in str(error)


def test_unknown_dependency_is_refused(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    error = refused(run, Grew(1, (NewTask("page-1"), NewTask("c", ("page_1",))), "a"), DependencyNotFoundError)
    assert (error.task_id, error.dependency) == ("c", "page_1")
    assert error.hint == "did you mean 'page-1'?"


def test_unknown_dependency_that_resembles_nothing_is_refused(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    error = refused(run, Grew(1, new("b", deps=("zzz",)), "a"), DependencyNotFoundError)
    assert error.hint == "add the task, or drop the dependency"


def test_cycle_among_the_new_tasks_is_refused(planner):
    run = planner({"a": []})
    run.next(Begin(0))
    error = refused(run, Grew(1, (NewTask("b", ("c",)), NewTask("c", ("b",))), "a"), CyclicDependencyError)
    assert error.cycle == ("b", "c", "b")


def test_waiting_parent_cannot_be_waited_for_by_its_tasks(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    error = refused(run, Grew(1, new("map#0", deps=("map",)), "map", parent_waits=True), CyclicDependencyError)
    assert error.cycle == ("map#0", "map", "map#0")


def test_waiting_parent_cannot_wait_for_what_comes_after_it(planner):
    run = planner({"map": [], "x": ["map"], "y": ["x"], "z": ["x", "map"], "other": []})
    run.next(Begin(0))
    event = Grew(1, new("map#0", deps=("other", "y")), "map", parent_waits=True)
    error = refused(run, event, CyclicDependencyError)
    assert error.cycle == ("map#0", "map", "x", "y", "map#0")


def test_tasks_of_a_waiting_parent_may_depend_on_what_does_not_come_after_it(planner):
    run = planner({"map": [], "done": ["map"], "other": [], "after": ["map"]}, completed=["done"])
    run.next(Begin(0))
    assert expanded(run, NewTask("map#0", ("done", "other"))) == []
    assert run.next(Ended("other", 2, COMPLETED)) == [Start("map#0", 1)]
    assert run.next(Ended("map#0", 3, COMPLETED)) == [Start("map", 1)]


def test_task_that_was_refused_may_join_in_a_corrected_form(planner):
    run = planner({"map": []})
    run.next(Begin(0))
    refused(run, Grew(1, (NewTask("map#0"), NewTask("map#1", ("zzz",))), "map", parent_waits=True), InvalidDAGError)
    assert run.running == {"map"}
    assert expanded(run, *new("map#0", "map#1")) == [Start("map#0", 1), Start("map#1", 1)]

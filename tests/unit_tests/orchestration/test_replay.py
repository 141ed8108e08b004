"""Recorded runs, played again: what a record tells of a run's course, and what other settings make of it."""

from datetime import UTC, datetime, timedelta

import pytest

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import ModelLimits, Run, RunPolicy, RunState, Task, TaskState
from langchain_runtime.orchestration.replay import Pace, Settings, replay
from langchain_runtime.orchestration.sittings import pauses_between
from langchain_runtime.orchestration.trace import trace_of

T0 = datetime(2026, 11, 23, tzinfo=UTC)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def ran(task_id, start, end, *deps, **fields):
    times = {"started_at": at(start), "ended_at": at(end)}
    return Task(**{"id": task_id, "state": TaskState.COMPLETED, "deps": list(deps), "attempts": 1, **times, **fields})


def run_of(*tasks, slots=8, per_model=None, state=RunState.COMPLETED):
    policy = RunPolicy(max_parallelism=slots, per_model=per_model or {})
    return Run(id="r", state=state, policy=policy, tasks={task.id: task for task in tasks})


def turns(run):
    return {
        task_id: (t.sitting, t.lag / 1e6, t.wait / 1e6, t.lasted / 1e6) for task_id, t in trace_of(run).turns.items()
    }


def played(run, slots=None, pace=None, **changes):
    slots = slots or run.policy.max_parallelism
    limits = {model: each.parallelism for model, each in run.policy.per_model.items()}
    return replay(trace_of(run), Settings(slots, **{"parallelism": limits, **changes}), expected_seconds={}, pace=pace)


# --- turns -----------------------------------------------------------------------------------------------------------


def test_the_executor_lag_is_part_of_a_turn():
    run = run_of(ran("a", 0, 1), ran("b", 1.01, 2, "a"), ran("c", 2.02, 3, "b"))
    assert turns(run) == {"a": (0, 0, 0, 1), "b": (0, 0.01, 0, 0.99), "c": (0, 0.02, 0, 0.98)}
    assert played(run).seconds == 3


def test_a_task_that_waited_for_a_slot_did_not_lag():
    run = run_of(ran("a", 0, 1), ran("b", 0, 4), ran("c", 1.01, 5), slots=2)
    assert turns(run)["c"] == (0, 0.01, 0, 3.99)
    assert played(run).seconds == 5
    assert played(run, slots=3).seconds == 4


def test_a_task_that_waited_for_its_model_did_not_lag():
    limits = {"m": ModelLimits(parallelism=1)}
    run = run_of(ran("a", 0, 3, model="m"), ran("b", 3.01, 5, model="m"), per_model=limits)
    assert turns(run)["b"] == (0, 0.01, 0, 1.99)
    assert played(run).seconds == 5
    assert played(run, parallelism={}).seconds == 3


def test_the_slot_that_was_free_for_longest_is_taken_first():
    run = run_of(ran("a", 0, 1), ran("b", 0, 2), ran("c", 2.01, 3), ran("d", 2.02, 3), slots=2)
    # c can have had the slot from 1 on, and waited for something else; d had to wait for b.
    assert turns(run)["c"] == (0, 0, 1.01, 0.99)
    assert turns(run)["d"] == (0, 0.02, 0, 0.98)


def test_who_waits_with_a_free_slot_leaves_it_to_others():
    waited = run_of(ran("a", 0, 10), ran("b", 4, 5), slots=2)
    assert turns(waited)["b"] == (0, 0, 4, 1)
    assert played(waited).seconds == 10
    assert played(waited, slots=1).seconds == 15  # it asks, and waits, once a has ended


def test_who_was_tried_again_held_the_slot():
    run = run_of(ran("a", 0, 1), ran("b", 5, 6, "a", attempts=3))
    assert turns(run)["b"] == (0, 4, 0, 1)
    assert played(run).seconds == 6


def test_records_that_overlap_more_than_they_can_are_read_all_the_same():
    run = run_of(ran("a", 0, 2), ran("b", 1, 3), ran("c", 3, 4), slots=1)
    assert turns(run) == {"a": (0, 0, 0, 2), "b": (0, 0, 0, 2), "c": (0, 0, 0, 1)}


def test_clocks_that_disagree_do_not_make_negative_times():
    run = run_of(ran("a", 5, 4), ran("b", 0, 6, "a"))
    assert turns(run)["a"][3] == 0
    assert played(run).seconds == 6


def test_a_run_without_times_is_refused():
    with pytest.raises(InvalidInputError, match="no task with a start and an end") as caught:
        trace_of(run_of(Task(id="a", state=TaskState.COMPLETED), ran("b", 0, 1, state=TaskState.RUNNING)))
    assert "at least one task has ended" in caught.value.hint


# --- several executions ----------------------------------------------------------------------------------------------


def test_pauses_are_long_gaps():
    assert pauses_between([(0, 10), (14, 20), (30, 40), (35, 36)]) == [(20, 30)]
    assert pauses_between([(0, 100), (110, 200)]) == []
    assert pauses_between([]) == []


def test_a_night_between_two_executions_does_not_count_and_nothing_moves_across_it():
    # b ran already in the first execution, was killed with it, and did all its work in the second.
    run = run_of(ran("a", 0, 10), ran("b", 30_010, 30_020), ran("c", 30_020, 30_021, "b"))
    trace = trace_of(run)
    assert (trace.lengths, trace.paused) == ((10_000_000, 11_000_000), 30_000_000_000)
    assert turns(run)["b"] == (1, 0, 0, 10)
    assert played(run).seconds == 21
    assert played(run).path == ("a", "b", "c")


def test_a_resumed_for_each_task_goes_on_with_the_children_that_are_left():
    run = run_of(
        ran("list", 0, 1),
        ran("map", 1002, 1002, "list", "map#0", "map#1"),
        ran("end", 1002, 1003, "map"),
        ran("map#0", 1, 2, "list", added_by="map"),
        ran("map#1", 1000, 1002, "list", added_by="map"),
        ran("extra", 1001, 1001.5, "map#0", added_by="map#0"),
        slots=2,
    )
    assert trace_of(run).lengths == (2_000_000, 3_000_000)
    again = played(run, slots=1)
    assert again.seconds == pytest.approx(2 + 2 + 1 + 0.5 + 0)
    assert played(run).seconds == 5


# --- runs that did not complete --------------------------------------------------------------------------------------


def test_what_did_not_run_is_not_played():
    run = run_of(
        ran("a", 0, 1, state=TaskState.FAILED),
        Task(id="b", deps=["a"], state=TaskState.SKIPPED, skipped_because="a"),
        ran("c", 0, 3),
        Task(id="d", deps=["c"]),
        Task(id="e", deps=["d"]),
        Task(id="f", deps=["c"], state=TaskState.FAILED, ended_at=at(3)),
        state=RunState.ABORTED,
    )
    assert played(run).seconds == 3
    assert played(run, slots=1).seconds == 4


def test_a_condition_that_did_not_hold_and_a_result_by_hand_take_no_time():
    run = run_of(
        ran("a", 0, 1),
        Task(id="b", deps=["a"], state=TaskState.SKIPPED, ended_at=at(1)),
        Task(id="c", deps=["a"], state=TaskState.COMPLETED),
        ran("d", 1, 2, "c"),
    )
    assert played(run).seconds == 2
    assert played(run).path == ("a", "d")


def test_a_task_that_ran_although_its_dependency_did_not_complete_is_played():
    run = run_of(ran("a", 0, 1, state=TaskState.FAILED), ran("b", 1, 2, "a"), state=RunState.FAILED, slots=1)
    assert played(run).seconds == 2


# --- other settings --------------------------------------------------------------------------------------------------


def test_other_durations_keep_the_lag():
    run = run_of(ran("a", 0, 1), ran("b", 1.25, 2, "a", attempts=2))
    assert played(run, seconds={"b": 3.0}).seconds == 4.25


def test_the_path_leads_over_slots_and_dependencies():
    run = run_of(ran("a", 0, 3), ran("b", 0, 4), ran("c", 3, 6), slots=2)
    assert played(run).path == ("a", "c")
    assert played(run, slots=3).path == ("b",)


class Every(Pace):
    """A model that takes a call every ten seconds."""

    def __init__(self):
        self.free, self.told = 0.0, []

    def governs(self, model):
        return model == "m"

    def closed_for(self, task_id, now):
        return max(0.0, self.free - now)

    def started(self, task_id, now):
        self.free = now + 10
        self.told.append((task_id, now))


def test_a_pace_takes_the_place_of_recorded_waits():
    run = run_of(ran("a", 0, 1, model="m"), ran("b", 4, 5, model="m"))
    pace = Every()
    assert played(run).seconds == 5
    assert played(run, pace=pace).seconds == 11
    assert pace.told == [("a", 0.0), ("b", 10.0)]

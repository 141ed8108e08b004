import pytest

from langchain_runtime.contracts.run import RetrySpec, RunState, TaskState
from langchain_runtime.orchestration import Attempt, Forecast, Grew, NewTask, Span, Throttled, simulate

COMPLETED, FAILED = TaskState.COMPLETED, TaskState.FAILED


def test_forecast_tells_when_each_attempt_starts_and_ends(planner):
    seconds = {"a": 1.0, "b": 2.0, "c": 3.0}
    forecast = simulate(planner({"a": [], "b": [], "c": ["a"]}), lambda task_id, _: Attempt(seconds[task_id]))
    assert forecast == Forecast(
        state=RunState.COMPLETED,
        reason=None,
        makespan=4.0,
        spans=(
            Span("a", 1, 0.0, 1.0, COMPLETED),
            Span("b", 1, 0.0, 2.0, COMPLETED),
            Span("c", 1, 1.0, 4.0, COMPLETED),
        ),
        skipped={},
    )


@pytest.mark.parametrize(("slots", "makespan"), [(1, 6), (2, 3), (3, 2), (6, 1), (7, 1)])
def test_forecast_keeps_to_the_slots(planner, slots, makespan):
    run = planner({f"t{i}": [] for i in range(6)}, max_parallelism=slots)
    assert simulate(run, lambda *_: Attempt(1)).makespan == makespan


def test_attempts_may_differ(planner):
    run = planner({"a": [], "b": ["a"]}, retry=RetrySpec(max_attempts=2, initial_interval_ms=500))
    forecast = simulate(run, lambda task_id, n: Attempt(n, FAILED if (task_id, n) == ("a", 1) else COMPLETED, True))
    assert [(span.task_id, span.attempt, span.started, span.ended) for span in forecast.spans] == [
        ("a", 1, 0.0, 1.0),
        ("a", 2, 1.5, 3.5),
        ("b", 1, 3.5, 4.5),
    ]


def test_cancelled_attempt_ends_when_it_is_cancelled(planner):
    run = planner({"a": [], "b": [], "a2": ["a"]}, on_task_failure="fail_fast")
    forecast = simulate(run, lambda task_id, _: Attempt(9) if task_id == "b" else Attempt(1, FAILED))
    assert forecast.spans == (Span("a", 1, 0.0, 1.0, FAILED), Span("b", 1, 0.0, 1.0, FAILED))
    assert forecast.skipped == {"a2": "a"}
    assert (forecast.state, forecast.makespan) == (RunState.FAILED, 1.0)


def test_a_task_that_meets_an_obstacle_starts_when_it_is_gone(planner):
    run = planner({"a": [], "b": []}, models={"a": "m", "b": "m"})
    forecast = simulate(
        run,
        lambda *_: Attempt(1),
        obstacle=lambda task_id, now: Throttled(task_id, now, 5.0) if task_id == "b" and now < 5 else None,
    )
    assert [(span.task_id, span.attempt, span.started) for span in forecast.spans] == [("a", 1, 0.0), ("b", 1, 5.0)]


def test_a_task_that_grows_waits_for_its_children(planner):
    grown = []

    def grow(task_id, now):
        if task_id != "map" or grown:
            return None
        grown.append(task_id)
        return Grew(now, (NewTask("map#0"), NewTask("map#1")), "map", parent_waits=True)

    forecast = simulate(planner({"map": [], "end": ["map"]}), lambda task_id, _: Attempt("#" in task_id), obstacle=grow)
    assert [(span.task_id, span.ended) for span in forecast.spans] == [
        ("map#0", 1),
        ("map#1", 1),
        ("map", 1),
        ("end", 1),
    ]


def test_ends_are_told_before_the_planner_goes_on(planner):
    told = []

    def does(task_id, _number):
        told.append(f"{task_id} starts")
        return Attempt(1)

    simulate(planner({"a": [], "b": ["a"]}), does, on_end=lambda span: told.append(f"{span.task_id} ends"))
    assert told == ["a starts", "a ends", "b starts", "b ends"]

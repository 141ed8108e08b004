"""The critical path, pauses and speed-up on hand-made DAGs."""

import pytest

from langchain_runtime.report import RunReport
from langchain_runtime.report.timeline import ticks


def path_of(run):
    return [(step.task, round(step.seconds, 3), round(step.waited, 3)) for step in RunReport(run).figures.path]


def test_the_critical_path_follows_the_dependency_that_ended_last(make):
    run = make.run(
        make.done("a", 0, 1),
        make.done("short", 1, 2, deps=["a"]),
        make.done("long", 1, 6, deps=["a"]),
        make.done("join", 6, 8, deps=["short", "long"]),
        make.done("aside", 0, 7.9),
    )
    assert path_of(run) == [("a", 1, 0), ("long", 5, 0), ("join", 2, 0)]


def test_steps_and_waits_add_up_to_the_duration(make):
    run = make.run(make.done("a", 0, 1), make.done("b", 3, 4.5, deps=["a"]), make.done("early", 0, 0.5))
    figures = RunReport(run).figures
    assert path_of(run) == [("a", 1, 0), ("b", 1.5, 2)]
    assert sum(step.seconds + step.waited for step in figures.path) == figures.duration == 4.5


def test_a_task_that_waited_for_a_slot_is_led_back_to_the_task_that_had_it(make):
    run = make.run(make.done("first", 0, 3), make.done("second", 3.01, 5), make.done("third", 5, 6))
    figures = RunReport(run).figures
    assert [(step.task, step.queued) for step in figures.path] == [("first", False), ("second", True), ("third", True)]


def test_an_unrelated_end_just_before_a_prompt_start_does_not_divert_the_path(make):
    run = make.run(make.done("a", 0, 3), make.done("aside", 0, 3.01), make.done("b", 3.02, 5, deps=["a"]))
    assert path_of(run) == [("a", 3, 0), ("b", 1.98, 0.02)]


def test_a_for_each_task_stands_on_the_path_by_its_last_child(make):
    run = make.run(
        make.done("list", 0, 1),
        make.done("map", 1, 6, deps=["list"]),
        make.done("map#0", 1, 3),
        make.done("map#1", 1, 6),
        make.done("reduce", 6, 7, deps=["map"]),
    )
    assert path_of(run) == [("list", 1, 0), ("map#1", 5, 0), ("reduce", 1, 0)]


def test_a_for_each_task_is_not_counted_beside_its_children(make):
    run = make.run(make.done("map", 0, 4), make.done("map#0", 0, 2), make.done("map#1", 2, 4))
    figures = RunReport(run).figures
    assert figures.work == 4
    assert figures.speedup == 1
    assert str(figures.models[0].total.cost) == "0.02 USD"


def test_a_cycle_of_clocks_and_deps_ends(make):
    # Two machines whose clocks disagree can report a dependency that ended after its dependent.
    run = make.run(make.done("a", 0, 5, deps=["b"]), make.done("b", 0, 5, deps=["a"]))
    assert len(path_of(run)) == 2


def test_clocks_that_disagree_do_not_make_negative_times(make):
    run = make.run(make.done("a", 5, 4))
    assert RunReport(run).figures.tasks[0].seconds == 0


def test_the_night_between_two_sittings_is_a_pause(make):
    run = make.run(make.done("a", 0, 10), make.done("b", 30_010, 30_020, deps=["a"]))
    figures = RunReport(run).figures
    assert figures.duration == 20
    assert figures.paused == 30_000
    assert [step.waited for step in figures.path] == [0, 0]
    assert "paused 8 h 20 min" in RunReport(run).to_text(80)
    assert "paused 8 h 20 min" in RunReport(run).to_html()


def test_a_back_off_between_tasks_is_no_pause(make):
    run = make.run(make.done("a", 0, 10), make.done("b", 12, 20, deps=["a"]))
    assert RunReport(run).figures.paused == 0
    assert RunReport(run).figures.duration == 20


def test_speed_up_is_task_seconds_by_wall_seconds(make):
    run = make.run(*(make.done(f"t{place}", 0, 10) for place in range(4)))
    assert RunReport(run).figures.speedup == 4


def test_a_run_without_tasks_has_no_path_and_no_duration(make):
    figures = RunReport(make.run()).figures
    assert (figures.path, figures.duration, figures.speedup) == ((), None, None)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, [0]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (23, [0, 5, 10, 15, 20]),
        (250, [0, 60, 120, 180, 240]),
        (7300, [0, 1800, 3600, 5400, 7200]),
        (900_000, [0, 259_200, 518_400, 777_600]),
    ],
)
def test_ticks_are_round_moments_within_the_run(seconds, expected):
    assert ticks(seconds) == pytest.approx(expected)

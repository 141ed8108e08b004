import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_runtime.contracts.run import TaskState
from langchain_runtime.orchestration import Attempt, Span, enough_slots, peak, simulate
from langchain_runtime.orchestration.parallelism import WITHIN


def span(started, ended):
    return Span("t", 1, started, ended, TaskState.COMPLETED)


@pytest.mark.parametrize(
    ("spans", "most"),
    [([], 0), ([(0, 1), (1, 2)], 1), ([(0, 2), (1, 3), (1, 2)], 3), ([(1, 1), (1, 1), (0, 2)], 1)],
    ids=["none", "one after the other", "together", "instants do not count"],
)
def test_peak(spans, most):
    assert peak(span(*each) for each in spans) == most


def search(makespans, **given):
    asked = []

    def makespan_with(slots):
        asked.append(slots)
        return makespans[slots]

    return enough_slots(makespan_with, **given), asked


def test_the_fewest_slots_within_five_percent_of_the_fastest():
    makespans = {1: 40, 2: 20, 3: 14, 4: 10.4, 5: 10.2, 6: 10, 7: 10, 8: 10}
    enough, _ = search(makespans, fastest=10, work=40, at_most=8)
    assert enough == (4, 10.4, 10)


def test_slots_that_the_work_alone_rules_out_are_not_tried():
    _, asked = search(dict.fromkeys(range(1, 101), 10), fastest=10, work=500, at_most=100)
    assert min(asked) >= 48


def test_a_chain_needs_one_slot_and_no_play():
    assert search({}, fastest=5, work=5, at_most=1) == ((1, 5, 5), [])


def test_a_run_of_instants_needs_one_slot():
    assert search({1: 0.0, 2: 0.0}, fastest=0, work=0, at_most=4)[0].slots == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture only builds planners
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_what_is_found_is_enough_for_independent_tasks(planner, durations):
    seconds = {f"t{i}": each for i, each in enumerate(durations)}

    def play(slots):
        run = planner({task_id: [] for task_id in seconds}, max_parallelism=slots)
        return simulate(run, lambda task_id, _: Attempt(seconds[task_id])).makespan

    enough = enough_slots(play, fastest=max(durations), work=sum(durations), at_most=len(durations))
    assert play(enough.slots) == enough.makespan <= enough.fastest * (1 + WITHIN)

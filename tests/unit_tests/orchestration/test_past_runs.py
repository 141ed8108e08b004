import pytest

from langchain_runtime.contracts.history import TaskSample
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.orchestration import PastRuns, durations_of, mean_items, typical_seconds


def sample(task="t", body="b", model="m", seconds=1.0, output=0, items=None):
    return TaskSample(task, body, model, seconds, TokenUsage(output=output), items=items)


def test_samples_of_the_same_task_come_before_those_of_the_same_prompt_elsewhere():
    own, other = sample(), sample(task="other")
    past = PastRuns([other, own])
    assert (past.of("t", "b", "m"), past.has("t", "b", "m")) == ([own], True)
    assert (past.of("new", "b", "m"), past.has("new", "b", "m")) == ([other, own], False)


@pytest.mark.parametrize("key", [("t", "rewritten", "m"), ("t", "b", "another model")])
def test_a_task_with_another_prompt_or_model_has_no_samples(key):
    assert not PastRuns([sample()]).of(*key)


def test_the_speed_of_a_model_is_a_line_through_its_answers():
    past = PastRuns(sample(task=str(n), seconds=1 + n / 50, output=n) for n in (100, 200, 300))
    assert past.seconds_on("m", 400) == pytest.approx(9.0)


def test_a_line_is_not_followed_below_the_fastest_answer():
    past = PastRuns(sample(task=str(n), seconds=n / 50, output=n) for n in (100, 200, 300))
    assert past.seconds_on("m", 0) == 2.0


@pytest.mark.parametrize(
    "samples",
    [
        [(1.0, 100), (3.0, 200)],
        [(1.0, 100), (2.0, 100), (3.0, 100)],
        [(3.0, 100), (2.0, 200), (1.0, 300)],
    ],
    ids=["too few", "all of one length", "longer answers were faster"],
)
def test_without_a_rising_line_the_speed_is_the_usual_time(samples):
    assert PastRuns(sample(seconds=s, output=n) for s, n in samples).seconds_on("m", 1000) == 2.0


def test_nothing_is_known_of_a_model_that_never_answered():
    assert PastRuns([sample(), sample(model=None)]).seconds_on("other", 10) is None


def test_one_slow_answer_does_not_make_a_task_slow():
    assert typical_seconds([sample(seconds=s) for s in (1, 1, 60)]) == 1


def test_the_length_of_a_list_is_its_mean():
    assert mean_items([sample(items=n) for n in (3, 4, 8)]) == 5
    assert mean_items([sample()]) is None


def test_durations_are_by_task_and_of_several_samples_the_median():
    samples = [sample("a", seconds=1.0), *[sample("map#", seconds=s) for s in (1.0, 2.0, 9.0)]]
    assert durations_of(samples) == {("a", "b", "m"): 1.0, ("map#", "b", "m"): 2.0}

"""What a model's calls teach about its estimates: the tokeniser by large ones, the prompt of its own by small ones."""

import pytest

from langchain_runtime.cost.token_calibration import Correction, TokenCalibration


def learnt(*calls, model="m"):
    calibration = TokenCalibration()
    for estimated, true in calls:
        calibration.add(model, estimated, true)
    return calibration


def test_a_model_that_was_never_seen_is_not_corrected():
    assert learnt((1_000, 1_300)).of("other") == Correction() == Correction(1.0, 0.0)
    assert Correction().applied_to(123) == 123


def test_the_first_call_moves_the_estimate_half_way():
    assert learnt((1_000, 1_300)).of("m") == Correction(1.15, 0)
    assert learnt((10, 30)).of("m") == Correction(1, 10)


def test_calls_that_agree_are_believed():
    assert learnt(*[(1_000, 1_300)] * 3).of("m").applied_to(2_000) == 2_600
    assert learnt(*[(10, 86)] * 3).of("m").applied_to(20) == 96


def test_a_prompt_of_the_providers_own_does_not_grow_with_the_request():
    correction = learnt(*[(10, 86)] * 8).of("m")
    assert correction.applied_to(10_000) == 10_076


def test_a_tokeniser_is_told_from_a_prompt():
    # 1.2 tokens for each estimated one, and 40 around the request.
    correction = learnt(*[(size, round(1.2 * size + 40)) for size in (10, 20, 30, 4_000, 5_000, 6_000)] * 3).of("m")
    assert correction.applied_to(20) == pytest.approx(64, abs=2)
    assert correction.applied_to(5_000) == pytest.approx(6_040, abs=60)


def test_one_odd_call_changes_little():
    assert learnt(*[(1_000, 1_100)] * 5, (1_000, 90_000)).of("m").factor == pytest.approx(1.1)
    assert learnt(*[(10, 12)] * 5, (10, 90_000)).of("m").offset == 2


@pytest.mark.parametrize(
    ("calls", "correction"),
    [
        ([(1_000, 10_000)] * 9, Correction(1.5, 0)),
        ([(1_000, 1)] * 9, Correction(2 / 3, 0)),
        ([(10, 5_000)] * 9, Correction(1, 100)),
        ([(90, 1)] * 9, Correction(1, -20)),
    ],
)
def test_no_correction_goes_beyond_what_tokenisers_and_prompts_do(calls, correction):
    assert learnt(*calls).of("m") == correction


def test_an_estimate_stays_positive_and_nothing_stays_nothing():
    correction = learnt(*[(90, 1)] * 9).of("m")
    assert correction.applied_to(5) == 1
    assert correction.applied_to(0) == 0


def test_habits_change():
    old, new = [(1_000, 1_300)] * 100, [(1_000, 1_000)] * 32
    assert learnt(*old, *new).of("m") == Correction(1, 0)


def test_models_are_learnt_apart_and_in_bounded_memory():
    calibration = learnt(*[(1_000, 1_300)] * 5)
    calibration.add(None, 1_000, 900)
    assert calibration.of("m").factor == pytest.approx(1.3)
    assert calibration.of(None).factor == pytest.approx(0.95)
    for number in range(1_000):
        calibration.add(f"m{number}", 1_000, 1_300)
    assert len(calibration._calls) <= 256
    assert calibration.of("m") == Correction()
    assert calibration.of("m999").factor == 1.15

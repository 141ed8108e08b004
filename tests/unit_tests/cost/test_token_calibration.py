"""What a model's calls teach about its estimates: the tokeniser by large ones, the prompt of its own by small ones."""

import pytest

from langchain_runtime.cost.token_calibration import Correction, TokenCalibration


def learnt(*calls, model="m", tools=False):
    calibration = TokenCalibration()
    for estimated, true in calls:
        calibration.add(model, estimated, true, tools=tools)
    return calibration.of("m", tools=tools)


def test_a_model_that_was_never_seen_is_not_corrected():
    assert learnt(*[(1_000, 1_300)] * 9, model="other") == Correction() == Correction(1.0, 0.0)
    assert Correction().applied_to(123) == 123


def test_one_call_teaches_nothing_and_two_that_agree_do():
    assert learnt((1_000, 1_300)) == learnt((10, 86)) == Correction()
    assert learnt((1_000, 1_300), (2_000, 2_400)) == Correction(1.2, 0)
    assert learnt((10, 86), (12, 80)) == Correction(1, 68)


def test_calls_that_agree_are_believed():
    assert learnt(*[(1_000, 1_300)] * 3).applied_to(2_000) == 2_600
    assert learnt(*[(1_000, 800)] * 3).applied_to(2_000) == 1_600
    assert learnt(*[(10, 86)] * 3).applied_to(20) == 96


def test_estimates_that_only_scatter_are_left_alone():
    assert learnt(*[(1_000, 1_200), (1_000, 850), (1_000, 1_100), (1_000, 900)] * 4) == Correction()
    assert learnt(*[(10, 12), (10, 8)] * 4) == Correction()


def test_a_prompt_of_the_providers_own_does_not_grow_with_the_request():
    assert learnt(*[(10, 86)] * 8).applied_to(10_000) == 10_076


def test_a_tokeniser_is_told_from_a_prompt():
    # 1.2 tokens for each estimated one, and 40 around the request.
    correction = learnt(*[(size, round(1.2 * size + 40)) for size in (10, 20, 30, 4_000, 5_000, 6_000)] * 3)
    assert correction.applied_to(20) == pytest.approx(64, abs=2)
    assert correction.applied_to(5_000) == pytest.approx(6_040, abs=60)


def test_requests_with_tools_are_learnt_apart():
    calibration = TokenCalibration()
    for _ in range(3):
        calibration.add("m", 60, 560, tools=True)
        calibration.add("m", 60, 66, tools=False)
    assert calibration.of("m", tools=True).applied_to(80) == 580
    assert calibration.of("m", tools=False).applied_to(80) == 86


def test_one_odd_call_changes_little():
    assert learnt(*[(1_000, 1_100)] * 5, (1_000, 90_000)).factor == pytest.approx(1.1)
    assert learnt(*[(10, 12)] * 5, (10, 90_000)).offset == 2


@pytest.mark.parametrize(
    ("call", "tools", "correction"),
    [
        ((1_000, 10_000), False, Correction(1.5, 0)),
        ((1_000, 1), False, Correction(2 / 3, 0)),
        ((10, 5_000), False, Correction(1, 100)),
        ((10, 5_000), True, Correction(1, 1_000)),
        ((90, 1), False, Correction(1, -20)),
        ((300, 1), True, Correction(1, -200)),
    ],
)
def test_no_correction_goes_beyond_what_tokenisers_and_prompts_do(call, tools, correction):
    assert learnt(*[call] * 9, tools=tools) == correction


def test_an_estimate_stays_positive_and_nothing_stays_nothing():
    correction = learnt(*[(90, 1)] * 9)
    assert correction.applied_to(5) == 1
    assert correction.applied_to(0) == 0


def test_habits_change():
    assert learnt(*[(1_000, 1_300)] * 100, *[(1_000, 1_000)] * 32) == Correction(1, 0)


def test_models_are_learnt_apart_and_in_bounded_memory():
    calibration = TokenCalibration()
    for _ in range(2):
        calibration.add("m", 1_000, 1_300, tools=False)
        calibration.add(None, 1_000, 900, tools=False)
    assert calibration.of("m", tools=False).factor == pytest.approx(1.3)
    assert calibration.of(None, tools=False).factor == pytest.approx(0.9)
    for number in range(1_000):
        for _ in range(2):
            calibration.add(f"m{number}", 1_000, 1_300, tools=False)
    assert len(calibration._calls) <= 256
    assert calibration.of("m", tools=False) == Correction()
    assert calibration.of("m999", tools=False).factor == 1.3

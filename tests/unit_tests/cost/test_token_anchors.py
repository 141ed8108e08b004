"""Observed conversations are found by what they say, and take bounded memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_runtime.cost.token_anchors import Anchor, Observed, TokenAnchors

FIRST, SECOND = Observed(100, 10, 0), Observed(200, 20, 5)
ROOT = ("openai:gpt-5", 7)


@pytest.fixture
def anchors():
    found = TokenAnchors()
    found.add(ROOT, [1, 2], FIRST)
    found.add(ROOT, [1, 2, 3, 4], SECOND)
    return found


def test_nothing_is_found_before_something_was_observed():
    assert TokenAnchors().longest(ROOT, [1, 2]) is None


def test_the_longest_observed_start_is_found(anchors):
    assert anchors.longest(ROOT, [1, 2, 3, 4, 5]) == Anchor(4, SECOND)
    assert anchors.longest(ROOT, [1, 2, 3, 4]) == Anchor(4, SECOND)
    assert anchors.longest(ROOT, [1, 2, 3, 9]) == Anchor(2, FIRST)
    assert anchors.longest(ROOT, [1, 2]) == Anchor(2, FIRST)


@pytest.mark.parametrize("serials", [[], [1], [2, 1], [9, 2, 3, 4], [2, 3, 4]])
def test_a_conversation_that_starts_otherwise_finds_nothing(anchors, serials):
    assert anchors.longest(ROOT, serials) is None


def test_another_model_or_other_tools_find_nothing(anchors):
    assert anchors.longest(("openai:gpt-5", 8), [1, 2]) is None
    assert anchors.longest(("openai:gpt-4o", 7), [1, 2]) is None


def test_the_last_observation_counts(anchors):
    anchors.add(ROOT, [1, 2], SECOND)
    assert anchors.longest(ROOT, [1, 2]) == Anchor(2, SECOND)


def test_without_room_everything_is_forgotten_and_learnt_anew():
    anchors = TokenAnchors(room=10)
    for start in range(0, 1_000, 3):
        anchors.add(ROOT, [start, start + 1, start + 2], FIRST)
        assert anchors.longest(ROOT, [start, start + 1, start + 2]) == Anchor(3, FIRST)
        assert len(anchors._steps) <= 10
        assert len(anchors._observed) <= 10
    assert anchors.longest(ROOT, [0, 1, 2]) is None


def test_a_conversation_that_is_longer_than_the_room_is_not_kept():
    anchors = TokenAnchors(room=10)
    anchors.add(ROOT, [1], FIRST)
    anchors.add(ROOT, list(range(11)), SECOND)
    assert anchors.longest(ROOT, list(range(11))) is None
    assert anchors.longest(ROOT, [1]) == Anchor(1, FIRST)


def test_many_threads_may_observe_and_look_at_once():
    anchors, start = TokenAnchors(room=500), threading.Barrier(8)

    def talk(number):
        serials = [number * 1_000 + turn for turn in range(60)]
        start.wait(10)
        for length in range(1, 60):
            anchors.add(ROOT, serials[:length], Observed(number * 1_000 + length, 1, 0))
            found = anchors.longest(ROOT, serials)
            # Another thread may have made room meanwhile; what is found is this conversation's own.
            assert found is None or found.observed.input == number * 1_000 + found.length

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(8)))
    assert len(anchors._steps) <= 500

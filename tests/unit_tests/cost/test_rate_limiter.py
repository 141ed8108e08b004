"""Requests and tokens per minute, first come, first served."""

import copy
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.cost import RateLimiter


class Watch:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


def go(limiter, watch, tokens=0):
    """Wait for a turn in virtual time; returns when it came."""
    turn = limiter.queue(tokens)
    while wait := limiter.take(turn):
        watch.now += wait
    return turn


def test_a_minute_of_requests_may_go_at_once_and_the_rest_steadily(watch):
    limiter = RateLimiter(rpm=60, clock=watch)
    for _ in range(60):
        go(limiter, watch)
    assert watch.now == 0
    go(limiter, watch)
    assert watch.now == pytest.approx(1, abs=0.01)
    go(limiter, watch)
    assert watch.now == pytest.approx(2, abs=0.01)


def test_tokens_are_taken_in_advance_and_what_was_not_used_comes_back(watch):
    limiter = RateLimiter(tpm=1_000, clock=watch)
    assert limiter.counts_tokens
    first = go(limiter, watch, 900)
    waiting = limiter.queue(500)
    assert limiter.take(waiting) > 0
    limiter.used(first, 100)
    assert limiter.take(waiting) == 0


def test_using_more_than_was_taken_is_paid_by_those_who_come_after(watch):
    limiter = RateLimiter(tpm=600, clock=watch)
    limiter.used(go(limiter, watch, 100), 700)
    go(limiter, watch, 100)
    assert watch.now == pytest.approx(20, abs=0.01)


def test_a_call_larger_than_the_minute_goes_when_the_minute_is_unused(watch):
    limiter = RateLimiter(tpm=600, clock=watch)
    go(limiter, watch, 60)
    go(limiter, watch, 6_000)
    assert watch.now == pytest.approx(6, abs=0.01)


def test_whoever_came_first_goes_first_even_if_the_next_would_fit(watch):
    limiter = RateLimiter(rpm=100, tpm=600, clock=watch)
    go(limiter, watch, 600)
    large, small = limiter.queue(600), limiter.queue(1)
    watch.now += 10
    assert limiter.take(small) > 0
    watch.now += 50
    assert limiter.take(small) > 0
    assert limiter.take(large) == 0
    watch.now += 1
    assert limiter.take(small) == 0


def test_whoever_leaves_the_line_holds_nobody_up_and_gives_back_what_was_taken(watch):
    limiter = RateLimiter(rpm=1, tpm=100, clock=watch)
    first = go(limiter, watch, 100)
    second, third = limiter.queue(100), limiter.queue(100)
    limiter.leave(second)
    assert limiter.take(third) > 0
    limiter.leave(first)
    assert limiter.take(third) == 0


def test_a_waiting_call_looks_again_at_least_every_second(watch):
    limiter = RateLimiter(rpm=1, clock=watch)
    go(limiter, watch)
    assert limiter.take(limiter.queue()) == 1.0


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 20)), max_size=40))
def test_over_any_time_no_more_goes_than_a_full_minute_and_what_has_flown_in_since(calls):
    watch = Watch()
    limiter = RateLimiter(rpm=10, tpm=1_000, clock=watch)
    sent = 0
    for number, (tokens, pause) in enumerate(calls, start=1):
        watch.now += pause
        go(limiter, watch, tokens)
        sent += tokens
        assert number <= 10 + watch.now * 10 / 60 + 1e-6
        assert sent <= 1_000 + watch.now * 1_000 / 60 + 1e-3


def test_threads_share_one_limit():
    watch = Watch()
    limiter = RateLimiter(rpm=50, clock=watch)
    went = []
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(20):
            turn = limiter.queue()
            if limiter.take(turn) == 0:
                went.append(turn)
            else:
                limiter.leave(turn)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < len(went) <= 50


def test_copies_are_the_same_limiter_and_pickles_start_afresh(watch):
    limiter = RateLimiter(rpm=1, clock=watch)
    go(limiter, watch)
    assert copy.copy(limiter) is limiter
    assert copy.deepcopy(limiter) is limiter
    revived = pickle.loads(pickle.dumps(limiter))
    assert not revived.counts_tokens
    assert revived.take(revived.queue()) == 0


@pytest.mark.parametrize("settings", [{}, {"rpm": 0}, {"tpm": -5}], ids=str)
def test_senseless_limits_are_refused(settings):
    with pytest.raises(InvalidInputError):
        RateLimiter(**settings)

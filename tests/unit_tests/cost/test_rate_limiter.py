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


def test_a_look_says_when_a_turn_would_come_and_takes_nothing(watch):
    limiter = RateLimiter(rpm=2, tpm=600, clock=watch)
    assert [limiter.look(600) for _ in range(5)] == [0] * 5
    go(limiter, watch, 300)
    go(limiter, watch, 300)
    assert limiter.look() == pytest.approx(30)
    assert limiter.look(600) == pytest.approx(60)
    assert limiter.look(6_000) == pytest.approx(60)
    watch.now += 30
    assert limiter.look(300) == 0


def test_a_look_counts_those_who_stand_in_line_beyond_a_full_minute(watch):
    limiter = RateLimiter(rpm=1, tpm=60, clock=watch)
    go(limiter, watch, 60)
    for _ in range(3):
        limiter.queue(60)
    assert limiter.look(60) == pytest.approx(240)


def test_a_turn_that_was_taken_ahead_waits_for_its_caller(watch):
    limiter = RateLimiter(rpm=1, tpm=100, clock=watch)
    assert limiter.take_ahead("a", 80) == 0
    assert limiter.take_ahead("b", 80) == pytest.approx(60)
    stranger, mine = limiter.queue(10), limiter.queue(50, caller="a")
    assert limiter.take(stranger) > 0
    assert limiter.take(mine) == 0
    limiter.leave(stranger)
    assert limiter.look(50) == pytest.approx(60)  # for the request; 50 tokens were not needed after all
    limiter.leave(mine)
    assert limiter.look(100) == 0


def test_a_turn_too_small_for_its_call_is_given_back_and_the_call_waits_like_all_others(watch):
    limiter = RateLimiter(tpm=100, clock=watch)
    go(limiter, watch, 40)
    assert limiter.take_ahead("a", 50) == 0
    call = limiter.queue(70, caller="a")
    assert limiter.take(call) > 0
    watch.now += 6
    assert limiter.take(call) == 0


def test_what_was_taken_ahead_can_be_dropped_or_taken_anew(watch):
    limiter = RateLimiter(rpm=1, clock=watch)
    for _ in range(3):
        assert limiter.take_ahead("a") == 0
    limiter.drop("a")
    limiter.drop("a")
    assert limiter.take_ahead("b") == 0


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

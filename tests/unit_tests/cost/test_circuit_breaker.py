"""A model that fails is left alone for a while; a provider that asks for patience gets it from everybody."""

import copy
import pickle

import pytest

from langchain_runtime.contracts.errors import InvalidInputError, ModelUnavailableError
from langchain_runtime.cost import CircuitBreaker
from langchain_runtime.cost.circuit_breaker import Passage

MODEL = "acme:m1"


class Watch:
    """A clock that stands still until told otherwise."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def make(watch):
    return lambda **settings: CircuitBreaker(clock=watch, random=lambda: 0.0, **settings)


def fail(breaker, times, model=MODEL):
    for _ in range(times):
        breaker.failed(breaker.admit(model))


def test_a_model_that_works_is_never_held_back(make):
    breaker = make(failures_in_a_row=2)
    for _ in range(50):
        breaker.succeeded(breaker.admit(MODEL))
    assert breaker.state(MODEL) == "closed"


def test_failures_in_a_row_open_it_for_that_model_only(make):
    breaker = make(failures_in_a_row=3)
    fail(breaker, 2)
    assert breaker.state(MODEL) == "closed"
    fail(breaker, 1)
    assert breaker.state(MODEL) == "open"
    with pytest.raises(ModelUnavailableError) as caught:
        breaker.admit(MODEL)
    assert (caught.value.model, caught.value.retry_after) == (MODEL, 30.0)
    assert caught.value.is_retryable
    assert isinstance(breaker.admit("acme:m2"), Passage)


def test_a_success_between_failures_starts_the_count_anew(make):
    breaker = make(failures_in_a_row=2, window=100)
    for _ in range(10):
        fail(breaker, 1)
        breaker.succeeded(breaker.admit(MODEL))
    assert breaker.state(MODEL) == "closed"


def test_a_failure_rate_opens_it_once_the_window_is_full(make):
    breaker = make(failures_in_a_row=100, failure_rate=0.5, window=4)
    for fails in (True, False, True):
        passage = breaker.admit(MODEL)
        (breaker.failed if fails else breaker.succeeded)(passage)
    assert breaker.state(MODEL) == "closed"
    fail(breaker, 1)
    assert breaker.state(MODEL) == "open"


def test_after_the_cool_down_one_call_tries_and_its_success_closes_it(make, watch):
    breaker = make(failures_in_a_row=1, open_seconds=10)
    fail(breaker, 1)
    watch.now += 10
    assert breaker.state(MODEL) == "half_open"
    probe = breaker.admit(MODEL)
    with pytest.raises(ModelUnavailableError, match="one call is trying it now"):
        breaker.admit(MODEL)
    breaker.succeeded(probe)
    assert breaker.state(MODEL) == "closed"
    assert isinstance(breaker.admit(MODEL), Passage)


def test_a_probe_that_fails_opens_it_for_another_cool_down(make, watch):
    breaker = make(failures_in_a_row=1, open_seconds=10)
    fail(breaker, 1)
    watch.now += 10
    breaker.failed(breaker.admit(MODEL))
    assert breaker.state(MODEL) == "open"
    watch.now += 9
    assert breaker.state(MODEL) == "open"


@pytest.mark.parametrize("end", ["abandoned", "refused"])
def test_a_probe_that_says_nothing_of_the_model_makes_room_for_another(make, watch, end):
    breaker = make(failures_in_a_row=1, open_seconds=10)
    fail(breaker, 1)
    watch.now += 10
    getattr(breaker, end)(breaker.admit(MODEL))
    assert breaker.state(MODEL) == "half_open"
    assert isinstance(breaker.admit(MODEL), Passage)


def test_calls_from_before_it_opened_do_not_speak_for_the_state_after(make, watch):
    breaker = make(failures_in_a_row=1, open_seconds=10)
    early = [breaker.admit(MODEL) for _ in range(4)]
    breaker.failed(early[0])
    breaker.succeeded(early[1])
    assert breaker.state(MODEL) == "open"
    watch.now += 10
    breaker.admit(MODEL)
    breaker.abandoned(early[2])
    breaker.failed(early[3])
    with pytest.raises(ModelUnavailableError):
        breaker.admit(MODEL)


def test_too_many_requests_make_everybody_wait_as_long_as_the_provider_asks(make, watch):
    breaker = make()
    first, second = breaker.admit(MODEL), breaker.admit(MODEL)
    breaker.refused(first, retry_after=7)
    breaker.refused(second, retry_after=3)
    assert breaker.state(MODEL) == "closed"
    assert breaker.admit(MODEL) == pytest.approx(7)
    watch.now += 6
    assert breaker.admit(MODEL) == pytest.approx(1)
    watch.now += 1
    assert isinstance(breaker.admit(MODEL), Passage)


def test_without_a_time_the_wait_doubles_until_a_call_succeeds(make, watch):
    breaker = make(longest_wait=5)
    waits = []
    for _ in range(4):
        breaker.refused(breaker.admit(MODEL))
        waits.append(breaker.admit(MODEL))
        watch.now += waits[-1]
    assert waits == pytest.approx([1, 2, 4, 5])
    breaker.succeeded(breaker.admit(MODEL))
    breaker.refused(breaker.admit(MODEL))
    assert breaker.admit(MODEL) == pytest.approx(1)


def test_those_who_wait_together_do_not_come_back_together(watch):
    jitter = iter([0.0, 0.5, 1.0])
    breaker = CircuitBreaker(clock=watch, random=lambda: next(jitter))
    breaker.refused(breaker.admit(MODEL), retry_after=4)
    assert [breaker.admit(MODEL) for _ in range(3)] == pytest.approx([4, 4.5, 5])


def test_a_pause_longer_than_anybody_waits_is_an_error(make):
    breaker = make(longest_wait=60)
    breaker.refused(breaker.admit(MODEL), retry_after=300)
    with pytest.raises(ModelUnavailableError, match="pause of 300 s") as caught:
        breaker.admit(MODEL)
    assert caught.value.retry_after == 300


def test_calls_that_are_refused_together_count_once(make, watch):
    breaker = make(give_up_after=2)
    together = [breaker.admit(MODEL) for _ in range(8)]
    for passage in together:
        breaker.refused(passage)
    assert breaker.look(MODEL) == pytest.approx(1)
    watch.now += 1
    assert breaker.look(MODEL) == 0


def test_a_look_says_when_to_ask_and_lets_nobody_through(make, watch):
    breaker = make(failures_in_a_row=1, open_seconds=10)
    assert breaker.look(MODEL) == 0
    fail(breaker, 1)
    assert breaker.look(MODEL) == 10
    watch.now += 10
    assert [breaker.look(MODEL), breaker.look(MODEL)] == [0, 0]
    probe = breaker.admit(MODEL)
    assert 0 < breaker.look(MODEL) <= 1
    breaker.refused(probe, retry_after=7)
    assert breaker.look(MODEL) == 7
    breaker.succeeded(breaker.admit(MODEL))
    watch.now += 7
    assert breaker.look(MODEL) == 0


def test_nobody_waits_for_a_model_that_does_not_come_back(make, watch):
    breaker = make(failures_in_a_row=1, open_seconds=10, give_up_after=2)
    fail(breaker, 1)
    for _ in range(2):
        assert breaker.look(MODEL) == 10
        watch.now += 10
        fail(breaker, 1)
    with pytest.raises(ModelUnavailableError, match="2 setbacks in a row") as caught:
        breaker.look(MODEL)
    assert caught.value.retry_after == 10
    watch.now += 10
    assert breaker.look(MODEL) == 0
    breaker.succeeded(breaker.admit(MODEL))
    fail(breaker, 1)
    assert breaker.look(MODEL) == 10


def test_nobody_waits_for_a_provider_that_refuses_every_call(make, watch):
    breaker = make(give_up_after=3, longest_wait=60)
    for asked in (5, 5):
        breaker.refused(breaker.admit(MODEL), retry_after=asked)
        assert breaker.look(MODEL) == asked
        watch.now += asked
    breaker.refused(breaker.admit(MODEL), retry_after=5)
    with pytest.raises(ModelUnavailableError, match="did not come back"):
        breaker.look(MODEL)
    breaker.refused(breaker.admit("acme:m2"), retry_after=61)
    with pytest.raises(ModelUnavailableError, match="pause of 61 s"):
        breaker.look("acme:m2")


def test_copies_are_the_same_breaker_and_pickles_start_afresh(make):
    breaker = make(failures_in_a_row=1)
    fail(breaker, 1)
    assert copy.copy(breaker) is breaker
    assert copy.deepcopy(breaker) is breaker
    revived = pickle.loads(pickle.dumps(breaker))
    assert revived.state(MODEL) == "closed"
    fail(revived, 1)
    assert revived.state(MODEL) == "open"


@pytest.mark.parametrize(
    "settings",
    [
        {"failures_in_a_row": 0},
        {"window": 0},
        {"give_up_after": 0},
        {"failure_rate": 0},
        {"failure_rate": 1.5},
        {"open_seconds": 0},
        {"longest_wait": -1},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(settings):
    with pytest.raises(InvalidInputError):
        CircuitBreaker(**settings)

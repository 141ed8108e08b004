"""Breakers and rate limits around budgeted calls."""

import asyncio
import pickle

import httpx
import pytest

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, ModelUnavailableError
from langchain_runtime.contracts.plans import _Sleeper
from langchain_runtime.cost import CircuitBreaker, RateLimiter
from langchain_runtime.testing import ScriptedChatModel

NAME = "scripted:scripted-1"


class HttpError(Exception):
    def __init__(self, status, **headers):
        super().__init__(f"HTTP {status}")
        self.response = httpx.Response(
            status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class APIConnectionError(Exception):
    """Named as both clients name theirs."""


@pytest.fixture
def naps(monkeypatch):
    """Seconds that calls slept, instead of sleeping; a clock that goes by them."""

    class Naps(list):
        def __call__(self):
            return 1_000 + sum(self)

    naps = Naps()

    async def asleep(seconds):
        naps.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(_Sleeper, "sleep", staticmethod(naps.append))
    monkeypatch.setattr(_Sleeper, "asleep", staticmethod(asleep))
    return naps


def test_failures_open_the_breaker_and_no_money_is_touched_by_what_it_holds_back(desk):
    breaker = CircuitBreaker(failures_in_a_row=2)
    model = desk.model(wrap={"breaker": breaker}, script=[HttpError(500)])
    for _ in range(2):
        with pytest.raises(HttpError):
            model.invoke("hello")
    assert breaker.state(NAME) == "open"
    with pytest.raises(ModelUnavailableError):
        model.invoke("hello")
    assert desk.requests == 2
    assert (desk.spent, desk.books.held_nano) == (0, 0)


def test_a_lost_connection_counts_against_the_model_and_a_bad_request_does_not(desk):
    breaker = CircuitBreaker(failures_in_a_row=1)
    model = desk.model(wrap={"breaker": breaker}, script=[HttpError(400), ValueError("ours"), APIConnectionError()])
    for error in (HttpError, ValueError):
        with pytest.raises(error):
            model.invoke("hello")
    assert breaker.state(NAME) == "closed"
    with pytest.raises(APIConnectionError):
        model.invoke("hello")
    assert breaker.state(NAME) == "open"


def test_a_success_closes_the_breaker_again(desk, naps):
    breaker = CircuitBreaker(failures_in_a_row=1, open_seconds=5, clock=naps)
    model = desk.model(wrap={"breaker": breaker}, script=[HttpError(503), "fine"])
    with pytest.raises(HttpError):
        model.invoke("hello")
    naps.append(5)
    assert model.invoke("hello").text == "fine"
    assert breaker.state(NAME) == "closed"


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_that_is_told_to_wait_makes_all_wait(desk, naps, stream):
    breaker = CircuitBreaker(clock=naps, random=lambda: 0.0)
    model = desk.model(wrap={"breaker": breaker}, script=[HttpError(429, retry_after="7"), "fine"])
    with pytest.raises(HttpError):
        list(model.stream("hello")) if stream else model.invoke("hello")
    assert model.invoke("hello").text == "fine"
    assert naps == [7.0]


async def test_async_calls_wait_without_blocking(desk, naps):
    breaker = CircuitBreaker(clock=naps, random=lambda: 0.0)
    model = desk.model(wrap={"breaker": breaker}, script=[HttpError(429, retry_after_ms="1500"), "fine"])
    with pytest.raises(HttpError):
        await model.ainvoke("hello")
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(3)))
    assert [reply.text for reply in replies] == ["fine"] * 3
    assert naps[0] == 1.5


def test_requests_per_minute_are_kept(desk, naps):
    limiter = RateLimiter(rpm=60, clock=naps)
    model = desk.model(wrap={"rate_limiter": limiter})
    for _ in range(63):
        model.invoke("hello")
    assert sum(naps) == pytest.approx(3, abs=0.05)


def test_tokens_per_minute_are_taken_by_the_cap_and_given_back_by_the_reply(desk, naps):
    limiter = RateLimiter(tpm=600, clock=naps)
    model = desk.model(wrap={"rate_limiter": limiter}, script=["word " * 90])
    for _ in range(6):
        model.invoke("hello")  # 92 tokens used, about 108 asked for
    assert sum(naps) == 0
    model.invoke("hello")
    assert sum(naps) > 0


def test_a_refused_call_gives_its_place_back(desk, naps):
    limiter = RateLimiter(rpm=1, clock=naps)
    model = desk.model("0.0001", budget={"on_exceed": "raise"}, wrap={"rate_limiter": limiter})
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            model.invoke("hello")
    assert naps == []


def test_an_http_error_gives_tokens_back_and_an_unknown_end_does_not(desk, naps):
    limiter = RateLimiter(tpm=250, clock=naps)
    script = [HttpError(500), HttpError(500), APIConnectionError(), APIConnectionError(), "fine"]
    model = desk.model(wrap={"rate_limiter": limiter}, script=script)
    for error in (HttpError, HttpError, APIConnectionError, APIConnectionError):
        with pytest.raises(error):
            model.invoke("hello")
    assert naps == []
    model.invoke("hello")
    assert naps


async def test_a_call_that_is_cancelled_while_it_waits_leaves_the_line(desk):
    limiter = RateLimiter(rpm=1, clock=lambda: 0.0)
    model = desk.model(wrap={"rate_limiter": limiter})
    await model.ainvoke("hello")
    waiting = asyncio.create_task(model.ainvoke("hello"))
    while not limiter._queue:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not limiter._queue
    assert desk.books.held_nano == 0


def test_pacing_works_without_any_budget(naps):
    limiter, breaker = RateLimiter(rpm=1, clock=naps), CircuitBreaker(failures_in_a_row=1)
    provider = ScriptedChatModel(script=["fine", HttpError(500)])
    model = with_budget(provider, None, rate_limiter=limiter, breaker=breaker)
    assert model.invoke("hello").text == "fine"
    with pytest.raises(HttpError):
        model.invoke("hello")
    assert sum(naps) == pytest.approx(60, abs=0.1)
    assert breaker.state(NAME) == "open"


def test_a_second_budget_keeps_the_pace_and_a_new_pace_replaces_it(naps):
    slow, slower = RateLimiter(rpm=60, clock=naps), RateLimiter(rpm=1, clock=naps)
    first = with_budget(ScriptedChatModel(), None, rate_limiter=slow)
    kept = with_budget(first, Budget(None))
    replaced = with_budget(kept, None, rate_limiter=slower)
    assert kept.lcr_guard.pace.rate_limiter is slow
    assert replaced.lcr_guard.pace.rate_limiter is slower


def test_a_pickled_model_paces_itself_anew():
    model = with_budget(
        ScriptedChatModel(), None, rate_limiter=RateLimiter(rpm=5), breaker=CircuitBreaker(failures_in_a_row=3)
    )
    revived = pickle.loads(pickle.dumps(model))
    assert revived.invoke("hello").text == "ok"
    assert revived.lcr_guard.pace.rate_limiter is not model.lcr_guard.pace.rate_limiter

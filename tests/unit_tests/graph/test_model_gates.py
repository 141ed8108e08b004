"""When a model takes calls, as the driver of a run is told."""

import asyncio

import httpx
import pytest

from langchain_runtime.adapters.account import Account, paying
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.errors import ModelUnavailableError
from langchain_runtime.contracts.plans import _Sleeper
from langchain_runtime.contracts.run import ModelLimits
from langchain_runtime.cost import CircuitBreaker, RateLimiter
from langchain_runtime.graph import model_gates
from langchain_runtime.graph.model_gates import ModelGates
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

MODEL = "scripted:scripted-1"


class HttpError(Exception):
    def __init__(self, status, **headers):
        super().__init__(f"HTTP {status}")
        self.response = httpx.Response(
            status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()

    async def asleep(seconds):
        clock.now += seconds
        await asyncio.sleep(0)

    monkeypatch.setattr(_Sleeper, "asleep", staticmethod(asleep))
    monkeypatch.setattr(model_gates, "RateLimiter", lambda **limits: RateLimiter(**limits, clock=clock))
    return clock


@pytest.fixture
def make_breaker(clock):
    return lambda **settings: CircuitBreaker(**settings, clock=clock, random=lambda: 0.0)


def gates_of(chat_model, *, breaker=None, price_as=None, model=MODEL, **limits):
    gates = ModelGates({model: ModelLimits(**limits)}, breaker=breaker, price_as=price_as)
    budgeted = with_budget(chat_model, None, price_as=price_as)
    return gates, gates.paced(model, budgeted)


async def call(model, task="t", run="r"):
    with paying(Account(ledger=InMemoryLedger(), run_id=run, task_id=task)):
        return await model.ainvoke("hello")


def test_a_model_without_limits_is_always_open_and_its_calls_cost_no_more_than_before():
    gates, model = gates_of(ScriptedChatModel(), parallelism=3)
    assert model.lcr_guard.pace is None
    assert gates.opens_at(MODEL, 10**9, 0.0) is None
    assert gates.enter("r", "t", MODEL, 10**9, 0.0) is None
    assert gates.closed_by("r", "t", MODEL, 0.0) is None
    assert gates.opens_at(None, 0, 0.0) is None
    assert not gates.counts_tokens(MODEL)
    gates.leave("r", "t")


def test_a_model_that_nobody_budgeted_stays_as_it_is():
    gates, plain = ModelGates({MODEL: ModelLimits(rpm=1)}), ScriptedChatModel()
    assert gates.paced(MODEL, plain) is plain
    assert gates.opens_at(MODEL, 0, 0.0) is None


async def test_who_enters_has_the_turn_and_the_others_are_told_when_theirs_may_come(clock):
    gates, model = gates_of(ScriptedChatModel(), rpm=1)
    assert gates.opens_at(MODEL, 0, clock()) is None
    assert gates.enter("r", "a", MODEL, 0, clock()) is None
    assert gates.opens_at(MODEL, 0, clock()) == pytest.approx(clock() + 60)
    assert gates.enter("r", "b", MODEL, 0, clock()) == pytest.approx(clock() + 60)
    before = clock()
    await call(model, "a")
    assert clock() == before
    await call(model, "b")
    assert clock() == pytest.approx(before + 60, abs=0.1)


def test_a_turn_that_was_not_used_is_given_back(clock):
    gates, _ = gates_of(ScriptedChatModel(), rpm=1)
    for task in ("a", "b", "c"):
        assert gates.enter("r", task, MODEL, 0, clock()) is None
        gates.leave("r", task)
    assert gates.opens_at(MODEL, 0, clock()) is None


async def test_tokens_are_counted_as_the_wrapper_counts_them(clock):
    gates, model = gates_of(ScriptedChatModel(max_tokens=100), tpm=200)
    assert gates.counts_tokens(MODEL)
    assert gates.enter("r", "a", MODEL, 120, clock()) is None
    assert gates.opens_at(MODEL, 120, clock()) == pytest.approx(clock() + 12)
    await call(model, "a")
    assert gates.opens_at(MODEL, 120, clock()) is None  # it used two or three


async def test_all_runs_of_a_graph_share_the_limits(clock):
    gates, model = gates_of(ScriptedChatModel(), rpm=2)
    await call(model, run="r1")
    await call(model, run="r2")
    assert gates.opens_at(MODEL, 0, clock()) == pytest.approx(clock() + 30)


async def test_limits_that_a_model_brings_along_go_on_holding(clock):
    own = RateLimiter(rpm=1, clock=clock)
    brought = with_budget(ScriptedChatModel(), None, rate_limiter=own)
    for gates in (ModelGates(), ModelGates({MODEL: ModelLimits(rpm=100)})):
        model = gates.paced(MODEL, brought)
        clock.now += 60
        assert gates.enter("r", "a", MODEL, 0, clock()) is None
        await call(model, "a")
        assert gates.enter("r", "b", MODEL, 0, clock()) == pytest.approx(clock() + 60)


def test_when_the_second_of_two_limits_refuses_nothing_is_taken_from_the_first(clock, monkeypatch):
    own = RateLimiter(rpm=1, clock=clock)
    gates = ModelGates({MODEL: ModelLimits(rpm=1)})
    gates.paced(MODEL, with_budget(ScriptedChatModel(), None, rate_limiter=own))
    looked = gates.opens_at
    faster = RateLimiter.take_ahead

    def somebody_is_faster(*args):
        until = looked(*args)
        for limiter in gates._limiters.values():
            faster(limiter, "somebody")
        return until

    monkeypatch.setattr(gates, "opens_at", somebody_is_faster)
    assert gates.enter("r", "t", MODEL, 0, clock()) == pytest.approx(clock() + 60)
    assert own.look() == 0


def test_models_that_are_priced_as_one_keep_their_own_limits(clock):
    as_one = {MODEL: "openai:gpt-5-mini"}
    gates, model = gates_of(ScriptedChatModel(), price_as=as_one, model="openai:gpt-5-mini", rpm=1)
    assert gates.enter("r", "a", "openai:gpt-5-mini", 0, clock()) is None
    other = gates.paced(MODEL, with_budget(ScriptedChatModel(), None, price_as=as_one))
    assert not other.lcr_guard.pace or not other.lcr_guard.pace.limiters("openai:gpt-5-mini")
    assert len(model.lcr_guard.pace.limiters("openai:gpt-5-mini")) == 1


# --- breakers --------------------------------------------------------------------------------------------------------


async def test_an_open_breaker_closes_the_model_until_one_task_may_try_it(clock, make_breaker):
    breaker = make_breaker(failures_in_a_row=1, open_seconds=30)
    gates, model = gates_of(ScriptedChatModel(script=[HttpError(500), "fine"]), breaker=breaker)
    with pytest.raises(HttpError):
        await call(model, "a")
    assert gates.closed_by("r", "a", MODEL, clock()) is None  # its own failure: it was let through
    assert gates.enter("r", "b", MODEL, 0, clock()) == clock() + 30
    clock.now += 30
    assert gates.enter("r", "b", MODEL, 0, clock()) is None
    assert clock() < gates.enter("r", "c", MODEL, 0, clock()) <= clock() + 1
    await call(model, "b")
    assert gates.enter("r", "c", MODEL, 0, clock()) is None


async def test_a_probe_that_is_never_made_makes_room_for_another(clock, make_breaker):
    breaker = make_breaker(failures_in_a_row=1, open_seconds=30)
    gates, model = gates_of(ScriptedChatModel(script=[HttpError(500)]), breaker=breaker)
    with pytest.raises(HttpError):
        await call(model, "a")
    clock.now += 30
    assert gates.enter("r", "a", MODEL, 0, clock()) is None
    until = gates.enter("r", "b", MODEL, 0, clock())
    clock.now = until
    assert gates.enter("r", "b", MODEL, 0, clock()) is None


async def test_a_probe_that_is_cancelled_while_it_waits_for_its_turn_makes_room_for_another(clock, make_breaker):
    breaker = make_breaker(failures_in_a_row=1, open_seconds=30)
    limiter = RateLimiter(rpm=1, clock=lambda: 0.0)
    failing = with_budget(ScriptedChatModel(script=[HttpError(500)]), None, breaker=breaker, rate_limiter=limiter)
    with pytest.raises(HttpError):
        await call(failing)
    clock.now += 30
    waiting = asyncio.create_task(call(failing))
    while breaker.look(MODEL) == 0:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert breaker.look(MODEL) == 0


async def test_a_call_that_the_breaker_turned_away_was_no_attempt(clock, make_breaker):
    breaker = make_breaker(failures_in_a_row=1, open_seconds=30)
    gates, model = gates_of(ScriptedChatModel(script=[HttpError(500), "fine"]), breaker=breaker)
    with pytest.raises(HttpError):
        await call(model, "a")
    with pytest.raises(ModelUnavailableError):
        await call(model, "b")
    assert gates.closed_by("r", "b", MODEL, clock()) == clock() + 30
    assert gates.closed_by("r", "b", MODEL, clock()) is None  # told once
    with pytest.raises(ModelUnavailableError):
        await call(model, "b")
    clock.now += 30
    assert clock() < gates.closed_by("r", "b", MODEL, clock()) < clock() + 1  # it has come back meanwhile


async def test_a_provider_that_asks_for_patience_gets_it_and_the_task_is_started_again(clock, make_breaker):
    script = [HttpError(429, retry_after="7"), "fine"]
    gates, model = gates_of(ScriptedChatModel(script=script), breaker=make_breaker())
    with pytest.raises(HttpError):
        await call(model, "a")
    assert gates.opens_at(MODEL, 0, clock()) == clock() + 7
    assert gates.closed_by("r", "a", MODEL, clock()) == clock() + 7


async def test_a_failure_after_the_one_that_asked_for_patience_is_the_tasks_own(clock, make_breaker):
    script = [HttpError(429, retry_after="7"), HttpError(400)]
    gates, model = gates_of(ScriptedChatModel(script=script), breaker=make_breaker())
    for _ in script:
        with pytest.raises(HttpError):
            await call(model, "a")
    assert gates.closed_by("r", "a", MODEL, clock()) is None


async def test_a_breaker_that_a_model_brings_along_is_asked_too(clock, make_breaker):
    gates = ModelGates()
    brought = with_budget(ScriptedChatModel(script=[HttpError(500)]), None, breaker=make_breaker(failures_in_a_row=1))
    model = gates.paced(MODEL, brought)
    with pytest.raises(HttpError):
        await call(model, "a")
    assert gates.opens_at(MODEL, 0, clock()) == clock() + 30


async def test_a_model_that_does_not_come_back_is_not_waited_for(clock, make_breaker):
    breaker = make_breaker(failures_in_a_row=1, open_seconds=30, give_up_after=2)
    gates, model = gates_of(ScriptedChatModel(script=[HttpError(500)]), breaker=breaker)
    for _ in range(3):
        with pytest.raises(HttpError):
            await call(model, "a")
        clock.now += 30
    clock.now -= 30
    with pytest.raises(ModelUnavailableError, match="2 setbacks in a row"):
        gates.enter("r", "b", MODEL, 0, clock())
    with pytest.raises(ModelUnavailableError):
        await call(model, "b")
    assert gates.closed_by("r", "b", MODEL, clock()) is None


async def test_a_task_that_is_refused_for_ever_gives_up_though_other_tasks_succeed(clock, make_breaker):
    def answer(messages):
        if messages[-1].text == "too long":
            raise HttpError(429, retry_after="1")
        return "fine"

    gates, model = gates_of(ScriptedChatModel(script=answer), breaker=make_breaker())
    starts = 0
    while starts < 1_000:
        starts += 1
        with paying(Account(ledger=InMemoryLedger(), run_id="r", task_id="long")), pytest.raises(HttpError):
            await model.ainvoke("too long")
        if gates.closed_by("r", "long", MODEL, clock()) is None:
            break
        await call(model, "other")
    assert starts < 20


async def test_a_run_that_has_ended_leaves_nothing_behind(clock, make_breaker):
    gates, model = gates_of(ScriptedChatModel(script=[HttpError(429)]), breaker=make_breaker())
    for run in ("r", "other"):
        with pytest.raises(HttpError):
            await call(model, run=run)
    gates.forget("r")
    assert gates.closed_by("r", "t", MODEL, clock()) is None
    assert gates.closed_by("other", "t", MODEL, clock()) is not None

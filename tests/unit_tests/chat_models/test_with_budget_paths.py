"""The books after every way to call a budgeted model.

The scripted model answers "one two three" (3 tokens) to "hello" (2 tokens by its own count), at 1,000 nano-USD per
input token and 5,000 per output token: 17,000 for a whole reply. The cap is 100 tokens, so a hold is the bound of the
input plus 500,000.
"""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage

from langchain_runtime.adapters import guard
from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import (
    BudgetExceededError,
    EstimationError,
    InvalidInputError,
    UnpricedModelError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

REPLY = 17_000


def hold_of(desk: Any, prompt: str = "hello", cap: int = 100) -> int:
    bound = 100 + 16 + len(prompt)
    return bound * 1_000 + cap * 5_000


class Refused(Exception):
    """What a provider's client raises for a complete HTTP error answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


async def _drain(stream: Any) -> str:
    return "".join([chunk.text async for chunk in stream])


CALLS = {
    "invoke": lambda model: model.invoke("hello").text,
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")).text,
    "stream": lambda model: "".join(chunk.text for chunk in model.stream("hello")),
    "astream": lambda model: asyncio.run(_drain(model.astream("hello"))),
    "batch": lambda model: model.batch(["hello"])[0].text,
    "abatch": lambda model: asyncio.run(model.abatch(["hello"]))[0].text,
    "generate": lambda model: model.generate([[HumanMessage("hello")]]).generations[0][0].text,
    "stream_events": lambda model: _last_text(asyncio.run(_events(model))),
}


async def _events(model: Any) -> list[Any]:
    return [event async for event in model.astream_events("hello", version="v2")]


def _last_text(events: list[Any]) -> str:
    return str(events[-1]["data"]["output"].text)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_reply_is_charged_once_by_its_usage(desk, call):
    assert call(desk.model()) == "one two three"
    assert desk.spent == REPLY
    assert desk.books.tokens_spent == 5
    assert desk.requests == 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_does_not_fit_never_reaches_the_provider(desk, call):
    model = desk.model("0.0001", budget={"on_exceed": "raise"})
    with pytest.raises(BudgetExceededError) as refused:
        call(model)
    assert desk.requests == 0
    assert desk.spent == 0
    assert refused.value.scope == "test"
    assert refused.value.needed == Cost.from_nano(hold_of(desk))
    assert refused.value.model == "scripted:scripted-1"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_reply_without_usage_is_charged_at_its_full_hold(desk, call):
    call(desk.model(reports_usage=False))
    assert desk.spent == hold_of(desk)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_complete_http_error_costs_nothing(desk, call, status):
    with pytest.raises(Refused):
        call(desk.model(script=[Refused(status)]))
    assert desk.spent == 0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [408, 504, 524])
def test_a_gateway_that_gave_up_waiting_is_charged_at_the_full_hold(desk, call, status):
    with pytest.raises(Refused):
        call(desk.model(script=[Refused(status)]))
    assert desk.spent == hold_of(desk)


def test_the_status_may_stand_on_the_response(desk):
    error = RuntimeError("refused")
    error.response = httpx.Response(503)
    with pytest.raises(RuntimeError, match="refused"):
        desk.model(script=[error]).invoke("hello")
    assert desk.spent == 0


def test_error_settlement_hold_charges_http_errors_too(desk):
    with pytest.raises(Refused):
        desk.model(script=[Refused(500)], wrap={"error_settlement": "hold"}).invoke("hello")
    assert desk.spent == hold_of(desk)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("too late"), RuntimeError("boom")])
def test_a_failure_that_may_be_billed_is_charged_at_the_full_hold(desk, call, error):
    with pytest.raises(type(error)):
        call(desk.model(script=[error]))
    assert desk.spent == hold_of(desk)


@pytest.mark.parametrize("name", ["stream", "astream"])
def test_a_stream_that_breaks_in_the_middle_is_charged_at_the_full_hold(desk, name):
    with pytest.raises(ConnectionResetError):
        CALLS[name](desk.model(fails_after=2))
    assert desk.spent == hold_of(desk)


@pytest.mark.parametrize("name", ["stream", "astream"])
def test_an_http_error_inside_a_stream_is_no_complete_answer(desk, name):
    with pytest.raises(Refused):
        CALLS[name](desk.model(fails_after=2, error_in_stream=Refused(529)))
    assert desk.spent == hold_of(desk)


def test_a_stream_left_early_is_charged_at_the_full_hold(desk):
    for _ in desk.model().stream("hello"):
        break
    assert desk.spent == hold_of(desk)


async def test_an_async_stream_left_early_is_charged_at_the_full_hold(desk):
    async with contextlib.aclosing(desk.model().astream("hello")) as stream:
        async for _ in stream:
            break
    async with asyncio.timeout(10):  # the event loop closes what a consumer of an async generator left open
        while desk.books.held_nano:
            await asyncio.sleep(0.001)
    assert desk.spent == hold_of(desk)


def test_a_stream_left_after_its_usage_is_charged_by_it(desk):
    stream = desk.model().stream("hello")
    for chunk in stream:
        if chunk.usage_metadata:
            break
    stream.close()
    assert desk.spent == REPLY


async def test_a_cancelled_call_is_charged_at_the_full_hold(desk):
    asked = asyncio.Event()

    async def wait_for_ever(*_: int) -> None:
        asked.set()
        await asyncio.Event().wait()

    model = desk.model(hook=wait_for_ever)
    call = asyncio.ensure_future(model.ainvoke("hello"))
    await asked.wait()
    assert desk.books.held_nano == hold_of(desk)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert desk.spent == hold_of(desk)


async def test_a_call_that_times_out_is_charged_at_the_full_hold(desk):
    async def wait_for_ever(*_: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.model(hook=wait_for_ever).ainvoke("hello"), 0.2)
    assert desk.spent == hold_of(desk)


async def test_a_cancelled_stream_is_charged_at_the_full_hold(desk):
    second = asyncio.Event()

    async def hang_at_the_second(_: int, chunk: int) -> None:
        if chunk == 1:
            second.set()
            await asyncio.Event().wait()

    model = desk.model(hook=hang_at_the_second)
    call = asyncio.ensure_future(_drain(model.astream("hello")))
    await second.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert desk.spent == hold_of(desk)


def test_a_batch_charges_each_call(desk):
    replies = desk.model().batch(["hello"] * 5)
    assert [reply.text for reply in replies] == ["one two three"] * 5
    assert desk.spent == 5 * REPLY


def test_several_choices_multiply_the_bound_and_are_charged_together(desk):
    model = desk.model(hook=lambda *_: held.append(desk.books.held_nano) and None)
    held: list[int] = []
    result = model.generate([[HumanMessage("hello")]], n=3)
    assert len(result.generations[0]) == 3
    assert held == [hold_of(desk, cap=300)]
    assert desk.spent == 2 * 1_000 + 9 * 5_000


def test_hits_of_the_response_cache_cost_nothing(desk):
    model = desk.model(cache=InMemoryCache())
    assert model.invoke("hello").text == model.invoke("hello").text
    assert desk.requests == 1
    assert desk.spent == REPLY


def test_usage_above_the_hold_is_charged_in_full(desk):
    usage = {"input_tokens": 1_000, "output_tokens": 1_000, "total_tokens": 2_000}
    desk.model(script=[AIMessage("ok", usage_metadata=usage)]).invoke("hello")
    assert desk.spent == 6_000_000
    assert desk.books.overdrawn_nano == 6_000_000 - hold_of(desk)


def test_the_cap_that_was_priced_is_sent(desk):
    desk.model().invoke("hello", max_tokens=40)
    desk.provider.invoke("hello")
    assert [call.kwargs.get("max_tokens") for call in desk.provider.calls] == [40, None]


def test_without_a_cap_of_the_callers_16384_tokens_are_allowed(desk):
    desk.model(max_tokens=None).invoke("hello")
    assert desk.provider.calls[0].kwargs == {"max_tokens": 16_384}


def test_cap_shrinks_the_reply_to_what_fits(desk):
    limit = (100 + 16 + 5) * 1_000 + 1_500 * 5_000 + 4_999
    model = desk.model(str(Cost.from_nano(limit).amount), max_tokens=None, script=["word " * 2_000])
    reply = model.invoke("hello")
    assert desk.provider.calls[0].kwargs == {"max_tokens": 1_500}
    assert reply.response_metadata["lcr_capped"] is True
    assert reply.usage_metadata["output_tokens"] == 1_500
    assert desk.spent <= limit


def test_a_shrunk_stream_says_that_it_was_cut(desk):
    model = desk.model("0.008", max_tokens=None, script=["word " * 2_000])
    chunks = list(model.stream("hello"))
    assert chunks[-1].response_metadata["lcr_capped"] is True


def test_a_reply_cut_by_the_callers_own_cap_has_no_warning(desk):
    reply = desk.model(script=["word " * 200]).invoke("hello")
    assert reply.response_metadata["finish_reason"] == "length"
    assert "lcr_capped" not in reply.response_metadata


def test_cap_refuses_below_its_floor(desk):
    model = desk.model("0.005", max_tokens=None)
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")
    assert desk.requests == 0


def test_the_floor_can_be_lowered(desk):
    desk.model("0.005", max_tokens=None, budget={"min_output_tokens": 10}).invoke("hello")
    assert 10 <= desk.provider.calls[0].kwargs["max_tokens"] < 1_024


def test_warn_blocks_nothing(desk):
    desk.model("0.000001", budget={"on_exceed": "warn"}).invoke("hello")
    assert desk.spent == REPLY


def test_a_budget_without_a_limit_changes_no_request(desk):
    desk.model(None, max_tokens=None).invoke("hello")
    assert desk.provider.calls[0].kwargs == {}
    assert desk.spent == REPLY


def test_a_token_limit_holds_without_any_price(desk):
    model = ScriptedChatModel(script=["one two"], model="unheard-of", max_tokens=20)
    budget = Budget(None, scope="tokens", token_limit=300, on_exceed="raise")
    guarded = with_budget(model, budget, ledger=desk.ledger, catalog=desk.catalog)
    guarded.invoke("hello")
    guarded.invoke("hello")
    assert desk.ledger.balance("tokens").tokens_spent == 8
    with pytest.raises(BudgetExceededError):
        guarded.invoke("hello " * 30)
    assert len(model.calls) == 2


def test_a_model_without_a_price_fails_closed_under_a_limit(desk):
    with pytest.raises(UnpricedModelError, match="unheard-of"):
        desk.model(model="unheard-of").invoke("hello")
    assert desk.requests == 0
    assert desk.spent == 0


def test_a_model_without_a_price_may_run_without_a_limit(desk):
    desk.model(None, model="unheard-of").invoke("hello")
    assert desk.spent == 0
    assert desk.books.tokens_spent == 5


@pytest.mark.parametrize("name", ["scripted:unheard-of", "unheard-of", "scripted"])
def test_a_model_can_be_priced_as_another(desk, name):
    desk.model(model="unheard-of", wrap={"price_as": {name: "scripted-1"}}).invoke("hello")
    assert desk.spent == REPLY


def test_input_that_cannot_be_bounded_fails_closed(desk):
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}])
    with pytest.raises(EstimationError):
        desk.model().invoke([image])
    assert desk.requests == 0


def test_input_that_cannot_be_bounded_may_be_sent_without_a_limit(desk):
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}])
    desk.model(None).invoke([image])
    assert desk.requests == 1


def test_a_cap_where_it_would_override_ours_is_refused(desk):
    with pytest.raises(InvalidInputError, match="extra_body sets max_tokens"):
        desk.model().invoke("hello", extra_body={"max_tokens": 5_000})
    assert desk.requests == 0


def test_a_stream_of_a_disobedient_model_is_cut_at_its_hold(desk):
    model = desk.model(obeys_cap=False, script=["word " * 5_000])
    chunks = list(model.stream("hello"))
    assert len(chunks) < 400
    assert chunks[-1].response_metadata["lcr_capped"] is True
    assert chunks[-1].chunk_position == "last"
    assert desk.spent == hold_of(desk)


async def test_an_async_stream_of_a_disobedient_model_is_cut_at_its_hold(desk):
    model = desk.model(obeys_cap=False, script=["word " * 5_000])
    chunks = [chunk async for chunk in model.astream("hello")]
    assert len(chunks) < 400
    assert desk.spent == hold_of(desk)


def worth(text: str) -> int:
    """What a text costs that answers "hello", counted by the package."""
    estimator = TokenEstimator()
    read = estimator.expected([HumanMessage("hello")], model="scripted:scripted-1")
    return read * 1_000 + written(text) * 5_000


def written(text: str) -> int:
    estimator = TokenEstimator()
    return estimator.expected([AIMessage(text)]) - estimator.expected([AIMessage("")])


ONE_CHUNK = "-".join(["word"] * 2_000)
"""A stream hands out a chunk for each word between blanks."""


def test_a_stream_that_is_cut_too_late_costs_what_was_seen(desk):
    model = desk.model(obeys_cap=False, script=[ONE_CHUNK])
    first, last = model.stream("hello")
    assert (first.text, last.text) == (ONE_CHUNK, "")
    assert desk.spent == worth(ONE_CHUNK) > 5 * hold_of(desk)
    assert desk.books.overdrawn_nano == desk.spent - hold_of(desk)
    assert desk.books.tokens_spent > written(ONE_CHUNK) > 100


def test_a_stream_is_cut_before_its_consumer_dwells_on_its_last_word(desk):
    model = desk.model(obeys_cap=False, script=["word " * 5_000])
    *words, _ending = model.stream("hello")
    stream = model.stream("hello")
    for _ in words:
        assert next(stream).text
    assert desk.books.held_nano == 0


def test_a_limit_in_tokens_covers_what_was_seen(desk):
    model = ScriptedChatModel(script=[ONE_CHUNK], model="unheard-of", max_tokens=20, obeys_cap=False)
    budget = Budget(None, scope="tokens", token_limit=300, on_exceed="raise")
    list(with_budget(model, budget, ledger=desk.ledger, catalog=desk.catalog).stream("hello"))
    assert desk.ledger.balance("tokens").tokens_spent > written(ONE_CHUNK) > 300


def test_a_stream_without_usage_and_limit_costs_what_was_seen_if_that_is_clearly_more(desk):
    silent = {"obeys_cap": False, "reports_usage": False}
    text = "".join(chunk.text for chunk in desk.model(None, script=["word " * 300], **silent).stream("hello"))
    assert desk.spent == worth(text) > hold_of(desk)
    # More than the cap of 100, but not by so much that another tokeniser could not make 100 of it.
    list(desk.model(None, script=["word " * 150], **silent).stream("hello"))
    assert desk.spent == worth(text) + hold_of(desk)


def test_an_obedient_stream_may_use_its_whole_cap(desk):
    model = desk.model(script=["word " * 200])
    chunks = list(model.stream("hello"))
    assert len(chunks) == 101
    assert desk.spent == 2 * 1_000 + 100 * 5_000


def test_a_request_that_cannot_be_made_costs_nothing(desk, monkeypatch):
    model = desk.model()
    monkeypatch.setattr(guard.providers, "reporting_usage", lambda *_: {}["no such argument"])
    with pytest.raises(KeyError):
        model.invoke("hello")
    assert (desk.requests, desk.spent) == (0, 0)


# --- who pays ---------------------------------------------------------------------------------------------------------


def test_a_call_charges_its_own_budget_and_every_scope_around_it(desk):
    model = desk.model()
    with budget_scope(Budget.usd("1", scope="outer"), ledger=desk.ledger) as outer:
        with budget_scope(Budget.usd("1", scope="inner"), ledger=desk.ledger) as inner:
            model.invoke("hello")
        model.invoke("hello")
    model.invoke("hello")
    assert inner.spent.nano == REPLY
    assert outer.spent.nano == 2 * REPLY
    assert desk.spent == 3 * REPLY


def test_a_scope_named_twice_is_charged_once(desk):
    model = desk.model()
    with budget_scope(Budget.usd("1", scope="test"), ledger=desk.ledger):
        model.invoke("hello")
    assert desk.spent == REPLY


def test_scopes_in_different_ledgers_are_all_charged(desk):
    model, elsewhere = desk.model(), InMemoryLedger()
    with budget_scope(Budget.usd("1", scope="far"), ledger=elsewhere) as far:
        model.invoke("hello")
    assert far.spent.nano == desk.spent == REPLY
    assert far.held.nano == 0


def test_a_refusal_in_one_ledger_leaves_nothing_held_in_another(desk):
    model, elsewhere = desk.model(), InMemoryLedger()
    tight = Budget.usd("0.0001", scope="far", on_exceed="raise")
    with budget_scope(tight, ledger=elsewhere) as far, pytest.raises(BudgetExceededError):
        model.invoke("hello")
    assert far.snapshot().held_nano == far.snapshot().spent_nano == 0
    assert desk.spent == 0
    assert desk.requests == 0


def test_without_a_budget_only_the_scopes_around_are_charged(desk):
    desk.model()
    model = with_budget(desk.provider, None, catalog=desk.catalog)
    model.invoke("hello")
    with budget_scope(Budget.usd("1", scope="around"), ledger=desk.ledger) as scope:
        model.invoke("hello")
    assert scope.spent.nano == REPLY
    assert desk.spent == 0


def test_a_second_budget_is_added_not_nested(desk):
    model = desk.model()
    twice = with_budget(model, Budget.usd("1", scope="second"), ledger=desk.ledger)
    assert type(twice) is type(model)
    twice.invoke("hello")
    assert desk.spent == desk.ledger.balance("second").spent_nano == REPLY
    model.invoke("hello")
    assert desk.ledger.balance("second").spent_nano == REPLY


def test_another_model_called_between_two_chunks_is_charged(desk):
    outer = desk.model()
    other = with_budget(
        ScriptedChatModel(script=["ok"]), Budget.usd("1", scope="other"), ledger=desk.ledger, catalog=desk.catalog
    )
    for _ in outer.stream("hello"):
        other.invoke("hello")
        outer.invoke("hello")
    assert desk.ledger.balance("other").spent_nano == 4 * 7_000
    assert desk.spent == 5 * REPLY


def test_a_batch_in_threads_charges_the_scope_around_it(desk):
    model = desk.model()
    with budget_scope(Budget.usd("1", scope="around"), ledger=desk.ledger) as scope:
        model.batch(["hello"] * 8, config={"max_concurrency": 4})
    assert scope.spent.nano == 8 * REPLY


def test_the_same_scope_with_another_limit_is_refused_at_wrap_time(desk):
    desk.model("1")
    with pytest.raises(InvalidInputError):
        desk.model("2")

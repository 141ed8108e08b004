"""Usage that is missing, impossible or in the wrong place: the reply arrives, and the call costs its full hold.

Whatever a model does with such usage by itself, it does under a budget: some of it fails in LangChain's own code.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_runtime.adapters.account import Account, paying
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Reservation, ReservationState
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

HOLD = (100 + 16 + len("hello")) * 1_000 + 100 * 5_000


class Reporting(ScriptedChatModel):
    """Reports what it is told, however wrong.

    Attributes:
        whole: Usage of a whole reply.
        by_chunk: Usage of the chunks of a stream, by their number; others have none.
    """

    whole: Any = None
    by_chunk: dict[int, Any] = {}

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._reported(super()._generate(*args, **kwargs))

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._reported(await super()._agenerate(*args, **kwargs))

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            chunk.message.usage_metadata = self.by_chunk.get(number)
            yield chunk

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        number = 0
        async for chunk in super()._astream(*args, **kwargs):
            chunk.message.usage_metadata = self.by_chunk.get(number)
            number += 1
            yield chunk

    def _reported(self, result: ChatResult) -> ChatResult:
        for generation in result.generations:
            generation.message.usage_metadata = self.whole
        return result


def counts(read: Any, written: Any, **details: Any) -> dict[str, Any]:
    return {"input_tokens": read, "output_tokens": written, "total_tokens": 5, **details}


WRONG: dict[str, Any] = {
    "missing": None,
    "empty": {},
    "nothing but zeros": counts(0, 0),
    "negative input": counts(-2, 3),
    "negative output": counts(2, -3),
    "absurd input": counts(10**12, 3),
    "absurd output": counts(2, 10**12),
    "more cached than read": counts(2, 3, input_token_details={"cache_read": 3}),
    "more written to the cache than read": counts(2, 3, input_token_details={"cache_creation": 2, "cache_read": 1}),
    "a negative detail": counts(2, 3, input_token_details={"cache_read": -1}),
    "more reasoning than written": counts(2, 3, output_token_details={"reasoning": 4}),
    "no output token for a text": counts(2, 0),
}
"""In the form that LangChain asks for, but impossible."""

ILL_FORMED: dict[str, Any] = {
    "nothing but nulls": counts(None, None),
    "a total only": {"total_tokens": 5},
    "no output": {"input_tokens": 2, "total_tokens": 2},
    "a fraction": counts(2.5, 3),
    "a fraction that is whole": counts(2, 3.0),
    "not a number": counts(math.nan, 3),
    "infinite": counts(2, math.inf),
    "text": counts("2", "3"),
    "a truth value": counts(True, 3),
    "a list": counts([2], 3),
    "a detail that is text": counts(2, 3, input_token_details={"cache_read": "1"}),
    "a fraction of reasoning": counts(2, 3, output_token_details={"reasoning": 0.5}),
}
"""As an integration gives it that passes on what a provider says, without a look at it."""

MISSHAPEN: dict[str, Any] = {
    "not a mapping": "5 tokens",
    "details that are a list": counts(2, 3, input_token_details=["cache_read"]),
}


async def _texts(stream: Any, texts: list[str]) -> None:
    async for chunk in stream:
        texts.append(chunk.text)


async def _event_texts(model: Any, texts: list[str]) -> None:
    async for event in model.astream_events("hello", version="v2"):
        if event["event"] == "on_chat_model_stream":
            texts.append(event["data"]["chunk"].text)


WHOLE: dict[str, Callable[[Any, list[str]], object]] = {
    "invoke": lambda model, texts: texts.append(model.invoke("hello").text),
    "ainvoke": lambda model, texts: texts.append(asyncio.run(model.ainvoke("hello")).text),
}
STREAMS: dict[str, Callable[[Any, list[str]], object]] = {
    "stream": lambda model, texts: texts.extend(chunk.text for chunk in model.stream("hello")),
    "astream": lambda model, texts: asyncio.run(_texts(model.astream("hello"), texts)),
    "astream_events": lambda model, texts: asyncio.run(_event_texts(model, texts)),
}


def outcome(call: Callable[[Any, list[str]], object], model: Any) -> tuple[str, type[Exception] | None]:
    """The text that reached the caller, and how the call failed."""
    texts: list[str] = []
    try:
        call(model, texts)
    except Exception as error:
        return "".join(texts), type(error)
    return "".join(texts), None


def settled(desk: Any, call: Callable[[Any, list[str]], object], model: ScriptedChatModel) -> Reservation:
    """Make the call under a budget as without; how it stands in the books then."""
    expected = outcome(call, model)
    assert expected[0] == "one two three"
    budget = Budget.usd("1", scope="test")
    budgeted = with_budget(model, budget, ledger=desk.ledger, catalog=desk.catalog)
    with paying(Account(ledger=desk.ledger, budgets=(budget,), run_id="run")):
        assert outcome(call, budgeted) == expected
    (reservation,) = desk.ledger.reservations("run")
    assert desk.spent == reservation.charged_nano
    return reservation


USED = TokenUsage(input=2, output=3)


def costs_its_hold(ended: Reservation) -> bool:
    return (ended.state, ended.charged_nano, ended.usage) == (ReservationState.SETTLED, HOLD, None)


@pytest.mark.parametrize("call", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("usage", [*WRONG.values(), *ILL_FORMED.values()], ids=[*WRONG, *ILL_FORMED])
def test_a_reply_with_bad_usage_arrives_and_costs_its_hold(desk, call, usage):
    assert costs_its_hold(settled(desk, call, Reporting(script=["one two three"], max_tokens=100, whole=usage)))


@pytest.mark.parametrize("call", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("usage", MISSHAPEN.values(), ids=MISSHAPEN)
def test_a_reply_with_misshapen_usage_arrives_and_costs_its_hold(desk, call, usage):
    assert costs_its_hold(settled(desk, call, Reporting(script=["one two three"], max_tokens=100, whole=usage)))


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("usage", WRONG.values(), ids=WRONG)
def test_a_stream_with_wrong_usage_arrives_and_costs_its_hold(desk, call, usage):
    assert costs_its_hold(settled(desk, call, Reporting(script=["one two three"], max_tokens=100, by_chunk={3: usage})))


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("usage", [*ILL_FORMED.values(), *MISSHAPEN.values()], ids=[*ILL_FORMED, *MISSHAPEN])
def test_a_stream_with_ill_formed_usage_arrives_and_costs_its_hold(desk, call, usage):
    assert costs_its_hold(settled(desk, call, Reporting(script=["one two three"], max_tokens=100, by_chunk={3: usage})))


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    ("by_chunk", "used"),
    [
        pytest.param({3: counts(2, 3)}, USED, id="on the last chunk"),
        pytest.param({0: counts(2, 3)}, USED, id="on the first chunk"),
        pytest.param({0: counts(2, 0), 3: counts(0, 3)}, USED, id="input first and output last"),
        pytest.param({0: counts(2, 1), 1: counts(0, 1), 3: counts(0, 1)}, USED, id="output in parts"),
        pytest.param({0: counts(2, 3), 3: counts(2, 3)}, None, id="twice"),
        pytest.param({0: counts(2, 1), 1: counts(2, 2), 3: counts(2, 3)}, None, id="so far"),
        pytest.param({0: counts(2, 0), 3: counts(0, "3")}, None, id="text on the last chunk"),
        pytest.param({0: counts(2, 0), 3: {}}, None, id="input only"),
        pytest.param({0: "?", 3: counts(2, 3)}, None, id="no mapping on the first chunk"),
    ],
)
def test_usage_of_a_stream_is_put_together_from_its_chunks(desk, call, by_chunk, used):
    """Parts add up; input that is reported twice does not say what was read, so the usage is unknown.

    langchain-tests asks integrations to report input tokens on one chunk only (``test_usage_metadata_streaming``).
    """
    ended = settled(desk, call, Reporting(script=["one two three"], max_tokens=100, by_chunk=by_chunk))
    assert ended.usage == used
    assert ended.charged_nano == (HOLD if used is None else 2 * 1_000 + 3 * 5_000)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_journalled_reply_with_ill_formed_usage_can_be_read_back(desk, stream):
    """Where a run resumes, the reply comes from its journal, usage or not."""
    usage = counts(None, None)
    model = Reporting(script=["one two three"], max_tokens=100, whole=usage, by_chunk={3: usage})
    budget = Budget.usd("1", scope="test")
    budgeted: Any = with_budget(model, budget, ledger=desk.ledger, catalog=desk.catalog)
    method = budgeted._stream if stream else budgeted._generate  # LangChain itself fails on the merged stream
    for _ in range(2):
        with paying(Account(ledger=desk.ledger, budgets=(budget,), run_id="run", task_id="task", replay=True)):
            reply = method([HumanMessage("hello")])
            assert "".join(part.text for part in (reply if stream else reply.generations)) == "one two three"
    assert len(model.calls) == 1
    assert desk.spent == HOLD


def test_a_budget_stays_in_force_after_bad_usage(desk):
    model = Reporting(script=["one two three"], max_tokens=100, whole=counts(-(10**9), -(10**9)))
    budget = Budget(Cost.from_nano(2 * HOLD), scope="test", on_exceed="raise")
    budgeted = with_budget(model, budget, ledger=desk.ledger, catalog=desk.catalog)
    ends = [outcome(WHOLE["invoke"], budgeted) for _ in range(4)]
    assert [text for text, _ in ends] == ["one two three", "one two three", "", ""]
    assert desk.spent == 2 * HOLD

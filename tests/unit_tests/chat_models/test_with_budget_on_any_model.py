"""Models that implement only some of the methods, or all in terms of one another: each call is charged once."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_runtime.adapters.account import Account, budget_scope, paying
from langchain_runtime.chat_models import _guarded_requests, with_budget
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import BudgetExceededError, LedgerUnavailableError
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger

CATALOG = ModelCatalog({"models": {"plain": {"input": "1", "output": "5"}}})
USAGE = {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}
REPLY = 17_000
HOLD = (100 + 16 + 5) * 1_000 + 100 * 5_000


class Plain(BaseChatModel):
    """Only what LangChain demands."""

    model: str = "plain"
    max_tokens: int = 100
    requests: Any = None

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _count(self, kwargs: dict[str, Any]) -> None:
        self.requests.append(kwargs)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("one two three", usage_metadata=USAGE))])


def _chunks():
    for word in ("one ", "two ", "three"):
        yield ChatGenerationChunk(message=AIMessageChunk(word))
    yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=USAGE, chunk_position="last"))


class SyncStream(Plain):
    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        yield from _chunks()


class AsyncStream(Plain):
    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        for chunk in _chunks():
            yield chunk


class RepliesByStreaming(SyncStream):
    """Makes a whole reply of its own stream, as some providers' classes do."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        whole = None
        for chunk in self._stream(messages, stop=stop, run_manager=run_manager, **kwargs):
            whole = chunk if whole is None else whole + chunk
        return ChatResult(generations=[ChatGeneration(message=AIMessage(whole.text, usage_metadata=USAGE))])


class Nested(Plain):
    """Streams by generators that read from generators, as ChatOpenAI does, and that write on for ever."""

    closes: Any = None

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        async for chunk in self._inner():
            yield chunk

    async def _inner(self):
        try:
            async for chunk in self._innermost():
                yield chunk
        finally:
            await self._close("inner")

    async def _innermost(self):
        try:
            while True:
                yield ChatGenerationChunk(message=AIMessageChunk("word "))
        finally:
            await self._close("innermost")

    async def _close(self, name):
        await (asyncio.sleep(0) if self.closes is None else self.closes.wait())
        self.requests.append(name)


class WithoutRunManager(Plain):
    """Written before callbacks were passed."""

    def _generate(self, messages, stop=None, **kwargs):
        return super()._generate(messages, stop=stop, **kwargs)


class CapInAField(BaseChatModel):
    model: str = "plain"
    num_predict: int | None = None
    requests: Any = None

    @property
    def _llm_type(self) -> str:
        return "cap in a field"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.requests.append({"num_predict": self.num_predict, **kwargs})
        return ChatResult(generations=[ChatGeneration(message=AIMessage("ok", usage_metadata=USAGE))])


def _events(words=("one ", "two ", "three"), metadata=None):
    yield {"event": "message-start", "role": "ai", "id": "m1"}
    yield {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}}
    for word in words:
        yield {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": word}}
    yield {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "".join(words)}}
    yield {"event": "message-finish", "usage": dict(USAGE), "metadata": metadata or {"finish_reason": "stop"}}


class NativeEvents(SyncStream):
    """Streams protocol events by itself."""

    words: Any = ("one ", "two ", "three")
    metadata_at_the_end: Any = None

    def _stream_chat_model_events(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        yield from _events(self.words, self.metadata_at_the_end)

    async def _astream_chat_model_events(self, messages, stop=None, run_manager=None, **kwargs):
        self._count(kwargs)
        for event in _events(self.words, self.metadata_at_the_end):
            yield event


class Desk:
    def __init__(self, cls: Any, limit: str = "1", **fields: Any) -> None:
        self.ledger, self.requests = InMemoryLedger(), []
        model = cls(requests=self.requests, **fields)
        price_as = {cls.__name__.lower(): "plain"}
        budget = Budget.usd(limit, scope="s")
        self.model = with_budget(model, budget, ledger=self.ledger, catalog=CATALOG, price_as=price_as)

    @property
    def spent(self) -> int:
        books = self.ledger.balance("s")
        assert books.held_nano == 0
        return books.spent_nano


async def _astream(model: Any) -> str:
    return "".join([chunk.text async for chunk in model.astream("hello")])


async def _aevents(model: Any) -> str:
    stream = await model.astream_events("hello", version="v3")
    return str(await stream.text)


CALLS = {
    "invoke": lambda model: model.invoke("hello").text,
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")).text,
    "stream": lambda model: "".join(chunk.text for chunk in model.stream("hello")),
    "astream": lambda model: asyncio.run(_astream(model)),
    "streamed invoke": lambda model: model.invoke("hello", stream=True).text,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("cls", [Plain, SyncStream, AsyncStream, RepliesByStreaming, WithoutRunManager, NativeEvents])
def test_every_call_is_charged_once(cls, call):
    desk = Desk(cls)
    assert call(desk.model) == "one two three"
    assert desk.spent == REPLY
    assert len(desk.requests) == 1
    assert desk.requests[0]["max_tokens"] == 100


@pytest.mark.parametrize("cls", [Plain, SyncStream, AsyncStream])
def test_a_class_can_do_no_more_than_before(cls):
    desk = Desk(cls)
    plain = cls(requests=[])
    for is_async in (False, True):
        assert desk.model._should_stream(async_api=is_async, stream=True) == plain._should_stream(
            async_api=is_async, stream=True
        )


def test_a_cap_that_only_a_field_can_set_is_set_on_a_copy():
    desk = Desk(CapInAField, "0.02")
    desk.model.invoke("hello")
    assert desk.requests == [{"num_predict": 3_975}]
    assert desk.model.num_predict is None


# --- protocol events --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
class TestNativeEvents:
    def test_events_are_charged_by_their_usage(self):
        desk = Desk(NativeEvents)
        assert str(desk.model.stream_events("hello", version="v3").text) == "one two three"
        assert desk.spent == REPLY
        assert len(desk.requests) == 1

    async def test_async_events_too(self):
        desk = Desk(NativeEvents)
        assert await _aevents(desk.model) == "one two three"
        assert desk.spent == REPLY

    def test_events_that_are_left_early_cost_the_full_hold(self):
        desk = Desk(NativeEvents)
        events = desk.model._stream_chat_model_events(desk.model._convert_input("hello").to_messages())
        next(events)
        events.close()
        assert desk.spent == HOLD

    def test_events_of_a_disobedient_model_are_cut(self):
        desk = Desk(NativeEvents, words=("word ",) * 2_000)
        message = desk.model.stream_events("hello", version="v3").output
        assert len(message.text) < 2_000
        assert message.response_metadata["lcr_capped"] is True
        assert desk.spent == HOLD

    async def test_a_stream_that_is_cut_ends_its_inner_generators_first(self):
        desk = Desk(Nested)
        words = [chunk.text async for chunk in desk.model.astream("hello")][:-1]
        desk.requests.clear()
        stream = desk.model.astream("hello")
        for _ in words[:-1]:
            await anext(stream)
        assert desk.requests == [{"max_tokens": 100}]
        assert (await anext(stream)).text
        assert desk.requests[1:] == ["inner", "innermost"]
        await stream.aclose()

    async def test_it_does_not_wait_for_ever_for_generators_that_do_not_end(self, monkeypatch):
        monkeypatch.setattr(_guarded_requests, "_CLOSED_WITHIN", 0.01)
        desk = Desk(Nested, closes=asyncio.Event())
        chunks = [chunk async for chunk in desk.model.astream("hello")]
        assert chunks[-1].response_metadata["lcr_capped"] is True
        assert desk.requests == [{"max_tokens": 100}]
        desk.model.closes.set()

    def test_events_that_our_cap_cut_say_so(self):
        desk = Desk(NativeEvents, "0.0004", max_tokens=500, metadata_at_the_end={"finish_reason": "length"})
        desk.model.lcr_guard.own[0].budgets[0].__dict__["min_output_tokens"] = 1
        message = desk.model.stream_events("hello", version="v3").output
        assert message.response_metadata["lcr_capped"] is True

    def test_events_are_journalled_and_played_back(self):
        desk, budget = Desk(NativeEvents), Budget.usd("1", scope="run:r")
        desk.ledger.open_scope(Scope.of(budget))
        texts = []
        for _ in range(2):
            with paying(Account(ledger=desk.ledger, budgets=(budget,), run_id="r", task_id="t", replay=True)):
                texts.append(str(desk.model.stream_events("hello", version="v3").text))
        assert texts == ["one two three"] * 2
        assert len(desk.requests) == 1


# --- books that fail --------------------------------------------------------------------------------------------------


def _unavailable(*_: Any, **__: Any) -> None:
    raise LedgerUnavailableError("the disk is full")


def test_a_paid_reply_reaches_the_caller_although_the_books_fail(monkeypatch, caplog):
    desk = Desk(Plain)
    monkeypatch.setattr(desk.ledger, "settle", _unavailable)
    assert desk.model.invoke("hello").text == "one two three"
    assert "stays open until its lease ends" in caplog.text
    assert desk.ledger.balance("s").held_nano == HOLD


def test_books_that_fail_before_the_request_stop_it(monkeypatch):
    desk = Desk(Plain)
    monkeypatch.setattr(desk.ledger, "reserve", _unavailable)
    with pytest.raises(LedgerUnavailableError):
        desk.model.invoke("hello")
    assert desk.requests == []


def test_books_that_are_interrupted_end_the_other_holds_first(monkeypatch):
    desk, elsewhere = Desk(Plain), InMemoryLedger()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for broken, sound in ((desk.ledger, elsewhere), (elsewhere, desk.ledger)):
        with monkeypatch.context() as patch:
            patch.setattr(broken, "settle", interrupt)
            with budget_scope(Budget.usd("1", scope="far"), ledger=elsewhere), pytest.raises(KeyboardInterrupt):
                desk.model.invoke("hello")
        name = "far" if sound is elsewhere else "s"
        assert sound.balance(name).spent_nano == REPLY


def test_a_unit_without_a_price_is_charged_at_the_full_hold(caplog):
    class Speaks(Plain):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            usage = {**USAGE, "output_token_details": {"audio": 2}}
            return ChatResult(generations=[ChatGeneration(message=AIMessage("ok", usage_metadata=usage))])

    desk = Desk(Speaks)
    desk.model.invoke("hello")
    assert desk.spent == HOLD
    assert "no price is known" in caplog.text


def test_a_refusal_in_a_thread_pool_reaches_the_caller():
    desk = Desk(Plain, "0.0001")
    with pytest.raises(BudgetExceededError):
        asyncio.run(desk.model.ainvoke("hello"))
    assert desk.requests == []

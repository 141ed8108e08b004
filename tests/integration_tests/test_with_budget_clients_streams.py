"""Real clients that leave or are cancelled, and models that do not stop: what may be billed is charged."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from loopback_answers import PRICES, Writer
from loopback_provider import LoopbackProvider, serving
from loopback_tills import MODELS, Till, client

from langchain_runtime.adapters.stream_meter import CAPPED
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.cost import TokenEstimator

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is in beta:langchain_core._api.LangChainBetaWarning",
    "ignore:coroutine .* was never awaited:RuntimeWarning",
)

HEEDFUL: dict[str, dict[str, Any]] = {"chat": {"stream_chunk_timeout": None}}
HEEDFUL |= {"responses": HEEDFUL["chat"], "messages": {}}
"""Fields of clients that hear every cancellation: ChatOpenAI waits for chunks by asyncio.wait_for, which in Python 3.11
swallows one that comes together with a chunk (CPython issue 86296)."""

TOOL = {"name": "look", "description": "Look up.", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
def new_garbage() -> Iterator[None]:
    """Spares the garbage collector what was there before the test: most of its time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def provider(tmp_path) -> Iterator[LoopbackProvider]:
    with serving(tmp_path / "provider.jsonl", writer=Writer(padding=600)) as running:
        running.pace = 0.001
        yield running


def the_hold(till: Till) -> int:
    [hold] = till.ledger.admitted
    return hold.nano


STREAMS: dict[str, Callable[[Any, str], Iterator[Any]]] = {
    "stream": lambda model, prompt: model.stream(prompt),
    "stream_events v3": lambda model, prompt: iter(model.stream_events(prompt, version="v3")),
}
ASYNC_STREAMS: dict[str, Callable[[Any, str], Any]] = {
    "astream": lambda model, prompt: model.astream(prompt),
    "astream_events v2": lambda model, prompt: model.astream_events(prompt, version="v2"),
    "astream of a chain": lambda model, prompt: (model | StrOutputParser()).astream(prompt),
}


@pytest.mark.usefixtures("new_garbage")
@pytest.mark.parametrize("api", MODELS)
class TestLeaving:
    """Whoever leaves a stream early pays its hold: the provider may bill all of it."""

    @pytest.mark.parametrize("way", STREAMS)
    def test_a_stream_that_is_dropped_costs_its_hold(self, provider, api, way):
        till = Till(provider)
        stream = STREAMS[way](till.model(api), till.topic)
        next(stream)
        del stream
        gc.collect()
        till.audit()
        assert till.spent == the_hold(till) > till.billed > 0

    def test_a_stream_that_is_closed_costs_its_hold(self, provider, api):
        till = Till(provider)
        stream = till.model(api).stream(till.topic)
        next(stream)
        stream.close()
        till.audit()
        assert till.spent == the_hold(till)

    def test_a_stream_in_a_cycle_is_settled_by_the_garbage_collector(self, provider, api):
        till = Till(provider)
        cycle: list[Any] = [till.model(api).stream(till.topic)]
        cycle.append(cycle)
        next(cycle[0])
        assert till.ledger.balance("till").held_nano == the_hold(till)
        del cycle
        gc.collect()
        till.audit()
        assert till.spent == the_hold(till)

    def test_a_stream_that_nobody_reads_sends_nothing(self, provider, api):
        till = Till(provider)
        stream = till.model(api).stream(till.topic)
        del stream
        till.audit()
        assert till.rows == till.ledger.admitted == []

    def test_a_stream_left_after_its_last_chunk_costs_what_it_reported(self, provider, api):
        till = Till(provider)
        stream = till.model(api).stream(till.topic)
        for chunk in stream:
            if chunk.usage_metadata:
                break
        stream.close()
        till.audit()
        assert till.spent == till.billed > 0

    @pytest.mark.parametrize("way", ASYNC_STREAMS)
    async def test_an_async_stream_that_is_closed_costs_its_hold(self, provider, api, way):
        till = Till(provider)
        provider.faults = ["stall"]
        stream = ASYNC_STREAMS[way](till.model(api, **HEEDFUL[api]), till.topic)
        for _ in range(3):  # the first event may come before the request has left
            await anext(stream)
        await stream.aclose()
        await till.settled()
        assert till.spent == the_hold(till) > till.billed > 0

    async def test_an_async_stream_that_is_dropped_costs_its_hold(self, provider, api):
        till = Till(provider)
        async for _ in till.model(api).astream(till.topic):
            break
        gc.collect()
        await till.settled()
        assert till.spent == the_hold(till)

    async def test_protocol_events_that_are_closed_cost_their_hold(self, provider, api):
        till = Till(provider)
        provider.faults = ["stall"]
        async with await till.model(api, **HEEDFUL[api]).astream_events(till.topic, version="v3") as stream:
            async for _ in stream:
                break
        await till.settled()
        assert till.spent == the_hold(till)


async def served(till: Till, task: asyncio.Future[Any]) -> None:
    """Wait until the provider has billed something to a call that is under way."""
    while not till.billed:
        assert not task.done(), f"ended before it was served: {task}"
        await asyncio.sleep(0.001)


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "ainvoke": lambda model, prompt: model.ainvoke(prompt),
    "astream": lambda model, prompt: exhausted(model.astream(prompt)),
    "astream_events v2": lambda model, prompt: exhausted(model.astream_events(prompt, version="v2")),
    "abatch": lambda model, prompt: model.abatch([prompt, prompt + "!"]),
    "bind_tools": lambda model, prompt: exhausted(model.bind_tools([TOOL]).astream(prompt)),
}


async def exhausted(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("api", MODELS)
class TestCancellation:
    @pytest.mark.parametrize("fault", ["hang", "stall"])
    @pytest.mark.parametrize("call", CALLS)
    async def test_a_call_cancelled_in_mid_reply_costs_its_hold(self, provider, api, call, fault):
        till = Till(provider)
        provider.faults = [fault] * 2
        task = asyncio.ensure_future(CALLS[call](till.model(api, **HEEDFUL[api]), till.topic))
        await served(till, task)
        await cancelled(task)
        await till.settled()
        assert till.spent == sum(hold.nano for hold in till.ledger.admitted) > till.billed

    @pytest.mark.load
    @pytest.mark.parametrize("call", CALLS)
    async def test_wherever_it_is_cancelled_the_books_cover_the_bill(self, provider, api, call):
        chance = random.Random(f"{api} {call}")
        provider.latency, till = 0.005, Till(provider, "1000")
        model = till.model(api)

        async def cut_off(seconds: float) -> None:
            task = asyncio.ensure_future(CALLS[call](model, till.topic))
            await asyncio.sleep(seconds)  # the random moment itself
            await cancelled(task)

        longest = 0.02
        while len(till.rows) < 10:
            longest *= 1.5
            await asyncio.gather(*(cut_off(chance.uniform(0, longest)) for _ in range(8)))
        await till.settled()

    async def test_a_call_that_is_cancelled_while_it_waits_for_money_sends_nothing(self, provider, api):
        one_call = 10_000 * PRICES[MODELS[api]].output
        till = Till(provider, f"{1.5 * one_call / 1e9:.9f}", on_exceed="wait")
        provider.faults = ["hang"]
        model = till.model(api, max_tokens=10_000)
        first = asyncio.ensure_future(model.ainvoke(till.topic))
        await served(till, first)
        waiting = [asyncio.ensure_future(model.ainvoke(till.topic)) for _ in range(5)]
        while till.ledger.refusals < len(waiting):
            await asyncio.sleep(0.001)
        await asyncio.gather(*map(cancelled, waiting))
        assert len(till.rows) == len(till.ledger.admitted) == 1
        await cancelled(first)
        await till.settled()


SHORT = 0.1
"""Seconds that a client waits for a provider that says nothing more."""


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("fault", ["hang", "stall"])
class TestTimeOuts:
    def test_a_time_out_costs_the_hold(self, provider, api, fault):
        till = Till(provider)
        provider.faults = [fault]
        with pytest.raises(Exception, match=r"(?i)time"):
            till.model(api, timeout=SHORT).invoke(till.topic)
        till.audit()
        assert till.spent == the_hold(till)

    def test_a_stream_that_times_out_costs_its_hold(self, provider, api, fault):
        till = Till(provider)
        provider.faults = [fault]
        with pytest.raises(Exception, match=r"(?i)time"):
            list(till.model(api, timeout=SHORT).stream(till.topic))
        till.audit()
        assert till.spent == the_hold(till)

    async def test_an_async_time_out_costs_the_hold(self, provider, api, fault):
        till = Till(provider)
        provider.faults = [fault]
        with pytest.raises(Exception, match=r"(?i)time"):
            await till.model(api, timeout=SHORT).ainvoke(till.topic)
        till.audit()
        assert till.spent == the_hold(till)

    async def test_the_callers_own_time_out_costs_the_hold(self, provider, api, fault):
        till = Till(provider)
        provider.faults = [fault]
        task = asyncio.ensure_future(till.model(api).ainvoke(till.topic))
        await served(till, task)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.001)
        await till.settled()
        assert till.spent == the_hold(till)


@pytest.fixture
def endless(tmp_path) -> Iterator[LoopbackProvider]:
    """A provider whose streams are fifty times as long as their cap, and take seconds to the end."""
    TokenEstimator().expected([HumanMessage("Loading a tokeniser takes a second, in which a stream would go on.")])
    with serving(tmp_path / "provider.jsonl", writer=Writer(disobedient=50, piece=96)) as running:
        running.pace = 0.005
        yield running


async def protocol_events(model: Any, prompt: str) -> AsyncIterator[Any]:
    async for event in await model.astream_events(prompt, version="v3"):
        yield event


ASYNC_ENDS: dict[str, Callable[[Any, str], Any]] = {
    "astream": lambda model, prompt: model.astream(prompt),
    "astream_events v3": protocol_events,
}


@pytest.mark.parametrize("api", MODELS)
class TestDisobedience:
    """A model that writes on beyond its cap is cut when its text has used up the hold."""

    def test_a_stream_is_cut_and_says_so(self, endless, api):
        till = Till(endless)
        *_, last = till.model(api, max_tokens=300).stream(till.topic)
        assert last.response_metadata[CAPPED]
        self.check(endless, till)

    async def test_an_async_stream_is_cut_too(self, endless, api):
        till = Till(endless)
        chunks = [chunk async for chunk in till.model(api, max_tokens=300).astream(till.topic)]
        assert chunks[-1].response_metadata[CAPPED]
        self.check(endless, till)

    def check(self, endless: LoopbackProvider, till: Till) -> None:
        endless.wait_for(1, alive=lambda: True)
        [row] = till.rows
        assert row["output"] < 300 * 50  # what it wrote while we read may be billed on top
        assert till.spent >= the_hold(till)

    @pytest.mark.parametrize("way", STREAMS)
    def test_nobody_dwells_on_the_end_of_a_stream_that_goes_on(self, endless, api, way):
        till = Till(endless)
        model = till.model(api, max_tokens=300)
        items = len(list(STREAMS[way](model, till.topic)))
        stream = STREAMS[way](model, till.topic)
        for _ in range(items - 1):
            next(stream)
        endless.wait_for(2, alive=lambda: True, seconds=10)
        self.check_dwelling(till)

    @pytest.mark.parametrize("way", ASYNC_ENDS)
    async def test_nobody_dwells_on_the_end_of_an_async_stream_either(self, endless, api, way):
        till = Till(endless)
        model = till.model(api, max_tokens=300)
        items = len([item async for item in ASYNC_ENDS[way](model, till.topic)])
        stream = ASYNC_ENDS[way](model, till.topic)
        for _ in range(items - 1):
            await anext(stream)
        endless.wait_for(2, alive=lambda: True, seconds=10)  # keeps the event loop busy, as a slow consumer might
        self.check_dwelling(till)

    def check_dwelling(self, till: Till) -> None:
        assert all(row["output"] < 300 * 50 for row in till.rows)
        assert till.ledger.balance("till").held_nano == 0
        assert sum(hold.nano for hold in till.ledger.admitted) <= till.spent

    @pytest.mark.parametrize("way", STREAMS)
    def test_text_beyond_the_hold_is_paid_for(self, flooding, api, way):
        till = Till(flooding)
        list(STREAMS[way](till.model(api, max_tokens=300), till.topic))
        self.check_flood(flooding, till)

    @pytest.mark.parametrize("way", ASYNC_ENDS)
    async def test_text_beyond_the_hold_is_paid_for_in_async_streams_too(self, flooding, api, way):
        till = Till(flooding)
        await exhausted(ASYNC_ENDS[way](till.model(api, max_tokens=300), till.topic))
        self.check_flood(flooding, till)

    @pytest.fixture
    def flooding(self, endless) -> LoopbackProvider:
        """Sends far more than the hold at once, and then waits for what the client does."""
        endless.writer.piece, endless.pace = 20_000, 60
        return endless

    def check_flood(self, flooding: LoopbackProvider, till: Till) -> None:
        flooding.wait_for(1, alive=lambda: True)
        books = till.ledger.balance("till")
        assert the_hold(till) < till.billed <= till.spent == books.overdrawn_nano + the_hold(till)
        [row] = till.rows
        assert row["input"] + row["output"] <= books.tokens_spent


def test_what_a_refused_call_asks_for_never_reaches_the_provider(provider):
    for api in MODELS:
        till = Till(provider, "0.00001", on_exceed="raise")
        with pytest.raises(BudgetExceededError):
            till.guarded(client(provider, api)).invoke(till.topic)
        with pytest.raises(BudgetExceededError):
            list(till.guarded(client(provider, api)).stream(till.topic))
        till.audit()
        assert till.rows == []
        assert till.ledger.refusals == 2

"""Options of real clients that change what a request costs: the cap on the wire is priced, the bill is in the books."""

import itertools
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from loopback_answers import PRICES, Writer
from loopback_provider import GAVE_UP, LoopbackProvider, serving
from loopback_tills import MODELS, Till, client
from pydantic import BaseModel

from langchain_runtime.adapters import failures
from langchain_runtime.contracts.errors import BudgetExceededError

LONG = "A sentence that is long enough to be worth caching. " * 100
THINKING = {"type": "enabled", "budget_tokens": 2_000}
WITHOUT_USAGE = {"stream_options": {"include_usage": False}}
ODD_TEXTS = [
    "ascii only",
    "naïve café",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "ﷺ" * 5,
    "½ ﬁ ①",
    "\x00\u200b\u202e",
    '{"a": "\\u00e9"}',
]


@pytest.fixture
def provider(tmp_path) -> Iterator[LoopbackProvider]:
    with serving(tmp_path / "provider.jsonl") as running:
        yield running


def caps(till: Till) -> list[int]:
    return [row["cap"] for row in till.rows]


class Trip(BaseModel):
    """A journey — with a description in more than ASCII: « où ? »."""

    place: str
    nights: int


def look_up(word: str) -> str:
    """Look a word up: « définition »."""
    return f"{word}: a wörd ✓"


class TestUsage:
    """Streams report what they used, whoever does not want it."""

    @pytest.mark.parametrize("api", MODELS)
    @pytest.mark.parametrize("options", [{}, {"stream_usage": False}, {"stream_options": {"include_usage": False}}])
    async def test_asked_for_in_every_stream(self, provider, api, options):
        if api != "chat" and "stream_options" in options:
            return  # no parameter of theirs
        till = Till(provider)
        model = till.model(api, **({"stream_usage": False} if options == {} else {}))
        list(model.stream(till.topic, **options))
        async for _ in model.astream(till.topic, **options):
            pass
        till.audit(exact=True)

    @pytest.mark.parametrize(
        ("fields", "options"),
        [
            ({"model_kwargs": WITHOUT_USAGE}, {}),
            ({"extra_body": WITHOUT_USAGE}, {}),
            ({"model_kwargs": WITHOUT_USAGE, "extra_body": WITHOUT_USAGE}, {}),
            ({}, {"extra_body": WITHOUT_USAGE}),
        ],
    )
    async def test_asked_for_where_the_requests_body_is_told_not_to(self, provider, fields, options):
        till = Till(provider)
        model = till.model("chat", **fields)
        list(model.stream(till.topic, **options))
        async for _ in model.astream(till.topic, **options):
            pass
        till.audit(exact=True)
        assert [row["with_usage"] for row in till.rows] == [True, True]

    @pytest.mark.parametrize("api", MODELS)
    async def test_of_models_that_always_stream(self, provider, api):
        till = Till(provider)
        model = till.model(api, streaming=True)
        model.invoke(till.topic)
        model.batch([till.topic, till.topic])
        await model.ainvoke(till.topic)
        await create_agent(model, [look_up]).ainvoke({"messages": [("user", till.topic)]})
        till.audit(exact=True)
        assert [row["stream"] for row in till.rows] == [True] * 6

    async def test_of_a_structured_reply_that_its_cap_cuts_is_in_the_error(self, provider):
        till = Till(provider)
        model = till.model("chat", max_tokens=5).with_structured_output(Trip, method="json_schema")
        with pytest.raises(openai.LengthFinishReasonError):
            model.invoke(till.topic)
        with pytest.raises(openai.LengthFinishReasonError):
            await model.ainvoke(till.topic)
        till.audit(exact=True)
        assert [row["output"] for row in till.rows] == [5, 5]

    @pytest.mark.parametrize("api", MODELS)
    def test_of_cached_prompts_is_priced_as_cached(self, provider, api):
        till = Till(provider)
        marked = [{"type": "text", "text": LONG}]
        if api == "messages":
            marked[0]["cache_control"] = {"type": "ephemeral"}
        model = till.model(api)
        for number in range(3):
            model.invoke([SystemMessage(marked), HumanMessage(f"{number} {till.topic}")])
        till.audit(exact=True)
        first, second, third = (row["nano"] for row in till.rows)
        assert second == third < first

    @pytest.mark.parametrize("lifetime", ["5m", "1h"])
    @pytest.mark.parametrize("streams", [False, True])
    def test_of_what_is_written_to_a_cache_is_priced_by_its_lifetime(self, provider, lifetime, streams):
        till = Till(provider)
        block = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": lifetime}}
        messages = [SystemMessage([block]), HumanMessage(till.topic)]
        model = till.model("messages")
        if streams:
            list(model.stream(messages))
        else:
            model.invoke(messages)
        till.audit(exact=True)
        [row] = till.rows
        rates = PRICES[MODELS["messages"]]
        rate = rates.cache_write_1h if lifetime == "1h" else rates.cache_write
        assert row["nano"] > row["input"] * rate * 0.9


class TestChoicesAndTools:
    @pytest.mark.parametrize("streams", [False, True])
    def test_every_choice_is_held_and_paid(self, provider, streams):
        till = Till(provider)
        model = till.model("chat", n=2, max_tokens=300)
        if streams:
            list(model.stream(till.topic))
            list(model.stream(till.topic, n=4))
        else:
            assert len(model.generate([[HumanMessage(till.topic)]]).generations[0]) == 2
            model.invoke(till.topic, n=4)
        till.audit(exact=True)
        assert [(row["choices"], row["cap"]) for row in till.rows] == [(2, 300), (4, 300)]

    @pytest.mark.parametrize("api", MODELS)
    @pytest.mark.parametrize("parallel", [True, False])
    @pytest.mark.parametrize("streams", [False, True])
    def test_parallel_tool_calls(self, provider, api, parallel, streams):
        till = Till(provider)
        model = till.model(api).bind_tools([look_up, Trip], parallel_tool_calls=parallel)
        if streams:
            first, *rest = model.stream(till.topic)
            reply = first
            for chunk in rest:
                reply += chunk
        else:
            reply = model.invoke(till.topic)
        till.audit(exact=True)
        assert [call["name"] for call in reply.tool_calls] == (["look_up", "Trip"] if parallel else ["look_up"])

    @pytest.mark.parametrize("api", MODELS)
    def test_a_tool_that_must_be_called(self, provider, api):
        till = Till(provider)
        reply = till.model(api).bind_tools([look_up, Trip], tool_choice="Trip").invoke(till.topic)
        till.audit(exact=True)
        assert [call["name"] for call in reply.tool_calls] == ["Trip"]


class TestThinking:
    """The cap holds thinking and answer."""

    @pytest.mark.parametrize("streams", [False, True])
    def test_thinking_is_priced_and_paid(self, provider, streams):
        till = Till(provider)
        model = till.model("messages", thinking=THINKING)
        model = model.bind_tools([look_up])
        first = model.invoke(till.topic) if not streams else sum_of(model.stream(till.topic))
        [call] = first.tool_calls
        result = {"role": "tool", "content": "ok", "tool_call_id": call["id"]}
        second = [("user", till.topic), first, result]
        assert (model.invoke(second) if not streams else sum_of(model.stream(second))).text
        till.audit(exact=True)
        assert caps(till) == [18_384] * 2

    def test_reasoning_that_the_provider_keeps_is_read_again_and_covered(self, provider):
        till = Till(provider)
        model = till.model("responses", max_tokens=500)
        conversation: list[Any] = []
        for turn in range(4):
            conversation.append(HumanMessage(f"{turn} {till.topic}"))
            conversation.append(model.invoke(conversation))
        till.audit(exact=True)


def sum_of(chunks: Iterator[Any]) -> Any:
    first, *rest = chunks
    return sum(rest, first)


@pytest.mark.parametrize("api", MODELS)
class TestDenseTokens:
    """The densest tokeniser there is bills a token for each byte: the input bound holds for it, too."""

    @pytest.fixture
    def provider(self, tmp_path) -> Iterator[LoopbackProvider]:
        with serving(tmp_path / "provider.jsonl", writer=Writer(bytes_per_token=1)) as running:
            yield running

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_of_any_text(self, provider, api, text):
        till = Till(provider)
        model = till.model(api, max_tokens=200)
        first = model.invoke([("system", text), ("user", f"{text} {till.topic}")])
        model.invoke([("system", text), ("user", till.topic), first, ("user", text)])
        till.audit(exact=True)

    def test_of_tools_and_schemas(self, provider, api):
        till = Till(provider)
        model = till.model(api, max_tokens=2_000)
        model.with_structured_output(Trip, method="json_schema").invoke(till.topic)
        model.with_structured_output(Trip, method="function_calling").invoke(till.topic)
        create_agent(model, [look_up], system_prompt="Réponds bien.").invoke({"messages": [("user", till.topic)]})
        till.audit(exact=True)

    def test_of_a_long_run_of_an_agent(self, provider, api):
        till = Till(provider)
        model = till.model(api, max_tokens=500).bind_tools([look_up])
        conversation: list[Any] = [HumanMessage(till.topic)]
        for _ in range(6):
            reply = model.invoke(conversation)
            conversation.append(reply)
            for call in reply.tool_calls:
                conversation.append({"role": "tool", "content": look_up(**call["args"]), "tool_call_id": call["id"]})
            if not reply.tool_calls:
                conversation.append(HumanMessage("more «please»"))
        till.audit(exact=True)


@pytest.mark.parametrize("api", MODELS)
class TestRetries:
    """What the client's own retries would send without being asked has a hold of its own for each try."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch):
        monkeypatch.setattr(failures, "_FIRST_DELAY", 0.001)

    @pytest.mark.parametrize("streams", [False, True])
    def test_statuses_are_tried_again_for_free(self, provider, api, streams):
        till = Till(provider)
        provider.faults, provider.retry_after = [429, 500, 529], 0.001
        model = till.model(api, max_retries=3)
        list(model.stream(till.topic)) if streams else model.invoke(till.topic)
        till.audit(exact=True)
        assert len(till.rows) == len(till.ledger.admitted) == 4

    async def test_every_broken_connection_costs_a_hold(self, provider, api):
        till = Till(provider)
        provider.faults = ["lost", "reset", "cut"]
        await till.model(api, max_retries=3, max_tokens=100).ainvoke(till.topic)
        till.audit()
        assert len(till.rows) == len(till.ledger.admitted) == 4
        assert till.spent > 3 * min(hold.nano for hold in till.ledger.admitted)

    def test_a_gateway_that_gives_up_costs_a_hold(self, provider, api):
        till = Till(provider)
        provider.faults = [*GAVE_UP]
        till.model(api, max_retries=3, max_tokens=100).invoke(till.topic)
        till.audit()
        *given_up, last = till.rows
        assert [row["fault"] for row in given_up] == [*GAVE_UP]
        assert till.spent == sum(hold.nano for hold in till.ledger.admitted[:3]) + last["nano"]

    @pytest.mark.parametrize("faults", [[400], [503, 503]])
    def test_it_gives_up_on_what_cannot_pass_and_after_the_last_try(self, provider, api, faults):
        till = Till(provider)
        provider.faults = [*faults]
        with pytest.raises(Exception, match="injected"):
            till.model(api, max_retries=1).invoke(till.topic)
        till.audit(exact=True)
        assert len(till.rows) == len(faults)

    def test_a_stream_that_has_begun_is_not_tried_again(self, provider, api):
        till = Till(provider)
        provider.faults = ["cut"]
        with pytest.raises(Exception, match=r"(?i)connection|peer closed"):
            list(till.model(api, max_retries=3).stream(till.topic))
        till.audit()
        assert len(till.rows) == 1

    def test_tries_end_where_the_budget_does(self, provider, api):
        one_hold = 10_000 * PRICES[MODELS[api]].output
        till = Till(provider, f"{2.5 * one_hold / 1e9:.9f}", on_exceed="raise")
        provider.faults = ["lost"] * 9
        with pytest.raises(BudgetExceededError):
            till.model(api, max_retries=9, max_tokens=10_000).invoke(till.topic)
        till.audit()
        assert len(till.rows) == 2


@pytest.mark.parametrize("apis", list(itertools.permutations(MODELS, 2)))
def test_a_fallback_of_another_provider_pays_from_the_same_budget(provider, apis):
    till = Till(provider)
    provider.faults = [500, None, "lost"]
    first, second = (till.guarded(client(provider, api)) for api in apis)
    either = first.with_fallbacks([second])
    either.invoke(till.topic)
    either.invoke(till.topic)
    till.audit()
    assert [row["api"] for row in till.rows] == [*apis, *apis]

"""The test provider itself: real clients get deterministic answers, faults, and a bill that adds up."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from loopback_answers import PRICES, Writer, example
from loopback_provider import LoopbackProvider, serving
from loopback_tills import MODELS, client
from pydantic import BaseModel


class Place(BaseModel):
    """Somewhere."""

    name: str
    coordinates: list[float] | None


class Trip(BaseModel):
    """A journey."""

    start: Place
    stops: list[Place]
    days: int


@pytest.fixture
def provider(tmp_path) -> Iterator[LoopbackProvider]:
    with serving(tmp_path / "provider.jsonl") as running:
        yield running


def summed(chunks: Iterator[Any]) -> Any:
    first, *rest = chunks
    return sum(rest, first)


@pytest.mark.parametrize("api", MODELS)
class TestEveryAPI:
    def test_the_same_prompt_gets_the_same_answer_and_another_prompt_another_one(self, provider, api):
        model = client(provider, api)
        assert model.invoke("a").text == model.invoke("a").text != model.invoke("b").text

    def test_a_streamed_answer_is_the_same_and_billed_the_same(self, provider, api):
        model = client(provider, api, stream_usage=True)
        whole, streamed = model.invoke("a"), summed(model.stream("a"))
        assert streamed.text == whole.text != ""
        assert streamed.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]
        assert [row["nano"] for row in provider.served] == [provider.served[0]["nano"]] * 2

    def test_the_bill_is_usage_at_list_price(self, provider, api):
        usage = client(provider, api).invoke("a").usage_metadata
        rates = PRICES[MODELS[api]]
        nano = rates.input * usage["input_tokens"] + rates.output * usage["output_tokens"]
        assert provider.bill == Decimal(nano).scaleb(-9) > 0

    @pytest.mark.parametrize("cap", [3, 26, 30])
    def test_a_cap_cuts_the_answer_and_its_price(self, provider, api, cap):
        model = client(provider, api, max_tokens=cap, stream_usage=True)
        for reply in (model.invoke("a " * 99), summed(model.stream("a " * 99))):
            assert reply.usage_metadata["output_tokens"] == min(cap, provider.served[0]["output"]) <= cap
        assert {row["cap"] for row in provider.requests} == {cap}

    def test_injected_statuses_come_first_and_are_not_billed(self, provider, api):
        provider.faults = [500]
        with pytest.raises(Exception, match="injected 500"):
            client(provider, api).invoke("a")
        assert provider.served == []
        assert client(provider, api).invoke("a").text
        assert [row["fault"] for row in provider.requests] == [500, None]

    def test_a_gateway_that_gives_up_is_billed(self, provider, api):
        provider.faults = [504]
        with pytest.raises(Exception, match="injected 504"):
            client(provider, api).invoke("a")
        assert provider.bill > 0

    @pytest.mark.parametrize(("fault", "billed"), [("reset", False), ("lost", True), ("cut", True), ("cut late", True)])
    def test_broken_connections_are_errors_and_billed_by_what_was_generated(self, provider, api, fault, billed):
        provider.faults = [fault]
        with pytest.raises(Exception, match=r"(?i)connection|disconnect|peer closed|reset"):
            client(provider, api).invoke("a")
        assert (provider.bill > 0) is billed

    def test_tools_are_called_with_valid_arguments_and_then_it_answers(self, provider, api):
        model = client(provider, api).bind_tools([Trip])
        reply = model.invoke("a")
        [call] = reply.tool_calls
        assert Trip.model_validate(call["args"])
        assert summed(model.stream("a")).tool_calls[0]["args"] == call["args"]
        result = {"role": "tool", "content": "done", "tool_call_id": call["id"]}
        assert model.invoke([("user", "a"), reply, result]).text

    def test_a_schema_is_conformed_to(self, provider, api):
        method = "function_calling" if api == "messages" else "json_schema"
        assert isinstance(client(provider, api).with_structured_output(Trip, method=method).invoke("a"), Trip)

    def test_what_the_real_api_does_not_know_is_refused(self, provider, api):
        path = {"chat": "chat/completions"}.get(api, api)
        body = {"model": MODELS[api], "messages": [], "input": [], "max_tokens_to_sample": 9}
        answer = httpx.post(f"{provider.base_url}/{path}", json=body)
        assert answer.status_code == 400
        assert "max_tokens_to_sample" in answer.text


def test_a_model_that_nobody_has_a_price_for_does_not_exist(provider):
    with pytest.raises(Exception, match="does not exist"):
        client(provider, "chat", model="gpt-9").invoke("a")


def test_anthropic_needs_a_cap_above_its_thinking(provider):
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    with pytest.raises(Exception, match="greater than"):
        client(provider, "messages", max_tokens=1_500, thinking=thinking).invoke("a")


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("piece", [24, 10_000])
def test_a_disobedient_model_is_billed_for_what_it_has_sent(tmp_path, api, piece):
    with serving(tmp_path / "log.jsonl", writer=Writer(disobedient=3, piece=piece)) as provider:
        text = summed(client(provider, api, max_tokens=100).stream("a")).text
    [row] = provider.served
    hidden = 24 if PRICES[MODELS[api]].reasons else 0
    assert row["output"] == 300 == hidden - (-len(text) // 4)


@pytest.mark.parametrize("model", [Place, Trip])
def test_an_example_conforms_to_its_schema(model):
    assert model.model_validate_json(json.dumps(example(model.model_json_schema(), "word")))

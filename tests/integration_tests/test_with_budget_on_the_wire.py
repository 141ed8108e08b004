"""Real clients of OpenAI and Anthropic against a provider on loopback: what is sent is what was priced."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import AzureChatOpenAI
from loopback_answers import PRICES, Writer
from loopback_provider import LoopbackProvider, serving
from loopback_tills import MODELS, Till

from langchain_runtime.adapters.stream_meter import CAPPED
from langchain_runtime.contracts.errors import BudgetExceededError, EstimationError, InvalidInputError

SPELLINGS = ["max_tokens", "max_completion_tokens", "max_output_tokens"]


@pytest.fixture
def provider(tmp_path) -> Iterator[LoopbackProvider]:
    with serving(tmp_path / "provider.jsonl") as running:
        yield running


def caps(till: Till) -> list[int]:
    return [row["cap"] for row in till.rows]


@pytest.mark.parametrize(
    ("api", "fields", "kwargs", "cap"),
    [
        *((api, {}, {}, 16_384) for api in MODELS),
        *((api, {"max_tokens": 4_000}, {}, 4_000) for api in MODELS),
        *((api, {"max_tokens": 4_000}, {spelling: 100}, 100) for api in MODELS for spelling in SPELLINGS),
        ("chat", {"max_completion_tokens": 300}, {}, 300),
        ("responses", {"max_completion_tokens": 300}, {}, 300),
        ("responses", {"reasoning": {"effort": "low"}}, {"max_completion_tokens": 100}, 100),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2_000}}, {}, 18_384),
        pytest.param(
            "chat",
            {"model_kwargs": {"max_completion_tokens": 900}},
            {},
            900,
            marks=pytest.mark.filterwarnings("ignore:Parameters .* should be specified explicitly"),
        ),
    ],
)
def test_the_cap_on_the_wire_is_the_cap_that_was_priced(provider, api, fields, kwargs, cap):
    till = Till(provider)
    model = till.model(api, **fields)
    model.invoke(till.topic, **kwargs)
    list(model.stream(till.topic, **kwargs))
    till.audit(exact=True)
    assert caps(till) == [cap, cap]


def test_azure_is_capped_too(provider):
    till = Till(provider)
    azure = AzureChatOpenAI(
        azure_endpoint=provider.url,
        azure_deployment="mini",
        model=MODELS["chat"],
        api_key="x",
        api_version="2024-10-21",
        max_tokens=300,
    )
    till.guarded(azure).invoke(till.topic)
    till.audit(exact=True)
    assert caps(till) == [300]


@pytest.mark.parametrize("api", MODELS)
def test_a_budget_shrinks_the_cap_until_nothing_is_left(tmp_path, api):
    rates = PRICES[MODELS[api]]
    with serving(tmp_path / "provider.jsonl", writer=Writer(padding=40_000)) as provider:
        till = Till(provider, f"{8_000 * rates.output / 1e9:.9f}", min_output_tokens=100)
        model = till.model(api, max_tokens=5_000)
        replies = [model.invoke(till.topic) for _ in range(2)]
        with pytest.raises(BudgetExceededError):
            model.invoke(till.topic)
    till.audit(exact=True)
    assert caps(till)[0] == 5_000 > caps(till)[1] > 2_000
    assert [reply.response_metadata.get(CAPPED) for reply in replies] == [None, True]
    assert till.spent > 0.97 * till.budget.limit.nano


@pytest.mark.parametrize("api", MODELS)
def test_a_limit_of_tokens_shrinks_it_too(tmp_path, api):
    with serving(tmp_path / "provider.jsonl", writer=Writer(padding=40_000)) as provider:
        till = Till(provider, "9", token_limit=3_000, min_output_tokens=100)
        till.model(api).invoke(till.topic)
    till.audit(exact=True)
    assert till.rows[0]["output"] > 2_800
    assert till.ledger.balance("till").tokens_spent <= 3_000


def test_a_cap_is_never_shrunk_into_the_thinking(provider):
    output = PRICES[MODELS["messages"]].output
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    till = Till(provider, f"{4_000 * output / 1e9:.9f}")
    till.model("messages", thinking=thinking).invoke(till.topic)
    till.audit(exact=True)
    assert 2_000 + 1_024 <= caps(till)[0] < 4_000
    poor = Till(provider, f"{3_000 * output / 1e9:.9f}")
    with pytest.raises(BudgetExceededError):
        poor.model("messages", thinking=thinking).invoke(poor.topic)
    assert poor.rows == []
    poor.model("messages", thinking=thinking).invoke(poor.topic, thinking={"type": "enabled", "budget_tokens": 1_024})
    poor.audit(exact=True)
    assert 2_048 <= caps(poor)[0] < 3_000


@pytest.mark.parametrize(
    ("api", "fields", "kwargs"),
    [
        ("chat", {}, {"tools": [{"type": "web_search"}]}),
        ("responses", {}, {"previous_response_id": "resp_1"}),
        ("responses", {"use_previous_response_id": True}, {}),
        ("chat", {}, {"prediction": {"type": "content", "content": "x"}}),
        ("messages", {"mcp_servers": [{"type": "url", "url": "https://example.org", "name": "x"}]}, {}),
    ],
    ids=["hosted tool", "previous response", "previous response of the model", "prediction", "MCP servers"],
)
def test_input_that_the_request_does_not_show_fails_closed(provider, api, fields, kwargs):
    till = Till(provider)
    with pytest.raises(EstimationError):
        till.model(api, **fields).invoke(till.topic, **kwargs)
    assert till.rows == till.ledger.admitted == []


def test_a_cap_in_extra_body_is_refused(provider):
    till = Till(provider)
    with pytest.raises(InvalidInputError, match="extra_body"):
        till.model("chat", extra_body={"max_completion_tokens": 9}).invoke(till.topic)
    assert till.rows == till.ledger.admitted == []


@pytest.mark.parametrize("api", MODELS)
async def test_concurrent_calls_of_a_real_client_never_overspend(provider, api):
    rates = PRICES[MODELS[api]]
    a_call = 200 * rates.dearest_input + 500 * rates.output
    till = Till(provider, f"{5 * a_call / 1e9:.9f}", on_exceed="raise")
    model = till.model(api, max_tokens=500)
    outcomes: list[Any] = await asyncio.gather(*(model.ainvoke(till.topic) for _ in range(20)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(error, BudgetExceededError) for error in refused)
    till.audit(exact=True)
    assert len(till.rows) == 20 - len(refused) >= 5

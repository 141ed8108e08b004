"""Callbacks around real clients: what they count is what the provider bills, and never more than the limit."""

import asyncio
from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from langchain_runtime.callbacks import BudgetCallbackHandler, UsageCallbackHandler, track_usage
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, EstimationError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import InMemoryLedger


@pytest.fixture
def provider(tmp_path, loopback):
    with loopback.serving(tmp_path / "provider.jsonl") as running:
        yield running


def openai(provider, **options):
    fields = {"model": "gpt-4o-mini", "max_tokens": 200, "max_retries": 0, "stream_usage": True, **options}
    return ChatOpenAI(base_url=provider.base_url, api_key="x", **fields)


def responses(provider, **options):
    return openai(provider, model="gpt-5-mini", use_responses_api=True, **options)


def anthropic(provider, **options):
    fields = {"model": "claude-haiku-4-5", "max_tokens": 200, "max_retries": 0, **options}
    return ChatAnthropic(base_url=provider.url, api_key="x", **fields)


clients = pytest.mark.parametrize("client", [openai, responses, anthropic])


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def ledger():
    return InMemoryLedger()


def guard(ledger, limit="1", **options):
    return BudgetCallbackHandler(Budget.usd(limit, scope="s"), ledger=ledger, **options)


def spent(ledger):
    balance = ledger.balance("s")
    assert balance.held_nano == 0, "money is still held"
    return balance.spent.amount


@clients
async def test_every_way_to_call_costs_what_the_provider_bills(provider, ledger, client):
    model = client(provider)
    config = {"callbacks": [guard(ledger)]}
    chain = ChatPromptTemplate.from_template("Tell me about {subject}.") | model
    with track_usage() as usage:
        model.invoke("a", config=config)
        await model.ainvoke("b", config=config)
        list(model.stream("c", config=config))
        assert [chunk async for chunk in model.astream("d", config=config)]
        model.batch(["e", "f"], config=config)
        await model.abatch(["g", "h"], config=config)
        await RunnableParallel(x=chain, y=chain).ainvoke({"subject": "dogs"}, config=config)
        create_agent(model, [add]).invoke({"messages": [("user", "1 + 2?")]}, config=config)
    assert len(provider.served) == usage.calls >= 12
    assert (usage.unreported, usage.unpriced, usage.failed, usage.unfinished) == (0, 0, 0, 0)
    assert usage.total.cost.amount == spent(ledger) == provider.bill
    assert len(usage.by_model()) == 1


async def test_two_providers_are_told_apart(provider):
    with track_usage() as usage:
        openai(provider).invoke("a")
        await anthropic(provider).ainvoke("a")
    assert set(usage.by_model()) == {"openai:gpt-4o-mini", "anthropic:claude-haiku-4-5"}
    assert usage.total.cost.amount == provider.bill


@clients
async def test_nothing_reaches_the_provider_that_does_not_fit(provider, ledger, client):
    handler = guard(ledger, "0.000001")
    for call in (client(provider).invoke, lambda *a, **k: list(client(provider).stream(*a, **k))):
        with pytest.raises(BudgetExceededError):
            call("a", config={"callbacks": [handler]})
    with pytest.raises(BudgetExceededError):
        await client(provider).ainvoke("a", config={"callbacks": [handler]})
    assert provider.requests == []
    assert spent(ledger) == 0


@clients
async def test_under_load_the_provider_never_bills_more_than_the_limit(provider, ledger, client):
    model = client(provider, max_tokens=400)
    probe = guard(InMemoryLedger(), "0.000001")
    with pytest.raises(BudgetExceededError) as refused:
        model.invoke("hello", config={"callbacks": [probe]})
    limit = Cost.from_nano(5 * refused.value.needed.nano)
    handler = guard(ledger, str(limit.amount))
    calls = (model.ainvoke("hello", config={"callbacks": [handler]}) for _ in range(60))
    replies = await asyncio.gather(*calls, return_exceptions=True)
    served = [reply for reply in replies if not isinstance(reply, BudgetExceededError)]
    assert 5 <= len(served) == len(provider.served) < 60
    assert provider.bill == spent(ledger) <= limit.amount


@clients
def test_retries_that_the_class_announces_are_held_for(provider, client):
    def worst_case(**options):
        handler = guard(InMemoryLedger(), "0.000001")
        with pytest.raises(BudgetExceededError) as refused:
            client(provider, **options).invoke("a", config={"callbacks": [handler]})
        return refused.value.needed.nano

    once = worst_case(max_retries=0)
    assert worst_case(max_retries=4) == 5 * once
    assert worst_case(max_retries=2) == 3 * once


def test_three_attempts_are_held_where_the_client_decides(provider):
    def worst_case(**options):
        handler = guard(InMemoryLedger(), "0.000001")
        with pytest.raises(BudgetExceededError) as refused:
            openai(provider, **options).invoke("a", config={"callbacks": [handler]})
        return refused.value.needed.nano

    assert worst_case(max_retries=None) == 3 * worst_case()


@clients
def test_a_call_that_succeeds_at_the_third_attempt_costs_one_reply(provider, ledger, client):
    provider.faults = [500, 429]
    provider.retry_after = 0.01
    client(provider, max_retries=2).invoke("a", config={"callbacks": [guard(ledger)]})
    assert len(provider.requests) == 3
    assert spent(ledger) == provider.bill


@clients
def test_an_error_answer_costs_nothing(provider, ledger, client):
    provider.faults = [400]
    with pytest.raises(Exception, match="400"), track_usage() as usage:
        client(provider).invoke("a", config={"callbacks": [guard(ledger)]})
    assert (spent(ledger), usage.calls, usage.failed) == (0, 0, 1)


@clients
def test_a_gateway_that_gives_up_costs_the_full_hold(provider, ledger, client):
    provider.faults = [504]
    with pytest.raises(Exception, match="504"), track_usage() as usage:
        client(provider).invoke("a", config={"callbacks": [guard(ledger)]})
    assert (usage.calls, usage.unreported, usage.failed) == (1, 1, 0)
    assert spent(ledger) > provider.bill > 0


@clients
@pytest.mark.parametrize("fault", ["lost", "no usage", "usage below zero", "usage beyond reason", "usage of null"])
def test_what_the_provider_does_not_say_is_charged_in_full_and_counted_as_unknown(provider, ledger, client, fault):
    provider.faults = [fault]
    usage = UsageCallbackHandler()
    # Some clients cannot read what was reported, or get nothing to read: then the call raises.
    client(provider).batch(["a"], config={"callbacks": [guard(ledger), usage]}, return_exceptions=True)
    assert (usage.calls, usage.unreported, usage.unpriced) == (1, 1, 1)
    assert spent(ledger) > provider.bill > 0


@clients
async def test_a_stream_that_is_cut_costs_the_full_hold(provider, ledger, client):
    provider.faults = ["cut", "error event"]
    handler = guard(ledger)

    async def consume():
        async for _ in client(provider).astream("a", config={"callbacks": [handler]}):
            pass

    first = await asyncio.gather(consume(), return_exceptions=True)
    holds = spent(ledger)
    second = await asyncio.gather(consume(), return_exceptions=True)
    assert all(isinstance(error, Exception) for error in first + second)
    assert spent(ledger) == 2 * holds > provider.bill > 0


@clients
async def test_a_stream_that_its_consumer_leaves_is_settled(provider, ledger, client):
    stream = client(provider).astream("a", config={"callbacks": [guard(ledger)]})
    async for _ in stream:
        break
    await stream.aclose()
    assert spent(ledger) > 0


def test_a_stream_without_usage_costs_its_hold(provider, ledger):
    with track_usage() as usage:
        list(openai(provider, stream_usage=False).stream("a", config={"callbacks": [guard(ledger)]}))
    assert (usage.calls, usage.unreported) == (1, 1)
    assert spent(ledger) > provider.bill > 0


@clients
def test_the_response_cache_costs_nothing(provider, ledger, client):
    model = client(provider, cache=InMemoryCache())
    with track_usage() as usage:
        for _ in range(3):
            model.invoke("a", config={"callbacks": [guard(ledger)]})
        # The server's ids begin anew with each test, so the prompt is one that no other test has.
        model.generate([[HumanMessage("twin")], [HumanMessage("twin")]], callbacks=[guard(ledger)])
    assert (len(provider.served), usage.calls, usage.cached) == (2, 2, 3)
    assert usage.total.cost.amount == spent(ledger) == provider.bill


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        (openai, {"extra_body": {"web_search_options": {"a": 1}}}),
        (openai, {"model_kwargs": {"web_search_options": {"a": 1}}}),
        (responses, {"use_previous_response_id": True}),
        (anthropic, {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}),
    ],
)
def test_fields_that_hide_input_are_seen(provider, ledger, client, fields):
    with pytest.raises(EstimationError, match="not in the request"):
        client(provider, **fields).invoke("a", config={"callbacks": [guard(ledger)]})
    assert provider.requests == []


@clients
def test_a_budgeted_client_is_charged_once(provider, ledger, client):
    model = with_budget(client(provider), Budget.usd("1", scope="s"), ledger=ledger)
    model.invoke("a", config={"callbacks": [guard(ledger)]})
    assert spent(ledger) == provider.bill > Decimal(0)

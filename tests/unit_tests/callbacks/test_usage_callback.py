"""UsageCallbackHandler: each call once, whoever makes it, and nothing unknown taken for nothing."""

import asyncio
import threading
from decimal import Decimal
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_runtime.adapters.account import Account, paying
from langchain_runtime.callbacks import UsageCallbackHandler
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, CurrencyMismatchError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger

CALL = 17_000
"""Nano-USD of a call with two tokens in and three out."""


@pytest.fixture
def usage(catalog):
    return UsageCallbackHandler(catalog=catalog)


@pytest.fixture
def config(usage):
    return {"callbacks": [usage]}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def nano(usage):
    return usage.total.cost.nano


def test_a_call_is_counted_with_its_cost_by_model(usage, config, scripted):
    scripted().invoke("hello", config=config)
    assert (usage.calls, nano(usage)) == (1, CALL)
    assert usage.total.tokens == TokenUsage(input=2, output=3)
    assert list(usage.by_model()) == ["scripted:scripted-1"]


async def test_every_way_to_call_is_counted_once(usage, config, scripted):
    model = scripted()
    list(model.stream("hello", config=config))
    await model.ainvoke("hello", config=config)
    assert [chunk async for chunk in model.astream("hello", config=config)]
    model.batch(["hello"] * 3, config=config)
    await model.abatch(["hello"] * 3, config=config)
    model.generate([[HumanMessage("hello")], [HumanMessage("hello")]], callbacks=[usage])
    await model.agenerate([[HumanMessage("hello")], [HumanMessage("hello")]], callbacks=[usage])
    assert (usage.calls, usage.unreported, usage.unpriced, usage.unfinished) == (13, 0, 0, 0)
    assert nano(usage) == 13 * CALL


async def test_chains_and_parallel_branches_are_counted(usage, config, scripted):
    chain = ChatPromptTemplate.from_template("{word}") | scripted()
    both = RunnableParallel(left=chain, right=chain)
    both.invoke({"word": "hello"}, config=config)
    await both.ainvoke({"word": "hello"}, config=config)
    assert (usage.calls, nano(usage)) == (4, 4 * CALL)


async def test_agents_are_counted_and_their_node_is_named(usage, config, scripted):
    agent = create_agent(scripted(script=[{"a": 1, "b": 2}, "three", {"a": 1, "b": 2}, "three"]), [add])
    agent.invoke({"messages": [("user", "hello")]}, config=config)
    await agent.ainvoke({"messages": [("user", "hello")]}, config=config)
    assert (usage.calls, usage.unreported) == (4, 0)
    assert usage.by_task() == {"model": usage.total}


def test_nodes_of_a_graph_are_told_apart(usage, config, scripted):
    graph = StateGraph(MessagesState)
    for name, reply in (("draft", "one two"), ("check", "one")):
        model = scripted(script=[reply])
        graph.add_node(name, lambda state, model=model: {"messages": [model.invoke("hello")]})
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "check")
    graph.add_edge("check", END)
    graph.compile().invoke({"messages": []}, config=config)
    assert {name: part.tokens.output for name, part in usage.by_task().items()} == {"draft": 2, "check": 1}


def test_a_handler_that_is_handed_over_twice_counts_once(usage, scripted):
    model = scripted(callbacks=[usage])
    chain = ChatPromptTemplate.from_template("{word}") | model
    chain.invoke({"word": "hello"}, config={"callbacks": [usage, usage]})
    assert (usage.calls, usage.unfinished) == (1, 0)


def test_threads_are_counted(usage, config, scripted):
    model = scripted()
    threads = [threading.Thread(target=model.batch, args=(["hello"] * 25, config)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (usage.calls, nano(usage)) == (100, 100 * CALL)


def test_several_choices_of_one_call_are_its_total_once(usage, config, scripted):
    scripted().generate([[HumanMessage("hello")]], n=3, callbacks=[usage])
    assert usage.total.tokens == TokenUsage(input=2, output=9)
    assert usage.calls == 1


def test_run_and_task_of_the_account_are_noted(usage, config, scripted):
    with paying(Account(ledger=InMemoryLedger(), run_id="r1", task_id="t1")):
        scripted().invoke("hello", config=config)
    scripted().invoke("hello", config=config)
    assert set(usage.tracker.by_run()) == {"r1", ""}
    assert set(usage.by_task()) == {"t1", ""}


def test_a_call_can_name_another_model_and_a_price_to_go_by(scripted):
    usage = UsageCallbackHandler(price_as={"scripted": "openai:gpt-4o-mini"})
    scripted().invoke("hello", model="other", config={"callbacks": [usage]})
    assert usage.by_model()["scripted:other"].cost == Cost.usd("0.0000021")


def test_the_service_tier_that_was_asked_for_is_priced():
    standard, flex = UsageCallbackHandler(), UsageCallbackHandler()
    usage = {"input_tokens": 10**6, "output_tokens": 10, "total_tokens": 10**6 + 10}
    reply = AIMessage("ok", usage_metadata=usage)
    for handler, options in ((standard, {}), (flex, {"service_tier": "flex"})):
        end_of_call(handler, reply, metadata={"ls_provider": "openai", "ls_model_name": "gpt-5-mini"}, **options)
    assert flex.total.cost.nano * 2 == standard.total.cost.nano


def end_of_call(handler, message, *, metadata=None, llm_output=None, **params):
    run_id = uuid4()
    named = {"ls_provider": "scripted", "ls_model_name": "scripted-1"}
    handler.on_chat_model_start({}, [[]], run_id=run_id, metadata=metadata or named, invocation_params=params)
    result = LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=llm_output)
    handler.on_llm_end(result, run_id=run_id)
    handler.on_llm_end(result, run_id=run_id)


def test_server_side_passes_of_anthropic_are_counted():
    usage = UsageCallbackHandler()
    iterations = [
        {"type": "compaction", "input_tokens": 1_000, "output_tokens": 100},
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
    ]
    message = AIMessage(
        "ok",
        usage_metadata={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        response_metadata={"usage": {"iterations": iterations}},
    )
    end_of_call(usage, message, metadata={"ls_provider": "anthropic", "ls_model_name": "claude-haiku-4-5"})
    assert usage.total.tokens == TokenUsage(input=1_010, output=105)
    assert usage.total.cost.nano == 1_010 * 1_000 + 105 * 5_000


@pytest.mark.parametrize(
    "reported",
    [
        None,
        {"input_tokens": -5, "output_tokens": 1, "total_tokens": -4},
        {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        {"input_tokens": 10**12, "output_tokens": 1, "total_tokens": 10**12 + 1},
    ],
)
def test_missing_and_impossible_usage_is_counted_as_unreported(usage, reported):
    end_of_call(usage, AIMessage("ok", usage_metadata=reported))
    assert (usage.calls, usage.unreported, usage.unpriced) == (1, 1, 1)
    assert usage.total.tokens == TokenUsage()
    assert usage.total.cost is None


@pytest.mark.parametrize("details", ["many", 7, [1]])
def test_usage_in_a_form_that_cannot_be_read_is_unreported(usage, details):
    message = AIMessage("ok")
    message.usage_metadata = {"input_tokens": 1, "output_tokens": 1, "input_token_details": details}
    end_of_call(usage, message)
    assert (usage.calls, usage.unreported) == (1, 1)


def test_a_model_without_a_price_has_tokens_and_no_cost(scripted):
    usage = UsageCallbackHandler()
    scripted().invoke("hello", config={"callbacks": [usage]})
    assert (usage.calls, usage.unreported, usage.unpriced) == (1, 0, 1)
    assert usage.total.tokens.output == 3
    assert usage.total.cost is None
    assert str(usage) == "1 call, 2 tokens in, 3 out, cost unknown; 1 without a price"


def test_prices_in_two_currencies_do_not_add_up_and_say_so(scripted):
    overlay = {"models": {"a": {"input": "1", "output": "1"}, "b": {"input": "1", "output": "1", "currency": "EUR"}}}
    usage = UsageCallbackHandler(catalog=ModelCatalog(overlay))
    for name in ("a", "b"):
        scripted(model=name).invoke("hello", config={"callbacks": [usage]})
    with pytest.raises(CurrencyMismatchError):
        _ = usage.total
    assert usage.by_model()["scripted:b"].cost == Cost("0.000005", "EUR")
    assert str(usage) == "2 calls, in several currencies"


def test_its_representation_is_one_line(usage, config, scripted):
    assert repr(usage) == "0 calls, 0 tokens in, 0 out, cost unknown"
    scripted().batch(["hello"] * 1_200, config=config)
    assert repr(usage) == "1,200 calls, 2,400 tokens in, 3,600 out, 0.0204 USD"


# --- the response cache ----------------------------------------------------------------------------------------------


async def test_replies_from_the_response_cache_cost_nothing(usage, config, scripted):
    model = scripted(cache=InMemoryCache())
    for _ in range(3):
        model.invoke("hello", config=config)
    await model.ainvoke("hello", config=config)
    assert (usage.calls, usage.cached, nano(usage)) == (1, 3, CALL)


@pytest.mark.parametrize("choices", [1, 2])
async def test_the_call_that_filled_the_cache_is_counted_though_a_twin_marked_its_reply(usage, scripted, choices):
    # LangChain writes the mark of a hit on the very object that the paying call reports after it.
    twins = [[HumanMessage("hello")], [HumanMessage("hello")]]
    scripted(cache=InMemoryCache()).generate(twins, callbacks=[usage], n=choices)
    assert (usage.calls, usage.cached, usage.total.tokens.output) == (1, 1, 3 * choices)


# --- calls that do not succeed ---------------------------------------------------------------------------------------


class HTTPError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status_code = status


def test_an_http_error_costs_nothing(usage, config, scripted):
    for status in (400, 429, 500):
        with pytest.raises(HTTPError):
            scripted(script=[HTTPError(status)]).invoke("hello", config=config)
    assert (usage.calls, usage.failed, usage.unfinished) == (0, 3, 0)


async def test_other_errors_may_have_been_billed(usage, config, scripted):
    with pytest.raises(ConnectionResetError):
        scripted(script=[ConnectionResetError()]).invoke("hello", config=config)
    with pytest.raises(ConnectionResetError):
        async for _ in scripted(fails_after=2).astream("hello", config=config):
            pass
    assert (usage.calls, usage.unreported, usage.unpriced, usage.failed) == (2, 2, 2, 0)
    assert str(usage).endswith("; 2 without usage; 2 without a price")


def test_a_call_that_a_budget_held_back_costs_nothing(usage, config, scripted, catalog):
    model = with_budget(scripted(), Budget.usd("0.0001"), ledger=InMemoryLedger(), catalog=catalog)
    with pytest.raises(BudgetExceededError):
        model.invoke("hello", config=config)
    assert (usage.calls, usage.failed) == (0, 1)


def test_a_budgeted_model_is_counted_like_any_other(usage, config, scripted, catalog):
    ledger = InMemoryLedger()
    model = with_budget(scripted(), Budget.usd("1", scope="s"), ledger=ledger, catalog=catalog)
    model.invoke("hello", config=config)
    assert nano(usage) == ledger.balance("s").spent_nano == CALL


async def test_a_stream_that_its_consumer_left_is_counted_without_usage(usage, config, scripted):
    for _ in scripted().stream("hello", config=config):
        break
    stream = scripted().astream("hello", config=config)
    async for _ in stream:
        break
    await stream.aclose()
    assert (usage.calls, usage.unreported, usage.unfinished) == (2, 2, 0)


def test_a_stream_that_reported_before_it_was_left_has_its_usage(usage, config, scripted):
    chunks = scripted().stream("hello", config=config)
    for chunk in chunks:
        if chunk.usage_metadata:
            break
    chunks.close()
    assert (usage.calls, usage.unreported, nano(usage)) == (1, 0, CALL)


async def test_a_cancelled_call_is_seen_to_be_unfinished(usage, config, scripted):
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(*_):
        begun.set()
        await never.wait()

    call = asyncio.ensure_future(scripted(hook=hang).ainvoke("hello", config=config))
    await begun.wait()
    assert usage.unfinished == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (usage.calls, usage.unfinished) == (0, 1)


def test_a_text_completion_model_is_counted_as_unreported(usage, config):
    FakeListLLM(responses=["ok"]).invoke("hello", config=config)
    assert (usage.calls, usage.unreported) == (1, 1)


def test_the_end_of_a_call_that_never_began_is_ignored(usage):
    usage.on_llm_end(LLMResult(generations=[]), run_id=uuid4())
    usage.on_llm_error(ValueError(), run_id=uuid4())
    assert (usage.calls, usage.failed) == (0, 0)


def test_costs_are_exact(usage, config, scripted):
    scripted().invoke("hello", config=config)
    assert usage.total.cost.amount == Decimal("0.000017")

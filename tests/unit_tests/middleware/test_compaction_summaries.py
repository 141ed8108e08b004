"""Summaries in an agent's view: who pays, and what happens when they fail."""

import itertools

import pytest
from langchain.agents.middleware import wrap_model_call
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from talking_agents import check_requests, events_between, follow, says, talk, talker, talking_agent, thread

from langchain_runtime import budget_scope
from langchain_runtime.callbacks import track_usage
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.middleware import BudgetMiddleware, CompactionMiddleware

POLICY = ContextPolicy(max_tokens=1_000, strategy="summarize")
CATALOG = ModelCatalog(
    {"models": {"p:writer": {"input": "1", "output": "5"}, "p:talker": {"input": "1", "output": "5"}}}
)


def writer(script=("The user looks at places one by one.",)):
    return talker(script, provider="p", model="writer")


def agent_with(summarizer, model=None, *, before=(), after=(), saver=None, policy=POLICY):
    middleware = CompactionMiddleware(policy, summarizer=summarizer)
    options = {"checkpointer": saver or InMemorySaver(), "store": InMemoryStore()}
    return middleware, talking_agent([*before, middleware, *after], model, **options)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda messages: model.invoke(messages).text])
async def test_the_note_says_in_short_what_left_the_view(wrap, call):
    model, author = talker(), writer()
    middleware, agent = agent_with(wrap(author), model)
    reports = []
    for turn in range(20):
        await call(agent, says(f"look place{turn}"), thread())
        reports.append(middleware.report())
    assert "The user looks at places one by one." in model.calls[-1].messages[0].text
    assert "[recall:" in model.calls[-1].messages[0].text
    assert len(author.calls) == middleware.report().events == events_between(model.calls) > 1
    check_requests(model.calls, 1_000)


def test_the_report_has_the_tokens_of_a_summary():
    reports = []

    def script(messages):
        reports.append(middleware.report())
        return follow(messages)

    author = writer()
    middleware, agent = agent_with(with_budget(author, None, catalog=CATALOG), talker(script))
    talk(agent, 20, thread())
    made = [report.summary for report in reports if "summarize" in report.strategy]
    assert len(made) == len(author.calls)
    assert all(usage.tokens.output == 8 and usage.cost.nano > 0 for usage in made)


async def test_a_summary_charges_the_summarizers_own_budget_and_the_scope_around(call):
    ledger = InMemoryLedger()
    author = with_budget(writer(), Budget.usd("1", scope="summaries"), ledger=ledger, catalog=CATALOG)
    _, agent = agent_with(author, talker(provider="p", model="talker"))
    with budget_scope(Budget.usd("1", scope="all"), ledger=ledger):
        for turn in range(20):
            await call(agent, says(f"look place{turn}"), thread())
    assert ledger.balance("summaries").spent_nano > 0
    assert ledger.balance("all").spent_nano == ledger.balance("summaries").spent_nano


def test_without_a_summarizer_the_agents_own_model_writes_under_the_budget_before_it():
    ledger = InMemoryLedger()

    def script(messages):
        if messages[0].type == "system":
            return "in short"
        return follow(messages)

    model = talker(script, provider="p", model="talker")
    budget = BudgetMiddleware(Budget.usd("1", scope="agent"), ledger=ledger, catalog=CATALOG)
    _, agent = agent_with(None, model, before=[budget])
    with track_usage(catalog=CATALOG) as usage:
        talk(agent, 20, thread())
    written = [request for request in model.calls if request.messages[0].type == "system"]
    assert written
    assert "in short" in model.calls[-1].messages[0].text
    assert all("tools" not in request.kwargs for request in written)
    assert ledger.balance("agent").spent_nano == usage.total.cost.nano
    assert usage.calls == len(model.calls)


def test_the_agents_own_model_is_the_one_of_the_call():
    @wrap_model_call
    def by_thread(request, handler):
        return handler(request.override(model=models[request.runtime.execution_info.thread_id]))

    def script(messages):
        return "in short" if messages[0].type == "system" else follow(messages)

    models = {name: talker(script, model=name) for name in ("a", "b")}
    _, agent = agent_with(None, before=[by_thread])
    for turn in range(16):
        for name in models:
            agent.invoke(says(f"look {name}{turn}"), thread(name))
    for name, model in models.items():
        written = [request for request in model.calls if request.messages[0].type == "system"]
        assert written
        assert all(f"{name}1" in request.messages[1].text for request in written)
        assert "in short" in model.calls[-1].messages[0].text


@pytest.mark.parametrize(
    "script",
    [
        [ConnectionError("SECRET the provider is gone")],
        [""],
        ["the same words again and again " * 500],
        lambda messages: messages[-1].text,
    ],
    ids=["raises", "says nothing", "is cut", "repeats what it was given"],
)
async def test_a_summariser_that_fails_leaves_handles_only(script, call):
    model, author = talker(), writer(script)
    author.obeys_cap = callable(script) is False
    middleware, agent = agent_with(author, model)
    for turn in range(20):
        await call(agent, says(f"look place{turn}"), thread())
    assert middleware.report().events > 1
    assert len(author.calls) == middleware.report().events
    check_requests(model.calls, 1_000)
    seen = "".join(message.text for request in model.calls for message in request.messages)
    state = str(agent.get_state(thread()).values)
    for text in (seen, state):
        assert "SECRET" not in text
        assert "In short" not in text
        assert "conversation>" not in text


def test_a_summary_that_its_budget_refuses_does_not_stop_the_agent():
    author = with_budget(writer(), Budget.usd("0.000001"), ledger=InMemoryLedger(), catalog=CATALOG)
    model = talker()
    middleware, agent = agent_with(author, model)
    talk(agent, 20, thread())
    assert middleware.report().events > 1
    check_requests(model.calls, 1_000)


def test_a_summariser_that_never_ends_a_thought_is_asked_once_an_event():
    numbers = itertools.count()
    author = writer(lambda _messages: f"{next(numbers)} " + "and then again " * 30)
    model = talker()
    middleware, agent = agent_with(author, model)
    talk(agent, 40, thread())
    assert len(author.calls) == middleware.report().events < 12


def test_a_summary_is_not_made_again_after_a_restart():
    author, saver = writer(), InMemorySaver()
    _, agent = agent_with(author, saver=saver)
    talk(agent, 12, thread())
    written = len(author.calls)
    model = talker()
    _, agent = agent_with(author, model, saver=saver)
    agent.invoke(says("and now"), thread())
    assert len(author.calls) == written > 0
    assert "one by one" in model.calls[0].messages[0].text


def test_what_cannot_summarise_is_refused():
    with pytest.raises(InvalidInputError):
        CompactionMiddleware(POLICY, summarizer=3)

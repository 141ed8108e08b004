"""``CompactionMiddleware`` beside other middleware: budgets, other prompts, tools, messages and models."""

import pytest
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    TodoListMiddleware,
    dynamic_prompt,
    wrap_model_call,
)
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from talking_agents import (
    SMALL,
    check_requests,
    check_valid,
    events_between,
    follow,
    handles,
    says,
    talk,
    talker,
    talking_agent,
    thread,
    tokens,
    tool_names,
)

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.middleware import BudgetMiddleware, CompactionMiddleware

CATALOG = ModelCatalog(
    {"models": {"p:talker": {"input": "1", "output": "5"}, "p:other": {"input": "1", "output": "5"}}}
)


@pytest.fixture
def model():
    return talker(provider="p", model="talker")


@pytest.fixture
def agent_of(model):
    def make(*middleware, **options):
        options = {"checkpointer": InMemorySaver(), "store": InMemoryStore(), **options}
        return talking_agent(middleware, options.pop("model", model), **options)

    return make


@pytest.mark.parametrize("order", [1, -1], ids=["before the budget", "after the budget"])
async def test_a_budget_pays_for_what_is_sent(agent_of, call, order):
    model = talker(provider="p", model="talker", max_tokens=100)
    ledger = InMemoryLedger()
    budget = BudgetMiddleware(Budget.usd("0.02", scope="agent"), ledger=ledger, catalog=CATALOG)
    agent = agent_of(*[CompactionMiddleware(SMALL), budget][::order], model=model)
    turns = 0
    while turns < 200:
        result = await call(agent, says(f"look place{turns}"), thread())
        turns += 1
        if "lcr_budget_end" in result["messages"][-1].response_metadata:
            break
    assert 10 < turns < 200
    check_requests(model.calls, 1_000)
    ledger.top_up("agent", 10_000_000, key="more")
    result = await call(agent, says("look again"), thread())
    assert result["messages"][-1].text.startswith("done")
    check_requests(model.calls, 1_000)


@pytest.mark.parametrize("order", [1, -1], ids=["before the budget", "after the budget"])
def test_a_reply_that_the_budget_cut_is_asked_for_again_in_a_view_that_fits(agent_of, order):
    long = {"name": "look", "args": {"where": "word " * 60}, "id": "c"}

    def script(messages):
        if messages[-1].text == "write long":
            ledger.top_up("agent", 1_000_000_000, key="more")
            return AIMessage("word " * 3_000, tool_calls=[long])
        return follow(messages)

    model = talker(script, provider="p", model="talker")
    ledger = InMemoryLedger()
    budget = BudgetMiddleware(Budget.usd("1", scope="agent"), ledger=ledger, catalog=CATALOG)
    agent = agent_of(*[CompactionMiddleware(SMALL), budget][::order], model=model)
    talk(agent, 12, thread())
    ledger.set_limit("agent", ledger.balance("agent").spent_nano + 11_000_000)
    agent.invoke(says("write long"), thread())
    assert any("was cut" in request.messages[-1].text for request in model.calls)
    talk(agent, 12, thread(), start=12)
    asked_again = [request for request in model.calls if "was cut" in request.messages[-1].text]
    others = [request for request in model.calls if request not in asked_again]
    check_requests(others, 1_000)
    for request in asked_again:
        assert tokens(request) <= 1_000 + (100 if order == 1 else 0)
    texts = [message.text for message in agent.get_state(thread()).values["messages"]]
    assert not any("Answer again in fewer tokens" in text for text in texts)


@pytest.mark.parametrize("length", [1, 60])
def test_a_prompt_that_changes_with_every_call_counts(agent_of, model, length):
    @dynamic_prompt
    def prompt(request):
        return f"There are {len(request.messages)} messages. " * length

    agent = agent_of(prompt, CompactionMiddleware(SMALL))
    talk(agent, 24, thread())
    check_requests(model.calls, 1_000)


def test_tools_of_other_middleware_count_and_stay(agent_of, model):
    agent = agent_of(TodoListMiddleware(), CompactionMiddleware(ContextPolicy(max_tokens=3_500)))
    talk(agent, 40, thread())
    check_requests(model.calls, 3_500)
    assert set(tool_names(model.calls[-1])) == {"write_todos", "recall", "look"}


def test_tools_that_other_middleware_takes_away_stay_away(agent_of, model):
    @wrap_model_call
    def no_tools(request, handler):
        return handler(request.override(tools=[]))

    agent = agent_of(no_tools, CompactionMiddleware(SMALL))
    for turn in range(30):
        agent.invoke(says(f"say something about place{turn} " * 8), thread())
    assert {len(tool_names(request)) for request in model.calls} == {0}
    assert handles(model.calls[-1].messages)


def test_messages_for_one_call_only_are_shown_and_counted_and_not_remembered(agent_of, model):
    calls = []

    @wrap_model_call
    def clock(request, handler):
        calls.append(request)
        reminder = HumanMessage(f"look clock{len(calls)}-" + "tick-" * 20, id=f"clock{len(calls)}")
        added = [reminder] if request.messages[-1].type == "human" else []
        return handler(request.override(messages=[*request.messages, *added]))

    middleware = CompactionMiddleware(SMALL)
    agent = agent_of(clock, middleware)
    talk(agent, 24, thread())
    check_requests(model.calls, 1_000)
    reminded = [request for request in model.calls if (request.messages[-1].id or "").startswith("clock")]
    assert len(reminded) == 24
    for request in model.calls:
        assert sum((message.id or "").startswith("clock") for message in request.messages) <= 1
    state = agent.get_state(thread()).values
    assert "tick" not in "".join(message.text for message in state["messages"] if message.type == "human")
    assert not any(str(message.id).startswith("clock") for message in state["messages"])
    assert middleware.report("t").events < 15


def test_messages_for_one_call_only_leave_an_invocation_without_a_thread_its_archive(agent_of, model):
    @wrap_model_call
    def clock(request, handler):
        return handler(request.override(messages=[*request.messages, HumanMessage("search moon", id="clock")]))

    agent = agent_of(clock, CompactionMiddleware(SMALL), checkpointer=None, store=None)
    model.script = lambda messages: follow(messages) if len(model.calls) == 1 else AIMessage("done")
    history = [HumanMessage(f"the word is {word} " * 20) for word in ["moon", "sun"] * 10]
    result = agent.invoke({"messages": history})
    assert "moon" in result["messages"][-2].text


def test_messages_that_other_middleware_rewrites_are_seen_as_rewritten(agent_of, model):
    editing = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=400, keep=1, placeholder="[cleared]")])
    agent = agent_of(editing, CompactionMiddleware(SMALL))
    talk(agent, 40, thread())
    check_requests(model.calls, 1_000)
    assert "[cleared]" in [message.text for message in model.calls[-1].messages]


@pytest.mark.parametrize("order", [1, -1])
async def test_a_call_that_is_tried_again_is_the_same_call(agent_of, call, order):
    failures = []

    def script(messages):
        if len(failures) < 10 and failures[-1:] != [messages[-1].id]:
            failures.append(messages[-1].id)
            raise ConnectionError("gone")
        return follow(messages)

    model = talker(script)
    retry = ModelRetryMiddleware(initial_delay=0, jitter=False)
    agent = agent_of(*[CompactionMiddleware(SMALL), retry][::order], model=model)
    for turn in range(16):
        await call(agent, says(f"look place{turn}"), thread())
    for failed, again in zip(model.calls[:20:2], model.calls[1:20:2], strict=True):
        assert failed.messages == again.messages
    check_requests(model.calls, 1_000)
    assert events_between(model.calls) <= 6


def test_a_model_with_a_smaller_window_gets_a_smaller_view(agent_of):
    def fails_sometimes(messages):
        if messages[-1].text in {"look place17", "look place18"}:
            raise ConnectionError("gone")
        return follow(messages)

    large = talker(fails_sometimes, profile={"max_input_tokens": 2_000})
    small = talker(profile={"max_input_tokens": 800}, model="small")
    agent = agent_of(ModelFallbackMiddleware(small), CompactionMiddleware(), model=large)
    talk(agent, 40, thread())
    assert len(small.calls) == 2
    check_requests(small.calls, 640)
    check_requests(large.calls, 1_600)


def test_middleware_after_it_sees_the_view(agent_of, model):
    seen = []

    @wrap_model_call
    def watch(request, handler):
        seen.append(list(request.messages))
        return handler(request)

    agent = agent_of(CompactionMiddleware(SMALL), watch)
    talk(agent, 20, thread())
    assert seen == [list(request.messages) for request in model.calls]
    for messages in seen:
        check_valid(messages)

"""``on_exceeded`` end and error: what an agent under a budget spends, and how it ends when that does not suffice."""

import pytest
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    after_agent,
    wrap_model_call,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.chat_models import BudgetedChatModel, with_budget
from langchain_runtime.contracts.budget import Budget, Period
from langchain_runtime.contracts.errors import BudgetExceededError, InvalidInputError
from langchain_runtime.contracts.money import Cost

THREAD = {"configurable": {"thread_id": "t"}}


def assert_ended_well(result, scope="office"):
    """The last message says that the budget ended it, and every tool call has an answer."""
    notice = result["messages"][-1]
    assert isinstance(notice, AIMessage)
    assert notice.text.startswith("Budget reached: ")
    assert repr(scope) in notice.text
    assert not notice.tool_calls
    assert notice.response_metadata["lcr_budget_end"]["type"] == "budget_exceeded"
    asked = {call["id"] for m in result["messages"] if isinstance(m, AIMessage) for call in m.tool_calls}
    assert asked == {m.tool_call_id for m in result["messages"] if isinstance(m, ToolMessage)}
    return notice.response_metadata["lcr_budget_end"]


async def test_an_agent_with_enough_money_works_as_ever_and_every_call_is_charged(office, call):
    model = office.looking()
    result = await call(office.agent(model))
    assert [m.type for m in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text == "done"
    used = [m.usage_metadata for m in result["messages"] if isinstance(m, AIMessage)]
    assert office.books.spent_nano == sum(u["input_tokens"] * 1_000 + u["output_tokens"] * 5_000 for u in used)
    assert office.books.held_nano == 0
    assert len(model.calls) == 2


async def test_an_agent_without_money_ends_with_a_message_that_has_the_figures(office, call):
    model = office.model()
    office.use_up()
    result = await call(office.agent(model, name="bob"))
    mark = assert_ended_well(result)
    assert model.calls == []
    needed = mark.pop("needs")
    assert mark == {
        "type": "budget_exceeded",
        "scope": "office",
        "currency": "USD",
        "spent": "0.00",
        "held": "0.00",
        "limit": "0.000000001",
        "short_of": "money",
        "model": "p:large",
        "waiting": ["bob"],
    }
    assert Cost.usd(needed).nano > 100 * 5_000
    assert f"needs up to {needed} USD" in result["messages"][-1].text
    assert result["messages"][-1].name == "bob"


async def test_an_agent_that_runs_out_of_money_after_a_tool_keeps_what_it_did(office, call):
    office.when_looking = office.use_up
    result = await call(office.agent(office.looking()))
    assert_ended_well(result)
    assert [m.type for m in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert office.looks == ["here"]


async def test_what_the_last_tool_call_of_several_used_up_leaves_all_of_them_answered(office, call):
    office.when_looking = office.use_up
    calls = [{"name": "look", "args": {"where": str(n)}, "id": f"call_{n}"} for n in range(5)]
    result = await call(office.agent(office.model(AIMessage("", tool_calls=calls))))
    assert_ended_well(result)
    assert sorted(office.looks) == ["0", "1", "2", "3", "4"]


@pytest.fixture(params=["memory", "sqlite"])
def checkpointer(request, tmp_path):
    if request.param == "memory":
        yield InMemorySaver()
    else:
        with SqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
            yield saver


def test_after_a_top_up_the_thread_goes_on_with_the_next_message(office, checkpointer):
    office.when_looking = office.use_up
    model = office.looking()
    agent = office.agent(model, checkpointer=checkpointer)
    agent.invoke({"messages": [HumanMessage("go")]}, THREAD)
    still = agent.invoke({"messages": [HumanMessage("and now?")]}, THREAD)
    assert_ended_well(still)
    office.top_up()
    result = agent.invoke({"messages": [HumanMessage("and now?")]}, THREAD)
    assert result["messages"][-1].text == "done"
    assert [m.type for m in model.calls[-1].messages] == ["human", "ai", "tool", "ai", "human", "ai", "human"]


def test_after_a_top_up_the_thread_goes_on_where_it_ended_without_any_message(office, checkpointer):
    office.when_looking = office.use_up
    model = office.looking()
    agent = office.agent(model, checkpointer=checkpointer)
    agent.invoke({"messages": [HumanMessage("go")]}, THREAD)
    assert_ended_well(agent.invoke({"messages": []}, THREAD))
    office.top_up()
    assert agent.invoke({"messages": []}, THREAD)["messages"][-1].text == "done"
    assert [m.type for m in model.calls[-1].messages] == ["human", "ai", "tool"]


@pytest.mark.parametrize("mode", ["updates", "values", "messages"])
async def test_streams_end_with_the_message_too(office, mode):
    office.when_looking = office.use_up
    agent = office.agent(
        office.model(AIMessage("let me look", tool_calls=[{"name": "look", "args": {"where": "x"}, "id": "1"}]))
    )
    parts = list(agent.stream({"messages": [HumanMessage("go")]}, stream_mode=mode))
    aparts = [part async for part in agent.astream({"messages": [HumanMessage("go")]}, stream_mode=mode)]

    def texts(parts):
        if mode == "messages":
            return [message.text for message, _ in parts]
        states = [part.get("model") for part in parts] if mode == "updates" else parts
        return [state["messages"][-1].text for state in states if state]

    assert texts(parts)[-1].startswith("Budget reached: ")
    assert texts(aparts)[-1].startswith("Budget reached: ")
    if mode == "messages":
        assert "".join(texts(parts)).startswith("let me look")


async def test_error_hands_the_refusal_to_the_caller(office, call):
    model = office.model()
    office.use_up()
    with pytest.raises(BudgetExceededError) as caught:
        await call(office.agent(model, on_exceeded="error"))
    assert caught.value.scope == "office"
    assert model.calls == []


async def test_middleware_that_retries_does_not_retry_a_refusal(office, call):
    office.use_up()
    asked = []

    class Counting(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            asked.append(1)
            return handler(request)

        async def awrap_model_call(self, request, handler):
            asked.append(1)
            return await handler(request)

    agent = office.agent(
        office.model(),
        before=[ModelRetryMiddleware(max_retries=3, initial_delay=0, on_failure="error"), Counting()],
        on_exceeded="error",
    )
    with pytest.raises(BudgetExceededError):
        await call(agent)
    assert asked == [1]


async def test_a_model_that_other_middleware_falls_back_on_is_under_the_budget_too(office, call):
    broken, spare = office.model(ConnectionError("down")), office.model("spare", name="middle")
    result = await call(office.agent(broken, before=[ModelFallbackMiddleware(spare)]))
    assert result["messages"][-1].text == "spare"
    usage = result["messages"][-1].usage_metadata
    settled = usage["input_tokens"] * 100 + usage["output_tokens"] * 500
    lost = office.books.spent_nano - settled
    assert lost > 100 * 5_000, "the call that failed is charged in full"


class Witness(AgentMiddleware):
    """Stands behind the budget and sees what it hands on."""

    def __init__(self):
        super().__init__()
        self.models = []

    def wrap_model_call(self, request, handler):
        self.models.append(request.model)
        return handler(request)

    async def awrap_model_call(self, request, handler):
        self.models.append(request.model)
        return await handler(request)


async def test_a_model_is_wrapped_once_not_for_every_call(office, call):
    witness = Witness()
    agent = office.agent(office.looking(), after=[witness])
    await call(agent)
    await call(agent)
    assert len(witness.models) == 3
    assert len({id(model) for model in witness.models}) == 1
    assert isinstance(witness.models[0], BudgetedChatModel)


async def test_only_so_many_wrapped_models_are_kept(office, call, monkeypatch):
    monkeypatch.setattr("langchain_runtime.middleware._budgeted_models._KEPT", 2)
    witness = Witness()
    agent = office.agent(
        office.model(),
        after=[witness],
        budget=lambda request: Budget.usd("1", scope=f"user:{request.messages[-1].text}"),
    )
    for user in ("ann", "bob", "ann", "cid", "ann", "bob"):
        await call(agent, user)
    ann, bob, ann_again, _, ann_at_last, bob_again = witness.models
    assert ann is ann_again is ann_at_last
    assert bob_again is not bob, "bob's was the one not used for the longest time when cid came"


async def test_a_model_with_a_budget_of_its_own_charges_both(office, call):
    own = Budget.usd("1", scope="own")
    model = with_budget(office.model(), own, ledger=office.ledger, catalog=office.catalog)
    await call(office.agent(model))
    assert office.books.spent_nano == office.ledger.balance("own").spent_nano > 0


async def test_the_models_own_budget_can_end_the_agent(office, call):
    own = Budget(Cost.from_nano(1), scope="own")
    model = with_budget(office.model(), own, ledger=office.ledger, catalog=office.catalog)
    assert_ended_well(await call(office.agent(model)), scope="own")


async def test_without_a_budget_the_scopes_around_the_agent_are_charged_and_can_end_it(office, call):
    agent = office.agent(office.model(), budget=None)
    with budget_scope(Budget.usd("1", scope="around"), ledger=office.ledger) as around:
        await call(agent)
    assert around.spent.nano > 0
    with budget_scope(Budget(Cost.from_nano(1), scope="tight"), ledger=office.ledger):
        assert_ended_well(await call(agent), scope="tight")
    assert (await call(agent))["messages"][-1].text == "done"


async def test_a_daily_budget_ends_the_agent_for_the_day(office, call):
    daily = Budget(Cost.from_nano(1_600_000), scope="daily", period=Period(kind="rolling", seconds=86_400))
    agent = office.agent(office.looking(), budget=daily)
    office.when_looking = lambda: office.ledger.set_limit("daily", office.ledger.balance("daily").spent_nano)
    assert_ended_well(await call(agent), scope="daily")


async def test_a_budget_of_tokens_ends_the_agent_too(office, call):
    tokens = Budget(None, scope="tokens", token_limit=50)
    model = office.model()
    mark = assert_ended_well(await call(office.agent(model, budget=tokens)), scope="tokens")
    assert mark["short_of"] == "tokens"
    assert mark["limit"] is None
    assert model.calls == []


async def test_a_budget_can_be_chosen_for_each_call(office, call):
    agent = office.agent(
        office.model(),
        budget=lambda request: Budget.usd("1", scope=f"user:{request.runtime.context['user']}"),
        context_schema=dict,
    )
    for user in ("ann", "bob", "ann"):
        await call(agent, context={"user": user})
    ann, bob = (office.ledger.balance(f"user:{user}").spent_nano for user in ("ann", "bob"))
    assert ann == 2 * bob > 0


async def test_a_chosen_budget_may_be_none_at_all(office, call):
    assert (await call(office.agent(office.model(), budget=lambda request: None)))["messages"][-1].text == "done"
    assert office.ledger.balances() == []


@pytest.mark.parametrize("chosen", [Budget.usd("1"), "1.00"])
async def test_a_chosen_budget_needs_a_name_and_must_be_one(office, call, chosen):
    with pytest.raises(InvalidInputError, match="needs a"):
        await call(office.agent(office.model(), budget=lambda request: chosen))


@pytest.mark.parametrize(
    ("budget", "options", "problem"),
    [
        ("0.50", {}, "needs a Budget, got str"),
        (None, {"on_exceeded": "stop"}, "must be one of"),
        (None, {"on_exceeded": "downgrade"}, "go together"),
        (None, {"ladder": ["p:middle"]}, "go together"),
        (None, {"on_exceeded": "downgrade", "ladder": []}, "one or more models"),
        (None, {"on_exceeded": "downgrade", "ladder": "p:middle"}, "one or more models"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(office, budget, options, problem):
    with pytest.raises(InvalidInputError, match=problem):
        office.middleware(budget, **options)


def test_another_limit_for_a_known_scope_is_refused_at_once(office):
    office.middleware()
    with pytest.raises(InvalidInputError, match="office"):
        office.middleware(Budget.usd("2", scope="office"))


async def test_what_runs_after_an_agent_runs_after_one_that_the_budget_ended(office, call):
    seen = []

    @after_agent
    def note(state, runtime):
        seen.append(state["messages"][-1].text)

    office.use_up()
    agent = office.agent(office.model(), before=[note])
    await call(agent)
    assert len(seen) == 1
    assert seen[0].startswith("Budget reached: ")


async def test_middleware_around_the_budget_sees_a_reply_like_any_other(office):
    replies = []

    @wrap_model_call
    def look_on(request, handler):
        response = handler(request)
        replies.append(response.result[0].text)
        return response

    office.use_up()
    office.agent(office.model(), before=[look_on]).invoke({"messages": [HumanMessage("go")]})
    assert len(replies) == 1
    assert replies[0].startswith("Budget reached: ")

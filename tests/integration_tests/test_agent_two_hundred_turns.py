"""An agent talks for 200 turns at a window of 2,000 tokens, is restarted half way, and knows at the end what it was
told at the beginning."""

import sqlite3
from contextlib import ExitStack, closing
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from talking_agents import (
    check_requests,
    check_valid,
    events_between,
    follow,
    handles,
    says,
    talker,
    talking_agent,
    thread,
    tool_names,
)

from langchain_runtime import budget_scope
from langchain_runtime.callbacks import track_usage
from langchain_runtime.chat_models import with_budget
from langchain_runtime.context import Archive
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.middleware import BudgetMiddleware, CompactionMiddleware

WINDOW = 2_000
TURNS = 200
POLICY = ContextPolicy(max_tokens=WINDOW)
FACTS = {1: "vault 4711-X", 4: "harbour 0815-Q", 9: "lighthouse 2222-Z", 15: "ferry 9034-K", 22: "museum 7788-M"}
CATALOG = ModelCatalog({"models": {name: {"input": "1", "output": "5"} for name in ("p:talker", "p:writer")}})


@tool
def measure(where: str, what: str) -> str:
    """Measure something somewhere."""
    return f"{what} of {where}: " + "; ".join(f"{n} o'clock {len(where) * n}" for n in range(24))


def script(messages: list[Any]) -> AIMessage:
    """As ``follow``, with calls of ``measure``: two at once for every third place."""
    reply = follow(messages)
    calls = [
        {**call, "name": "measure", "args": {**call["args"], "what": "wind"}} if call["name"] == "look" else call
        for call in reply.tool_calls
    ]
    return reply.model_copy(update={"tool_calls": calls})


def order(turn: int) -> str:
    if turn in FACTS:
        return f"note that the code of the {FACTS[turn]}"
    return f"look place{turn}" + (f" island{turn}" if turn % 3 == 0 else "")


class Life:
    """An agent's process: fresh objects and connections over the same files."""

    def __init__(self, folder, model, *, before=(), after=(), policy=POLICY, **options):
        self.closing = ExitStack()
        checkpoints = self.closing.enter_context(
            closing(sqlite3.connect(folder / "checkpoints.db", check_same_thread=False))
        )
        self.store = self.closing.enter_context(SqliteStore.from_conn_string(str(folder / "store.db")))
        self.store.setup()
        self.middleware = CompactionMiddleware(policy, **options)
        self.agent = talking_agent(
            [*before, self.middleware, *after],
            model,
            tools=[measure],
            system_prompt="You measure what you are told to, and note what you are told.",
            checkpointer=SqliteSaver(checkpoints),
            store=self.store,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closing.close()

    def says(self, text):
        return self.agent.invoke(says(text), thread())["messages"]

    def messages(self):
        return self.agent.get_state(thread()).values["messages"]


@pytest.mark.load
def test_two_hundred_turns_at_two_thousand_tokens_with_a_restart(tmp_path):
    model = talker(script)
    said = []
    with Life(tmp_path, model) as first:
        for turn in range(TURNS // 2):
            said.append(order(turn))
            first.says(said[-1])
        events = first.middleware.report("t").events
    with Life(tmp_path, model) as second:
        for turn in range(TURNS // 2, TURNS):
            said.append(order(turn))
            second.says(said[-1])

        # The state has everything.
        messages = second.messages()
        assert [message.text for message in messages if isinstance(message, HumanMessage)] == said
        check_valid(messages)
        assert len(messages) == sum(
            {0: 2, 1: 4, 2: 5}[0 if turn in FACTS else 2 if turn % 3 == 0 else 1] for turn in range(TURNS)
        )

        # What was sent fits, is in order, and began as the request before, but for few events; also over the restart.
        check_requests(model.calls, WINDOW)
        report = second.middleware.report("t")
        assert events > 5
        assert events_between(model.calls) == report.events < len(model.calls) / 5

        # Nothing of the early facts is in view; all of it is in the archive, equal to what was said.
        view = model.calls[-1].messages
        archive = Archive(second.store, ("lcr", "threads", "t"))
        kept = {message.id: message for handle in archive.handles() for message in archive.recall(handle)}
        in_view = {message.id for message in view}
        assert [m for m in messages[:-1] if m.id not in in_view and kept.get(m.id) != m] == []
        for fact in FACTS.values():
            assert not any(fact.split()[1] in message.text for message in view)
            assert any(fact in message.text for message in kept.values())

        # And the model reads it back with the tool.
        assert "recall" in tool_names(model.calls[-1])
        for fact in FACTS.values():
            place, code = fact.split()
            answer = second.says(f"search {place} code")[-2]
            assert answer.name == "recall"
            assert code in answer.text
        oldest = handles(model.calls[-1].messages)[0]
        assert "Nothing is kept" not in second.says(f"recall {oldest}")[-2].text
        check_requests(model.calls, WINDOW)


async def test_async_with_async_connections(tmp_path):
    model = talker(script)
    for life in range(2):
        async with (
            AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db")) as saver,
            AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store,
        ):
            await store.setup()
            agent = talking_agent(CompactionMiddleware(POLICY), model, tools=[measure], checkpointer=saver, store=store)
            for turn in range(life * 25, life * 25 + 25):
                await agent.ainvoke(says(order(turn)), thread())
            for fact in list(FACTS.values())[: 2 if life == 0 else 5]:
                place, code = fact.split()
                result = await agent.ainvoke(says(f"search {place} code"), thread())
                assert code in result["messages"][-2].text
    check_requests(model.calls, WINDOW)


async def test_async_over_a_store_that_has_sync_methods_only(tmp_path):
    model = talker(script)
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        store.setup()
        agent = talking_agent(
            CompactionMiddleware(POLICY), model, tools=[measure], checkpointer=InMemorySaver(), store=store
        )
        for turn in range(25):
            await agent.ainvoke(says(order(turn)), thread())
        result = await agent.ainvoke(says("search vault code"), thread())
    assert "4711-X" in result["messages"][-2].text
    check_requests(model.calls, WINDOW)


def test_summaries_of_a_long_talk_are_paid_for_by_the_budgets_around_it(tmp_path):
    ledger = InMemoryLedger()
    model = talker(script, provider="p", model="talker")
    author = talker(["Wind was measured at many places."], provider="p", model="writer")
    summarizer = with_budget(author, Budget.usd("1", scope="summaries"), ledger=ledger, catalog=CATALOG)
    budget = BudgetMiddleware(Budget.usd("1", scope="agent"), ledger=ledger, catalog=CATALOG)
    policy = ContextPolicy(max_tokens=WINDOW, strategy="summarize")
    with (
        Life(tmp_path, model, policy=policy, summarizer=summarizer, after=[budget]) as life,
        budget_scope(Budget.usd("1", scope="all"), ledger=ledger),
        track_usage(catalog=CATALOG) as usage,
    ):
        for turn in range(40):
            life.says(order(turn))
        report = life.middleware.report("t")
        boundary = Boundary.model_validate(life.agent.get_state(thread()).values["lcr_boundary"])
    spent = {scope: ledger.balance(scope).spent_nano for scope in ("summaries", "agent", "all")}
    assert spent["summaries"] + spent["agent"] == spent["all"] == usage.total.cost.nano
    assert len(author.calls) == report.events == boundary.events > 1
    assert "Wind was measured at many places." in str(boundary.head)
    check_requests(model.calls, WINDOW)


@pytest.mark.parametrize(
    "bad",
    [[RuntimeError("SECRET: no such model")], ["round and round " * 2_000], lambda messages: messages[-1].text],
    ids=["fails", "never ends", "says it all again"],
)
def test_a_bad_summariser_leaves_a_long_talk_as_it_is_without_summaries(tmp_path, bad):
    model = talker(script)
    policy = ContextPolicy(max_tokens=WINDOW, strategy="summarize")
    with Life(tmp_path, model, policy=policy, summarizer=talker(bad, obeys_cap=False)) as life:
        for turn in range(40):
            life.says(order(turn))
        assert life.middleware.report("t").events > 1
        state = str(life.agent.get_state(thread()).values)
        assert "4711-X" in life.says("search vault code")[-2].text
    check_requests(model.calls, WINDOW)
    sent = str([request.messages for request in model.calls])
    for text in (sent, state):
        assert "SECRET" not in text
        assert "In short" not in text
        assert "round and round" not in text

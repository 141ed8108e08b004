"""Many agents on one budget: whatever they do at once, they never spend more than it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

AGENTS = 20
LIMIT = 6_000_000
"""Nano-USD: for about four calls at once."""


@pytest.fixture(params=["memory", "sqlite"])
def office(office, request, tmp_path):
    office.ledger = InMemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db")
    yield office
    office.ledger.close()


def greedy(office, watch, **options):
    """An agent that looks ten times, and a watch on the books at each of its calls."""
    look = AIMessage("", tool_calls=[{"name": "look", "args": {"where": "x"}, "id": "1"}])

    def script(messages):
        watch()
        return look if len(messages) < 20 else "done " * 60

    return office.agent(office.model(script=script, **options), budget=Budget(Cost.from_nano(LIMIT), scope="office"))


def cost_of(results):
    used = [m.usage_metadata for result in results for m in result["messages"] if isinstance(m, AIMessage)]
    return sum(use["input_tokens"] * 1_000 + use["output_tokens"] * 5_000 for use in used if use)


def assert_all_is_well(office, results, seen):
    assert max(seen) <= LIMIT
    assert len(seen) > AGENTS, "most agents got several calls"
    assert office.books.held_nano == 0
    assert office.books.spent_nano == cost_of(results) <= LIMIT
    ends = [result["messages"][-1] for result in results]
    assert len(ends) == AGENTS
    assert all(not end.tool_calls for end in ends)
    assert any("lcr_budget_end" in end.response_metadata for end in ends)


def test_twenty_agents_in_threads_never_spend_more_than_the_budget(office):
    seen = []
    starting = threading.Barrier(AGENTS)

    def watch():
        books = office.books
        seen.append(books.spent_nano + books.held_nano)

    agent = greedy(office, watch)

    def work(_):
        starting.wait()
        return agent.invoke({"messages": ["go"]})

    with ThreadPoolExecutor(AGENTS) as pool:
        results = list(pool.map(work, range(AGENTS)))
    assert_all_is_well(office, results, seen)


async def test_twenty_agents_in_tasks_never_spend_more_than_the_budget(office):
    seen = []

    async def pause(call_no, chunk_no):
        await asyncio.sleep(0)  # others may go on

    def watch():
        books = office.books
        seen.append(books.spent_nano + books.held_nano)

    agent = greedy(office, watch, hook=pause)
    results = await asyncio.gather(*(agent.ainvoke({"messages": ["go"]}) for _ in range(AGENTS)))
    assert_all_is_well(office, results, seen)


async def test_agents_that_wait_for_each_other_all_get_their_call(office):
    patient = Budget(Cost.from_nano(LIMIT), scope="office", on_exceed="wait", wait_timeout=30)

    async def pause(call_no, chunk_no):
        await asyncio.sleep(0)

    agent = office.agent(office.model("ok", hook=pause), budget=patient)
    results = await asyncio.gather(*(agent.ainvoke({"messages": ["go"]}) for _ in range(AGENTS)))
    assert {result["messages"][-1].text for result in results} == {"ok"}


@pytest.fixture
def boss(office):
    """An agent that asks a helper, an agent itself, three times at once."""
    helper = office.agent(office.model("helped"), name="helper")

    @tool
    def ask_helper(what: str) -> str:
        """Ask a helper."""
        office.when_looking()
        return helper.invoke({"messages": [what]})["messages"][-1].text

    calls = [{"name": "ask_helper", "args": {"what": "x"}, "id": f"call_{n}"} for n in range(3)]
    return office.agent(office.model(AIMessage("", tool_calls=calls), "done"), tools=[ask_helper], name="boss")


def test_an_agent_and_its_subagents_share_one_budget(office, boss):
    result = boss.invoke({"messages": ["go"]})
    assert [message.text for message in result["messages"]] == ["go", "", "helped", "helped", "helped", "done"]
    read, said = 2, 1  # what a helper costs, in words: its message with its framing, and its reply
    assert office.books.spent_nano == cost_of([result]) + 3 * (read * 1_000 + said * 5_000)


def test_when_the_money_is_gone_the_subagents_end_and_then_the_agent(office, boss):
    office.when_looking = office.use_up
    result = boss.invoke({"messages": ["go"]})
    *_, one, two, three, end = result["messages"]
    assert all(answer.type == "tool" and answer.text.startswith("Budget reached: ") for answer in (one, two, three))
    assert end.response_metadata["lcr_budget_end"]["waiting"] == ["boss"]
    assert office.books.spent_nano == cost_of([result])

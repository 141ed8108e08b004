"""``on_exceeded="ask"``: the agent stops with a question, and a human's answer raises the limit, once."""

import subprocess
import sys

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import LedgerUnavailableError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

THREAD = {"configurable": {"thread_id": "t"}}
USD = 1_000_000_000


@pytest.fixture
def office(office):
    """One whose agents run out of money when they look."""
    office.when_looking = office.use_up
    return office


def asking(office, model, **options):
    return office.agent(model, on_exceeded="ask", **{"checkpointer": InMemorySaver(), **options})


def questions(result):
    return [question.value for question in result.get("__interrupt__", ())]


def kinds(result):
    return [message.type for message in result["messages"]]


async def test_the_question_has_the_figures_and_can_be_read(office, call):
    result = await call(asking(office, office.looking(), name="bob"), config=THREAD)
    (question,) = questions(result)
    needs = question["needs"]
    assert {key: question[key] for key in ("type", "scope", "currency", "spent", "limit", "waiting")} == {
        "type": "budget_exceeded",
        "scope": "office",
        "currency": "USD",
        "spent": "0.000012",
        "limit": "0.000012",
        "waiting": ["bob"],
    }
    assert question["message"].startswith("Budget reached: ")
    assert question["message"].endswith(f"Add {needs} USD?")


async def test_an_answer_raises_the_limit_and_the_call_goes_on(office, call):
    model = office.looking()
    agent = asking(office, model)
    await call(agent, config=THREAD)
    before = office.books.scope.limit_nano
    result = await call(agent, Command(resume={"add": "0.40"}), THREAD)
    assert office.books.scope.limit_nano == before + 4 * USD // 10
    assert result["messages"][-1].text == "done"
    assert kinds(result) == ["human", "ai", "tool", "ai"], "the question has left no trace"
    assert office.looks == ["here"], "nothing was done twice"
    assert [message.type for message in model.calls[-1].messages] == ["human", "ai", "tool"]


async def test_stop_ends_the_agent_well(office, call):
    agent = asking(office, office.looking())
    await call(agent, config=THREAD)
    before = office.books.scope.limit_nano
    result = await call(agent, Command(resume={"stop": True}), THREAD)
    assert questions(result) == []
    assert kinds(result) == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text.startswith("Budget reached: ")
    assert office.books.scope.limit_nano == before


async def test_too_little_is_added_all_the_same_and_the_next_question_is_another_one(office, call):
    agent = asking(office, office.looking())
    first = (await call(agent, config=THREAD))["__interrupt__"][0]
    before = office.books.scope.limit_nano
    second = (await call(agent, Command(resume={"add": "0.0001"}), THREAD))["__interrupt__"][0]
    assert second.id != first.id
    assert second.value["limit"] == "0.000112"
    third = await call(agent, Command(resume={"add": "0.0001"}), THREAD)
    assert third["__interrupt__"][0].value["limit"] == "0.000212"
    result = await call(agent, Command(resume={"add": "1"}), THREAD)
    assert result["messages"][-1].text == "done"
    assert office.books.scope.limit_nano == before + USD + 200_000


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("yes", 'answer {"add": "0.40"} or {"stop": True}'),
        ({"more": "0.40"}, 'answer {"add": "0.40"} or {"stop": True}'),
        ({"stop": "please"}, 'answer {"add": "0.40"} or {"stop": True}'),
        ({"add": 0.4}, "write it as a string"),
        ({"add": "plenty"}, 'write the amount like "0.50"'),
        ({"add": None}, "got NoneType. Budget"),
        ({"add": "-1"}, "nano units"),
        ({"add": "4611686018.427387904"}, "nano units"),
    ],
)
async def test_an_answer_of_no_use_is_asked_again_with_the_reason_and_loses_nothing(office, call, answer, problem):
    agent = asking(office, office.looking())
    asked = questions(await call(agent, config=THREAD))[0]
    before = office.books
    for _ in range(2):
        again = questions(await call(agent, Command(resume=answer), THREAD))[0]
        assert again.pop("message").endswith(asked["message"])
        assert problem in questions_message(agent)
        assert again == {key: value for key, value in asked.items() if key != "message"}
        assert office.books == before
    result = await call(agent, Command(resume={"add": "0.40"}), THREAD)
    assert result["messages"][-1].text == "done"


def questions_message(agent):
    return agent.get_state(THREAD).tasks[0].interrupts[0].value["message"]


async def test_money_that_came_back_meanwhile_does_not_swallow_the_answer(office, call):
    agent = asking(office, office.looking())
    await call(agent, config=THREAD)
    office.top_up(USD)
    before = office.books.scope.limit_nano
    result = await call(agent, Command(resume={"add": "0.40"}), THREAD)
    assert result["messages"][-1].text == "done"
    assert office.books.scope.limit_nano == before + 4 * USD // 10


class _Failing(InMemoryLedger):
    """Tops up, and then fails to say so, as often as told."""

    failures = 0

    def top_up(self, name, nano, *, key):
        balance = super().top_up(name, nano, key=key)
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailableError("the line is dead")
        return balance

    async def atop_up(self, name, nano, *, key):
        return self.top_up(name, nano, key=key)


async def test_a_top_up_that_is_done_again_after_a_crash_counts_once(office, call):
    office.ledger = _Failing()
    agent = asking(office, office.looking())
    await call(agent, config=THREAD)
    before = office.books.scope.limit_nano
    office.ledger.failures = 2
    with pytest.raises(LedgerUnavailableError):
        await call(agent, Command(resume={"add": "0.40"}), THREAD)
    with pytest.raises(LedgerUnavailableError):
        await call(agent, Command(resume={"add": "0.40"}), THREAD)
    result = await call(agent, None, THREAD)
    assert result["messages"][-1].text == "done"
    assert office.books.scope.limit_nano == before + 4 * USD // 10


async def test_a_human_may_say_something_else_instead_of_answering(office, call):
    agent = asking(office, office.looking())
    await call(agent, config=THREAD)
    office.top_up()
    result = await call(agent, "never mind", THREAD)
    assert questions(result) == []
    assert result["messages"][-1].text == "done"


async def test_nobody_is_asked_about_tokens(office, call):
    agent = asking(office, office.model(), budget=Budget(None, scope="tokens", token_limit=50))
    result = await call(agent, config=THREAD)
    assert questions(result) == []
    assert result["messages"][-1].response_metadata["lcr_budget_end"]["short_of"] == "tokens"


async def test_a_scope_around_the_agent_is_topped_up_in_its_own_books(office, call):
    books = InMemoryLedger()
    agent = asking(office, office.model())
    with budget_scope(Budget(Cost.from_nano(1), scope="around"), ledger=books):
        assert questions(await call(agent, config=THREAD))[0]["scope"] == "around"
        result = await call(agent, Command(resume={"add": "0.40"}), THREAD)
    assert result["messages"][-1].text == "done"
    assert books.balance("around").scope.limit_nano == 1 + 4 * USD // 10


async def test_a_scope_that_is_not_around_any_more_is_a_problem_that_is_told(office, call):
    agent = asking(office, office.model())
    with budget_scope(Budget(Cost.from_nano(1), scope="around"), ledger=InMemoryLedger()):
        await call(agent, config=THREAD)
    (again,) = questions(await call(agent, Command(resume={"add": "0.40"}), THREAD))
    assert "cannot be used" in again["message"]
    assert questions(await call(agent, Command(resume={"stop": True}), THREAD)) == []


async def test_without_a_checkpointer_the_agent_has_ended_well(office, call):
    result = await call(asking(office, office.looking(), checkpointer=None))
    assert len(questions(result)) == 1
    assert kinds(result) == ["human", "ai", "tool", "ai"]


class Loud(AgentMiddleware):
    """Counts what the hooks around a model call see."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def before_model(self, state, runtime):
        self.calls += 1


def test_other_middleware_starts_the_call_anew(office):
    loud = Loud()
    agent = asking(office, office.looking(), before=[loud])
    agent.invoke({"messages": ["go"]}, THREAD)
    assert loud.calls == 2
    agent.invoke(Command(resume={"add": "1"}), THREAD)
    assert loud.calls == 3


@pytest.mark.parametrize("mode", ["updates", "values", "messages"])
async def test_streams_stop_at_the_question_and_go_on_after_it(office, mode):
    agent = asking(office, office.looking())
    parts = [part async for part in agent.astream({"messages": ["go"]}, THREAD, stream_mode=[mode, "updates"])]
    assert any("__interrupt__" in part for kind, part in parts if kind == "updates")
    rest = [part async for part in agent.astream(Command(resume={"add": "1"}), THREAD, stream_mode=[mode, "updates"])]
    assert not any("__interrupt__" in part for kind, part in rest if kind == "updates")
    assert any("done" in str(part) for _, part in rest)


def subagents(office):
    """An agent whose two tools are agents of their own, called at the same time."""
    office.when_looking = lambda: None

    def helper(name):
        agent = office.agent(office.model(f"{name} helped"), on_exceeded="ask", name=name)

        @tool(name)
        def ask_helper(what: str) -> str:
            """Ask a helper."""
            return agent.invoke({"messages": [what]})["messages"][-1].text

        return ask_helper

    calls = [{"name": name, "args": {"what": "x"}, "id": f"call_{name}"} for name in ("ann", "bob")]

    return asking(office, office.model(AIMessage("", tool_calls=calls), "done"), tools=[helper("ann"), helper("bob")])


def test_two_agents_that_ask_at_once_are_answered_by_the_ids_of_their_questions(office):
    agent = subagents(office)
    agent.invoke({"messages": ["go"]}, THREAD, interrupt_before=["tools"])
    office.use_up()
    result = agent.invoke(None, THREAD)
    asked = result["__interrupt__"]
    assert sorted(question.value["waiting"][0] for question in asked) == ["ann", "bob"]
    before = office.books.scope.limit_nano
    adds = {question.id: {"add": "0.40" if question.value["waiting"] == ["ann"] else "0.05"} for question in asked}
    result = agent.invoke(Command(resume=adds), THREAD)
    assert office.books.scope.limit_nano == before + 45 * USD // 100
    assert [message.text for message in result["messages"][-3:]] == ["ann helped", "bob helped", "done"]


def test_another_object_on_the_same_files_goes_on(office, tmp_path):
    def opened():
        office.ledger = SqliteLedger(tmp_path / "ledger.db")
        return SqliteSaver.from_conn_string(str(tmp_path / "threads.db"))

    with opened() as saver:
        asked = asking(office, office.looking(), checkpointer=saver).invoke({"messages": ["go"]}, THREAD)
        assert len(questions(asked)) == 1
        office.ledger.close()
    with opened() as saver:
        model = office.model("done later")
        result = asking(office, model, checkpointer=saver).invoke(Command(resume={"add": "0.40"}), THREAD)
        assert result["messages"][-1].text == "done later"
        assert office.books.scope.limit_nano == 12_000 + 4 * USD // 10
        assert len(model.calls) == 1
        office.ledger.close()


async def test_the_same_with_an_async_checkpointer(office, tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        await asking(office, office.looking(), checkpointer=saver).ainvoke({"messages": ["go"]}, THREAD)
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
        agent = asking(office, office.model("done later"), checkpointer=saver)
        result = await agent.ainvoke(Command(resume={"add": "0.40"}), THREAD)
    assert result["messages"][-1].text == "done later"


_IN_A_PROCESS = """
import sys
from langchain.agents import create_agent
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.middleware import BudgetMiddleware
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

folder, answer = sys.argv[1:]
model = ScriptedChatModel(model="m", provider="p", max_tokens=100)
with SqliteSaver.from_conn_string(folder + "/threads.db") as saver:
    ledger = SqliteLedger(folder + "/ledger.db")
    money = BudgetMiddleware(
        Budget.usd("0.000000001", scope="s"),
        ledger=ledger,
        catalog=ModelCatalog({"models": {"p:m": {"input": "1", "output": "5"}}}),
        on_exceeded="ask",
    )
    agent = create_agent(model, [], middleware=[money], checkpointer=saver)
    thread = {"configurable": {"thread_id": "t"}}
    given = Command(resume={"add": answer}) if answer else {"messages": ["go"]}
    result = agent.invoke(given, thread)
    print(len(result.get("__interrupt__", ())), result["messages"][-1].text, ledger.balance("s").limit)
    ledger.close()
"""


def test_another_process_goes_on(tmp_path):
    def process(answer):
        command = [sys.executable, "-c", _IN_A_PROCESS, str(tmp_path), answer]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert process("").startswith("1 Budget reached: ")
    assert process("0.40") == "0 ok 0.400000001 USD"

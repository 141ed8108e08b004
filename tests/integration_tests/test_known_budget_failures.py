"""Budget failures that users of gateways and agent frameworks have reported, run for real: who may spend, and when.

Each test names its source, an issue or pull request on GitHub. The scripted model answers "one two three" (3 tokens) to
"hello" (2 tokens by its own count), at 1,000 nano-USD per input token and 5,000 per output token.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage

from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, UnpricedModelError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

REPLY = 2 * 1_000 + 3 * 5_000
HOLD = (100 + 16 + len("hello")) * 1_000 + 100 * 5_000
"""The bound of the input (100 for a request, 16 for a message, a token for a byte), and a cap of 100 tokens."""

CATALOG = ModelCatalog(
    {
        "models": {
            "scripted-1": {"input": "1", "output": "5", "max_output_tokens": 32_768},
            "at-home": {"input": "0", "output": "0"},
            "odd": {"input": "0.1", "output": "0.7"},
        }
    }
)
SECONDS = 30
"""Longest wait for another thread: only a failing test waits that long."""


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path) -> Iterator[Ledger]:
    books: Ledger = InMemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db")
    yield books
    books.close()


def money(nano: int | None, scope: str = "key", **fields: Any) -> Budget:
    limit = None if nano is None else Cost.from_nano(nano)
    return Budget(limit, scope=scope, **{"on_exceed": "raise", **fields})


def scripted(budget: Budget | None, ledger: Ledger, **fields: Any) -> Any:
    model = ScriptedChatModel(**{"script": ["one two three"], "max_tokens": 100, **fields})
    return with_budget(model, budget, ledger=ledger, catalog=CATALOG)


class Rush:
    """Calls from many threads at the same moment; no reply arrives before each was let through or refused."""

    def __init__(self) -> None:
        self._decided = threading.Semaphore(0)
        self._answer = threading.Event()

    def hold_up(self, *_: int) -> None:
        """The provider's part, as a scripted model's ``hook``."""
        self._decided.release()
        assert self._answer.wait(SECONDS)

    def refusals(self, makers: list[Callable[[], Any]]) -> list[BudgetExceededError]:
        """Make a model and call it, in a thread for each maker."""
        start = threading.Barrier(len(makers))

        def call(make: Callable[[], Any]) -> BudgetExceededError | None:
            start.wait(SECONDS)
            try:
                make().invoke("hello")
            except BudgetExceededError as refusal:
                self._decided.release()
                return refusal
            return None

        with ThreadPoolExecutor(len(makers)) as pool:
            calls = [pool.submit(call, make) for make in makers]
            in_time = [self._decided.acquire(timeout=SECONDS) for _ in makers]
            self._answer.set()
        assert all(in_time)
        return [refusal for done in calls if (refusal := done.result()) is not None]


# --- races -----------------------------------------------------------------------------------------------------------


def test_calls_at_the_same_moment_cannot_all_pass_on_the_same_remainder(ledger):
    """The check read what was spent, and the spend was added after the reply: parallel calls all saw room.

    BerriAI/litellm#34732
    """
    rush = Rush()
    model = scripted(money(3 * HOLD), ledger, hook=rush.hold_up, reports_usage=False)
    refusals = rush.refusals([lambda: model] * 12)
    assert len(model.calls) == 3
    assert len(refusals) == 9
    assert ledger.balance("key").spent_nano == 3 * HOLD


def test_the_first_calls_of_an_unknown_user_share_one_budget(tmp_path):
    """A user's budget came into being with his first call, so the calls beside that one met no budget at all.

    BerriAI/litellm#40095
    """
    rush = Rush()
    made: list[Any] = []

    def first_visit() -> Any:
        budget = money(2 * HOLD, "user:new")
        model = scripted(budget, SqliteLedger(tmp_path / "ledger.db"), hook=rush.hold_up, reports_usage=False)
        made.append(model)
        return model

    refusals = rush.refusals([first_visit] * 8)
    assert sum(len(model.calls) for model in made) == 2
    assert len(refusals) == 6
    assert SqliteLedger(tmp_path / "ledger.db").balance("user:new").spent_nano == 2 * HOLD


def test_no_call_of_a_batch_in_threads_is_lost(ledger):
    """Token counters lost the calls of ``batch``: its threads had no context, and they wrote over each other.

    langchain-ai/langchain#15171, crewAIInc/crewAI#4168
    """
    model = scripted(None, ledger)
    with budget_scope(money(None, "around"), ledger=ledger) as around:
        model.batch(["hello"] * 200, config={"max_concurrency": 16})
    assert around.spent.nano == 200 * REPLY
    assert around.snapshot().tokens_spent == 200 * 5


async def test_a_storm_of_cancelled_calls_leaves_nothing_reserved(ledger):
    """Cancelled calls kept what was reserved for them, until the budget refused everybody.

    BerriAI/litellm#30522
    """
    asked = asyncio.Semaphore(0)

    async def never_answer(*_: int) -> None:
        asked.release()
        await asyncio.Event().wait()

    model = scripted(money(10 * HOLD + REPLY), ledger, hook=never_answer)
    storm = [asyncio.ensure_future(model.ainvoke("hello")) for _ in range(10)]
    for _ in storm:
        await asked.acquire()
    queue = scripted(money(10 * HOLD + REPLY, on_exceed="wait"), ledger)
    waiting = [asyncio.ensure_future(queue.ainvoke("hello")) for _ in range(10)]
    await asyncio.sleep(0)  # they ask, and wait
    for call in [*waiting, *storm]:
        call.cancel()
    ends = await asyncio.gather(*waiting, *storm, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    books = ledger.balance("key")
    assert books.held_nano == 0
    assert books.spent_nano == 10 * HOLD  # those that were sent: the provider may bill them
    assert queue.calls == []


# --- budgets that block everybody ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cap",
    [
        pytest.param(None, id="no cap"),
        pytest.param(
            999_999_999,
            id="absurd cap",
        ),
    ],
)
@pytest.mark.parametrize("name", [("scripted", "scripted-1"), ("openai", "gpt-5-mini")], ids=["overlay", "list"])
def test_one_call_does_not_hold_the_whole_budget(ledger, name, cap):
    """A request without ``max_tokens`` reserved all that was left of a team's 2,000 USD and blocked everyone.

    BerriAI/litellm#27509
    """
    others: list[str] = []
    team = Budget.usd("2000", scope="team")
    fields = {"provider": name[0], "model": name[1], "max_tokens": cap}

    def ask_meanwhile(*_: int) -> None:
        assert ledger.balance("team").held_nano < team.limit.nano // 100
        others.append(scripted(team, ledger, **fields).invoke("hello").text)

    assert scripted(team, ledger, **fields, hook=ask_meanwhile).invoke("hello").text == others[0]


async def test_a_burst_that_fills_the_budget_is_served_as_others_settle(ledger):
    """A burst of worst cases filled the counter; every further call was refused while next to nothing was spent.

    BerriAI/litellm#38647
    """

    async def let_others_ask(*_: int) -> None:
        await asyncio.sleep(0)

    model = scripted(money(2 * HOLD, on_exceed="wait"), ledger, hook=let_others_ask)
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(25)))
    assert [reply.text for reply in replies] == ["one two three"] * 25
    assert ledger.balance("key").spent_nano == 25 * REPLY <= 2 * HOLD


def test_a_call_that_others_stand_in_the_way_of_is_told_to_try_again(ledger):
    """Users could not tell a budget that was spent from one that was only reserved.

    BerriAI/litellm#27735
    """
    refusals: list[BudgetExceededError] = []
    model = scripted(money(HOLD + REPLY), ledger)

    def ask_meanwhile(*_: int) -> None:
        with pytest.raises(BudgetExceededError) as refused:
            model.invoke("hello")
        refusals.append(refused.value)

    scripted(money(HOLD + REPLY), ledger, hook=ask_meanwhile).invoke("hello")
    assert (refusals[0].spent.nano, refusals[0].held.nano) == (0, HOLD)
    assert "in flight" in refusals[0].hint
    assert model.invoke("hello").text == "one two three"


def test_models_that_cost_nothing_go_on_when_the_money_is_gone(ledger):
    """With the budget spent, models on one's own machines were refused, too.

    BerriAI/litellm#14004, BerriAI/litellm#10973
    """
    budget = money(HOLD)
    scripted(budget, ledger, reports_usage=False).invoke("hello")
    with pytest.raises(BudgetExceededError):
        scripted(budget, ledger).invoke("hello")
    assert scripted(budget, ledger, model="at-home").invoke("hello").text == "one two three"


def test_a_budget_without_a_limit_refuses_nobody(ledger):
    """Calls were refused for a budget that nobody had set.

    BerriAI/litellm#22726, BerriAI/litellm#20615
    """
    usage = {"input_tokens": 10**8, "output_tokens": 10**8, "total_tokens": 2 * 10**8}
    model = scripted(money(None), ledger, script=[AIMessage("ok", usage_metadata=usage)])
    assert [model.invoke("hello").text for _ in range(3)] == ["ok"] * 3
    assert ledger.balance("key").spent_nano == 3 * 6_000 * 10**8


# --- scopes ----------------------------------------------------------------------------------------------------------


def test_a_team_does_not_free_its_member_from_his_own_budget(ledger):
    """A key that belonged to a team skipped the check of its user's budget.

    BerriAI/litellm#27394, BerriAI/litellm#11962
    """
    model = scripted(money(None), ledger, reports_usage=False)
    team, user = money(100 * HOLD, "team"), money(HOLD, "user")
    with budget_scope(team, ledger=ledger), budget_scope(user, ledger=ledger):
        model.invoke("hello")
        with pytest.raises(BudgetExceededError) as refused:
            model.invoke("hello")
    assert refused.value.scope == "user"
    assert len(model.calls) == 1
    assert [ledger.balance(scope).spent_nano for scope in ("key", "team", "user")] == [HOLD] * 3
    assert [ledger.balance(scope).held_nano for scope in ("key", "team", "user")] == [0] * 3


async def test_sub_agents_spend_their_parents_money_while_they_run(ledger):
    """Children counted against budgets of their own, and the parent heard of it when they were done.

    aflock-ai/aflock#135, vercel/eve#555, pydantic/pydantic-ai-harness#589
    """
    running, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def work(*_: int) -> None:
        running.release()
        await go_on.wait()

    model = scripted(None, ledger, hook=work, reports_usage=False)

    async def sub_agent(name: str) -> str:
        with budget_scope(money(10 * HOLD, name), ledger=ledger):
            return str((await model.ainvoke("hello")).text)

    with budget_scope(money(2 * HOLD, "parent"), ledger=ledger) as parent:
        children = [asyncio.create_task(sub_agent(f"child-{number}")) for number in range(2)]
        for _ in children:
            await running.acquire()
        with pytest.raises(BudgetExceededError) as refused:
            await sub_agent("child-3")
        go_on.set()
        assert await asyncio.gather(*children) == ["one two three"] * 2
    assert refused.value.scope == "parent"
    assert parent.spent.nano == 2 * HOLD


def test_a_fallback_is_held_to_the_budget_too(ledger):
    """The budget was checked for the free model that was asked; the paid one that answered in its place was not.

    BerriAI/litellm#41344
    """
    budget = money(HOLD)
    scripted(budget, ledger, reports_usage=False).invoke("hello")
    broken = scripted(budget, ledger, model="at-home", script=[ConnectionResetError("down")])
    paid = scripted(budget, ledger)
    chain = broken.with_fallbacks([paid])
    with pytest.raises(ConnectionResetError):  # LangChain raises the first of the errors
        chain.invoke("hello")
    assert (len(broken.calls), len(paid.calls)) == (1, 0)
    with pytest.warns(UserWarning, match="no budget"):
        broken.with_fallbacks([ScriptedChatModel()])


# --- what is checked before, and what comes after --------------------------------------------------------------------


def test_the_limit_is_checked_before_the_request(ledger):
    """Usage limits were checked against the reply, when it was paid for, and the error took the reply away.

    pydantic/pydantic-ai#1794
    """
    model = scripted(money(HOLD - 1), ledger)
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")
    assert model.calls == []
    usage = {"input_tokens": 1_000, "output_tokens": 1_000, "total_tokens": 2_000}
    dearer_than_thought = scripted(money(HOLD, "other"), ledger, script=[AIMessage("paid for", usage_metadata=usage)])
    assert dearer_than_thought.invoke("hello").text == "paid for"
    with pytest.raises(BudgetExceededError):
        dearer_than_thought.invoke("hello")


@pytest.mark.parametrize("name", ["scripted-1.dot", "my-fine-tune", ""])
def test_a_model_without_a_price_does_not_run_under_a_limit(ledger, name):
    """A model that no price list knew was metered at 0, so its budget never ended.

    BerriAI/litellm#24949, BerriAI/litellm#30715, supernovae-st/nika#1368
    """
    model = scripted(money(10**12), ledger, model=name)
    with pytest.raises(UnpricedModelError):
        model.invoke("hello")
    assert model.calls == []


def test_a_reply_from_the_cache_costs_nothing(ledger):
    """A hit in LangChain's response cache was charged as if it had been asked for again.

    langfuse/langfuse#2112, BerriAI/litellm#1783
    """
    model = scripted(money(HOLD + REPLY), ledger, cache=InMemoryCache())
    assert len({model.invoke("hello").text for _ in range(10)}) == len(model.calls) == 1
    assert ledger.balance("key").spent_nano == REPLY


def test_money_adds_up_to_the_last_nano(ledger):
    """Spend was a float: four exact replies left 0.6619999999999999, and the limit was compared with that.

    mozilla-ai/otari#691
    """
    hold = 121 * 100 + 100 * 700  # 0.0000821 USD: no binary fraction
    model = scripted(money(1_000 * hold), ledger, model="odd", reports_usage=False)
    for _ in range(1_000):
        model.invoke("hello")
    assert ledger.balance("key").spent == Cost.usd("0.0821")
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")

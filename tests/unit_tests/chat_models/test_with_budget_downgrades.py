"""``on_exceed="downgrade"``: a call that does not fit takes the next cheaper model of its own provider.

"large" costs ten times as much as "small"; a reply is capped at 100 tokens.
"""

import asyncio
import contextlib

import pytest

from langchain_runtime.adapters import budget_scope
from langchain_runtime.adapters.account import Account, paying
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import BudgetExceededError, InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

CATALOG = ModelCatalog(
    {
        "models": {
            "scripted:large": {"input": "10", "output": "50"},
            "scripted:middle": {"input": "5", "output": "25"},
            "scripted:small": {"input": "1", "output": "5"},
            "foreign:tiny": {"input": "0.1", "output": "0.5"},
        }
    }
)
LADDER = ["scripted:large", "scripted:middle", "scripted:small"]


def hold(output_price):
    """Worst case of one call in nano-USD, at this price of a million output tokens; input costs a fifth."""
    return (100 + 16 + len("hello")) * output_price * 200 + 100 * output_price * 1_000


LARGE, MIDDLE, SMALL = hold(50), hold(25), hold(5)


class Desk:
    def __init__(self, limit, *, ladder=LADDER, model="large", script=("one two three",), **fields):
        self.ledger = InMemoryLedger()
        self.budget = Budget(Cost.from_nano(limit), scope="s", on_exceed="downgrade")
        self.provider = ScriptedChatModel(model=model, max_tokens=100, script=script, **fields)
        self.model = with_budget(self.provider, self.budget, ledger=self.ledger, catalog=CATALOG, ladder=ladder)

    @property
    def books(self):
        return self.ledger.balance("s")


def served_by(reply):
    return reply.response_metadata["model_name"]


def test_a_call_that_fits_stays_with_its_model():
    assert served_by(Desk(LARGE).model.invoke("hello")) == "large"


@pytest.mark.parametrize(("limit", "model"), [(LARGE - 1, "middle"), (MIDDLE - 1, "small")])
def test_a_call_that_does_not_fit_takes_the_next_model_that_does(limit, model):
    desk = Desk(limit)
    assert served_by(desk.model.invoke("hello")) == model
    assert 0 < desk.books.spent_nano <= limit
    assert desk.books.held_nano == 0


def test_below_the_last_step_the_call_is_refused_and_nothing_is_sent():
    desk = Desk(SMALL - 1)
    with pytest.raises(BudgetExceededError) as refused:
        desk.model.invoke("hello")
    assert refused.value.model == "scripted:small"
    assert desk.provider.calls == []
    assert desk.books.held_nano == 0


def merged(chunks):
    first, *rest = chunks
    return sum(rest, first)


async def amerged(stream):
    return merged([chunk async for chunk in stream])


CALLS = {
    "invoke": lambda model: model.invoke("hello"),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")),
    "stream": lambda model: merged(model.stream("hello")),
    "astream": lambda model: asyncio.run(amerged(model.astream("hello"))),
    "batch": lambda model: model.batch(["hello"])[0],
    "abatch": lambda model: asyncio.run(model.abatch(["hello"]))[0],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_way_to_call_downgrades(call):
    desk = Desk(SMALL)
    assert served_by(call(desk.model)) == "small"
    assert desk.books.spent_nano == 1 * 1_000 + 1_000 + 3 * 5_000


def test_the_model_that_was_wrapped_goes_up_again_when_money_comes_back():
    desk = Desk(LARGE - 1)
    assert served_by(desk.model.invoke("hello")) == "middle"
    desk.ledger.top_up("s", LARGE, key="more")
    assert served_by(desk.model.invoke("hello")) == "large"
    assert desk.model.model == "large"


def test_models_of_other_providers_are_passed_over():
    ladder = ["scripted:large", "foreign:tiny", "scripted:small"]
    assert served_by(Desk(SMALL, ladder=ladder).model.invoke("hello")) == "small"
    with pytest.raises(BudgetExceededError):
        Desk(SMALL, ladder=ladder[:2]).model.invoke("hello")


def test_a_model_that_the_call_names_is_replaced_in_the_call():
    desk = Desk(MIDDLE, model="small")
    desk.model.invoke("hello", model="large")
    assert desk.provider.calls[0].kwargs["model"] == "middle"


def test_bound_tools_go_along():
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    desk = Desk(5 * SMALL, script=[{"word": "x"}])
    reply = desk.model.bind_tools([look_up]).invoke("hello")
    assert reply.tool_calls[0]["args"] == {"word": "x"}
    assert served_by(reply) == "small"


def test_a_scope_that_downgrades_uses_the_models_own_ladder_and_is_refused_without_one():
    ledger = InMemoryLedger()
    provider = ScriptedChatModel(model="large", max_tokens=100)
    scope = Budget(Cost.from_nano(SMALL), scope="outer", on_exceed="downgrade")
    with budget_scope(scope, ledger=ledger):
        assert served_by(with_budget(provider, None, catalog=CATALOG, ladder=LADDER).invoke("hello")) == "small"
        with pytest.raises(BudgetExceededError):
            with_budget(provider, None, catalog=CATALOG).invoke("hello")


@pytest.mark.parametrize(
    ("limit", "actions"), [(SMALL, ["downgrade", "downgrade"]), (SMALL - 1, ["downgrade", "downgrade", "raise"])]
)
def test_a_run_is_told_of_each_step_and_of_the_end_of_the_ladder(limit, actions):
    ledger, events = InMemoryLedger(), []
    budget = Budget(Cost.from_nano(limit), scope="run", on_exceed="downgrade")
    ledger.open_scope(Scope.of(budget))
    model = with_budget(ScriptedChatModel(model="large", max_tokens=100), None, catalog=CATALOG, ladder=LADDER)
    refused = contextlib.nullcontext() if limit == SMALL else pytest.raises(BudgetExceededError)
    account = Account(ledger=ledger, budgets=(budget,), run_id="r", task_id="t", on_event=events.append)
    with paying(account), refused:
        model.invoke("hello")
    assert [event.action for event in events if event.kind == "budget_refused"] == actions
    assert [event.model for event in events if event.kind == "call_settled"] == ["scripted:small"][: limit // SMALL]


def test_another_budget_that_refuses_is_not_downgraded_for():
    ledger = InMemoryLedger()
    outer = Budget(Cost.from_nano(SMALL), scope="outer", on_exceed="raise")
    model = with_budget(
        ScriptedChatModel(model="large", max_tokens=100),
        Budget(Cost.from_nano(LARGE), scope="own", on_exceed="downgrade"),
        ledger=ledger,
        catalog=CATALOG,
        ladder=LADDER,
    )
    with budget_scope(outer, ledger=ledger), pytest.raises(BudgetExceededError) as refused:
        model.invoke("hello")
    assert refused.value.scope == "outer"


async def test_many_calls_at_once_use_the_money_up_from_the_top_and_never_overrun():
    desk = Desk(2 * LARGE + MIDDLE + 2 * SMALL, reports_usage=False)
    outcomes = await asyncio.gather(*(desk.model.ainvoke("hello") for _ in range(20)), return_exceptions=True)
    served = sorted(served_by(reply) for reply in outcomes if not isinstance(reply, BudgetExceededError))
    assert served == ["large", "large", "middle", "small", "small"]
    assert desk.books.spent_nano == desk.books.scope.limit_nano


def test_a_budget_that_downgrades_needs_a_ladder():
    with pytest.raises(InvalidInputError, match="nothing to fall back on"):
        Desk(LARGE, ladder=None)
    plain = with_budget(ScriptedChatModel(model="large"), None, catalog=CATALOG)
    budget = Budget.usd("1", on_exceed="downgrade")
    with pytest.raises(InvalidInputError, match="nothing to fall back on"):
        with_budget(plain, budget)
    assert with_budget(plain, budget, ladder=LADDER).invoke("hello").text == "ok"


def test_a_class_whose_model_cannot_be_renamed_is_refused():
    class Fixed(ScriptedChatModel):
        def _get_ls_params(self, stop=None, **kwargs):
            return {**super()._get_ls_params(stop=stop, **kwargs), "ls_model_name": "large"}

    model = with_budget(
        Fixed(model="large", max_tokens=100),
        Budget(Cost.from_nano(SMALL), on_exceed="downgrade"),
        ledger=InMemoryLedger(),
        catalog=CATALOG,
        ladder=LADDER,
    )
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")

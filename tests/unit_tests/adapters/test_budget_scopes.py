import asyncio
import contextvars
import pickle
import threading

import pytest

from langchain_runtime.adapters import Account, budget_scope, current_account, paying
from langchain_runtime.adapters.account import Charge, charges
from langchain_runtime.contracts.budget import Budget, Hold, Settlement
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger, default_ledger

A, B, C = (Budget.usd("1", scope=name) for name in "abc")


def test_the_handle_reads_the_books():
    ledger = InMemoryLedger()
    with budget_scope(A, ledger=ledger) as scope:
        reservation = ledger.reserve(Hold(scopes=("a",), nano=300, holder="h", sent=True)).reservation
        assert (scope.spent, scope.held, scope.remaining) == (
            Cost.usd(0),
            Cost.from_nano(300),
            Cost.from_nano(999_999_700),
        )
        ledger.settle(Settlement(reservation_id=reservation.hold.id, nano=100))
    assert (scope.spent, scope.held, scope.limit) == (Cost.from_nano(100), Cost.usd(0), Cost.usd(1))
    assert scope.snapshot().spent_nano == 100


def test_without_a_limit_nothing_remains_to_be_told():
    with budget_scope(Budget(None), ledger=InMemoryLedger()) as scope:
        assert scope.limit is None
        assert scope.remaining is None


def test_the_default_is_the_ledger_of_the_process():
    with budget_scope(Budget.usd("1", scope="of the process")) as scope:
        assert scope.ledger is default_ledger()


def test_only_budgets_open_scopes():
    with pytest.raises(InvalidInputError, match="needs a Budget"), budget_scope("0.50"):
        pass


def test_scopes_follow_tasks_and_copied_contexts_but_not_raw_threads():
    seen = {}

    async def look():
        seen["task"] = await asyncio.create_task(_account())

    with budget_scope(A, ledger=InMemoryLedger()):
        expected = current_account()
        asyncio.run(look())
        for name, run in (("raw", lambda work: work()), ("copied", contextvars.copy_context().run)):
            thread = threading.Thread(target=run, args=(lambda name=name: seen.update({name: current_account()}),))
            thread.start()
            thread.join()
    assert seen == {"task": expected, "raw": None, "copied": expected}


async def _account():
    return current_account()


def test_a_scope_ends_with_its_block_even_when_it_raises():
    with pytest.raises(KeyError), budget_scope(A, ledger=InMemoryLedger()):
        raise KeyError
    assert current_account() is None


def test_charges_are_grouped_by_ledger_and_each_scope_once():
    here, there = InMemoryLedger(), InMemoryLedger()
    with paying(Account(ledger=here, budgets=(A, B))), paying(Account(ledger=there, budgets=(A,))):
        found = charges(current_account(), [Charge(here, (B, C))])
    assert {id(charge.ledger): sorted(budget.scope for budget in charge.budgets) for charge in found} == {
        id(here): ["a", "b", "c"],
        id(there): ["a"],
    }


def test_ledgers_come_in_one_order_wherever_they_are_named():
    here, there = InMemoryLedger(), InMemoryLedger()
    first = charges(None, [Charge(here, (A,)), Charge(there, (B,))])
    second = charges(None, [Charge(there, (B,)), Charge(here, (A,))])
    assert [charge.ledger for charge in first] == [charge.ledger for charge in second]


def test_nothing_to_charge_is_nothing():
    assert charges(None) == []
    assert charges(Account(ledger=InMemoryLedger())) == []


def test_the_run_is_the_nearest_one():
    ledger = InMemoryLedger()
    with paying(Account(ledger=ledger, run_id="outer")) as outer:
        assert outer.run is outer
        with paying(Account(ledger=ledger)) as scope:
            assert scope.run is outer
            with paying(Account(ledger=ledger, run_id="inner")) as inner:
                assert inner.run is inner
    assert Account(ledger=ledger).run is None


def test_equal_calls_are_numbered_for_each_account():
    account = Account(ledger=InMemoryLedger(), run_id="r")
    with paying(account) as entered:
        assert [entered.next_call("a"), account.next_call("b"), account.next_call("a")] == [0, 0, 1]


def test_what_a_charge_has_found_out_stays_in_its_process(tmp_path):
    charge = Charge(SqliteLedger(tmp_path / "ledger.db"), (Budget.usd("1", scope="s", min_output_tokens=5),))
    found = (charge.marks, charge.limits, charge.floor, charge.enforcer)
    revived = pickle.loads(pickle.dumps(charge))
    assert set(vars(revived)) == {"ledger", "budgets"}
    assert revived.marks != found[0]
    assert (revived.limits, revived.floor) == (True, 5)

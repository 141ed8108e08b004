"""200 calls at once with room for 50 worst cases: 50 are served, and the limit holds at every moment."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_runtime.callbacks import BudgetCallbackHandler
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

CALLS, FITTING = 200, 50
HOLD = (100 + 16 + 5) * 1_000 + 100 * 5_000
LIMIT = FITTING * HOLD


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    books = InMemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db")
    yield books
    books.close()


@pytest.fixture
def guard(ledger, catalog):
    budget = Budget(Cost.from_nano(LIMIT), scope="s")
    return BudgetCallbackHandler(budget, ledger=ledger, catalog=catalog, attempts=1)


async def test_async_calls_never_spend_more_than_the_limit(ledger, guard, scripted):
    most = 0

    async def look(*_):
        nonlocal most
        books = ledger.balance("s")
        most = max(most, books.spent_nano + books.held_nano)
        await asyncio.sleep(0)

    model = scripted(reports_usage=False, hook=look, callbacks=[guard])
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(CALLS)), return_exceptions=True)
    assert sum(isinstance(reply, BudgetExceededError) for reply in replies) == CALLS - FITTING
    assert len(model.calls) == FITTING
    assert most <= LIMIT
    assert (ledger.balance("s").spent_nano, ledger.balance("s").held_nano) == (LIMIT, 0)


def test_threads_never_spend_more_than_the_limit(ledger, guard, scripted):
    everybody_holds = threading.Event()
    most = []

    def look(call_no, _chunk_no):
        if call_no + 1 == FITTING:
            everybody_holds.set()
        assert everybody_holds.wait(60)
        books = ledger.balance("s")
        most.append(books.spent_nano + books.held_nano)

    model = scripted(hook=look, callbacks=[guard])
    refused = 0
    with ThreadPoolExecutor(CALLS) as pool:
        for call in [pool.submit(model.invoke, "hello") for _ in range(CALLS)]:
            refused += isinstance(call.exception(), BudgetExceededError)
    served = len(model.calls)
    assert served >= FITTING
    assert served + refused == CALLS
    assert max(most) <= LIMIT
    assert (ledger.balance("s").spent_nano, ledger.balance("s").held_nano) == (served * 17_000, 0)


def test_threads_without_usage_serve_exactly_as_many_as_fit(ledger, guard, scripted):
    model = scripted(reports_usage=False, callbacks=[guard])
    replies = model.batch(["hello"] * CALLS, config={"max_concurrency": 16}, return_exceptions=True)
    assert sum(isinstance(reply, BudgetExceededError) for reply in replies) == CALLS - FITTING
    assert (len(model.calls), ledger.balance("s").spent_nano) == (FITTING, LIMIT)

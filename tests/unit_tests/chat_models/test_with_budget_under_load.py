"""Many calls at once whose worst cases fit exactly 50 times."""

import asyncio

import pytest

from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost

CALLS, FITTING = 200, 50
HOLD = (100 + 16 + 5) * 1_000 + 100 * 5_000
LIMIT = str(Cost.from_nano(FITTING * HOLD).amount)


async def test_raise_never_spends_more_than_the_limit(desk):
    most_held = 0

    async def look(*_: int) -> None:
        nonlocal most_held
        books = desk.books
        most_held = max(most_held, books.held_nano + books.spent_nano)
        await asyncio.sleep(0)

    model = desk.model(LIMIT, budget={"on_exceed": "raise"}, reports_usage=False, hook=look)
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(CALLS)), return_exceptions=True)
    refused = [reply for reply in replies if isinstance(reply, BudgetExceededError)]
    assert len(refused) == CALLS - FITTING
    assert desk.requests == FITTING
    assert desk.spent == FITTING * HOLD
    assert most_held <= FITTING * HOLD


async def test_wait_serves_as_many_as_their_worst_cases_allow(desk):
    model = desk.model(LIMIT, budget={"on_exceed": "wait"}, reports_usage=False)
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(CALLS)), return_exceptions=True)
    assert sum(isinstance(reply, BudgetExceededError) for reply in replies) == CALLS - FITTING
    assert desk.requests == FITTING
    assert desk.spent == FITTING * HOLD


async def test_waiting_calls_use_what_others_gave_back(desk):
    model = desk.model(LIMIT, budget={"on_exceed": "wait"})
    replies = await asyncio.gather(*(model.ainvoke("hello") for _ in range(CALLS)))
    assert len(replies) == desk.requests == CALLS
    assert desk.spent == CALLS * 17_000


def test_threads_never_spend_more_than_the_limit(desk):
    model = desk.model(LIMIT, budget={"on_exceed": "raise"}, reports_usage=False)
    replies = model.batch(["hello"] * CALLS, config={"max_concurrency": 8}, return_exceptions=True)
    assert sum(isinstance(reply, BudgetExceededError) for reply in replies) == CALLS - FITTING
    assert desk.spent == FITTING * HOLD


async def test_a_waiting_call_that_is_cancelled_leaves_nothing_held(desk):
    release = asyncio.Event()

    async def wait(*_: int) -> None:
        await release.wait()

    model = desk.model(str(Cost.from_nano(HOLD).amount), budget={"on_exceed": "wait"}, hook=wait)
    first = asyncio.ensure_future(model.ainvoke("hello"))
    while not desk.requests:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(model.ainvoke("hello"))
    await asyncio.sleep(0.02)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert desk.spent == 17_000
    assert desk.requests == 1

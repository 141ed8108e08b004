"""How fully a budget is used, and that it is never overrun: many concurrent calls against the in-memory ledger.

``bench_budget_race`` has other libraries beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from harness import Figure
from langchain_core.messages import AIMessage

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, OnExceed
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

CATALOG = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})
CAP = 1_000
"""Most tokens of a reply."""

LATENCY = 0.02
"""Seconds of a call."""

SCOPE = "benchmark"
USED = "Waiting calls use the budget up: all that fit are served, less than the largest hold stays unspent"
KEPT = "Spent never exceeds the limit, however many calls start at once"


class Bench:
    """A scripted model, its budget, and what is seen of its books while calls are under way."""

    def __init__(self, limit_nano: int | None, on_exceed: OnExceed, **fields: Any) -> None:
        self.ledger, self.most = InMemoryLedger(), 0
        limit = None if limit_nano is None else Cost.from_nano(limit_nano)
        model = ScriptedChatModel(max_tokens=CAP, hook=self._look, **fields)
        budget = Budget(limit, scope=SCOPE, on_exceed=on_exceed)
        self.model = with_budget(model, budget, ledger=self.ledger, catalog=CATALOG)

    @property
    def spent(self) -> int:
        return self.ledger.balance(SCOPE).spent_nano

    async def run(self, calls: int) -> int:
        """How many calls are served of so many at once."""
        outcomes = await asyncio.gather(*(self.model.ainvoke("hello") for _ in range(calls)), return_exceptions=True)
        for outcome in outcomes:
            if not isinstance(outcome, (AIMessage, BudgetExceededError)):
                raise outcome
        return sum(isinstance(outcome, AIMessage) for outcome in outcomes)

    async def _look(self, *_: int) -> None:
        books = self.ledger.balance(SCOPE)
        self.most = max(self.most, books.spent_nano + books.held_nano)
        await asyncio.sleep(LATENCY)


def worst_case() -> int:
    """The hold of one call in nano-USD: what it is charged when its usage stays unknown."""
    bench = Bench(None, "raise", reports_usage=False)
    asyncio.run(bench.run(1))
    return bench.spent


def measure(quick: bool) -> Iterator[Figure]:
    hold = worst_case()
    yield from exact_fit(hold, calls=200, fitting=50)
    yield from used_up(hold, holds=100, calls=240 if quick else 1_000)


def exact_fit(hold: int, calls: int, fitting: int) -> Iterator[Figure]:
    limit = fitting * hold
    claim = f"{calls} calls at once, worst cases fit {fitting} times"
    for on_exceed in ("wait", "raise"):
        bench = Bench(limit, on_exceed, reports_usage=False)
        served = asyncio.run(bench.run(calls))
        yield Figure(
            claim=f"{claim}, `{on_exceed}`: served", ours=served, unit="calls", bound=fitting, at_least=True,
            must_hold=USED,
        )  # fmt: skip
        yield Figure(
            claim=f"{claim}, `{on_exceed}`: spent and held, at most", ours=bench.most / limit, unit="x limit", bound=1,
            must_hold=KEPT,
        )  # fmt: skip


def used_up(hold: int, holds: int, calls: int) -> Iterator[Figure]:
    """Replies of random length, so that each settlement gives back another part of its hold."""
    lengths = random.Random(7)  # the same replies in every run
    limit = holds * hold
    bench = Bench(limit, "wait", script=lambda _: "word " * lengths.randrange(CAP // 2, CAP))
    served = asyncio.run(bench.run(calls))
    claim = f"{calls:,} waiting calls, a limit of {holds} worst cases, {served} served"
    unspent = (limit - bench.spent) / hold
    yield Figure(claim=f"{claim}: unspent", ours=unspent, unit="x hold", bound=1, must_hold=USED)
    share = 100 * bench.spent / limit
    yield Figure(claim=f"{claim}: spent", ours=share, unit="% of limit", bound=99, at_least=True, must_hold=USED)

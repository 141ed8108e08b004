"""Budgeted real clients, and the audit: what the package booked against what the provider on loopback billed."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import count
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from loopback_answers import PRICES
from loopback_provider import LoopbackProvider

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Decision, Hold
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

MODELS = {"chat": "gpt-4o-mini", "responses": "gpt-5-mini", "messages": "claude-haiku-4-5"}
"""A model for each API."""

_numbers = count(1)


def client(provider: LoopbackProvider, api: str, **fields: Any) -> Any:
    """A real client of one API that sends each request once."""
    options = {"model": MODELS[api], "api_key": "x", "max_retries": 0, **fields}
    if api == "messages":
        return ChatAnthropic(base_url=provider.url, **options)
    return ChatOpenAI(base_url=provider.base_url, use_responses_api=api == "responses", **options)


class Recording:
    """Part of a ledger: remembers what it admitted, and how often it refused."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.admitted: list[Hold] = []
        self.refusals = 0

    def reserve(self, hold: Hold) -> Decision:
        decision: Decision = super().reserve(hold)  # type: ignore[misc]  # of the ledger that it is part of
        if decision.reservation is None:
            self.refusals += 1
        else:
            self.admitted.append(decision.reservation.hold)
        return decision


class InMemory(Recording, InMemoryLedger):
    """In memory."""


class Sqlite(Recording, SqliteLedger):
    """In a file."""


class Till:
    """A budget of its own, in a ledger of its own, and everything that is said in its name.

    Args:
        provider: Whom its clients ask.
        limit: USD.
        ledger: Where the budget is kept; None for memory.
        budget: Further fields of the budget.
    """

    def __init__(
        self, provider: LoopbackProvider, limit: str = "1", ledger: InMemory | Sqlite | None = None, **budget: Any
    ) -> None:
        self.topic = f"<topic {next(_numbers)}>"
        self.ledger = ledger or InMemory()
        self.budget = Budget.usd(limit, scope="till", **budget)
        self._provider = provider

    def model(self, api: str, **fields: Any) -> Any:
        """A client of ``api`` under the budget; what it is asked must name ``topic``."""
        return self.guarded(client(self._provider, api, **fields))

    def guarded(self, model: Any) -> Any:
        """``model`` under the budget."""
        return with_budget(model, self.budget, ledger=self.ledger)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The provider's log of what was said here."""
        return [row for row in self._provider.requests if self.topic in row["prompt"]]

    @property
    def spent(self) -> int:
        """Nano-USD in the ledger."""
        return self.ledger.balance("till").spent_nano

    @property
    def billed(self) -> int:
        """Nano-USD in the provider's log."""
        return sum(row["nano"] for row in self.rows)

    async def settled(self) -> None:
        """Wait until the event loop has closed what was dropped, and compare the books."""
        while self.ledger.balance("till").held_nano:
            await asyncio.sleep(0.001)
        self.audit()

    def audit(self, *, exact: bool = False) -> None:
        """Compare the books, once nothing is in flight.

        Args:
            exact: Whether every request ended so that its cost is known to the client.
        """
        books = self.ledger.balance("till")
        rows = self.rows
        assert books.held_nano == books.tokens_held == 0
        assert books.overdrawn_nano == 0
        assert books.scope.limit_nano is not None
        assert self.billed <= books.spent_nano <= books.scope.limit_nano
        tokens = sum(row["input"] + row["output"] for row in rows)
        assert tokens <= books.tokens_spent
        assert not priced_caps(rows) - Counter(map(priced_cap, self.ledger.admitted)), "a cap was sent, but not priced"
        if exact:
            assert (books.spent_nano, books.tokens_spent) == (self.billed, tokens)


def priced_caps(rows: Iterable[dict[str, Any]]) -> Counter[tuple[str, int]]:
    """The caps on the wire: model, and most output tokens of all choices."""
    return Counter((row["model"], row["cap"] * row["choices"]) for row in rows)


def priced_cap(hold: Hold) -> tuple[str, int]:
    """Model and output tokens that were priced: a hold's money and tokens leave one solution."""
    assert hold.model is not None
    model = hold.model.rpartition(":")[2]
    rates = PRICES[model]
    output = Decimal(hold.nano - hold.tokens * rates.dearest_input) / (rates.output - rates.dearest_input)
    assert output == int(output), f"no cap explains {hold}"
    return model, int(output)

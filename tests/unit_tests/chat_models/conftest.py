"""A model at one nano-USD per input word and five per output word, and both ledgers to keep its books."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Balance, Budget
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

INPUT, OUTPUT = 1_000, 5_000
"""Nano-USD per token: 1 and 5 USD per million."""

SCOPE = "test"


class Desk:
    """A scripted model under a budget, and its books."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.catalog = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})
        self.provider: ScriptedChatModel = ScriptedChatModel()

    def model(
        self,
        limit: str | None = "1",
        *,
        budget: dict[str, Any] | None = None,
        wrap: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """A budgeted model; ``fields`` are the scripted model's."""
        self.provider = ScriptedChatModel(**{"script": ["one two three"], "max_tokens": 100, **fields})
        money = (
            Budget.usd(limit, scope=SCOPE, **(budget or {})) if limit else Budget(None, scope=SCOPE, **(budget or {}))
        )
        return with_budget(self.provider, money, ledger=self.ledger, catalog=self.catalog, **(wrap or {}))

    @property
    def books(self) -> Balance:
        return self.ledger.balance(SCOPE)

    @property
    def spent(self) -> int:
        assert self.books.held_nano == 0, "money is still held"
        return self.books.spent_nano

    @property
    def requests(self) -> int:
        return len(self.provider.calls)


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    ledger: Ledger = InMemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "ledger.db")
    yield Desk(ledger)
    ledger.close()

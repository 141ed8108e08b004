"""How a budgeted model tells callbacks what it charges by itself, so that none of them charges it a second time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from langchain_runtime.adapters.account import Charge
from langchain_runtime.contracts.ledger import Ledger

CHARGED: Final = "lcr_charged"
"""Key in the metadata of a call. Metadata reaches tracers, so the value is a list of plain strings."""


def charge_marks(charges: Sequence[Charge]) -> list[str]:
    """One mark for each scope in each ledger; they mean something in this process only."""
    return [_mark(charge.ledger, budget.scope) for charge in charges for budget in charge.budgets]


def uncharged(charges: Sequence[Charge], marks: Collection[str]) -> Iterator[Charge]:
    """What is left of ``charges`` without the marked scopes."""
    for charge in charges:
        budgets = tuple(budget for budget in charge.budgets if _mark(charge.ledger, budget.scope) not in marks)
        if budgets:
            yield Charge(charge.ledger, budgets)


def _mark(ledger: Ledger, scope: str) -> str:
    # A scope is known by its name in its ledger, and the ledgers of calls in flight are alive: ids are unique.
    return f"{id(ledger):x}/{scope}"

"""How a budgeted model tells callbacks what it charges by itself, so that none of them charges it a second time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from langchain_runtime.adapters.account import Charge

CHARGED: Final = "lcr_charged"
"""Key in the metadata of a call. Metadata reaches tracers, so the value is a list of strings that tell nobody else
anything."""


def charge_marks(charges: Sequence[Charge]) -> list[str]:
    """One mark for each scope in each ledger; they mean something in this process only."""
    return [mark for charge in charges for mark in charge.marks]


def uncharged(charges: Sequence[Charge], marks: Collection[str]) -> Iterator[Charge]:
    """What is left of ``charges`` without the marked scopes."""
    for charge in charges:
        budgets = tuple(budget for budget, mark in zip(charge.budgets, charge.marks, strict=True) if mark not in marks)
        if budgets:
            yield Charge(charge.ledger, budgets)

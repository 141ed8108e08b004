"""Ledgers: where budgets, reservations, replies and outcomes are kept, behind one contract (``contracts.Ledger``).

``InMemoryLedger`` serves one process, ``SqliteLedger`` the processes of one machine. ``open_ledger`` opens either by
URL, ``default_ledger`` is the one used where none is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.ledgers._urls import open_ledger
    from langchain_runtime.ledgers.in_memory import InMemoryLedger, default_ledger
    from langchain_runtime.ledgers.sqlite import SqliteLedger

__all__ = ["InMemoryLedger", "SqliteLedger", "default_ledger", "open_ledger"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "InMemoryLedger": "in_memory",
        "SqliteLedger": "sqlite",
        "default_ledger": "in_memory",
        "open_ledger": "_urls",
    },
)

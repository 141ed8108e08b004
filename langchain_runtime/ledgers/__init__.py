"""Ledgers: where budgets, reservations, replies and outcomes are kept, behind one contract (``contracts.Ledger``).

``InMemoryLedger`` serves one process, ``SqliteLedger`` the processes of one machine. ``open_ledger`` opens either by
URL, ``default_ledger`` is the one used where none is named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_runtime.ledgers._urls import open_ledger
    from langchain_runtime.ledgers.in_memory import InMemoryLedger, default_ledger
    from langchain_runtime.ledgers.sqlite import SqliteLedger

__all__ = ["InMemoryLedger", "SqliteLedger", "default_ledger", "open_ledger"]

_HOMES = {
    "InMemoryLedger": "in_memory",
    "SqliteLedger": "sqlite",
    "default_ledger": "in_memory",
    "open_ledger": "_urls",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

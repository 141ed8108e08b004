"""Tools for tests, ours and yours: the conformance suite that every ledger passes, and a clock that stands still."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_runtime.testing.ledger_conformance import FakeClock, LedgerConformance

__all__ = ["FakeClock", "LedgerConformance"]

_HOMES = {
    "FakeClock": "ledger_conformance",
    "LedgerConformance": "ledger_conformance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

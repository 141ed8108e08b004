"""Tools for tests, ours and yours: what every ledger must pass, a clock that stands still, a scripted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.testing.ledger_conformance import FakeClock, LedgerConformance
    from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

__all__ = ["FakeClock", "LedgerConformance", "ScriptedChatModel"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FakeClock": "ledger_conformance",
        "LedgerConformance": "ledger_conformance",
        "ScriptedChatModel": "scripted_chat_model",
    },
)

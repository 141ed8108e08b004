"""Callback handlers: count what any chat model used, or guard a model that cannot be wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.callbacks.budget import BudgetCallbackHandler
    from langchain_runtime.callbacks.usage import UsageCallbackHandler, track_usage

__all__ = ["BudgetCallbackHandler", "UsageCallbackHandler", "track_usage"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BudgetCallbackHandler": "budget",
        "UsageCallbackHandler": "usage",
        "track_usage": "usage",
    },
)

"""Chat models: a budget around anybody's (``with_budget``), and one that runs offline (``ExtractiveChatModel``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.chat_models.budgeted import BudgetedChatModel, with_budget
    from langchain_runtime.chat_models.extractive import ExtractiveChatModel

__all__ = ["BudgetedChatModel", "ExtractiveChatModel", "with_budget"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BudgetedChatModel": "budgeted",
        "ExtractiveChatModel": "extractive",
        "with_budget": "budgeted",
    },
)

"""Chat models: a budget around anybody's, one that runs offline, and summaries by any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.chat_models.budgeted import BudgetedChatModel, with_budget
    from langchain_runtime.chat_models.extractive import ExtractiveChatModel
    from langchain_runtime.chat_models.model_summarizer import ModelSummarizer

__all__ = ["BudgetedChatModel", "ExtractiveChatModel", "ModelSummarizer", "with_budget"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BudgetedChatModel": "budgeted",
        "ExtractiveChatModel": "extractive",
        "ModelSummarizer": "model_summarizer",
        "with_budget": "budgeted",
    },
)

"""Chat models: a budget around anybody's (``with_budget``), and one that runs offline (``ExtractiveChatModel``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_runtime.chat_models.budgeted import BudgetedChatModel, with_budget
    from langchain_runtime.chat_models.extractive import ExtractiveChatModel

__all__ = ["BudgetedChatModel", "ExtractiveChatModel", "with_budget"]

_HOMES = {"BudgetedChatModel": "budgeted", "ExtractiveChatModel": "extractive", "with_budget": "budgeted"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Middleware for LangChain's ``create_agent``. Needs the extra ``[agents]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.middleware.budget_middleware import BudgetMiddleware
    from langchain_runtime.middleware.compaction_middleware import CompactionMiddleware

__all__ = ["BudgetMiddleware", "CompactionMiddleware"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BudgetMiddleware": "budget_middleware",
        "CompactionMiddleware": "compaction_middleware",
    },
)

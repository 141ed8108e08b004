"""A runtime layer for LangChain and LangGraph: budgets that hold, views that fit, DAGs at their critical path.

Names are imported when they are first used, so ``import langchain_runtime`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.adapters import budget_scope
    from langchain_runtime.callbacks import BudgetCallbackHandler, UsageCallbackHandler, track_usage
    from langchain_runtime.chat_models import BudgetedChatModel, ExtractiveChatModel, with_budget
    from langchain_runtime.context import MemoryManager
    from langchain_runtime.contracts.budget import Budget
    from langchain_runtime.contracts.context import ContextPolicy
    from langchain_runtime.contracts.errors import BudgetExceededError, LangChainRuntimeError, RunFailedError
    from langchain_runtime.contracts.money import Cost
    from langchain_runtime.contracts.run import Run, RunPolicy, Task, TaskResult
    from langchain_runtime.contracts.usage import Usage
    from langchain_runtime.contracts.version import __version__
    from langchain_runtime.graph import CompiledRunGraph, RunGraph
    from langchain_runtime.memory import CompactingChatMessageHistory, CompactingMemory, compact_messages
    from langchain_runtime.middleware import BudgetMiddleware, CompactionMiddleware
    from langchain_runtime.report import ProgressCallbackHandler, RunReport

__all__ = [
    "Budget",
    "BudgetCallbackHandler",
    "BudgetExceededError",
    "BudgetMiddleware",
    "BudgetedChatModel",
    "CompactingChatMessageHistory",
    "CompactingMemory",
    "CompactionMiddleware",
    "CompiledRunGraph",
    "ContextPolicy",
    "Cost",
    "ExtractiveChatModel",
    "LangChainRuntimeError",
    "MemoryManager",
    "ProgressCallbackHandler",
    "Run",
    "RunFailedError",
    "RunGraph",
    "RunPolicy",
    "RunReport",
    "Task",
    "TaskResult",
    "Usage",
    "UsageCallbackHandler",
    "__version__",
    "budget_scope",
    "compact_messages",
    "track_usage",
    "with_budget",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Budget": "contracts.budget",
        "BudgetCallbackHandler": "callbacks",
        "BudgetExceededError": "contracts.errors",
        "BudgetMiddleware": "middleware",
        "BudgetedChatModel": "chat_models",
        "CompactingChatMessageHistory": "memory",
        "CompactingMemory": "memory",
        "CompactionMiddleware": "middleware",
        "CompiledRunGraph": "graph",
        "ContextPolicy": "contracts.context",
        "Cost": "contracts.money",
        "ExtractiveChatModel": "chat_models",
        "LangChainRuntimeError": "contracts.errors",
        "MemoryManager": "context",
        "ProgressCallbackHandler": "report",
        "Run": "contracts.run",
        "RunFailedError": "contracts.errors",
        "RunGraph": "graph",
        "RunPolicy": "contracts.run",
        "RunReport": "report",
        "Task": "contracts.run",
        "TaskResult": "contracts.run",
        "Usage": "contracts.usage",
        "UsageCallbackHandler": "callbacks",
        "__version__": "contracts.version",
        "budget_scope": "adapters",
        "compact_messages": "memory",
        "load_ipython_extension": "notebook",
        "track_usage": "callbacks",
        "unload_ipython_extension": "notebook",
        "with_budget": "chat_models",
    },
)

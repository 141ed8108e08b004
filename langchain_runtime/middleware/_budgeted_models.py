"""Models under budgets, made once and kept."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget

_KEPT: Final = 256
"""Pairs of model and budget: an agent has few models, but may have a budget for each of its users."""


class BudgetedModels:
    """Puts models under budgets; for use from many threads.

    Args:
        options: Of ``with_budget``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, Budget | None], tuple[BaseChatModel, BaseChatModel]] = OrderedDict()

    def get(self, model: BaseChatModel, budget: Budget | None) -> BaseChatModel:
        """``model`` under ``budget``: the same object for the same pair."""
        kept = self._find(model, budget)
        return self._keep(model, budget, with_budget(model, budget, **self._options)) if kept is None else kept

    async def aget(self, model: BaseChatModel, budget: Budget | None) -> BaseChatModel:
        """Async twin of ``get``: opening a scope in a ledger may take a while."""
        kept = self._find(model, budget)
        return await asyncio.to_thread(self.get, model, budget) if kept is None else kept

    def _find(self, model: BaseChatModel, budget: Budget | None) -> BaseChatModel | None:
        key = (id(model), budget)
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][1]

    def _keep(self, model: BaseChatModel, budget: Budget | None, budgeted: BaseChatModel) -> BaseChatModel:
        with self._lock:
            # The model is kept, too: its id could be another's otherwise.
            self._kept[id(model), budget] = (model, budgeted)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return budgeted

"""Tokens before a call, money after it, and what happens when a call does not fit its budget."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_runtime.cost.budget_enforcer import BudgetEnforcer
    from langchain_runtime.cost.cost_calculator import CostCalculator
    from langchain_runtime.cost.model_catalog import ModelCatalog, default_catalog
    from langchain_runtime.cost.token_estimator import TokenEstimator
    from langchain_runtime.cost.usage_tracker import UsageTracker

__all__ = ["BudgetEnforcer", "CostCalculator", "ModelCatalog", "TokenEstimator", "UsageTracker", "default_catalog"]

_HOMES = {
    "BudgetEnforcer": "budget_enforcer",
    "CostCalculator": "cost_calculator",
    "ModelCatalog": "model_catalog",
    "TokenEstimator": "token_estimator",
    "UsageTracker": "usage_tracker",
    "default_catalog": "model_catalog",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: each brings libraries of its own along."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Tokens before a call, money after it, and what happens when a call does not fit its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.cost.budget_enforcer import BudgetEnforcer
    from langchain_runtime.cost.circuit_breaker import CircuitBreaker
    from langchain_runtime.cost.cost_calculator import CostCalculator
    from langchain_runtime.cost.model_catalog import ModelCatalog, default_catalog
    from langchain_runtime.cost.model_ladder import FixedLadder
    from langchain_runtime.cost.rate_limiter import RateLimiter
    from langchain_runtime.cost.token_estimator import TokenEstimator
    from langchain_runtime.cost.usage_tracker import UsageTracker

__all__ = [
    "BudgetEnforcer",
    "CircuitBreaker",
    "CostCalculator",
    "FixedLadder",
    "ModelCatalog",
    "RateLimiter",
    "TokenEstimator",
    "UsageTracker",
    "default_catalog",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BudgetEnforcer": "budget_enforcer",
        "CircuitBreaker": "circuit_breaker",
        "CostCalculator": "cost_calculator",
        "FixedLadder": "model_ladder",
        "ModelCatalog": "model_catalog",
        "RateLimiter": "rate_limiter",
        "TokenEstimator": "token_estimator",
        "UsageTracker": "usage_tracker",
        "default_catalog": "model_catalog",
    },
)

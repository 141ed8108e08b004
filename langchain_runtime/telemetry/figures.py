"""Figures as span attributes."""

from __future__ import annotations

from typing import Any

from langchain_runtime.contracts.events import BudgetRefused, ContextCompacted
from langchain_runtime.contracts.money import Cost, format_amount
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.telemetry import attributes as name


def of_usage(used: Usage | None) -> dict[str, Any]:
    """Tokens and money; none where no call was counted. Parts that are 0 are left out, and a cost that nobody knows."""
    if used is None:
        return {}
    tokens = used.tokens
    facts: dict[str, Any] = {name.INPUT_TOKENS: tokens.input, name.OUTPUT_TOKENS: tokens.output}
    parts = {
        name.CACHE_READ_TOKENS: tokens.cache_read,
        name.CACHE_WRITE_TOKENS: tokens.cache_write,
        name.REASONING_TOKENS: tokens.reasoning,
    }
    facts.update({part: count for part, count in parts.items() if count})
    if used.cost is not None:
        facts |= {name.COST_AMOUNT: format_amount(used.cost.amount), name.COST_CURRENCY: used.cost.currency}
    return facts


def of_budget(limit: Cost | None, spent: Cost | None) -> dict[str, Any]:
    """A run's budget and what all executions of the run have spent of it."""
    facts = {name.BUDGET_LIMIT: limit, name.BUDGET_SPENT: spent}
    known = {key: cost for key, cost in facts.items() if cost is not None}
    if not known:
        return {}
    currency = next(iter(known.values())).currency
    return {name.BUDGET_CURRENCY: currency, **{key: format_amount(cost.amount) for key, cost in known.items()}}


def of_model(model: str | None) -> dict[str, Any]:
    """A model of LangChain's ``provider:name``, in OpenTelemetry's words."""
    if model is None:
        return {}
    provider, separator, bare = model.partition(":")
    if not separator:
        return {name.REQUEST_MODEL: model}
    known = {} if provider == "unknown" else {name.PROVIDER_NAME: name.PROVIDERS.get(provider, provider)}
    return {**known, name.REQUEST_MODEL: bare}


def of_refusal(event: BudgetRefused) -> dict[str, Any]:
    """Why a call did not fit, and what was done about it."""
    return {
        name.BUDGET_SCOPE: event.scope,
        name.BUDGET_ACTION: event.action,
        name.BUDGET_NEEDED: format_amount(event.needed.amount),
        name.BUDGET_CURRENCY: event.needed.currency,
    }


def of_compaction(event: ContextCompacted) -> dict[str, Any]:
    """What was left out of a view."""
    return {
        name.CONTEXT_STRATEGY: list(event.strategy),
        name.CONTEXT_TOKENS_BEFORE: event.tokens_before,
        name.CONTEXT_TOKENS_AFTER: event.tokens_after,
        name.CONTEXT_EVICTED: event.evicted,
        name.CONTEXT_CLIPPED: event.clipped,
        name.CONTEXT_RECALLS: event.recalls,
    }

"""What bounds and prices a call, in one handful, and what a call cost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from langchain_runtime.adapters.usage import ReportedUsage
from langchain_runtime.contracts.errors import CurrencyMismatchError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.protocols import CostCalculator, ModelCatalog, TokenEstimator
from langchain_runtime.cost import CostCalculator as ListPriceCalculator
from langchain_runtime.cost import TokenEstimator as BytePairEstimator
from langchain_runtime.cost import default_catalog

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pricing:
    """Estimator, catalogue and calculator that belong together."""

    estimator: TokenEstimator
    catalog: ModelCatalog
    calculator: CostCalculator

    @classmethod
    def of(cls, catalog: ModelCatalog | None = None) -> Pricing:
        """The pricing by ``catalog``; None for the default catalogue."""
        return _by_default_catalog() if catalog is None else _by(catalog)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Pricing:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles carry the catalogue only: an estimator holds encodings and a cache."""
        return (Pricing.of, (None if self is _by_default_catalog() else self.catalog,))


@cache
def _by_default_catalog() -> Pricing:
    return _by(default_catalog())


def _by(catalog: ModelCatalog) -> Pricing:
    return Pricing(BytePairEstimator(), catalog, ListPriceCalculator(catalog))


def list_price(
    reported: ReportedUsage, model: str, calculator: CostCalculator, *, service_tier: str | None
) -> Cost | None:
    """What the reported usage costs; None where usage or price is unknown.

    Args:
        reported: What the provider said.
        model: Whose price holds for the parts that name no model.
        calculator: Knows the prices.
        service_tier: The tier that was asked for, where the reply does not name the one that served it.
    """
    if reported.usage is None:
        return None
    tier = reported.service_tier or service_tier
    try:
        first, *others = (calculator.cost(used, by or model, service_tier=tier) for by, used in reported.parts)
        return sum(others, first)
    except (UnknownModelError, UnpricedModelError, CurrencyMismatchError) as error:
        _log.warning("a call of %s has no list price: %s", model, error)
        return None

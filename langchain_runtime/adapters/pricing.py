"""What bounds and prices a call, in one handful."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from langchain_runtime.contracts.protocols import CostCalculator, ModelCatalog, TokenEstimator
from langchain_runtime.cost import CostCalculator as ListPriceCalculator
from langchain_runtime.cost import TokenEstimator as BytePairEstimator
from langchain_runtime.cost import default_catalog


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

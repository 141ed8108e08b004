"""What tokens cost that were used already: at the prices of the graph, or at others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.pricing import ModelInfo
from langchain_runtime.contracts.protocols import CostCalculator as AnyCalculator
from langchain_runtime.contracts.protocols import ModelCatalog as AnyCatalog
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import CostCalculator, ModelCatalog
from langchain_runtime.cost.model_catalog import PROVIDERS
from langchain_runtime.cost.price_overlay import Overlay, load_overlay

PriceSource = AnyCatalog | Mapping[str, Any] | str | Path
"""A catalogue, or an overlay of prices as ``ModelCatalog`` takes it: a mapping, or the path of a YAML file."""


@dataclass(frozen=True)
class ListPrices:
    """Prices of models.

    Attributes:
        catalog: Knows the models.
        calculator: Prices calls by it.
        price_as: Model to take the price of, by model.
        overlay: What somebody wrote down: only for that ``catalog`` is asked; None asks it for all models.
        others: For the models that ``overlay`` leaves out.
    """

    catalog: AnyCatalog
    calculator: AnyCalculator
    price_as: Mapping[str, str] = field(default_factory=dict)
    overlay: Overlay | None = None
    others: ListPrices | None = None

    def names(self, model: str) -> bool:
        """Whether the model's price is one of these, and not of the others."""
        return self.place(model)[0] is self

    def info(self, model: str) -> ModelInfo | None:
        """What is known of the model behind the price; None if nothing is."""
        prices, name = self.place(model)
        try:
            return prices.catalog.get(name)
        except UnknownModelError:
            return None

    def cost(self, tokens: TokenUsage, model: str) -> Cost | None:
        """What a call with these tokens costs at the standard tier; None if no price is known."""
        prices, name = self.place(model)
        try:
            return prices.calculator.cost(tokens, name)
        except (UnknownModelError, UnpricedModelError):
            return None

    def place(self, model: str) -> tuple[ListPrices, str]:
        """The prices among which the model's is, these or the others, and its name there."""
        priced_as = self.price_as.get(model, model)
        if self.overlay is None or self.others is None:
            return self, priced_as
        found = next((name for name in (model, priced_as) if _has_price(self.overlay, name)), None)
        return self.others.place(model) if found is None else (self, found)


def other_prices(prices: PriceSource, instead_of: ListPrices) -> ListPrices:
    """The prices that somebody asks about.

    Args:
        prices: An overlay changes the models that it names; a catalogue, all.
        instead_of: The present ones.

    Raises:
        InvalidInputError: It is neither, an overlay cannot be read, or a price in it is wrong.
    """
    if isinstance(prices, (Mapping, str, Path)):
        catalog, overlay = ModelCatalog(prices), load_overlay(prices)
        return ListPrices(catalog, CostCalculator(catalog), instead_of.price_as, overlay, instead_of)
    if not isinstance(prices, AnyCatalog):
        raise InvalidInputError(
            f"prices cannot be a {type(prices).__name__}",
            hint='pass {"models": {"provider:name": {"input": "0.25", "output": "2"}}}, the path of a YAML file with '
            "that, or a ModelCatalog",
        )
    return ListPrices(prices, CostCalculator(prices), instead_of.price_as)


def _has_price(overlay: Overlay, model: str) -> bool:
    provider, _, name = model.partition(":")
    listed_as = f"{PROVIDERS.get(provider, provider)}:{name}"
    entry = overlay.find(model, listed_as, name, today=datetime.now(tz=UTC).date())
    return entry is not None and entry.rates is not None

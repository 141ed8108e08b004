"""genai-prices' table, compiled model by model into integer rate cards. Importing this module imports that table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

from genai_prices import types
from genai_prices.data_snapshot import get_snapshot

from langchain_runtime.contracts.pricing import ModelInfo, PriceTier, RateCard

_UNITS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
}
"""genai-prices' name of each rate."""

_NANO: Final = 10**9
_REQUESTS_IN_A_THOUSAND: Final = 1000


def find_price(name: str, provider: str | None) -> ModelInfo | None:
    """The model as of now; None if the table has no such provider or model.

    Args:
        name: As the provider calls the model; dated and aliased names match, too.
        provider: genai-prices' id of the provider; None to guess it from the name.
    """
    try:
        found_provider, model = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    prices = model.get_prices(datetime.now(tz=UTC))
    return ModelInfo(
        id=f"{found_provider.id}:{model.id}",
        rates=_card(prices, None),
        tiers=tuple(_tiers(prices)),
        service_tiers=_service_tiers(model),
        context_window=model.context_window,
        source=f"genai-prices {version('genai-prices')}",
        dated=_dated(model),
    )


def all_names() -> Iterator[str]:
    """Every model of the table as ``provider:name``."""
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield f"{provider.id}:{model.id}"


def _card(prices: types.ModelPrice, input_tokens: int | None) -> RateCard | None:
    """The rates of a call with this much input (None: as little as possible); None without prices for tokens."""
    rates = {unit: _rate(getattr(prices, key, None), input_tokens) for unit, key in _UNITS.items()}
    if rates["input"] is None or rates["output"] is None:
        return None
    per_thousand = getattr(prices, "requests_kcount", None)
    fee = 0 if not isinstance(per_thousand, Decimal) else _ceil(per_thousand * _NANO / _REQUESTS_IN_A_THOUSAND)
    return RateCard.model_validate({**rates, "per_request": fee})


def _rate(price: Decimal | types.TieredPrices | None, input_tokens: int | None) -> int | None:
    if price is None:
        return None
    if isinstance(price, types.TieredPrices):
        reached = [tier.price for tier in price.tiers if input_tokens is not None and tier.start <= input_tokens]
        price = reached[-1] if reached else price.base
    return _ceil(price * _NANO)


def _tiers(prices: types.ModelPrice) -> Iterator[PriceTier]:
    tiered = [value for value in vars(prices).values() if isinstance(value, types.TieredPrices)]
    for start in sorted({tier.start for value in tiered for tier in value.tiers}):
        card = _card(prices, start)
        if card is not None:
            yield PriceTier(above_input_tokens=start, rates=card)


def _service_tiers(model: types.ModelInfo) -> dict[str, RateCard]:
    """Rates by tier, where the table knows them and nothing else must hold for them."""
    found: dict[str, RateCard] = {}
    for variant in model.price_variants or ():
        tier = _tier_name(variant.when)
        if tier is not None:
            card = _card(model.get_prices(datetime.now(tz=UTC), {**variant.when}), None)
            if card is not None:
                found[tier] = card
    return found


def _tier_name(when: Mapping[str, str]) -> str | None:
    return when.get("service_tier") if set(when) == {"service_tier"} else None


def _dated(model: types.ModelInfo) -> Any:
    """When the price in force began; None if the table does not say."""
    if isinstance(model.prices, types.ModelPrice):
        return None
    now = datetime.now(tz=UTC)
    for price in reversed(model.prices):
        if isinstance(price.constraint, types.StartDateConstraint) and price.constraint.active(now):
            return price.constraint.start_date
    return None


def _ceil(value: Decimal) -> int:
    """Up, so that a rate with more than nine decimal places is never charged too low."""
    return -int(-value // 1)

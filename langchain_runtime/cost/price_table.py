"""genai-prices' table, compiled model by model into integer rate cards. Importing this module imports that table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import copy
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
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

_INDISTINGUISHABLE: Final = {"output": ("output_image_mtok", "output_video_mtok")}
"""Units that ``TokenUsage`` does not tell apart from a rate's own: the dearest of them is charged for all."""

_CONTEXTS: Final = ("service_tier", "processing", "speed")
"""What a price variant may depend on to count as a service tier: also ``processing: batch`` and ``speed: fast``."""

_CLAUDE_1H: Final = 2
"""A one-hour cache write costs twice the input rate (Anthropic, "Prompt caching", pricing, 2026); resellers' entries
leave it out."""

_KINDS: Final = re.compile("audio|cyber|image|live|realtime|search|transcribe|tts|video|vision")
"""Words of a name that make it another model than the one without them."""

_NANO: Final = 10**9
_REQUESTS_IN_A_THOUSAND: Final = 1000


def find_price(name: str, provider: str | None) -> ModelInfo | None:
    """The model as of now; None if the table has no such provider or model.

    Args:
        name: As the provider calls the model; dated and aliased names match, too.
        provider: genai-prices' id of the provider; None to guess it from the name.
    """
    found = _find(name, provider)
    if found is None:
        return None
    found_provider, model = found
    now = datetime.now(tz=UTC)
    variants = {name: model.get_prices(now, when) for name, when in _service_tiers(model)}
    standard = _any_hour(model, now)
    return ModelInfo(
        id=f"{found_provider.id}:{model.id}",
        rates=_card(model, standard, None),
        tiers=tuple(_tiers(model, standard, variants)),
        service_tiers=_cards(model, variants, None),
        context_window=model.context_window,
        source=f"genai-prices {version('genai-prices')}",
        dated=_dated(model),
    )


def _find(name: str, provider: str | None) -> tuple[types.Provider, types.ModelInfo] | None:
    try:
        found = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        # Some entries do not match their own id.
        return next((entry for entry in _entries() if (entry[0].id, entry[1].id) == (provider, name)), None)
    # The table also takes a provider whose name holds a known one ("my-openai-proxy"), but that is no price.
    if provider not in {None, found[0].id}:
        return None
    # Nor is that of a relative: it takes "flash-cyber" for "flash", at half the price.
    return found if set(_KINDS.findall(name)) <= set(_KINDS.findall(found[1].id)) else None


def _entries() -> Iterator[tuple[types.Provider, types.ModelInfo]]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield provider, model


def all_names() -> Iterator[str]:
    """Every model of the table as ``provider:name``."""
    for provider, model in _entries():
        yield f"{provider.id}:{model.id}"


def _any_hour(model: types.ModelInfo, now: datetime) -> types.ModelPrice:
    """The prices in force today; where they depend on the hour, the dearest of the day: a call may outlast the hour."""
    if isinstance(model.prices, types.ModelPrice):
        return model.prices
    by_hour = []
    for price in reversed(model.prices):  # the last one that applies counts
        if isinstance(price.constraint, types.TimeOfDateConstraint):
            by_hour.append(price.prices)
        elif price.constraint is None or price.constraint.active(now):
            by_hour.append(price.prices)
            break
    dearest = copy(by_hour[-1] if by_hour else model.prices[0].prices)
    for prices in by_hour:
        for key, value in vars(prices).items():
            known = getattr(dearest, key)
            if isinstance(value, Decimal) and (known is None or (isinstance(known, Decimal) and value > known)):
                setattr(dearest, key, value)
    return dearest


def _card(model: types.ModelInfo, prices: types.ModelPrice, input_tokens: int | None) -> RateCard | None:
    """The rates of a call with this much input (None: as little as possible); None without prices for tokens."""
    rates = {unit: _rate(getattr(prices, key, None), input_tokens) for unit, key in _UNITS.items()}
    if rates["input"] is None or rates["output"] is None:
        return None
    for unit, keys in _INDISTINGUISHABLE.items():
        rates[unit] = max(rates[unit] or 0, *(_rate(getattr(prices, key, None), input_tokens) or 0 for key in keys))
    if rates["cache_write"] is not None and rates["cache_write_1h"] is None and "claude" in model.id:
        rates["cache_write_1h"] = _CLAUDE_1H * rates["input"]
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


def _cards(
    model: types.ModelInfo, variants: Mapping[str, types.ModelPrice], input_tokens: int | None
) -> dict[str, RateCard]:
    cards = {name: _card(model, prices, input_tokens) for name, prices in variants.items()}
    return {name: card for name, card in cards.items() if card is not None}


def _tiers(
    model: types.ModelInfo, standard: types.ModelPrice, variants: Mapping[str, types.ModelPrice]
) -> Iterator[PriceTier]:
    values = [value for prices in (standard, *variants.values()) for value in vars(prices).values()]
    tiered = [value for value in values if isinstance(value, types.TieredPrices)]
    for start in sorted({tier.start for value in tiered for tier in value.tiers}):
        card = _card(model, standard, start)
        if card is not None:
            yield PriceTier(above_input_tokens=start, rates=card, service_tiers=_cards(model, variants, start))


def _service_tiers(model: types.ModelInfo) -> Iterator[tuple[str, dict[str, str]]]:
    """Names of the tiers that have prices of their own and depend on nothing else, and when they apply."""
    for variant in model.price_variants or ():
        if len(variant.when) == 1:
            ((context, name),) = variant.when.items()
            if context in _CONTEXTS:
                yield name, dict(variant.when)


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
    return int(value.to_integral_value(ROUND_CEILING))

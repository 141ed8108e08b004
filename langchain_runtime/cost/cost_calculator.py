"""Tokens to money, at list price, in integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from langchain_runtime.contracts.errors import UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.pricing import ModelInfo, RateCard
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost.model_catalog import default_catalog

_MILLION: Final = 1_000_000

_STANDARD: Final = frozenset({"auto", "default", "on_demand", "standard", "standard_only"})
"""Providers' names of the tier that the list price is for (API references of OpenAI, Anthropic and Groq, 2026)."""

_NEVER_DEARER: Final = frozenset({"batch", "flex"})
"""Tiers that trade speed for a discount: without a price of their own, the standard one is high enough."""


class CostCalculator:
    """Prices calls by the catalogue's rate cards.

    A card holds nano units per million tokens, so a call is one integer sum, rounded up once.

    Args:
        catalog: Models and prices; None for the built-in list prices.
    """

    def __init__(self, catalog: ModelCatalog | None = None) -> None:
        self._catalog = catalog or default_catalog()

    def cost(self, usage: TokenUsage, model: str, *, service_tier: str | None = None) -> Cost:
        """What a call with this usage costs.

        Cached tokens without a rate of their own are charged as input, which is hardly ever below what is billed for
        a read; a provider that gives no rate for cache writes does not charge extra for them.

        Args:
            usage: Tokens of one call; sub-counts are parts of input and output.
            model: Whose price.
            service_tier: The tier that served the call; None for the standard one.

        Raises:
            UnknownModelError: The catalogue has no such model.
            UnpricedModelError: The model, a unit it used or the service tier has no price.
        """
        info = self._catalog.get(model)
        *_, card = _cards_up_to(info, usage.input, service_tier)
        total = sum(tokens * rate for tokens, rate in _lines(usage, card, info.id))
        return Cost.from_nano(card.per_request - -total // _MILLION, info.currency)

    def worst_case(self, input_tokens: int, output_tokens: int, model: str, *, service_tier: str | None = None) -> Cost:
        """The most that a call of this size can cost.

        Every input token at the dearest input-side rate that can apply (a cache write with the longest lifetime, a
        tier that the input reaches), every output token at the dearest output rate. A call that asks for a service
        tier is held at the dearer of that tier and the standard one, since providers fall back. Audio input is left
        out: ``TokenEstimator.upper_bound`` refuses it.

        Args:
            input_tokens: Upper bound of what the provider reads.
            output_tokens: Upper bound of what it writes.
            model: Whose price.
            service_tier: The tier that the call asks for; None for the standard one.

        Raises:
            UnknownModelError: The catalogue has no such model.
            UnpricedModelError: It knows no price for it, or none for the service tier.
        """
        info = self._catalog.get(model)
        cards = [*_cards_up_to(info, input_tokens, None), *_cards_up_to(info, input_tokens, service_tier)]
        input_rate = max(
            rate
            for card in cards
            for rate in (card.input, card.cache_read or 0, card.cache_write or 0, card.cache_write_1h or 0)
        )
        output_rate = max(rate for card in cards for rate in (card.output, card.audio_output or 0))
        total = input_tokens * input_rate + output_tokens * output_rate
        fee = max(card.per_request for card in cards)
        return Cost.from_nano(fee - -total // _MILLION, info.currency)


def _cards_up_to(info: ModelInfo, input_tokens: int, service_tier: str | None) -> Iterator[RateCard]:
    """The cards whose thresholds the input exceeds, ascending: the last one holds for the whole call.

    Raises:
        UnpricedModelError: The model or the service tier has no price.
    """
    if info.rates is None:
        raise UnpricedModelError(
            f"no price is known for {info.id!r}", model=info.id, hint="give its price in a catalogue overlay"
        )
    named = service_tier if service_tier in info.service_tiers else None
    if named is None and service_tier is not None and service_tier not in _STANDARD | _NEVER_DEARER:
        raise UnpricedModelError(
            f"no price is known for {info.id!r} in the service tier {service_tier!r}",
            model=info.id,
            unit=f"service_tier:{service_tier}",
            hint="ask for the standard tier, or use a budget without a limit",
        )
    yield info.rates if named is None else info.service_tiers[named]
    for tier in info.tiers:
        if input_tokens > tier.above_input_tokens:
            yield tier.rates if named is None else tier.service_tiers.get(named, tier.rates)


def _lines(usage: TokenUsage, card: RateCard, model: str) -> Iterator[tuple[int, int]]:
    """Tokens and their rate; each token in exactly one line."""
    written_5m = max(0, usage.cache_write - usage.cache_write_1h)
    write_rate = card.cache_write if card.cache_write is not None else card.input
    plain_input = max(0, usage.input - usage.cache_read - usage.cache_write - usage.audio_input)
    yield plain_input, card.input
    yield usage.cache_read, card.cache_read if card.cache_read is not None else card.input
    yield written_5m, write_rate
    yield usage.cache_write_1h, card.cache_write_1h if card.cache_write_1h is not None else write_rate
    yield usage.audio_input, _audio_rate(usage.audio_input, card.audio_input, model, "audio_input")
    yield max(0, usage.output - usage.audio_output), card.output
    yield usage.audio_output, _audio_rate(usage.audio_output, card.audio_output, model, "audio_output")


def _audio_rate(tokens: int, rate: int | None, model: str, unit: str) -> int:
    if rate is None and tokens:
        # Text rates would come out up to 14 times too low.
        raise UnpricedModelError(
            f"{model!r} used {tokens} {unit} tokens, for which no price is known",
            model=model,
            unit=unit,
            hint="give the price in a catalogue overlay",
        )
    return rate or 0

"""Tokens to money, at list price, in integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from langchain_runtime.contracts.errors import UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.pricing import ModelInfo, RateCard
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost.model_catalog import default_catalog

_MILLION: Final = 1_000_000

_STANDARD: Final = frozenset({"auto", "default", "global", "on_demand", "standard", "standard_only"})
"""Providers' names of the tier that the list price is for (API references of OpenAI, Anthropic and Groq, 2026)."""

_NEVER_DEARER: Final = frozenset({"batch", "flex"})
"""Tiers that trade speed for a discount: without a price of their own, the standard one is high enough."""


class _Rates(NamedTuple):
    """What a call of some size costs in nano units per million tokens, each token in exactly one kind."""

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    audio_input: int | None
    output: int
    audio_output: int | None
    per_request: int


class _Step(NamedTuple):
    """Rates of calls with more input than ``above``, up to the next step.

    Attributes:
        above: Input tokens.
        rates: What such a call is billed.
        dearest_input: The highest input-side rate that can apply to any token of it, also while the tier is the
            standard one.
        dearest_output: As ``dearest_input``, on the output side.
        dearest_fee: As ``dearest_input``, for the call itself.
    """

    above: int
    rates: _Rates
    dearest_input: int
    dearest_output: int
    dearest_fee: int


class CostCalculator:
    """Prices calls by the catalogue's rate cards.

    A card holds nano units per million tokens, so a call is one integer sum, rounded up once.

    Args:
        catalog: Models and prices; None for the built-in list prices.
    """

    def __init__(self, catalog: ModelCatalog | None = None) -> None:
        self._catalog = catalog or default_catalog()
        self._compiled: dict[tuple[str, str | None], tuple[ModelInfo, tuple[_Step, ...]]] = {}

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
        info, steps = self._steps(model, service_tier)
        rates = _reached(steps, usage.input).rates
        plain_input, plain_output, nano = usage.input, usage.output, 0
        if usage.cache_read or usage.cache_write:
            plain_input -= usage.cache_read + usage.cache_write
            nano += usage.cache_read * rates.cache_read + usage.cache_write_1h * rates.cache_write_1h
            nano += max(0, usage.cache_write - usage.cache_write_1h) * rates.cache_write_5m
        if usage.audio_input:
            plain_input -= usage.audio_input
            nano += usage.audio_input * _audio_rate(rates.audio_input, usage.audio_input, info.id, "audio_input")
        if usage.audio_output:
            plain_output -= usage.audio_output
            nano += usage.audio_output * _audio_rate(rates.audio_output, usage.audio_output, info.id, "audio_output")
        nano += max(0, plain_input) * rates.input + max(0, plain_output) * rates.output
        return Cost.from_nano(rates.per_request - -nano // _MILLION, info.currency)

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
        info, steps = self._steps(model, service_tier)
        step = _reached(steps, input_tokens)
        nano = input_tokens * step.dearest_input + output_tokens * step.dearest_output
        return Cost.from_nano(step.dearest_fee - -nano // _MILLION, info.currency)

    def _steps(self, model: str, service_tier: str | None) -> tuple[ModelInfo, tuple[_Step, ...]]:
        """The model's prices, compiled once for as long as the catalogue says the same."""
        info = self._catalog.get(model)
        known = self._compiled.get((model, service_tier))
        if known is None or known[0] is not info:
            known = self._compiled[model, service_tier] = (info, tuple(_compile(info, service_tier)))
        return known


def _reached(steps: tuple[_Step, ...], input_tokens: int) -> _Step:
    reached = steps[0]
    for step in steps[1:]:
        if input_tokens > step.above:
            reached = step
    return reached


def _compile(info: ModelInfo, service_tier: str | None) -> Iterator[_Step]:
    """The steps of a model's prices, ascending; each covers everything that a call below it may be charged.

    Raises:
        UnpricedModelError: The model or the service tier has no price.
    """
    standard = list(_cards(info, None))
    asked = list(_cards(info, service_tier))
    for number, (above, card) in enumerate(asked, start=1):
        possible = [card for _, card in (*standard[:number], *asked[:number])]
        inputs = [(c.input, c.cache_read or 0, c.cache_write or 0, c.cache_write_1h or 0) for c in possible]
        yield _Step(
            above,
            _rates(card),
            dearest_input=max(max(rates) for rates in inputs),
            dearest_output=max(max(c.output, c.audio_output or 0) for c in possible),
            dearest_fee=max(c.per_request for c in possible),
        )


def _rates(card: RateCard) -> _Rates:
    written = card.input if card.cache_write is None else card.cache_write
    return _Rates(
        input=card.input,
        cache_read=card.input if card.cache_read is None else card.cache_read,
        cache_write_5m=written,
        cache_write_1h=written if card.cache_write_1h is None else card.cache_write_1h,
        audio_input=card.audio_input,
        output=card.output,
        audio_output=card.audio_output,
        per_request=card.per_request,
    )


def _cards(info: ModelInfo, service_tier: str | None) -> Iterator[tuple[int, RateCard]]:
    """The card of the whole call by the input that it must exceed, ascending; the first holds from nothing on.

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
    yield 0, info.rates if named is None else info.service_tiers[named]
    for tier in info.tiers:
        yield tier.above_input_tokens, tier.rates if named is None else tier.service_tiers.get(named, tier.rates)


def _audio_rate(rate: int | None, tokens: int, model: str, unit: str) -> int:
    if rate is None:
        # Text rates would come out up to 14 times too low.
        raise UnpricedModelError(
            f"{model!r} used {tokens} {unit} tokens, for which no price is known",
            model=model,
            unit=unit,
            hint="give the price in a catalogue overlay",
        )
    return rate

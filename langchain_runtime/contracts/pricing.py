"""What is known of a model: its window, its output limit, and its list price as integer rates."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from langchain_runtime.contracts.identifiers import ModelID
from langchain_runtime.contracts.money import Currency


class RateCard(BaseModel):
    """List price in nano units per million tokens (nano-USD unless the model's currency says otherwise).

    Integers, so that sums are exact: 3 USD per million tokens is 3_000_000_000. None means that nobody has a price:
    cached tokens are then charged as input, audio fails closed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = Field(ge=0)
    output: int = Field(ge=0)
    cache_read: int | None = Field(default=None, ge=0)
    cache_write: int | None = Field(default=None, ge=0)
    cache_write_1h: int | None = Field(default=None, ge=0)
    audio_input: int | None = Field(default=None, ge=0)
    audio_output: int | None = Field(default=None, ge=0)
    per_request: int = Field(default=0, ge=0, description="nano units for the call itself")


class PriceTier(BaseModel):
    """The rates of a whole call whose input exceeds ``above_input_tokens``, also by service tier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    above_input_tokens: int = Field(ge=0)
    rates: RateCard
    service_tiers: dict[str, RateCard] = Field(default_factory=dict)


class ModelInfo(BaseModel):
    """A model and its list price.

    Attributes:
        id: ``provider:name``.
        rates: Price of a call up to the first tier; None when unknown.
        tiers: Dearer rates for long inputs, ascending by threshold.
        service_tiers: Rates by the provider's name of the tier that a call can ask for (flex, priority, batch).
        currency: Of all rates.
        context_window: Most input tokens; None when unknown.
        max_output_tokens: Most output tokens; None when unknown.
        reasoning: Whether output can hold reasoning that the caller does not see.
        source: Where the price comes from.
        dated: As of when; None when the source does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ModelID
    rates: RateCard | None = None
    tiers: tuple[PriceTier, ...] = ()
    service_tiers: dict[str, RateCard] = Field(default_factory=dict)
    currency: Currency = "USD"
    context_window: int | None = None
    max_output_tokens: int | None = None
    reasoning: bool = False
    source: str = ""
    dated: date | None = None

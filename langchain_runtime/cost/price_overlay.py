"""The user's own prices: a YAML file or mapping of models, per million tokens.

::

    models:
      acme/m1: {input: "0.27", output: "1.10", cache_read: "0.07", from: 2026-01-01, max_output_tokens: 8192}
      openai:gpt-5-mini: {max_output_tokens: 4096}      # the price stays the catalogue's

Names are ``provider:name`` as LangChain or the price list has the provider, or a bare name for every provider. An entry
holds from the day of its ``from``; until then, the catalogue's price does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost, Currency
from langchain_runtime.contracts.pricing import ModelInfo, PriceTier, RateCard

T = TypeVar("T")


def _nano_per_million(value: Any) -> int | None:
    if value is None:
        return None
    nano = Cost(value).nano
    if nano < 0:
        raise InvalidInputError(f"a price must not be negative, got {value}")
    return nano


Price = Annotated[int | None, BeforeValidator(_nano_per_million)]
"""Written as a quoted decimal of main units per million tokens; kept as nano units per million tokens."""


class _Rates(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input: Price = None
    output: Price = None
    cache_read: Price = None
    cache_write: Price = None
    cache_write_1h: Price = None
    audio_input: Price = None
    audio_output: Price = None

    def card(self) -> RateCard | None:
        rates = {name: getattr(self, name) for name in _Rates.model_fields}
        if rates["input"] is None and rates["output"] is None:
            return None
        if rates["input"] is None or rates["output"] is None:
            raise InvalidInputError("a price needs both input and output")
        return RateCard(**rates)


class _Tier(_Rates):
    above: int = Field(ge=0, description="input tokens")


class _Model(_Rates):
    currency: Currency = "USD"
    valid_from: date | None = Field(default=None, alias="from")
    tiers: tuple[_Tier, ...] = ()
    context_window: int | None = Field(default=None, gt=0)
    max_output_tokens: int | None = Field(default=None, gt=0)
    reasoning: bool | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Overlay:
    """Models by the name the user gave them; one without rates only corrects what the catalogue knows."""

    models: Mapping[str, ModelInfo] = field(default_factory=dict)

    def find(self, *names: str, today: date) -> ModelInfo | None:
        """The entry under the first of ``names`` that has one in force ``today``."""
        found = (self.models[name] for name in names if name in self.models)
        return next((entry for entry in found if entry.dated is None or entry.dated <= today), None)


def load_overlay(source: str | Path | Mapping[str, Any] | None) -> Overlay:
    """Read an overlay.

    Args:
        source: A YAML file, the mapping it would hold, or None for nothing.

    Raises:
        InvalidInputError: It cannot be read, or a price is negative, not finite or a float; the place is named.
    """
    if source is None:
        return Overlay()
    name = "catalogue overlay" if isinstance(source, Mapping) else str(source)
    data = source if isinstance(source, Mapping) else _read(Path(source))
    entries = _checked(name, lambda: _File.model_validate(data)).models
    return Overlay(
        {
            model: _checked(f"{name}: {model}", lambda: _info(model, _Model.model_validate(entry), name))  # noqa: B023 - called at once
            for model, entry in entries.items()
        }
    )


def _checked(place: str, read: Callable[[], T]) -> T:
    """What ``read`` returns; its complaints name the place."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = [place, *(str(step) for step in first["loc"])]
        raise InvalidInputError(f"{': '.join(steps)}: {first['msg']}") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{place}: {error}", hint=error.hint) from None


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"cannot read the catalogue overlay {path}: {error}") from None


def _info(model: str, entry: _Model, source: str) -> ModelInfo:
    given = entry.model_dump(include={"context_window", "max_output_tokens", "reasoning"}, exclude_none=True)
    tiers = [PriceTier(above_input_tokens=tier.above, rates=card) for tier in entry.tiers if (card := tier.card())]
    return ModelInfo(
        id=model,
        rates=entry.card(),
        tiers=tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)),
        currency=entry.currency,
        source=source,
        dated=entry.valid_from,
        **given,
    )

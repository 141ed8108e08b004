"""A model call as LangChain announces it to callbacks, and the most it can cost.

The model itself is not to be had there, only what it says of itself. Read from langchain-core 1.7.2, langchain-openai
1.7.3 and langchain-anthropic 1.7.7: ``invocation_params`` has what the call asks for and most fields of the model;
``serialized["kwargs"]`` has all fields, of classes that LangChain can serialise; ``metadata`` has provider and name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_runtime.adapters import providers
from langchain_runtime.adapters.charge_marks import CHARGED
from langchain_runtime.adapters.pricing import Pricing
from langchain_runtime.adapters.request_bounds import DEFAULT_CAP, catalog_name, model_info
from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.contracts.pricing import ModelInfo

_CARRIERS: Final = ("extra_body", "model_kwargs", "options", "generation_config")
"""Parameters with parameters inside that reach the request."""

_NOT_SENT: Final = frozenset({"_type", "model_name"})
"""Invocation parameters that say whose call it is."""

_CLIENT_ATTEMPTS: Final = 3
"""Requests in one call of the OpenAI and Anthropic clients (``DEFAULT_MAX_RETRIES`` is 2)."""


class _FieldsUnknown:
    """Stands for the model where ``providers`` ask for one: then they read parameters only."""

    model_fields: ClassVar[dict[str, Any]] = {}


_MODEL: Final = cast("BaseChatModel", _FieldsUnknown())


@dataclass(frozen=True, slots=True)
class AnnouncedCall:
    """What a callback is told before a call is made.

    Attributes:
        model_id: ``provider:name``, as the model reports itself to tracing.
        params: The call's invocation parameters.
        fields: The model's constructor arguments; empty for classes that LangChain cannot serialise.
        metadata: The call's metadata.
    """

    model_id: str
    params: Mapping[str, Any]
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @classmethod
    def of(
        cls, serialized: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, event: Mapping[str, Any]
    ) -> AnnouncedCall:
        """The call of ``on_chat_model_start(serialized, ..., metadata=metadata, **event)``."""
        metadata = metadata or {}
        params = event.get("invocation_params") or {}
        provider = metadata.get("ls_provider") or "unknown"
        name = metadata.get("ls_model_name") or params.get("model") or params.get("_type") or "unknown"
        return cls(
            # The same name as ``providers.model_id`` gives.
            model_id=name if name == provider else f"{provider}:{name}",
            params=params,
            fields=(serialized or {}).get("kwargs") or {},
            metadata=metadata,
        )

    @property
    def charged(self) -> list[str] | None:
        """Marks of what a budgeted model charges by itself, accounts around the call left out; None for any other."""
        return self.metadata.get(CHARGED)

    @property
    def service_tier(self) -> str | None:
        """The tier that the call asks for by name; None for the standard one."""
        asked = (providers.service_tier(_MODEL, place) for place in self._places())
        return next((tier for tier in asked if tier is not None), None)

    @property
    def choices(self) -> int:
        """How many replies one request asks for."""
        return max(providers.choices(_MODEL, place) for place in self._places())

    @property
    def attempts(self) -> int:
        """How many requests the call can make. A budgeted model retries above its client, which says nothing then."""
        told = [place.get("max_retries") for place in (self.params, self.fields)] if self.charged is None else []
        retries = [value for value in told if isinstance(value, int)]
        return 1 + max(0, *retries) if retries else _CLIENT_ATTEMPTS

    @property
    def extras(self) -> list[Any]:
        """Tools, schemas and whatever else the request carries beside its messages."""
        return providers.visible_extras(_MODEL, {k: v for k, v in self.params.items() if k not in _NOT_SENT})

    @property
    def hidden_input(self) -> str | None:
        """Name of a parameter or tool whose input tokens cannot be seen from here; None if none is known."""
        found = (providers.hidden_input(_MODEL, place) for place in self._places())
        return next((name for name in found if name is not None), None)

    @property
    def output_cap(self) -> int | None:
        """The output cap that the request carries; None if nothing is said of one.

        Where several are given the largest counts: which of them wins differs between providers and their interfaces.
        """
        in_request = (place for place in self._places() if place is not self.fields)
        given = [place.get(name) for place in in_request for name in providers.CAP_NAMES]
        for caps in (given, [self.metadata.get("ls_max_tokens")], [self.fields.get(n) for n in providers.CAP_NAMES]):
            stated = [cap for cap in caps if isinstance(cap, int) and cap > 0]  # Ollama writes -1 and -2 for "no limit"
            if stated:
                return max(stated)
        return None

    def _places(self) -> Iterator[Mapping[str, Any]]:
        for source in (self.params, self.fields):
            yield source
            for name in _CARRIERS:
                if isinstance(source.get(name), Mapping):
                    yield source[name]


class WorstCase(NamedTuple):
    """The most that a call can cost, all attempts together.

    Attributes:
        model: The catalogue's name of the model whose price holds.
        nano: Nano units of ``currency``; 0 when the price is unknown and need not be known.
        tokens: Input and output.
        currency: Of the price; None when it is unknown.
        service_tier: The tier that the call asks for; None for the standard one.
    """

    model: str
    nano: int
    tokens: int
    currency: str | None
    service_tier: str | None


def worst_case(
    call: AnnouncedCall,
    messages: Sequence[BaseMessage],
    pricing: Pricing,
    *,
    price_as: Mapping[str, str] | None,
    attempts: int | None,
    priced: bool,
    bounded: bool,
) -> WorstCase:
    """Bound a call by what is announced of it.

    Args:
        call: The announcement.
        messages: What is sent, oldest first.
        pricing: Bounds and prices it.
        price_as: Catalogue models to price others as, by id, provider or name.
        attempts: Requests in one call; None for what the model tells of its retries, else three.
        priced: Whether money is limited, so that a price must be known.
        bounded: Whether anything is limited, so that input and output must be bounded.

    Raises:
        UnpricedModelError: Nobody has a price, and ``priced``.
        EstimationError: Input or output cannot be bounded, and ``bounded``.
    """
    model = catalog_name(call.model_id, price_as)
    info = model_info(pricing.catalog, model, required=priced)
    read = _input_bound(call, messages, model, pricing, bounded=bounded)
    written = _output_bound(call, info, bounded=bounded) * call.choices
    tries = call.attempts if attempts is None else attempts
    tier = call.service_tier
    nano = 0
    has_price = info is not None and info.rates is not None
    if has_price:
        nano = pricing.calculator.worst_case(read, written, model, service_tier=tier).nano * tries
    currency = info.currency if info is not None and has_price else None
    return WorstCase(model, nano, (read + written) * tries, currency, tier)


def _input_bound(
    call: AnnouncedCall, messages: Sequence[BaseMessage], model: str, pricing: Pricing, *, bounded: bool
) -> int:
    if bounded and call.hidden_input is not None:
        raise EstimationError(
            f"{model}: {call.hidden_input} makes the provider bill input that is not in the request, so no limit can "
            "hold",
            hint="leave it out, or use a budget without a limit",
        )
    try:
        return pricing.estimator.upper_bound(messages, model=model, tools=call.extras)
    except EstimationError:
        if bounded:
            raise
        return pricing.estimator.expected(messages, model=model, tools=call.extras)


def _output_bound(call: AnnouncedCall, info: ModelInfo | None, *, bounded: bool) -> int:
    cap = call.output_cap
    if cap is None and info is not None:
        cap = info.max_output_tokens
    if cap is None and bounded:
        raise EstimationError(
            f"{call.model_id} announces no output cap and the catalogue knows none, so no limit can hold",
            hint="wrap the model with with_budget, which sets a cap, or set max_tokens on it",
        )
    return DEFAULT_CAP if cap is None else cap

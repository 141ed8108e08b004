"""The most that one call can cost, and the request parameters that make it true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_runtime.adapters import providers
from langchain_runtime.contracts.errors import EstimationError, InvalidInputError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.pricing import ModelInfo
from langchain_runtime.contracts.protocols import CostCalculator, ModelCatalog, TokenEstimator

DEFAULT_CAP: Final = 16_384
"""Output tokens that a call may use where nobody set a cap and the model would allow more."""

FLOOR: Final = 1_024
REASONING_FLOOR: Final = 4_096
"""Caps are not shrunk below these: a reply cut there is worth less than a refusal."""

_BODIES: Final = ("model_kwargs", "extra_body")
"""Where callers put parameters that go into the request's body as they are."""


@dataclass(frozen=True, slots=True)
class CallTerms:
    """What is known of a call without its messages.

    Attributes:
        model: The catalogue's name of the model whose price holds.
        info: What the catalogue knows of it; None when it does not know the model.
        kwargs: The caller's keyword arguments.
        extras: Tools, schemas and other JSON that the request carries beside its messages.
        choices: Replies in one request.
        attempts: Requests that the class may make in one call, each of which may be billed.
        service_tier: The tier that the call asks for; None for the standard one.
        callers_cap: The caller's own output cap; None for none.
        first_cap: Output cap to start from: the caller's, the model's or ours.
        lowest_cap: Below this the reply would be worthless, or the provider would refuse the request.
        facts: How the model's class takes a cap.
        calculator: Prices the call; None when nobody knows a price.
        bounded: Whether anything is limited, so that input and output must be bounded.
        reporting: Fields to change on a copy of the model, so that its streams report their usage.
    """

    model: str
    info: ModelInfo | None
    kwargs: Mapping[str, Any]
    extras: Sequence[Any]
    choices: int
    attempts: int
    service_tier: str | None
    callers_cap: int | None
    first_cap: int
    lowest_cap: int
    facts: providers.ClassFacts
    calculator: CostCalculator | None
    bounded: bool
    reporting: Mapping[str, Any]

    @property
    def currency(self) -> str:
        """Of the model's price."""
        return self.info.currency if self.info is not None else "USD"

    def bound(self, messages: Sequence[BaseMessage], estimator: TokenEstimator) -> CallBound:
        """The worst case of a call with these messages.

        Raises:
            EstimationError: The input cannot be bounded, and must be.
        """
        try:
            read = estimator.upper_bound(messages, model=self.model, tools=self.extras)
        except EstimationError:
            if self.bounded:
                raise
            read = estimator.expected(messages, model=self.model, tools=self.extras)
        return self.sized(read, self.first_cap, enforced=self.bounded)

    def sized(self, input_tokens: int, cap: int, *, enforced: bool = True) -> CallBound:
        """The worst case with so much input and an output cap of ``cap`` tokens for each choice."""
        output = cap * self.choices
        nano = 0
        if self.calculator is not None:
            worst = self.calculator.worst_case(input_tokens, output, self.model, service_tier=self.service_tier)
            nano = worst.nano * self.attempts
        return CallBound(self, input_tokens, cap, nano, (input_tokens + output) * self.attempts, enforced)


class CallBound(NamedTuple):
    """What a call can cost at most, if it is sent with ``call_kwargs()``.

    Attributes:
        terms: What does not depend on messages and cap.
        input_tokens: Upper bound of what the provider reads, in each attempt.
        output_cap: Most tokens of one reply.
        nano: Worst case of all attempts in nano units; 0 when the price is unknown and need not be known.
        tokens: Worst case of all attempts in tokens.
        enforced: Whether the request carries ``output_cap``; not where nothing limits spending.
    """

    terms: CallTerms
    input_tokens: int
    output_cap: int
    nano: int
    tokens: int
    enforced: bool

    @property
    def model(self) -> str:
        """The catalogue's name of the model whose price holds."""
        return self.terms.model

    @property
    def output_tokens(self) -> int:
        """Most tokens of all the replies that one request asks for."""
        return self.output_cap * self.terms.choices

    @property
    def currency(self) -> str:
        """Of ``nano``."""
        return self.terms.currency

    def capped(self, cap: int) -> CallBound:
        """The bound of the same call with an output cap of ``cap`` tokens, which the request then carries."""
        return self.terms.sized(self.input_tokens, cap)

    def shrink(self, free_nano: int | None, free_tokens: int | None, floor: int | None = None) -> CallBound | None:
        """The same call with the largest cap that fits; None if none does.

        Args:
            free_nano: Money to fit in, in nano units; None for no limit.
            free_tokens: Tokens to fit in; None for no limit.
            floor: Smallest cap worth sending; None for ``lowest_cap``. A smaller cap of the caller's holds.
        """
        if self.terms.facts.cap_keyword is None:
            return None
        low = min(self.terms.lowest_cap if floor is None else floor, self.output_cap)
        high = self.output_cap
        best: CallBound | None = None
        while low <= high:
            middle = (low + high + 1) // 2
            bound = self.capped(middle)
            if _fits(bound.nano, free_nano) and _fits(bound.tokens, free_tokens):
                best, low = bound, middle + 1
            elif middle == low:
                break
            else:
                high = middle - 1
        return best

    @property
    def cut_by_us(self) -> bool:
        """Whether a reply that reaches the cap was cut by us and not by the caller."""
        return self.enforced and (self.terms.callers_cap is None or self.output_cap < self.terms.callers_cap)

    def call_kwargs(self) -> dict[str, Any]:
        """The keyword arguments to call the model with: the caller's, with our cap in place of any other."""
        facts, given = self.terms.facts, self.terms.kwargs
        given = {**given, **_reporting(facts, given)} if "extra_body" in given else given
        if not self.enforced or facts.cap_keyword is None:
            return dict(given)
        kwargs = {name: value for name, value in given.items() if name not in providers.CAP_NAMES}
        if not facts.cap_is_field:
            kwargs[facts.cap_keyword] = self.output_cap
        return kwargs

    def field_updates(self) -> dict[str, Any]:
        """Fields to change on a copy of the model: what its class reads from fields only."""
        facts = self.terms.facts
        cap = {str(facts.cap_keyword): self.output_cap} if self.enforced and facts.cap_is_field else {}
        return {**cap, **self.terms.reporting}


def call_terms(
    model: BaseChatModel,
    kwargs: Mapping[str, Any],
    *,
    calculator: CostCalculator,
    catalog: ModelCatalog,
    price_as: Mapping[str, str] | None = None,
    priced: bool = True,
    bounded: bool = True,
) -> CallTerms:
    """What model and arguments say about a call before its messages are looked at.

    Args:
        model: Whose call it is; its own fields count where ``kwargs`` are silent.
        kwargs: Keyword arguments of the call, bound ones included.
        calculator: Prices it.
        catalog: Knows the model's limits.
        price_as: Catalogue models to price others as, by id, provider or name:
            ``{"extractive": "openai:gpt-5.5-mini"}``.
        priced: Whether money is limited, so that a price must be known.
        bounded: Whether anything is limited, so that input and output must be bounded.

    Raises:
        UnpricedModelError: Nobody has a price, and ``priced``.
        EstimationError: The request makes the provider read what is not in it, and ``bounded``.
        InvalidInputError: A parameter would override the cap.
    """
    model_id = catalog_name(providers.model_id(model, kwargs), price_as)
    info = model_info(catalog, model_id, required=priced)
    if bounded:
        _check_bounded(model, model_id, kwargs)
    callers_cap = providers.callers_cap(model, kwargs)
    thinking = providers.thinking_budget(model, kwargs)
    cap = _cap(info, callers_cap, thinking, bounded=bounded)
    reasoning = info is not None and info.reasoning
    facts = providers.facts_of(type(model))
    return CallTerms(
        model=model_id,
        info=info,
        kwargs=kwargs,
        extras=providers.visible_extras(model, kwargs),
        choices=providers.choices(model, kwargs),
        attempts=providers.attempts(model),
        service_tier=providers.service_tier(model, kwargs),
        callers_cap=callers_cap,
        first_cap=cap,
        lowest_cap=min(cap, thinking + (REASONING_FLOOR if reasoning else FLOOR)),
        facts=facts,
        calculator=calculator if info is not None and info.rates is not None else None,
        bounded=bounded,
        reporting=_reporting(facts, {name: getattr(model, name, None) for name in _BODIES}),
    )


def bound_call(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
    *,
    estimator: TokenEstimator,
    calculator: CostCalculator,
    catalog: ModelCatalog,
    price_as: Mapping[str, str] | None = None,
    priced: bool = True,
    bounded: bool = True,
) -> CallBound:
    """Bound a call before it is made: ``call_terms``, and the messages to send (oldest first)."""
    terms = call_terms(
        model, kwargs, calculator=calculator, catalog=catalog, price_as=price_as, priced=priced, bounded=bounded
    )
    return terms.bound(messages, estimator)


class TermsMemo:
    """The terms of a model's last call that had no arguments of its own: most calls of a model are alike.

    They hold until a field of the model is set anew, the inside of one that matters here changes, or the catalogue
    says something else. Copies and pickles start empty.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[CallTerms, dict[str, Any], list[tuple[Any, Any]], tuple[bool, bool]] | None = None

    def terms(
        self,
        model: BaseChatModel,
        kwargs: Mapping[str, Any],
        *,
        calculator: CostCalculator,
        catalog: ModelCatalog,
        price_as: Mapping[str, str] | None,
        priced: bool,
        bounded: bool,
    ) -> CallTerms:
        """As ``call_terms``."""
        last = self._last
        if last is not None and not kwargs:
            terms, fields, insides, wanted = last
            if (
                wanted == (priced, bounded)
                and fields == model.__dict__
                and all(now == then for now, then in insides)
                and model_info(catalog, terms.model, required=priced) is terms.info
            ):
                return terms
        terms = call_terms(
            model, kwargs, calculator=calculator, catalog=catalog, price_as=price_as, priced=priced, bounded=bounded
        )
        if not kwargs:
            self._last = (terms, dict(model.__dict__), providers.insides(model), (priced, bounded))
        return terms

    def __deepcopy__(self, _memo: dict[int, Any]) -> TermsMemo:
        return TermsMemo()

    def __reduce__(self) -> tuple[Any, ...]:
        return (TermsMemo, ())


def catalog_name(model_id: str, price_as: Mapping[str, str] | None) -> str:
    """The catalogue model that a model is priced as: itself, unless ``price_as`` says another."""
    if not price_as:
        return model_id
    provider, _, name = model_id.partition(":")
    return price_as.get(model_id) or price_as.get(name) or price_as.get(provider) or model_id


def model_info(catalog: ModelCatalog, model_id: str, *, required: bool) -> ModelInfo | None:
    """What the catalogue knows of a model; None if nothing.

    Raises:
        UnpricedModelError: It knows no price, and one is ``required``.
    """
    try:
        info = catalog.get(model_id)
    except UnknownModelError:
        info = None
    if required and (info is None or info.rates is None):
        raise UnpricedModelError(
            f"nobody has a price for {model_id!r}, so a limit in money cannot hold",
            model=model_id,
            hint="add it to the price overlay, name a model to price it as (price_as), or use a budget without a limit",
        )
    return info


def _check_bounded(model: BaseChatModel, model_id: str, kwargs: Mapping[str, Any]) -> None:
    hidden = providers.hidden_input(model, kwargs)
    if hidden is not None:
        raise EstimationError(
            f"{model_id}: {hidden} makes the provider bill input that is not in the request, so no limit can hold",
            hint="leave it out, or use a budget without a limit",
        )
    if providers.facts_of(type(model)).cap_keyword is None:
        raise InvalidInputError(
            f"{type(model).__name__} has no output cap that a budget could set",
            hint="use a class with a max_tokens field, or a budget without a limit",
        )


def _cap(info: ModelInfo | None, callers_cap: int | None, thinking: int, *, bounded: bool) -> int:
    most = info.max_output_tokens if info is not None else None
    if callers_cap is not None:
        # No model writes more than it can; who asks for it must not hold a whole budget by it.
        able = most or (info.context_window if info is not None else None)
        return callers_cap if able is None or not bounded else min(callers_cap, able)
    if not bounded:
        return most or DEFAULT_CAP
    wanted = DEFAULT_CAP + thinking
    return wanted if most is None else min(most, wanted)


def _reporting(facts: providers.ClassFacts, places: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of the request's body that switch the usage of streams off, with it switched on.

    They would win over the model's ``stream_usage``, and each stream would cost its whole hold.
    """
    found: dict[str, Any] = {}
    for name in _BODIES if facts.streams_usage_on_demand else ():
        body = places.get(name) or {}
        options = body.get("stream_options")
        if isinstance(options, Mapping) and not options.get("include_usage", True):
            found[name] = {**body, "stream_options": {**options, "include_usage": True}}
    return found


def _fits(amount: int, free: int | None) -> bool:
    return free is None or amount <= free

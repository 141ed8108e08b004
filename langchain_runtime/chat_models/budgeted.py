"""``with_budget``: the same chat model, under a budget that cannot overrun."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import Field, create_model

from langchain_runtime.adapters import providers
from langchain_runtime.adapters.account import Charge
from langchain_runtime.adapters.charge_marks import CHARGED, charge_marks
from langchain_runtime.adapters.guard import CallGuard, ErrorSettlement, GuardedCall
from langchain_runtime.adapters.pacing import Pace
from langchain_runtime.adapters.pricing import Pricing
from langchain_runtime.adapters.stream_meter import ChunkMeter, EventMeter
from langchain_runtime.chat_models._guarded_requests import (
    aguarded_reply,
    aguarded_stream,
    guarded_reply,
    guarded_stream,
    is_inner_call,
)
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import BudgetExceededError, BudgetNotSetError, InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.protocols import ModelCatalog, ModelLadder
from langchain_runtime.cost import CircuitBreaker, RateLimiter
from langchain_runtime.cost.model_ladder import as_ladder
from langchain_runtime.ledgers import default_ledger

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel as _Mixin
else:
    # No pydantic model: the fields that it would inherit would replace those that the model's own class redefines.
    _Mixin = object

Model = TypeVar("Model", bound=BaseChatModel)


class BudgetedChatModel(_Mixin):
    """What ``with_budget`` returns, whatever class the model is of besides; not to be constructed directly.

    Attributes:
        lcr_guard: How its calls are guarded. None refuses every call: a budget that was lost must not mean no budget.
    """

    if TYPE_CHECKING:
        lcr_guard: CallGuard | None

    def _guarded_call(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> GuardedCall:
        if self.lcr_guard is None:
            raise BudgetNotSetError(
                f"this {type(self).__name__} has lost its budget, so nothing is sent",
                scope="",
                hint="wrap the model with with_budget again",
            )
        return GuardedCall(self.lcr_guard, self, messages, stop, kwargs)

    def _get_ls_params_with_defaults(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """With what the model charges by itself, so that no callback charges it a second time."""
        params: Any = super()._get_ls_params_with_defaults(stop=stop, **kwargs)
        params[CHARGED] = charge_marks(self.lcr_guard.own if self.lcr_guard is not None else ())
        return cast("LangSmithParams", params)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """False: LangChain's serialisation would give the model back without its budget."""
        return False

    def with_fallbacks(self, fallbacks: Sequence[Runnable[Any, Any]], **options: Any) -> Any:
        """As LangChain's, with a warning: a refusal is an error like any other to it, and a fallback then spends."""
        for fallback in fallbacks:
            model: Any = fallback
            while isinstance(model, RunnableBinding):
                model = model.bound
            if isinstance(model, BaseChatModel) and not isinstance(model, BudgetedChatModel):
                warnings.warn(
                    f"a call that the budget refuses will fall back on {type(model).__name__}, which has no budget: "
                    "wrap it with with_budget too, or leave BudgetExceededError out of exceptions_to_handle",
                    stacklevel=2,
                )
        return super().with_fallbacks(fallbacks, **options)

    def with_retry(self, **options: Any) -> Any:
        """As LangChain's, with a warning where it would try a refused call again and again."""
        types = options.get("retry_if_exception_type", (Exception,))
        if issubclass(BudgetExceededError, tuple(types)):
            warnings.warn(
                "with_retry will also try calls again that the budget refuses: leave BudgetExceededError out of "
                "retry_if_exception_type, or set max_retries on the model, where each try has a hold of its own",
                stacklevel=2,
            )
        return super().with_retry(**options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the model's own class: the budgeted one is made anew in each process."""
        return (_revive, (type(self).__bases__[-1], self.__getstate__()))


def with_budget(
    model: Model,
    budget: Budget | None,
    *,
    ledger: Ledger | None = None,
    catalog: ModelCatalog | None = None,
    error_settlement: ErrorSettlement = "release",
    price_as: Mapping[str, str] | None = None,
    ladder: ModelLadder | Sequence[str] | None = None,
    breaker: CircuitBreaker | None = None,
    rate_limiter: RateLimiter | None = None,
) -> Model:
    """Put ``model`` under ``budget``: no call is sent whose worst case does not fit.

    The result is of the model's own class, so ``bind_tools``, ``with_structured_output``, ``profile`` and everything
    else that looks at the class goes on working; it is a ``BudgetedChatModel`` besides. The model passed in is left as
    it is. Every call charges ``budget`` and each ``budget_scope`` and run around it, all or none. The output cap that
    was priced is set on the request; a reply that it cuts has ``lcr_capped`` in its ``response_metadata``.

    The clients of OpenAI and Anthropic try a failed request again by themselves: their ``max_retries`` is taken over,
    so that every try has a hold of its own. Other classes are held for all the tries that their ``max_retries`` allows.

    ``with_retry`` and ``with_fallbacks`` catch refusals like any other error: budget the fallbacks, too. Replies from
    LangChain's response cache cost nothing.

    Args:
        model: Any chat model; a budgeted one gets ``budget`` in addition to its own.
        budget: What its calls may spend; None charges only the scopes and the run around a call.
        ledger: Where ``budget`` is kept; None for the process-wide ledger in memory.
        catalog: Models and prices; None for the default catalogue.
        error_settlement: What a call costs that ends in a complete HTTP error status (4xx, 5xx): nothing
            (``release``), or its full hold (``hold``). All other failures cost the full hold: they may be billed.
        price_as: Catalogue models to price others as, by id, provider or name: ``{"my-proxy": "openai:gpt-5-mini"}``.
        ladder: Models to fall back on where a budget says ``on_exceed="downgrade"``, dearest first, as
            ``provider:name``. Only those of the model's own provider are taken: tools are bound in its format.
        breaker: Holds calls back while the model fails, and lets all of them wait when the provider asks for patience;
            share it among models that use the same account.
        rate_limiter: Keeps calls below the account's requests and tokens per minute; to be shared like ``breaker``.

    Raises:
        InvalidInputError: ``model`` is no chat model, the scope is known with another limit, or ``budget`` downgrades
            and there is no ladder.
    """
    if not isinstance(model, BaseChatModel):
        raise InvalidInputError(
            f"with_budget wraps chat models, got {type(model).__name__}",
            hint="wrap each model before bind, bind_tools, with_retry, with_fallbacks or a chain",
        )
    own: tuple[Charge, ...] = ()
    if budget is not None:
        books = default_ledger() if ledger is None else ledger
        books.open_scope(Scope.of(budget))
        own = (Charge(books, (budget,)),)
    steps = None if ladder is None else as_ladder(ladder)
    pace = None if breaker is None and rate_limiter is None else Pace(breaker, rate_limiter)
    if isinstance(model, BudgetedChatModel) and model.lcr_guard is not None:
        known = model.lcr_guard
        guard = replace(known, own=known.own + own, ladder=steps or known.ladder, pace=pace or known.pace)
        _check_ladder(budget, guard)
        return _copy_with(model, lcr_guard=guard)
    single, retries = providers.without_client_retries(model)
    guard = CallGuard(
        own=own,
        pricing=Pricing.of(catalog),
        price_as=dict(price_as) if price_as else None,
        error_settlement=error_settlement,
        retries=retries,
        ladder=steps,
        pace=pace,
    )
    _check_ladder(budget, guard)
    return cast("Model", _budgeted_copy(single, guard))


def _check_ladder(budget: Budget | None, guard: CallGuard) -> None:
    if budget is not None and budget.on_exceed == "downgrade" and guard.ladder is None:
        raise InvalidInputError(
            f'budget {budget.scope!r} says on_exceed="downgrade", and there is nothing to fall back on',
            hint='name the models: with_budget(..., ladder=["openai:gpt-5.4", "openai:gpt-5.4-mini"])',
        )


def _budgeted_copy(model: BaseChatModel, guard: CallGuard) -> BaseChatModel:
    fields: dict[str, Any] = {"lcr_guard": guard}
    if providers.facts_of(type(model)).streams_usage_on_demand:
        # Off by default with a custom base_url; without it a stream reports nothing and is charged its full hold.
        fields["stream_usage"] = True
    copy = model.model_copy()
    object.__setattr__(copy, "__class__", budgeted_class(type(model)))
    return _copy_with(copy, **fields)


def _copy_with(model: Model, **fields: Any) -> Model:
    copy = model.model_copy(update=fields)
    copy.__dict__.pop("_serialized", None)  # cached for the model without this budget
    return copy


@cache
def budgeted_class(cls: type[BaseChatModel]) -> type[BaseChatModel]:
    """The budgeted subclass of a chat model class; one per class and process."""
    name = cls.__name__  # kept: LangChain derives providers and trace names from it
    budgeted: Any = create_model(
        name,
        __base__=(BudgetedChatModel, cls),
        __module__=cls.__module__,
        lcr_guard=(Any, Field(default=None, exclude=True, repr=False)),
    )
    budgeted.__qualname__ = cls.__qualname__
    budgeted.__doc__ = cls.__doc__
    for method, carry_out in _carried_out(cls).items():
        setattr(budgeted, method, _guarded(getattr(cls, method), carry_out))
    return cast("type[BaseChatModel]", budgeted)


def _carried_out(cls: type[BaseChatModel]) -> dict[str, Callable[..., Any]]:
    """Which methods send requests, and how each is carried out.

    Only those that the class has: LangChain finds out what a class can do by looking for them.
    """
    methods: dict[str, Callable[..., Any]] = {"_generate": guarded_reply, "_agenerate": aguarded_reply}
    streams = _has_own(cls, "_stream")
    if streams:
        methods["_stream"] = partial(guarded_stream, meter_class=ChunkMeter)
    if streams or _has_own(cls, "_astream"):
        methods["_astream"] = partial(aguarded_stream, meter_class=ChunkMeter)
    if hasattr(cls, "_stream_chat_model_events"):
        methods["_stream_chat_model_events"] = partial(guarded_stream, meter_class=EventMeter)
    if hasattr(cls, "_astream_chat_model_events"):
        methods["_astream_chat_model_events"] = partial(aguarded_stream, meter_class=EventMeter)
    return methods


def _has_own(cls: type[BaseChatModel], method: str) -> bool:
    return getattr(cls, method) is not getattr(BaseChatModel, method)


def _guarded(own: Callable[..., Any], carry_out: Callable[..., Any]) -> Callable[..., Any]:
    """The model's own method, as a guarded call; LangChain still sees the own signature."""

    @wraps(own)
    def method(
        self: BudgetedChatModel,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Any:
        managed = {} if run_manager is None else {"run_manager": run_manager}
        if is_inner_call(self):
            return own(self, messages, stop=stop, **managed, **kwargs)

        def request(subject: BaseChatModel, options: dict[str, Any]) -> Any:
            return own(subject, messages, stop=stop, **managed, **options)

        return carry_out(self._guarded_call(messages, stop, kwargs), request)

    # LangChain asks for the signature in every call; stated, it need not be looked for behind the wrapper.
    method.__signature__ = signature(own)  # type: ignore[attr-defined]  # functions take any attribute
    return method


def _revive(cls: type[BaseChatModel], state: dict[Any, Any]) -> BaseChatModel:
    budgeted = budgeted_class(cls)
    model = budgeted.__new__(budgeted)
    model.__setstate__(state)
    return model

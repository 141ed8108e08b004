"""What a chat model's class and parameters say about its requests: name, output cap, retries, hidden input.

Facts read from langchain-openai 1.7.3 and langchain-anthropic 1.7.7, and checked against a loopback server in the
tests: with ``use_responses_api`` ChatOpenAI sends its own ``max_tokens`` and ignores a call-time one, while a call-time
``max_completion_tokens`` wins in both APIs; Anthropic takes ``max_tokens`` and refuses a cap at or below
``thinking.budget_tokens``; both clients retry twice inside one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_runtime.contracts.errors import InvalidInputError

CAP_NAMES = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"}
)
"""Every name under which some provider takes an output cap."""

_CLIENT_RETRIES = 2
"""Default of the OpenAI and Anthropic clients (``DEFAULT_MAX_RETRIES``), and of most that copied them."""

_HIDES_INPUT = frozenset(
    {
        "previous_response_id",
        "use_previous_response_id",
        "conversation",
        "prompt",
        "mcp_servers",
        "container",
        "context_management",
        "web_search_options",
        "prediction",
    }
)
"""Parameters that make the provider read, or bill, what is not in the request."""

_NEVER_READ = frozenset(
    {
        "tools", "stop", "model", "tool_choice", "stream_options", "service_tier", "reasoning_effort", "thinking",
        "extra_headers", "extra_query", "extra_body",
    }
)  # fmt: skip
"""Arguments that no model reads, or that are counted already."""

_USAGE_SWITCHES = ("stream_usage", "stream_options")
_THINKING = frozenset({"thinking"})
_CHOICES = frozenset({"n", "candidate_count"})
_SERVICE_TIER = frozenset({"service_tier", "speed", "inference_geo"})
"""Parameters that change the price of a call: also Claude's fast mode and its surcharge for inference in one country
(Anthropic, "Pricing", 2026)."""

_STANDARD_TIERS = frozenset({"auto", "default", "standard", "standard_only", "global"})
_CARRIERS = frozenset({"model_kwargs", "extra_body"})

_MODEL_NAMES = frozenset({"model", "model_id", "model_name"})
_READ = CAP_NAMES | _HIDES_INPUT | _THINKING | _CHOICES | _SERVICE_TIER | _CARRIERS
"""Every parameter that anything here looks for on a model."""

_OWN_TOOL_TYPES = (None, "function", "custom")
_HOSTED_TOOL_KEYS = ("google_search", "google_search_retrieval", "code_execution", "url_context", "google_maps")


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """What follows from a model's class alone.

    Attributes:
        family: Whose request format it speaks.
        cap_keyword: Name under which the cap is set; None when the class has none that we know.
        cap_is_field: Whether the cap is read from the model's field only, not from the call.
        streams_usage_on_demand: Whether ``stream_usage`` must be set for a stream to report usage.
    """

    family: Literal["openai", "anthropic", "other"]
    cap_keyword: str | None
    cap_is_field: bool
    streams_usage_on_demand: bool


@cache
def facts_of(cls: type[BaseChatModel]) -> ClassFacts:
    """Facts of a class; by name, so that no provider package is imported."""
    ancestry = {(base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__}
    fields = cls.model_fields
    facts = partial(ClassFacts, cap_is_field=False, streams_usage_on_demand="stream_usage" in fields)
    if ("langchain_openai", "BaseChatOpenAI") in ancestry:
        # Classes that rename the field (ChatOpenAI, AzureChatOpenAI) send it under its new name in both APIs.
        renamed = fields["max_tokens"].alias == "max_completion_tokens"
        return facts("openai", "max_completion_tokens" if renamed else "max_tokens")
    if ("langchain_anthropic", "ChatAnthropic") in ancestry:
        return facts("anthropic", "max_tokens")
    known = next((name for name in ("max_tokens", "max_output_tokens", "num_predict") if name in fields), None)
    return facts("other", known, cap_is_field=known == "num_predict")


def model_id(model: BaseChatModel, kwargs: Mapping[str, Any]) -> str:
    """``provider:name`` as the model reports itself to tracing; a call's own ``model`` counts."""
    chosen = kwargs.get("model")
    options: dict[str, Any] = {"model": chosen} if isinstance(chosen, str) else {}
    params = model._get_ls_params(**options)  # noqa: SLF001 - how LangChain itself asks
    provider = params.get("ls_provider") or "unknown"
    name = params.get("ls_model_name") or model._llm_type  # noqa: SLF001 - as above
    return name if name == provider else f"{provider}:{name}"  # "extractive" is all the name there is


def renamed(model: BaseChatModel, kwargs: dict[str, Any], wanted: str) -> tuple[BaseChatModel, dict[str, Any]] | None:
    """The same call of another model of the same provider; None where the class cannot make it.

    Args:
        model: Whose call it is.
        kwargs: Its keyword arguments.
        wanted: ``provider:name``.
    """
    provider, _, name = wanted.partition(":")
    if model_id(model, kwargs).partition(":")[0] != provider:
        return None
    if isinstance(kwargs.get("model"), str):
        return model, {**kwargs, "model": name}
    for field in sorted(_own_fields(type(model), _MODEL_NAMES)):
        copy = model.model_copy(update={field: name})
        if model_id(copy, kwargs) == wanted:
            copy.__dict__.pop("_serialized", None)  # cached with the other name
            return copy, kwargs
    return None


def _passed_on(model: BaseChatModel, kwargs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Places other than fields from where parameters reach the request, with their names."""
    places = [(name, getattr(model, name)) for name in _own_fields(type(model), _CARRIERS)]
    if "extra_body" in kwargs:
        places.append(("extra_body", kwargs["extra_body"]))
    return [(name, values) for name, values in places if values]


@cache
def _own_fields(cls: type[BaseChatModel], names: frozenset[str]) -> frozenset[str]:
    return names.intersection(cls.model_fields)


def _settings(model: BaseChatModel, kwargs: Mapping[str, Any], names: frozenset[str]) -> list[tuple[str, Any]]:
    """Every value given for one of the parameters, wherever it is given; the call's own first."""
    found = [(name, kwargs[name]) for name in names.intersection(kwargs)] if kwargs else []
    found += [(name, getattr(model, name)) for name in _own_fields(type(model), names)]
    for _, values in _passed_on(model, kwargs):
        found += [(name, values[name]) for name in names.intersection(values)]
    return found


def insides(model: BaseChatModel) -> list[tuple[Any, Any]]:
    """The model's own containers that are read here, each with a copy that tells whether it has changed since."""
    values = [getattr(model, name) for name in _own_fields(type(model), _READ)]
    return [(value, deepcopy(value)) for value in values if isinstance(value, (dict, list))]


def callers_cap(model: BaseChatModel, kwargs: Mapping[str, Any]) -> int | None:
    """The smallest output cap that the caller set in the call or, if none, on the model; None for none.

    Raises:
        InvalidInputError: A cap is hidden where it would override ours.
    """
    facts = facts_of(type(model))
    _refuse_overriding_caps(model, kwargs, facts)
    asked = [kwargs[name] for name in CAP_NAMES.intersection(kwargs)] if kwargs else []
    given = [int(cap) for cap in asked if cap is not None and cap > 0]  # servers take 0 or -1 for "no limit"
    if given:
        return min(given)
    stated = [value for _, value in _settings(model, {}, CAP_NAMES) if value is not None]
    if facts.family == "anthropic" and stated == [(model.profile or {}).get("max_output_tokens", 4096)]:
        return None  # ChatAnthropic fills its field with the model's own limit: nobody chose it
    return min((int(cap) for cap in stated if cap > 0), default=None)  # Ollama writes -1 and -2 for "no limit"


def _refuse_overriding_caps(model: BaseChatModel, kwargs: Mapping[str, Any], facts: ClassFacts) -> None:
    for place, values in _passed_on(model, kwargs):
        ours_wins = {facts.cap_keyword} if place == "model_kwargs" else frozenset()
        names = CAP_NAMES.intersection(values) - ours_wins
        if names:
            raise InvalidInputError(
                f"{place} sets {', '.join(sorted(names))}, which would override the cap that a budget needs",
                hint="set max_tokens on the model or in the call instead",
            )


def thinking_budget(model: BaseChatModel, kwargs: Mapping[str, Any]) -> int:
    """Tokens that Anthropic's extended thinking may use, which the cap must exceed; 0 for none."""
    if facts_of(type(model)).family != "anthropic":
        return 0
    thinking = next((value for _, value in _settings(model, kwargs, _THINKING) if value is not None), None)
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    return budget if isinstance(budget, int) else 0


def keeps_cache_for_an_hour(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> bool:
    """Whether the request asks for the dearer of Anthropic's cache lifetimes anywhere."""
    carriers: list[Any] = [kwargs, *(kwargs.get("tools") or ())]
    for message in messages:
        if not isinstance(message.content, str):
            carriers += message.content
    marks = [carrier.get("cache_control") for carrier in carriers if isinstance(carrier, Mapping)]
    return any(isinstance(mark, Mapping) and mark.get("ttl") == "1h" for mark in marks)


def choices(model: BaseChatModel, kwargs: Mapping[str, Any]) -> int:
    """How many replies one request asks for."""
    return max((value for _, value in _settings(model, kwargs, _CHOICES) if isinstance(value, int)), default=1)


def service_tier(model: BaseChatModel, kwargs: Mapping[str, Any]) -> str | None:
    """The dearer or cheaper tier that the call asks for by name; None for the standard one."""
    asked = [value for _, value in _settings(model, kwargs, _SERVICE_TIER) if isinstance(value, str)]
    return next((tier for tier in asked if tier not in _STANDARD_TIERS), None)


def hidden_input(model: BaseChatModel, kwargs: Mapping[str, Any]) -> str | None:
    """Name of a parameter or tool whose input tokens cannot be seen from here; None if all are in the request."""
    hiding = next((name for name, value in _settings(model, kwargs, _HIDES_INPUT) if value), None)
    if hiding is not None:
        return hiding
    for tool in kwargs.get("tools") or ():
        if not isinstance(tool, Mapping):
            continue
        if tool.get("type") not in _OWN_TOOL_TYPES:
            return f"the hosted tool {tool['type']}"
        hosted = next((key for key in _HOSTED_TOOL_KEYS if key in tool), None)
        if hosted is not None:
            return f"the hosted tool {hosted}"
    return None


def visible_extras(model: BaseChatModel, kwargs: Mapping[str, Any]) -> list[Any]:
    """Tools, schemas and whatever else the request carries beside its messages; all of it may be billed as input."""
    extras = list(kwargs.get("tools") or ())
    for source in (kwargs, *(values for _, values in _passed_on(model, kwargs))):
        for name, value in source.items():
            if name not in _NEVER_READ and value and isinstance(value, (str, Mapping, list, tuple, type)):
                extras.append({"name": name, "value": value})
    return extras


def reporting_usage(model: BaseChatModel, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments without what would keep a stream from reporting its usage; the model's own field asks for it."""
    if not facts_of(type(model)).streams_usage_on_demand or kwargs.keys().isdisjoint(_USAGE_SWITCHES):
        return kwargs
    options = {name: value for name, value in kwargs.items() if name != "stream_usage"}
    if "stream_options" in options:
        options["stream_options"] = {**options["stream_options"], "include_usage": True}
    return options


def attempts(model: BaseChatModel) -> int:
    """How many requests one call can make, each of which may be billed."""
    if "max_retries" not in type(model).model_fields:
        return 1
    retries = model.max_retries  # type: ignore[attr-defined]  # just seen among the fields
    return 1 + (retries if isinstance(retries, int) else _CLIENT_RETRIES)


def without_client_retries(model: BaseChatModel) -> tuple[BaseChatModel, int]:
    """A copy whose client sends one request per call, and how often the original would have tried again.

    Only for the OpenAI and Anthropic families. Other classes come back as they are, with 0: they are held for all
    their attempts, since what their ``max_retries`` means differs.
    """
    family = facts_of(type(model)).family
    if family == "other":
        return model, 0
    if family == "anthropic":
        single = model.model_copy(update={"max_retries": 0})
        for client in ("_client_params", "_client", "_async_client"):  # cached properties with the old number
            single.__dict__.pop(client, None)
        return single, attempts(model) - 1
    return _openai_without_client_retries(model)


def _openai_without_client_retries(model: Any) -> tuple[BaseChatModel, int]:
    clients: dict[str, Any] = {}
    for root, resource in (("root_client", "client"), ("root_async_client", "async_client")):
        client = getattr(model, root)
        if client is None and getattr(model, resource) is not None:
            return model, 0  # the user's own client object, whose retries we cannot switch off
        if client is not None:
            single = client.with_options(max_retries=0)
            clients |= {root: single, resource: single.chat.completions}
    copy: BaseChatModel = model.model_copy(update={"max_retries": 0, **clients})
    return copy, attempts(model) - 1

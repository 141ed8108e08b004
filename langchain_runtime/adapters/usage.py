"""What a reply cost in tokens: LangChain's usage metadata, of any provider, in the one form of ``TokenUsage``.

Facts read from langchain-openai 1.7.3 and langchain-anthropic 1.7.7: ``input_tokens`` includes cached tokens; OpenAI's
service tiers rename keys (``flex_reasoning``, ``priority_cache_read``); Anthropic sets ``cache_creation`` to 0 and has
``ephemeral_5m_input_tokens`` and ``ephemeral_1h_input_tokens`` instead; Anthropic's server-side passes (compaction,
advisor) are billed but only listed in ``response_metadata["usage"]["iterations"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.usage import TokenUsage

_ABSURD = 10**9
"""More tokens than any window; a count above it is a defect of whoever reported it."""

_NOTHING = dict(TokenUsage())

_SERVICE_TIERS = ("flex", "priority")
"""Tiers whose name langchain-openai puts before the keys of the token details."""


class _Implausible(ValueError):  # noqa: N818 - never leaves this module
    pass


class ReportedUsage(NamedTuple):
    """What a provider said a call used.

    Attributes:
        usage: The whole call; None when the provider did not say, or said something impossible.
        parts: The same tokens by the model that used them; None stands for the model that was called.
        service_tier: The tier that served the call; None when not reported.
        missing: Why ``usage`` is None.
    """

    usage: TokenUsage | None
    parts: tuple[tuple[str | None, TokenUsage], ...] = ()
    service_tier: str | None = None
    missing: str | None = None


def usage_of_result(result: ChatResult) -> ReportedUsage:
    """Usage of a whole result.

    Providers that answer with several choices repeat the total on each of them and in ``llm_output``; where there is
    no such total the choices' usages are added up.
    """
    messages = [generation.message for generation in result.generations]
    output = result.llm_output or {}
    if len(messages) > 1 and "token_usage" in output:
        messages = messages[:1]
    if len(messages) == 1 and output:
        # Where LangChain will put it, only later than here.
        metadata = {**output, **messages[0].response_metadata}
        messages = [messages[0].model_copy(update={"response_metadata": metadata})]
    return usage_of_messages(messages)


def usage_of_messages(messages: Sequence[BaseMessage]) -> ReportedUsage:
    """Usage of several replies that were billed separately, or of one."""
    if not messages:
        return ReportedUsage(None, missing="there is no reply")
    parts: list[tuple[str | None, TokenUsage]] = []
    tier = None
    for message in messages:
        try:
            parts += _parts_of(message)
            _check_output(message, parts)
        except _Implausible as reason:
            return ReportedUsage(None, missing=str(reason), service_tier=_service_tier(message))
        tier = tier or _service_tier(message)
    total = parts[0][1]
    for _, usage in parts[1:]:
        total += usage
    return ReportedUsage(total, tuple(parts), tier)


def _parts_of(message: BaseMessage) -> list[tuple[str | None, TokenUsage]]:
    raw = message.response_metadata.get("usage")
    iterations = raw.get("iterations") if isinstance(raw, Mapping) else None
    if iterations:
        return [_anthropic_iteration(iteration) for iteration in iterations]
    reported = message.usage_metadata if isinstance(message, AIMessage) else None
    if not reported:
        raise _Implausible("the provider did not report usage")
    return [(None, _normal_form(reported))]


def _check_output(message: BaseMessage, parts: Sequence[tuple[str | None, TokenUsage]]) -> None:
    written = message.content or (isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls))
    if written and not any(usage.output for _, usage in parts):
        raise _Implausible("the provider reported no output tokens for a reply that is not empty")


def _anthropic_iteration(iteration: Any) -> tuple[str | None, TokenUsage]:
    if not isinstance(iteration, Mapping):
        raise _Implausible("the provider's iterations cannot be read")
    by_lifetime = iteration.get("cache_creation") or {}
    one_hour = _count(by_lifetime, "ephemeral_1h_input_tokens")
    written = max(
        _count(iteration, "cache_creation_input_tokens"), one_hour + _count(by_lifetime, "ephemeral_5m_input_tokens")
    )
    read = _count(iteration, "cache_read_input_tokens")
    usage = _checked(
        input=_count(iteration, "input_tokens") + read + written,
        output=_count(iteration, "output_tokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=one_hour,
    )
    model = iteration.get("model")
    return (f"anthropic:{model}" if isinstance(model, str) else None), usage


def _normal_form(reported: Mapping[str, Any]) -> TokenUsage:
    of_input = reported.get("input_token_details")
    of_output = reported.get("output_token_details")
    if not of_input and not of_output:
        return _checked(input=_count(reported, "input_tokens"), output=_count(reported, "output_tokens"))
    of_input, of_output = of_input or {}, of_output or {}
    one_hour = _tiered(of_input, "ephemeral_1h_input_tokens")
    written = max(_tiered(of_input, "cache_creation"), one_hour + _tiered(of_input, "ephemeral_5m_input_tokens"))
    return _checked(
        input=_count(reported, "input_tokens"),
        output=_count(reported, "output_tokens"),
        cache_read=_tiered(of_input, "cache_read"),
        cache_write=written,
        cache_write_1h=one_hour,
        audio_input=_tiered(of_input, "audio"),
        reasoning=_tiered(of_output, "reasoning"),
        audio_output=_tiered(of_output, "audio"),
    )


def _checked(**counts: int) -> TokenUsage:
    usage = trusted(TokenUsage, {**_NOTHING, **counts})
    if usage.input == 0:
        raise _Implausible("the provider reported no input tokens")
    if usage.cache_read + usage.cache_write > usage.input or usage.audio_input > usage.input:
        raise _Implausible("the provider reported more cached or audio tokens than input tokens")
    if usage.reasoning > usage.output or usage.audio_output > usage.output:
        raise _Implausible("the provider reported more reasoning or audio tokens than output tokens")
    return usage


def _tiered(details: Mapping[str, Any], key: str) -> int:
    return _count(details, key) + sum(_count(details, f"{tier}_{key}") for tier in _SERVICE_TIERS)


def _count(counts: Mapping[str, Any], key: str) -> int:
    value = counts.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _ABSURD:
        raise _Implausible(f"the provider reported {key} = {value!r}")
    return value


def _service_tier(message: BaseMessage) -> str | None:
    metadata = message.response_metadata
    raw = metadata.get("usage")
    reported = metadata.get("service_tier") or (raw.get("service_tier") if isinstance(raw, Mapping) else None)
    if isinstance(reported, str):
        return reported
    usage: Mapping[str, Any] = (isinstance(message, AIMessage) and message.usage_metadata) or {}
    details = usage.get("input_token_details") or {}
    return next((tier for tier in _SERVICE_TIERS if tier in details), None)

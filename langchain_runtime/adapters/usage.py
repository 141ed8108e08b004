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
        undated_writes: Whether tokens were written to a cache and nobody said for how long: the end of Anthropic's
            streams does not.
    """

    usage: TokenUsage | None
    parts: tuple[tuple[str | None, TokenUsage], ...] = ()
    service_tier: str | None = None
    missing: str | None = None
    undated_writes: bool = False

    def kept_for_an_hour(self) -> ReportedUsage:
        """The same, with every cache write at the longest lifetime."""
        parts = tuple(
            (model, usage.model_copy(update={"cache_write_1h": usage.cache_write})) for model, usage in self.parts
        )
        return self._replace(usage=_sum([usage for _, usage in parts]), parts=parts, undated_writes=False)


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
    ends = [_usage_of_message(message) for message in messages]
    if len(ends) == 1:
        return ends[0]
    missing = next((end for end in ends if end.usage is None), None)
    if missing is not None:
        return missing
    parts = tuple(part for end in ends for part in end.parts)
    return ReportedUsage(
        _sum([usage for _, usage in parts]),
        parts,
        next((end.service_tier for end in ends if end.service_tier), None),
        undated_writes=True in [end.undated_writes for end in ends],
    )


def usage_of_stream(reports: Sequence[Any], metadata: Mapping[str, Any], *, wrote: bool) -> ReportedUsage:
    """Usage of a stream, put together from its chunks.

    Parts add up, which is how langchain-tests asks integrations to report. Where more than one chunk reports input,
    nobody can tell parts from repetitions: the usage is unknown.

    Args:
        reports: The usage metadata of each chunk that had any, in order.
        metadata: Response metadata of all chunks.
        wrote: Whether anything was written.
    """
    tier = _service_tier(metadata, reports[-1] if reports else None)
    try:
        parts = _iterations(metadata)
        if parts is None:
            parts = [(None, _checked(_added_up(reports)))]
        return _reported(parts, tier, wrote=wrote, undated=any(map(_has_undated_writes, reports)))
    except _Implausible as reason:
        return ReportedUsage(None, missing=str(reason), service_tier=tier)


def usage_of_error(error: BaseException) -> ReportedUsage:
    """Usage that an error brings along.

    OpenAI's client raises in place of a structured reply that was cut or filtered, with the completion in the error
    (``LengthFinishReasonError``, ``ContentFilterFinishReasonError``); that of a stream has no usage.
    """
    completion = getattr(error, "completion", None)
    reported: Any = getattr(completion, "usage", None)
    if not hasattr(reported, "model_dump"):  # by shape, so that no provider package is imported
        return ReportedUsage(None, missing="the reply did not arrive whole")
    tier = getattr(completion, "service_tier", None)
    try:
        usage = _checked(_of_completion(_mapping(reported.model_dump(warnings=False), "usage")))
        return _reported([(None, usage)], tier if isinstance(tier, str) else None, wrote=True, undated=False)
    except _Implausible as reason:
        return ReportedUsage(None, missing=str(reason))


def _of_completion(counts: Mapping[str, Any]) -> TokenUsage:
    of_input = _mapping(counts.get("prompt_tokens_details") or {}, "input details")
    of_output = _mapping(counts.get("completion_tokens_details") or {}, "output details")
    return _usage(
        input=_count(counts, "prompt_tokens"),
        output=_count(counts, "completion_tokens"),
        cache_read=_count(of_input, "cached_tokens"),
        cache_write=_count(of_input, "cache_write_tokens"),
        audio_input=_count(of_input, "audio_tokens"),
        reasoning=_count(of_output, "reasoning_tokens"),
        audio_output=_count(of_output, "audio_tokens"),
    )


def _usage_of_message(message: BaseMessage) -> ReportedUsage:
    metadata = message.response_metadata
    reported = message.usage_metadata if isinstance(message, AIMessage) else None
    tier = _service_tier(metadata, reported)
    try:
        parts = _iterations(metadata)
        if parts is None:
            parts = [(None, _checked(_added_up([reported] if reported else [])))]
        return _reported(parts, tier, wrote=_is_written(message), undated=_has_undated_writes(reported))
    except _Implausible as reason:
        return ReportedUsage(None, missing=str(reason), service_tier=tier)


def _added_up(reports: Sequence[Any]) -> TokenUsage:
    usages = [_normal_form(_mapping(report, "usage")) for report in reports]
    if not usages:
        raise _Implausible("the provider did not report usage")
    if len(usages) > 1 and sum([usage.input > 0 for usage in usages]) > 1:
        raise _Implausible("the provider reported input tokens more than once")
    return _sum(usages)


def _reported(
    parts: list[tuple[str | None, TokenUsage]], tier: str | None, *, wrote: bool, undated: bool
) -> ReportedUsage:
    usage = _sum([usage for _, usage in parts])
    if wrote and usage.output == 0:
        raise _Implausible("the provider reported no output tokens for a reply that is not empty")
    return ReportedUsage(usage, tuple(parts), tier, undated_writes=undated)


def _sum(usages: Sequence[TokenUsage]) -> TokenUsage:
    total = usages[0]
    for usage in usages[1:]:
        total += usage
    return total


def _is_written(message: BaseMessage) -> bool:
    return bool(
        message.content or (isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls))
    )


def _iterations(metadata: Mapping[str, Any]) -> list[tuple[str | None, TokenUsage]] | None:
    """The usage of each pass that Anthropic's servers made; None where there was one only."""
    raw = metadata.get("usage")
    iterations = raw.get("iterations") if isinstance(raw, Mapping) else None
    if not iterations:
        return None
    if not isinstance(iterations, Sequence):
        raise _Implausible("the provider's iterations cannot be read")
    return [_anthropic_iteration(iteration) for iteration in iterations]


def _anthropic_iteration(iteration: Any) -> tuple[str | None, TokenUsage]:
    iteration = _mapping(iteration, "an iteration")
    by_lifetime = _mapping(iteration.get("cache_creation") or {}, "cache_creation")
    one_hour = _count(by_lifetime, "ephemeral_1h_input_tokens")
    written = max(
        _count(iteration, "cache_creation_input_tokens"), one_hour + _count(by_lifetime, "ephemeral_5m_input_tokens")
    )
    read = _count(iteration, "cache_read_input_tokens")
    usage = _usage(
        input=_count(iteration, "input_tokens") + read + written,
        output=_count(iteration, "output_tokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=one_hour,
    )
    model = iteration.get("model")
    return (f"anthropic:{model}" if isinstance(model, str) else None), _checked(usage)


def _normal_form(reported: Mapping[str, Any]) -> TokenUsage:
    of_input = reported.get("input_token_details")
    of_output = reported.get("output_token_details")
    if not of_input and not of_output:
        return _usage(input=_count(reported, "input_tokens"), output=_count(reported, "output_tokens"))
    of_input, of_output = _mapping(of_input or {}, "input details"), _mapping(of_output or {}, "output details")
    one_hour = _tiered(of_input, "ephemeral_1h_input_tokens")
    written = max(_tiered(of_input, "cache_creation"), one_hour + _tiered(of_input, "ephemeral_5m_input_tokens"))
    return _usage(
        input=_count(reported, "input_tokens"),
        output=_count(reported, "output_tokens"),
        cache_read=_tiered(of_input, "cache_read"),
        cache_write=written,
        cache_write_1h=one_hour,
        audio_input=_tiered(of_input, "audio"),
        reasoning=_tiered(of_output, "reasoning"),
        audio_output=_tiered(of_output, "audio"),
    )


def _usage(**counts: int) -> TokenUsage:
    return trusted(TokenUsage, {**_NOTHING, **counts})


def _checked(usage: TokenUsage) -> TokenUsage:
    if usage.input == 0:
        raise _Implausible("the provider reported no input tokens")
    if usage.cache_read + usage.cache_write > usage.input or usage.audio_input > usage.input:
        raise _Implausible("the provider reported more cached or audio tokens than input tokens")
    if usage.reasoning > usage.output or usage.audio_output > usage.output:
        raise _Implausible("the provider reported more reasoning or audio tokens than output tokens")
    return usage


def _has_undated_writes(reported: Mapping[str, Any] | None) -> bool:
    """Whether cache writes are reported without their lifetimes."""
    details = reported.get("input_token_details") if reported else None
    if not details:
        return False
    dated = sum(_tiered(details, f"ephemeral_{lifetime}_input_tokens") for lifetime in ("5m", "1h"))
    return _tiered(details, "cache_creation") > dated


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _Implausible(f"the provider reported {name} in a form that cannot be read: {value!r}")
    return value


def _tiered(details: Mapping[str, Any], key: str) -> int:
    return _count(details, key) + sum(_count(details, f"{tier}_{key}") for tier in _SERVICE_TIERS)


def _count(counts: Mapping[str, Any], key: str) -> int:
    value = counts.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _ABSURD:
        raise _Implausible(f"the provider reported {key} = {value!r}")
    return value


def _service_tier(metadata: Mapping[str, Any], reported: Any) -> str | None:
    raw = metadata.get("usage")
    stated = metadata.get("service_tier") or (raw.get("service_tier") if isinstance(raw, Mapping) else None)
    if isinstance(stated, str):
        return stated
    details = reported.get("input_token_details") if isinstance(reported, Mapping) else None
    if not isinstance(details, Mapping):
        return None
    return next((tier for tier in _SERVICE_TIERS if tier in details), None)

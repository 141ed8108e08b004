"""A span for each call of a chat model in a task, where that is switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_runtime.adapters.announced_calls import AnnouncedCall
from langchain_runtime.adapters.ended_calls import usage_of_failure, usage_of_reply
from langchain_runtime.adapters.usage import ReportedUsage
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.telemetry import attributes as name
from langchain_runtime.telemetry import content, figures
from langchain_runtime.telemetry.endings import CANCELLED, code_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


class ChatSpans(BaseCallbackHandler):
    """Makes spans of the calls in one attempt, below whatever span is current where a call is made.

    A call is what LangChain calls one: what the budget or the client tries again is in one span.

    Args:
        tracer: Makes them.
        captures: Whether prompts and replies may leave the process.
    """

    run_inline = True  # in async code, too: the current span is the caller's

    _under_way: ClassVar[set[UUID]] = set()
    """Calls that have a span. Those of a run in a body are heard by the handlers of both runs' tasks."""

    def __init__(self, tracer: Tracer, *, captures: bool) -> None:
        self._tracer = tracer
        self._captures = captures
        self._spans: dict[UUID, Span] = {}

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **event: Any,
    ) -> None:
        """Begin a span."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - there is a tracer

        if run_id in self._under_way:
            return
        call = AnnouncedCall.of(serialized, metadata, event)
        known = {name.OPERATION_NAME: name.CHAT, **figures.of_model(call.model_id)}
        if call.output_cap is not None:
            known[name.REQUEST_MAX_TOKENS] = call.output_cap
        span = self._tracer.start_span(
            f"{name.CHAT} {known[name.REQUEST_MODEL]}", kind=SpanKind.CLIENT, attributes=known
        )
        if self._captures and span.is_recording():
            span.set_attribute(name.INPUT_MESSAGES, content.chat_history(messages[0]))
        self._under_way.add(run_id)
        self._spans[run_id] = span

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_event: Any) -> None:
        """End the span of a call that succeeded."""
        span = self._taken(run_id)
        if span is None:
            return
        _set_usage(span, usage_of_reply(response))
        replies = [
            generation.message for generation in response.generations[0] if isinstance(generation, ChatGeneration)
        ]
        metadata = replies[0].response_metadata if replies else {}
        reasons = [content.finish_reason(reply.response_metadata) for reply in replies]
        told = {
            name.RESPONSE_MODEL: metadata.get("model_name"),
            name.RESPONSE_ID: metadata.get("id"),
            name.RESPONSE_FINISH_REASONS: [reason for reason in reasons if reason] or None,
        }
        span.set_attributes({key: value for key, value in told.items() if value is not None})
        if self._captures and span.is_recording():
            span.set_attribute(name.OUTPUT_MESSAGES, content.replies(replies))
        span.end()

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_event: Any
    ) -> None:
        """End the span of a call that raised."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - there is a tracer

        span = self._taken(run_id)
        if span is None:
            return
        reported = usage_of_failure(error, response)
        if reported is not None:
            _set_usage(span, reported)
        span.set_attribute(name.ERROR_TYPE, code_of(error))
        span.set_status(StatusCode.ERROR, content.clipped(str(error), 1_000) if self._captures else None)
        span.end()

    def close(self) -> None:
        """The attempt is over: LangChain tells nobody of calls that were cancelled."""
        for run_id in list(self._spans):
            if (span := self._taken(run_id)) is not None:
                span.set_attribute(name.ERROR_TYPE, CANCELLED)
                span.end()

    def _taken(self, run_id: UUID) -> Span | None:
        """The span of a call, to the first who ends it."""
        span = self._spans.pop(run_id, None)
        if span is not None:
            self._under_way.discard(run_id)
        return span


def _set_usage(span: Span, reported: ReportedUsage) -> None:
    if reported.usage is not None:
        span.set_attributes(figures.of_usage(Usage(tokens=reported.usage)))

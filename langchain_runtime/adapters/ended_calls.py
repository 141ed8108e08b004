"""A model call as LangChain tells callbacks of its end: what it used, and what that costs at list price."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult

from langchain_runtime.adapters import failures
from langchain_runtime.adapters.usage import ReportedUsage, usage_of_error, usage_of_result
from langchain_runtime.contracts.errors import LangChainRuntimeError


def usage_of_reply(response: LLMResult) -> ReportedUsage:
    """What a call that succeeded used."""
    return _usage_of(_chat_generations(response), response.llm_output)


def usage_of_failure(error: BaseException, response: LLMResult | None) -> ReportedUsage | None:
    """What a call that raised used; None where nothing was billed.

    Nothing is billed for a complete HTTP error answer, unless it comes from a gateway that gave up waiting (408, 504,
    524), nor for what a budget or breaker of ours held back. A stream that its consumer left has used what was reported
    until then. All other failures may be billed in full, if they do not tell themselves what the call used.
    """
    arrived = [] if response is None else [g for g in _chat_generations(response) if not _describes_error(g.message)]
    if isinstance(error, GeneratorExit):
        return _usage_of(arrived, None)
    if not arrived and (isinstance(error, LangChainRuntimeError) or failures.http_error_status(error) is not None):
        return None
    return usage_of_error(error)


def _usage_of(generations: list[ChatGeneration], llm_output: dict[str, Any] | None) -> ReportedUsage:
    try:
        return usage_of_result(ChatResult(generations=generations, llm_output=llm_output))
    except (AttributeError, TypeError, ValueError) as error:  # metadata in a form that no provider should use
        return ReportedUsage(None, missing=f"the reported usage cannot be read: {error!r}")


def _chat_generations(response: LLMResult) -> list[ChatGeneration]:
    return [
        generation for prompt in response.generations for generation in prompt if isinstance(generation, ChatGeneration)
    ]


def _describes_error(message: BaseMessage) -> bool:
    """Whether LangChain made the message of an HTTP error (``_generate_response_from_error``)."""
    return "status_code" in message.response_metadata or "headers" in message.response_metadata

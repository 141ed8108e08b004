"""What telemetry does beyond its defaults; looked up when a run begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OpenTelemetry's own switch: ``true``, or in its newer form where content may go."""

CHAT_SPANS_VARIABLE: Final = "LCR_CHAT_SPANS"

_ON: Final = frozenset({"1", "true", "yes", "on"})
_CONTENT_ON_SPANS: Final = _ON | {"span_only", "span_and_event"}


@dataclass
class _Chosen:
    chat_spans: bool | None = None


_chosen = _Chosen()


def chat_spans(on: bool | None = True) -> None:
    """Whether runs that begin from now on make a span of each call of a chat model in their tasks.

    Off by default: an instrumentation of the model's client, or of LangChain, makes these spans already.

    >>> from langchain_runtime import telemetry
    >>> telemetry.chat_spans(True)
    >>> telemetry.chat_spans(None)

    Args:
        on: None leaves it to the environment again: ``LCR_CHAT_SPANS=true``.
    """
    _chosen.chat_spans = on


def wants_chat_spans() -> bool:
    """As ``chat_spans`` was called last; else by the environment."""
    return _is_set(CHAT_SPANS_VARIABLE, _ON) if _chosen.chat_spans is None else _chosen.chat_spans


def captures_content() -> bool:
    """Whether prompts, outputs and the texts of errors may leave the process."""
    return _is_set(CONTENT_VARIABLE, _CONTENT_ON_SPANS)


def _is_set(variable: str, values: frozenset[str]) -> bool:
    return os.environ.get(variable, "").strip().lower() in values

"""Messages as text: what a search looks through, what ``recall`` shows, and what offsets count in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_runtime.context.clipping import plain_text

RECALL_TOOL = "recall"


class Segment(NamedTuple):
    """One message's part of a text.

    Attributes:
        start: Offset of its first character.
        text: Who speaks, and what is said.
        message: The message.
    """

    start: int
    text: str
    message: BaseMessage


def segments_of(messages: Sequence[BaseMessage]) -> list[Segment]:
    """The messages one after the other, each beginning a line."""
    segments: list[Segment] = []
    start = 0
    for message in messages:
        segments.append(Segment(start, _text(message), message))
        start += len(segments[-1].text) + 1
    return segments


def text_of(messages: Sequence[BaseMessage]) -> str:
    """All of it; what is not text is named, not shown."""
    return "\n".join(segment.text for segment in segments_of(messages))


def _text(message: BaseMessage) -> str:
    said = [f"{_speaker(message)}: {plain_text(message)}"]
    if isinstance(message, AIMessage):
        said += [f"calls {call['name']}({_arguments(call['args'])})" for call in message.tool_calls]
        said += [f"calls {call['name']}({call['args']})" for call in message.invalid_tool_calls]
    return "\n".join(said)


def _speaker(message: BaseMessage) -> str:
    return " ".join(filter(None, [message.type, message.name])) if isinstance(message, ToolMessage) else message.type


def _arguments(args: object) -> str:
    return json.dumps(args, ensure_ascii=False, default=str)

"""Prompts and outputs as span attributes: JSON in the form of the conventions, cut to a length."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

_MOST: Final = 64_000
"""Characters of all texts of an attribute together: exporters refuse batches of a few MB."""

_MOST_OF_A_TEXT: Final = 8_000
_LEAST_OF_A_TEXT: Final = 200

_ROLES: Final = {"human": "user", "ai": "assistant"}
"""Roles by LangChain's types of messages, where they differ."""

_ERROR_CLASS: Final = re.compile(r"[A-Z]\w*(Error|Exception|Exit|Interrupt|Iteration|Timeout)(?=:|$)")


def chat_history(messages: Sequence[BaseMessage]) -> str:
    """What a model reads, as ``gen_ai.input.messages``."""
    limit = max(_LEAST_OF_A_TEXT, min(_MOST_OF_A_TEXT, _MOST // max(len(messages), 1)))
    return _dumped([_message(message, limit) for message in messages])


def replies(messages: Sequence[BaseMessage]) -> str:
    """What a model wrote, one message for each choice, as ``gen_ai.output.messages``."""
    return _dumped(
        [
            {**_message(message, _MOST_OF_A_TEXT), "finish_reason": finish_reason(message.response_metadata) or "stop"}
            for message in messages
        ]
    )


def reply(output: Any, metadata: Mapping[str, Any]) -> str:
    """The output of a prompt as the one reply of ``gen_ai.output.messages``."""
    text = output if isinstance(output, str) else _dumped(output)
    return replies([AIMessage(text, response_metadata=dict(metadata))])


def as_json(value: Any) -> str:
    """Arguments or the result of a body; JSON that is too long is cut, and is none any more."""
    return clipped(_dumped(value), _MOST_OF_A_TEXT)


def finish_reason(metadata: Mapping[str, Any]) -> str | None:
    """Why a reply ended, in the provider's word; None where it does not say."""
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    return reason if isinstance(reason, str) else None


def error_class(message: str | None) -> str | None:
    """The class that an error's text begins with, which quotes nothing; None where it begins otherwise."""
    found = _ERROR_CLASS.match(message or "")
    return None if found is None else found[0]


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning and how much more there is."""
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} more characters]"


def _message(message: BaseMessage, limit: int) -> dict[str, Any]:
    if isinstance(message, ToolMessage):
        response = clipped(str(message.text), limit)
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": response}]
    else:
        parts = [_part(block, limit) for block in message.content_blocks]
    return {"role": _ROLES.get(message.type, message.type), "parts": parts}


def _part(block: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """A part of a message; of images, files and what we do not know only that it was there."""
    match block["type"]:
        case "text":
            return {"type": "text", "content": clipped(block["text"], limit)}
        case "tool_call":
            arguments = _dumped(block["args"])
            return {
                "type": "tool_call",
                "id": block.get("id"),
                "name": block["name"],
                "arguments": block["args"] if len(arguments) <= limit else clipped(arguments, limit),
            }
        case kind:
            return {"type": kind}


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

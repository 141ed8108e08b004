"""What a model reads of a message or a schema, as texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall
from pydantic import BaseModel

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost.image_blocks import Image, without_images

_SCHEMA_WORDS: Final = frozenset(
    {"additionalProperties", "properties", "required", "strict", "title", "function", "parameters", "name", "type"}
)
"""Keys of a schema that its declaration does not repeat."""

_READ: Final = re.compile(r'"(content|properties|schema|text)":')
"""What tells a reply format or a prompt from a setting, as JSON."""

TEXT_KEYS: Final = {
    "input_text": "text",
    "output_text": "text",
    "reasoning": "reasoning",
    "reasoning_text": "text",
    "refusal": "refusal",
    "summary_text": "text",
    "text": "text",
    "thinking": "thinking",
}
"""Content blocks that are text, and the key that holds it."""

CALL_BLOCKS: Final = frozenset({"custom_tool_call", "function_call", "tool_call", "tool_use"})
"""Content blocks that repeat what stands in ``tool_calls``, in the provider's own format."""

_THOUGHTS: Final = frozenset({"reasoning", "reasoning_text", "redacted_thinking", "thinking"})
"""Content blocks that a model wrote for itself: providers drop them once the next turn begins."""

_INLINE_THOUGHT: Final = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
"""How open models write theirs; chat templates drop it likewise (DeepSeek R1, Qwen 3 and GLM 4.7 on Hugging Face)."""

_SEALED_FROM: Final = 750
_SEALED_PER_TOKEN: Final = 5
"""Characters of an encrypted thought that are not its text, and those that a token takes. Four recorded pairs of
OpenAI's (128 to 1,792 tokens) lie within 60 tokens of this."""


class Reading(NamedTuple):
    """What a model reads of a message.

    Attributes:
        texts: Read in every turn.
        thoughts: Read in the turn that they belong to.
        sealed: Tokens of thoughts that only the provider can read, likewise.
        images: In the order they stand in.
    """

    texts: list[str]
    thoughts: list[str]
    sealed: int
    images: tuple[Image, ...]


def reading_of(message: BaseMessage) -> Reading:
    """What a model reads of ``message``, everything once."""
    images: tuple[Image, ...] = ()
    blocks: Sequence[Any] = [message.content]
    if not isinstance(message.content, str):
        blocks, images = without_images(message.content)
    texts: list[str] = []
    thoughts: list[str] = []
    sealed = 0
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    called = {call["id"] for call in calls}
    for block in blocks:
        if isinstance(block, str):
            thought = _INLINE_THOUGHT.match(block) if isinstance(message, AIMessage) else None
            if thought is not None:
                thoughts.append(thought[0])
            texts.append(block[thought.end() :] if thought is not None else block)
        elif block.get("type") in _THOUGHTS:
            thoughts += _thought(block)
            sealed += _sealed_tokens(block)
        elif (call_id := call_id_of(block)) is None or call_id not in called:
            text = block.get(TEXT_KEYS.get(str(block.get("type")), ""))
            texts.append(text if isinstance(text, str) else json_text(block))
    if message.name:
        texts.append(message.name)
    texts += map(call_text, calls)
    return Reading(texts, thoughts, sealed, images)


def _thought(block: Mapping[str, Any]) -> list[str]:
    inner = block.get("content")
    parts = [block, *inner] if isinstance(inner, list) else [block]
    texts = [part.get(TEXT_KEYS.get(str(part.get("type")), "")) for part in parts if isinstance(part, Mapping)]
    return [text for text in texts if isinstance(text, str)]


def _sealed_tokens(block: Mapping[str, Any]) -> int:
    extras = block.get("extras")
    inner = extras.get("encrypted_content") if isinstance(extras, Mapping) else None
    sealed = block.get("encrypted_content") or inner or block.get("data")
    return max(0, len(sealed) - _SEALED_FROM) // _SEALED_PER_TOKEN if isinstance(sealed, str) else 0


def schema_text(schema: Any, *, declared: bool) -> str:
    """A tool's schema or other JSON of a request as the model reads it; empty for settings that it does not read.

    Args:
        schema: JSON, an object that stands for some, or ``{"name": ..., "value": ...}`` for a parameter of the request.
        declared: Whether the model reads schemas as declarations.
    """
    if isinstance(schema, Mapping) and schema.keys() == {"name", "value"} and not isinstance(schema["value"], str):
        text = json_text(schema)
        if not _READ.search(text):
            return ""
    return _declaration(schema) if declared else json_text(schema)


def _declaration(tool: Any) -> str:
    """A schema about as OpenAI renders it: names, types and descriptions, without JSON's punctuation."""
    words: list[str] = []

    def visit(value: Any, key: str = "") -> None:
        if isinstance(value, (type, BaseModel)):
            value = plain_json(value)
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if name not in _SCHEMA_WORDS:
                    words.append(f"{name}:")
                if name != "required":
                    visit(inner, name)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)
        elif not (key == "type" and value in ("object", "function")):
            words.append(str(value))

    visit(tool)
    return " ".join(words)


def call_id_of(block: Mapping[str, Any]) -> Any:
    """The id of the tool call that ``block`` repeats; None for other blocks."""
    return (block.get("call_id") or block.get("id")) if block.get("type") in CALL_BLOCKS else None


def call_text(call: ToolCall | InvalidToolCall, *, ascii_only: bool = False) -> str:
    """A tool call as it is sent: name, arguments with the separators' spaces, as integrations write them, and id."""
    given = call["args"]
    args = given if isinstance(given, str) else json.dumps(given, ensure_ascii=ascii_only, default=plain_json)
    return f"{call['name']}{args}{call['id'] or ''}"


def byte_count(text: str) -> int:
    """Size of ``text`` as UTF-8, halves of surrogate pairs included."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def json_text(value: Any, plain: Callable[[Any], Any] | None = None) -> str:
    """``value`` as JSON without spaces; a text as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=plain or plain_json)


def known_json(value: Any) -> Any:
    """As ``plain_json``, for what is no longer than it looks.

    Raises:
        EstimationError: ``value`` is a function, a tool or a class that the provider is sent the schema of.
    """
    schema = isinstance(value, type) and issubclass(value, BaseModel)
    if not schema and (callable(value) or hasattr(value, "args_schema")):
        raise EstimationError(
            f"the schema of {value!r} is not known here", hint="give its JSON Schema, as bind_tools does"
        )
    return plain_json(value)


def plain_json(value: Any) -> Any:
    """What JSON does not know, as JSON: a pydantic class as its schema, a pydantic value as its fields."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)

"""The most tokens that a message or a schema can be, by its bytes. No tokeniser is loaded.

A byte-level tokeniser never makes more tokens than a text has UTF-8 bytes once it is normalised (Claude's published one
applies NFKC, which can make a text eleven times as long).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from unicodedata import is_normalized, normalize

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, ToolMessage

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost.image_blocks import Image, without_images
from langchain_runtime.cost.image_tokens import ImageRule
from langchain_runtime.cost.provider_overheads import BOUND_PER_MESSAGE
from langchain_runtime.cost.token_memory import PLAIN, SENT_EXTRAS, TokenMemory, message_key, schema_key
from langchain_runtime.cost.token_texts import CALL_BLOCKS, TEXT_KEYS, byte_count, call_text, json_text, known_json

_DATA_BLOCKS: Final = CALL_BLOCKS | {
    "custom_tool_call_output",
    "function_call_output",
    "invalid_tool_call",
    "json",
    "redacted_thinking",
    "search_result",
    "tool_reference",
    "tool_result",
}
"""Content blocks whose JSON is what the model reads; for encrypted ones it is longer than what it hides."""

_NESTING: Final = ("content", "output", "summary")
"""Keys under which a block holds further blocks; a tool's arguments hold plain data."""


class _Bound(NamedTuple):
    tokens: int
    images: tuple[Image, ...]


_bounds: Final[TokenMemory[_Bound]] = TokenMemory()
_schema_bounds: Final[TokenMemory[int]] = TokenMemory(room=1_000_000)


def messages_bound(messages: Sequence[BaseMessage], images: ImageRule | None) -> int:
    """The most tokens that ``messages`` can be.

    Args:
        messages: Of one request.
        images: How the model counts images; None where that is not known.

    Raises:
        EstimationError: A part of a message has no known bound.
    """
    total = BOUND_PER_MESSAGE * len(messages)
    for message in messages:
        content = message.content
        if isinstance(content, str) and content.isascii() and message.type in PLAIN and not message.additional_kwargs:
            total += len(content)  # the commonest message, without a detour
            if message.name:
                total += _most_bytes(message.name)
        else:
            total += _message_bound(message, images)
    return total


def schema_bound(schema: Any) -> int:
    """The most tokens that a tool's schema or other JSON of the request can be.

    Raises:
        EstimationError: It is an object whose schema is not known here.
    """
    key = schema_key(schema)
    known = None if key is None else _schema_bounds.get(key)
    if known is not None:
        return known
    text = json_text(schema, known_json)
    bound = BOUND_PER_MESSAGE + _most_bytes(text)
    return bound if key is None else _schema_bounds.put(key, bound, len(text))


def _message_bound(message: BaseMessage, rule: ImageRule | None) -> int:
    key = message_key(message)
    bound = None if key is None else _bounds.get(key)
    if bound is None:
        bound = _measured(message, key)
    return bound.tokens + sum(_most_of(image, rule) for image in bound.images)


def _measured(message: BaseMessage, key: Hashable | None) -> _Bound:
    blocks: Sequence[Any] = [message.content]
    images: tuple[Image, ...] = ()
    if not isinstance(message.content, str):
        blocks, images = without_images(message.content)
    elif message.additional_kwargs.get("type") == "computer_call_output":
        raise _unbounded("computer_call_output")  # LangChain sends the text as an image's address
    texts = [text for block in blocks for text in ([block] if isinstance(block, str) else _block_texts(block))]
    texts += _other_texts(message)
    tokens = sum(map(_most_bytes, texts)) + _kept_reasoning(message, blocks)
    bound = _Bound(tokens, tuple(image._replace(source="") for image in images))
    return bound if key is None else _bounds.put(key, bound, sum(map(len, texts)))


def _other_texts(message: BaseMessage) -> Iterator[str]:
    """What stands beside the content and may be sent, in its longest form."""
    yield message.name or ""
    extras = message.additional_kwargs
    if extras.get("audio") is not None:
        raise _unbounded("audio")
    if isinstance(message, AIMessage):
        # Some integrations send the calls, some the content blocks that repeat them, some either: both are counted.
        # Arguments may be sent as ASCII, six bytes for a character of three, or be read as what they say.
        for call in message.tool_calls:
            yield max(call_text(call, ascii_only=True), call_text(call), key=_most_bytes)
        yield from map(call_text, message.invalid_tool_calls)
    elif isinstance(message, ToolMessage):
        yield message.tool_call_id
    elif isinstance(message, ChatMessage):
        yield message.role
    repeated = "tool_calls" if isinstance(message, AIMessage) and message.tool_calls else None
    yield from (json_text(extras[name]) for name in SENT_EXTRAS if extras.get(name) is not None and name != repeated)


def _block_texts(block: Mapping[str, Any]) -> Iterator[str]:
    _check_known(block)
    key = TEXT_KEYS.get(str(block.get("type")))
    text = block.get(key or "")
    if isinstance(text, str):
        # Text is read as it is; whatever stands beside it (signatures, encrypted reasoning) as it is sent.
        yield text
        yield json_text({name: value for name, value in block.items() if name != key})
    else:
        yield json_text(block)


def _check_known(block: Mapping[str, Any]) -> None:
    """Refuse a block that has no bound, or holds one: its own JSON holds the text of all others."""
    kind = str(block.get("type"))
    if kind not in TEXT_KEYS and kind not in _DATA_BLOCKS:
        raise _unbounded(kind)
    for name in _NESTING:
        inner = block.get(name)
        if isinstance(inner, list):
            for part in inner:
                if isinstance(part, Mapping):
                    _check_known(part)


def _most_of(image: Image, rule: ImageRule | None) -> int:
    if not image.is_image:
        raise _unbounded(image.kind)
    if rule is None:
        raise _unbounded(
            image.kind, "use one of OpenAI's, Anthropic's or Gemini 3's models, whose image prices are known, "
        )
    if rule.needs_media_type and image.media_type is None:
        raise _unbounded(image.kind, "state its mime_type, which tells it from a video, ")
    return rule.most(image.detail)


def _unbounded(kind: str, remedy: str = "") -> EstimationError:
    return EstimationError(
        f"a content block of type {kind!r} has no known upper bound in tokens",
        hint=f"{remedy}leave it out, send its text instead, or use a budget without a limit",
    )


def _kept_reasoning(message: BaseMessage, blocks: Sequence[Any]) -> int:
    """Tokens of reasoning that the provider keeps and the message only names (OpenAI's ``rs_...`` ids).

    Raises:
        EstimationError: The message does not say how long its reply was.
    """
    named = any(_is_kept(block) for block in blocks if not isinstance(block, str))
    if not named:
        return 0
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    if usage is None:
        raise EstimationError(
            "a message names reasoning that only the provider has, and does not say how many tokens it took",
            hint='ask for it with include=["reasoning.encrypted_content"], or keep usage_metadata on the message',
        )
    return usage["output_tokens"]


def _is_kept(block: Mapping[str, Any]) -> bool:
    if block.get("type") != "reasoning" or not str(block.get("id") or "").startswith("rs_"):
        return False
    extras = block.get("extras")
    return not (block.get("encrypted_content") or (isinstance(extras, Mapping) and extras.get("encrypted_content")))


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)  # NFKC leaves it as it is
    size = byte_count(text)
    return size if is_normalized("NFKC", text) else max(size, byte_count(normalize("NFKC", text)))

"""How many tokens messages and schemas have by a tokeniser, or bytes where there is none."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_runtime.cost.image_blocks import Image
from langchain_runtime.cost.token_memory import TokenMemory, message_key, schema_key
from langchain_runtime.cost.token_texts import byte_count, reading_of, schema_text

if TYPE_CHECKING:
    import tiktoken

_CHUNK: Final = 40_000
"""Characters encoded at once: tiktoken is quadratic in runs without white space."""

_IMAGE_WEIGHT: Final = 200

_serials: Final = count(1)


class Size(NamedTuple):
    """How much a model reads of one message or schema: tokens, or bytes where there is no tokeniser.

    Attributes:
        serial: Stands for the content: equal while it is remembered, and never that of another content.
        text: Read in every turn.
        thoughts: Read in the turn that they belong to.
        images: With their sizes in pixels, None where unknown.
    """

    serial: int
    text: int
    thoughts: int = 0
    images: tuple[tuple[Image, tuple[int, int] | None], ...] = ()


_memory: Final[TokenMemory[Size]] = TokenMemory()


def message_size(message: BaseMessage, encoding: tiktoken.Encoding | None) -> Size:
    """The size of a message; counted once for the same content."""
    content = message_key(message)
    key = None if content is None else (encoding and encoding.name, content)
    return (None if key is None else _memory.get(key)) or _measured(message, encoding, key)


def _measured(message: BaseMessage, encoding: tiktoken.Encoding | None, key: Hashable | None) -> Size:
    reading = reading_of(message)
    size = Size(
        next(_serials),
        sum(text_size(text, encoding) for text in reading.texts),
        sum(text_size(text, encoding) for text in reading.thoughts) + reading.sealed,
        tuple((image._replace(source=""), image.size) for image in reading.images),
    )
    if key is None:
        return size
    weight = sum(map(len, reading.texts + reading.thoughts)) + _IMAGE_WEIGHT * len(reading.images)
    return _memory.put(key, size, weight)


def schema_size(schema: Any, encoding: tiktoken.Encoding | None, *, declared: bool) -> Size:
    """The size of a tool's schema or other JSON of the request; counted once for the same content.

    Args:
        schema: JSON, or what ``json_text`` makes JSON of.
        encoding: None for bytes.
        declared: Whether the model reads it as a declaration rather than as JSON.
    """
    content = schema_key(schema)
    key = None if content is None else (encoding and encoding.name, declared, content)
    known = None if key is None else _memory.get(key)
    if known is not None:
        return known
    text = schema_text(schema, declared=declared)
    size = Size(next(_serials), text_size(text, encoding))
    return size if key is None else _memory.put(key, size, len(text))


def text_size(text: str, encoding: tiktoken.Encoding | None) -> int:
    """Tokens of ``text``, names of special tokens being text like any other; bytes without an encoding."""
    if encoding is None:
        return byte_count(text)
    if len(text) <= _CHUNK:
        return len(encoding.encode_ordinary(text))
    return sum(len(encoding.encode_ordinary(text[at : at + _CHUNK])) for at in range(0, len(text), _CHUNK))

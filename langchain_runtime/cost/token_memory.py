"""What was counted before, by content: a conversation that grows is counted for its new part only."""

from __future__ import annotations

import marshal
import threading
from collections.abc import Hashable, Mapping
from typing import Any, Final, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, ToolMessage

from langchain_runtime.cost.image_blocks import without_images

_ROOM: Final = 8_000_000
"""Weight that is kept, about a byte each: some long conversations, without a server's memory filling up with them."""

_ENTRY: Final = 200
"""What an entry weighs beside its content."""

PLAIN: Final = frozenset({"human", "system"})
"""Types of messages that have nothing but content, name and ``additional_kwargs``."""

SENT_EXTRAS: Final = ("audio", "function_call", "reasoning", "reasoning_content", "refusal", "tool_calls", "type")
"""Keys of ``additional_kwargs`` that some LangChain integration reads when it sends a message."""

Value = TypeVar("Value")


class TokenMemory(Generic[Value]):
    """Values by key, in two generations: when the young one is full, the old one is forgotten and it becomes the old.

    Safe to share between threads; what was used lately is found without a lock.

    Args:
        room: Weight that may be kept.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._half = room // 2
        self._lock = threading.Lock()
        self._young: dict[Hashable, tuple[Value, int]] = {}
        self._old: dict[Hashable, tuple[Value, int]] = {}
        self._weight = 0

    def get(self, key: Hashable) -> Value | None:
        """The value, or None if it is not known any more."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        found = self._old.get(key)
        if found is None:
            return None
        return self._keep(key, *found)

    def put(self, key: Hashable, value: Value, weight: int) -> Value:
        """Remember ``value``, or return the one that somebody else has put there meanwhile.

        Args:
            key: Of the content.
            value: Never None.
            weight: Size of the content.
        """
        return self._keep(key, value, weight + _ENTRY)

    def _keep(self, key: Hashable, value: Value, weight: int) -> Value:
        with self._lock:
            known = self._young.get(key)
            if known is not None:
                return known[0]
            if weight > self._half:
                return value
            if self._weight + weight > self._half:
                self._old, self._young, self._weight = self._young, {}, 0
            self._young[key] = (value, weight)
            self._weight += weight
        return value


def content_key(value: Any) -> bytes | None:
    """A key that equal JSON values share, and different ones never; None for what is more than JSON."""
    try:
        # The last version without back references, which depend on who else holds an object.
        return marshal.dumps(value, 2)
    except ValueError:
        return None


def schema_key(schema: Any) -> Hashable | None:
    """As ``content_key``, also for a class and for a parameter of the request that is one: a class is its own key."""
    key = content_key(schema)
    if key is not None:
        return key
    if isinstance(schema, type):
        return schema
    if isinstance(schema, Mapping) and schema.keys() == {"name", "value"} and isinstance(schema["value"], type):
        return (schema["name"], schema["value"])
    return None


def message_key(message: BaseMessage) -> Hashable | None:
    """A key of everything in ``message`` that may be sent; None if it holds more than JSON.

    Images count by their hash and length.
    """
    content, kind, extras = message.content, message.type, message.additional_kwargs
    if kind in PLAIN and not extras and isinstance(content, str):
        return (kind, content, message.name)
    images: tuple[Any, ...] = ()
    blocks: Any = None
    if not isinstance(content, str):
        blocks, found = without_images(content)
        images = tuple((*image._replace(source=""), hash(image.source), len(image.source)) for image in found)
        content = ""
    sent = [extras.get(name) for name in SENT_EXTRAS] if extras else None
    rest = content_key([blocks, sent, *_own_fields(message)])
    return None if rest is None else (kind, content, message.name, rest, images)


def _own_fields(message: BaseMessage) -> list[Any]:
    if isinstance(message, AIMessage):
        usage = message.usage_metadata
        return [message.tool_calls, message.invalid_tool_calls, usage and usage["output_tokens"]]
    if isinstance(message, ToolMessage):
        return [message.tool_call_id, message.status]
    return [message.role] if isinstance(message, ChatMessage) else []

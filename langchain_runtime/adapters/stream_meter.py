"""Measures a stream as it passes: its text, its usage, and the reply it adds up to.

LangChain models stream in two forms, message chunks and protocol events; a meter reads one of them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar, cast

from langchain_core.language_models.chat_model_stream import ChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_runtime.adapters.usage import ReportedUsage, usage_of_stream

Item = TypeVar("Item")

CAPPED: Final = "lcr_capped"
"""Key in ``response_metadata`` of a reply that ends where it does because of the budget's cap: True."""

_CUT_REASONS: Final = frozenset({"length", "max_tokens", "max_output_tokens", "MAX_TOKENS"})
_TEXT_KEYS: Final = ("text", "thinking", "reasoning", "refusal", "partial_json", "arguments", "input", "args")


def was_cut(metadata: Mapping[str, Any]) -> bool:
    """Whether a reply's metadata says that it reached its output cap, in the words of any provider."""
    if not metadata:
        return False
    details = metadata.get("incomplete_details")
    reasons = (
        metadata.get("finish_reason"),
        metadata.get("stop_reason"),
        details.get("reason") if isinstance(details, Mapping) else None,
    )
    return any(reason in _CUT_REASONS for reason in reasons if isinstance(reason, str))


def mark_cut_replies(result: ChatResult) -> None:
    """Put ``CAPPED`` into the metadata of replies that reached the cap."""
    whole = was_cut(result.llm_output or {})  # where ChatAnthropic says why its reply ended
    for generation in result.generations:
        if whole or was_cut(generation.message.response_metadata) or was_cut(generation.generation_info or {}):
            generation.message.response_metadata[CAPPED] = True


class StreamMeter(ABC, Generic[Item]):
    """What has passed so far.

    Attributes:
        bytes: UTF-8 length of everything the model wrote: text, reasoning and arguments of tool calls.
        started: Whether anything has passed.
        is_complete: Whether the last item has passed; False where items do not tell.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.started = False
        self.is_complete = False
        self._pieces: list[str] = []
        self._usages: list[Any] = []
        self._metadata: dict[str, Any] = {}

    def add(self, item: Item, *, capped_by_us: bool) -> None:
        """Count an item before it is handed on; where our cap cut the reply, say so in it."""
        self.started = True
        for piece in self._texts(item):
            self._pieces.append(piece)
            self.bytes += len(piece.encode("utf-8", "surrogatepass"))
        self._read_end(item, capped_by_us=capped_by_us)

    @property
    def text(self) -> str:
        """Everything the model wrote."""
        return "".join(self._pieces)

    def reported(self) -> ReportedUsage:
        """Usage that was reported so far."""
        return usage_of_stream(self._usages, self._metadata, wrote=self.bytes > 0)

    @abstractmethod
    def result(self) -> ChatResult:
        """The reply that the stream adds up to."""

    @abstractmethod
    def ending(self) -> list[Item]:
        """Items that end a stream which is cut here."""

    @abstractmethod
    def replayed(self, reply: ChatResult) -> Iterator[Item]:
        """A finished reply as a stream."""

    @abstractmethod
    def _texts(self, item: Item) -> Iterator[str]: ...

    @abstractmethod
    def _read_end(self, item: Item, *, capped_by_us: bool) -> None: ...


class ChunkMeter(StreamMeter[ChatGenerationChunk]):
    """Reads ``_stream`` and ``_astream``."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[ChatGenerationChunk] = []

    def result(self) -> ChatResult:
        """The chunks, merged; without usage that means nothing, which might not add up."""
        chunks = self._chunks
        if self.reported().usage is None:
            chunks = [_without_usage(chunk) for chunk in chunks]
        first, *rest = chunks
        merged = first + rest if rest else first
        chunk = cast("AIMessageChunk", merged.message)
        message = AIMessage(**chunk.model_dump(exclude={"type", "tool_call_chunks", "chunk_position"}))
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=merged.generation_info)])

    def ending(self) -> list[ChatGenerationChunk]:
        """One empty last chunk."""
        metadata = {"finish_reason": "length", CAPPED: True}
        return [
            ChatGenerationChunk(
                message=AIMessageChunk(content="", chunk_position="last", response_metadata=metadata),
            )
        ]

    def replayed(self, reply: ChatResult) -> Iterator[ChatGenerationChunk]:
        """One chunk for each choice."""
        for generation in reply.generations:
            fields = generation.message.model_dump(exclude={"type", "tool_calls", "invalid_tool_calls"})
            calls = [
                {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": index}
                for index, call in enumerate(cast("AIMessage", generation.message).tool_calls)
            ]
            message = AIMessageChunk(**fields, tool_call_chunks=calls, chunk_position="last")
            yield ChatGenerationChunk(message=message, generation_info=generation.generation_info)

    def _texts(self, item: ChatGenerationChunk) -> Iterator[str]:
        message = item.message
        if isinstance(message.content, str):
            yield message.content
        else:
            for block in message.content:
                yield from _strings(block)
        for call in getattr(message, "tool_call_chunks", ()):
            yield call["args"] or ""

    def _read_end(self, item: ChatGenerationChunk, *, capped_by_us: bool) -> None:
        self._chunks.append(item)
        message = cast("AIMessageChunk", item.message)
        if message.usage_metadata:
            self._usages.append(message.usage_metadata)
        metadata = {**(item.generation_info or {}), **message.response_metadata}
        if metadata:
            self._metadata |= metadata
            if capped_by_us and was_cut(metadata):
                message.response_metadata[CAPPED] = True


class EventMeter(StreamMeter[Any]):
    """Reads ``_stream_chat_model_events`` and its async twin: protocol events, as dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self._stream = ChatModelStream()

    def result(self) -> ChatResult:
        """The message that LangChain's own accumulator makes of the events."""
        message = self._stream.output_message
        assert message is not None
        return ChatResult(generations=[ChatGeneration(message=message)])

    def ending(self) -> list[Any]:
        """A finish of what is open, as a provider would send it."""
        return [
            {"event": "message-finish", "metadata": {"finish_reason": "length", CAPPED: True}},
        ]

    def replayed(self, reply: ChatResult) -> Iterator[Any]:
        """The event lifecycle that LangChain makes of a message from its cache."""
        from langchain_core.language_models._compat_bridge import message_to_events  # noqa: PLC0415

        yield from message_to_events(reply.generations[0].message)

    def _texts(self, item: Any) -> Iterator[str]:
        if item["event"] == "content-block-delta":
            yield from _strings(item.get("delta"))

    def _read_end(self, item: Any, *, capped_by_us: bool) -> None:
        if item["event"] == "message-finish":
            if item.get("usage"):
                self._usages = [item["usage"]]
            metadata = item.get("metadata") or {}
            self._metadata |= metadata
            self.is_complete = True
            if capped_by_us and was_cut(metadata):
                item["metadata"] = {**metadata, CAPPED: True}
        self._stream.dispatch(item)


def _without_usage(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    message = chunk.message.model_copy(update={"usage_metadata": None})
    return ChatGenerationChunk(message=message, generation_info=chunk.generation_info)


def _strings(block: Any) -> Iterator[str]:
    if isinstance(block, str):
        yield block
    elif isinstance(block, Mapping):
        for key, value in block.items():
            if key in _TEXT_KEYS and isinstance(value, str):
                yield value
            elif key == "fields":
                yield from _strings(value)

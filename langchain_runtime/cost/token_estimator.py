"""Tokens before a call: one number to plan with, one that is never too low to hold money with."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from unicodedata import is_normalized, normalize

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall, ToolMessage
from pydantic import BaseModel

from langchain_runtime.contracts.errors import EstimationError, InvalidInputError
from langchain_runtime.cost.encodings import encoding_name, load_encoding
from langchain_runtime.cost.provider_overheads import (
    BOUND_PER_MESSAGE,
    BOUND_PER_REQUEST,
    PER_MESSAGE,
    PER_REQUEST,
    PER_TOOL,
    overhead_of,
)
from langchain_runtime.cost.token_counts import TokenCounts

_AGENTIC: Final = re.compile(r"compound|openrouter/auto|deep-research|search-(preview|api)|sonar", re.IGNORECASE)
"""Models that search, run code or route on the provider's side and bill input that is not in the request (providers'
model pages; recorded traffic: 5,003 billed tokens for a request of 59 bytes)."""

_RENDERS_SCHEMAS: Final = re.compile(r"^(azure|openai)\b|^(gpt-|o\d)")
"""Models that read a schema as type declarations instead of JSON (OpenAI cookbook, "How to count tokens")."""

_SCHEMA_WORDS: Final = frozenset(
    {"additionalProperties", "properties", "required", "strict", "title", "function", "parameters", "name", "type"}
)
"""Keys of a schema that its declaration does not repeat."""

_TEXT_KEYS: Final = {
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

_CALL_BLOCKS: Final = frozenset({"custom_tool_call", "function_call", "tool_call", "tool_use"})
"""Content blocks that repeat what stands in ``tool_calls``, in the provider's own format."""

_DATA_BLOCKS: Final = _CALL_BLOCKS | {
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

_SENT_EXTRAS: Final = ("function_call", "reasoning", "reasoning_content", "refusal")
"""Keys of ``additional_kwargs`` that some LangChain integration sends back to its provider."""


_counts: Final = TokenCounts()


class TokenEstimator:
    """Counts input tokens of a request: messages, and whatever else it carries as JSON (tools, schemas).

    Texts are encoded once and remembered, so a conversation that grows costs its new part only.

    Args:
        bytes_per_token: Size of a token where no tokeniser can be had: the whole request's UTF-8 bytes are divided by
            it, rounded down, at least one token.

    Raises:
        InvalidInputError: ``bytes_per_token`` is not positive.
    """

    def __init__(self, *, bytes_per_token: int = 4) -> None:
        if bytes_per_token <= 0:
            raise InvalidInputError(f"bytes_per_token must be positive, got {bytes_per_token}", hint="4 suits English")
        self._bytes_per_token = bytes_per_token

    def expected(self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()) -> int:
        """Best estimate of the input tokens, chat format and tool schemas included.

        Args:
            messages: Oldest first.
            model: Whose tokens, as ``provider:name`` or a bare name; None for a current OpenAI model's.
            tools: Tool schemas, reply formats and other JSON of the request.
        """
        parts = [part for message in messages for part in _expected_parts(message)]
        parts += [_declaration(tool) if _RENDERS_SCHEMAS.search(model or "gpt-") else _json(tool) for tool in tools]
        encoding = load_encoding(encoding_name(model))
        if encoding is None:
            size = sum(map(_bytes, parts))
            return max(1, size // self._bytes_per_token) if size else 0
        own = overhead_of(model)
        overhead = PER_REQUEST + own.always + PER_MESSAGE * len(messages)
        if tools:
            overhead += own.with_tools + PER_TOOL * len(tools)
        return overhead + sum(_counts.count(encoding, part) for part in parts)

    def upper_bound(
        self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> int:
        """Never below what the provider bills as input tokens.

        A byte-level tokeniser never makes more tokens than a text has UTF-8 bytes once it is normalised (Claude's
        published one applies NFKC, which can make a text eleven times as long); what providers add is bounded by
        constants. No tokeniser is loaded.

        Raises:
            EstimationError: A message holds an image, audio, a file, a block of unknown type or reasoning that only
                the provider has; a tool is an object whose schema is not known here; or the model reads more than it
                is sent.
        """
        if model is not None and _AGENTIC.search(model):
            raise EstimationError(
                f"{model!r} works on the provider's side and bills input that is not in the request",
                hint="use a model that only reads what it is sent, or a budget without a limit",
            )
        total = BOUND_PER_REQUEST
        for message in messages:
            total += BOUND_PER_MESSAGE + sum(_most_bytes(part) for part in _bounded_parts(message))
            total += _kept_reasoning(message)
        if tools:
            total += overhead_of(model).bound_with_tools
            total += sum(BOUND_PER_MESSAGE + _most_bytes(_json(tool, _known)) for tool in tools)
        return total


def _declaration(tool: Any) -> str:
    """A schema about as OpenAI renders it: names, types and descriptions, without JSON's punctuation."""
    words: list[str] = []

    def visit(value: Any, key: str = "") -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if name not in _SCHEMA_WORDS:
                    words.append(f"{name}:")
                if name != "required":
                    visit(inner, name)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)
        elif not (key == "type" and value in {"object", "function"}):
            words.append(str(value))

    visit(json.loads(_json(tool)) if not isinstance(tool, (str, Mapping)) else tool)
    return " ".join(words)


def _blocks(message: BaseMessage) -> list[str | dict[str, Any]]:
    return [message.content] if isinstance(message.content, str) else message.content


def _expected_parts(message: BaseMessage) -> Iterator[str]:
    """Every text of a message that the model reads, once."""
    blocks = _blocks(message)
    for block in blocks:
        key = None if isinstance(block, str) else _TEXT_KEYS.get(str(block.get("type")))
        text = block if isinstance(block, str) else block.get(key or "")
        yield text if isinstance(text, str) else _json(block)
    if message.name:
        yield message.name
    if isinstance(message, AIMessage):
        written = {_call_id(block) for block in blocks if not isinstance(block, str)}
        yield from (_call(call) for call in message.tool_calls if call["id"] is None or call["id"] not in written)


def _bounded_parts(message: BaseMessage) -> Iterator[str]:
    """Every text of a message that may be sent, in its longest form.

    Raises:
        EstimationError: A block has no known bound.
    """
    for block in _blocks(message):
        yield from [block] if isinstance(block, str) else _bounded_block(block)
    yield message.name or ""
    yield getattr(message, "role", "")  # ChatMessage
    extras = message.additional_kwargs
    if "audio" in extras:
        raise _unbounded("audio")
    yield from (_json(extras[key]) for key in _SENT_EXTRAS if key in extras)
    if isinstance(message, AIMessage):
        # Some integrations send the calls, some the content blocks that repeat them, some either: both are counted.
        # Arguments may be sent as ASCII, six bytes for a character of three, or be read as what they say.
        for call in message.tool_calls:
            yield max(_call(call, ascii_only=True), _call(call), key=_most_bytes)
        yield from (_call(call) for call in message.invalid_tool_calls)
        if not message.tool_calls and "tool_calls" in extras:
            yield _json(extras["tool_calls"])
    if isinstance(message, ToolMessage):
        yield message.tool_call_id


def _bounded_block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = str(block.get("type"))
    key = _TEXT_KEYS.get(kind)
    if key is None and kind not in _DATA_BLOCKS:
        raise _unbounded(kind)
    nested = [inner for name in _NESTING if isinstance(block.get(name), list) for inner in block[name]]
    for inner in nested:
        if isinstance(inner, Mapping):
            deque(_bounded_block(inner), maxlen=0)  # only to refuse what has no bound: the JSON below holds its text
    text = block.get(key or "")
    if isinstance(text, str):
        # Text is read as it is; whatever stands beside it (signatures, encrypted reasoning) as it is sent.
        yield text
        yield _json({name: value for name, value in block.items() if name != key})
    else:
        yield _json(block)


def _unbounded(kind: str) -> EstimationError:
    return EstimationError(
        f"a content block of type {kind!r} has no known upper bound in tokens",
        hint="leave it out, send its text instead, or use a budget without a limit",
    )


def _kept_reasoning(message: BaseMessage) -> int:
    """Tokens of reasoning that the provider keeps and the message only names (OpenAI's ``rs_...`` ids).

    Raises:
        EstimationError: The message does not say how long its reply was.
    """
    named = any(_is_kept(block) for block in _blocks(message) if not isinstance(block, str))
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


def _call_id(block: Mapping[str, Any]) -> Any:
    return (block.get("call_id") or block.get("id")) if block.get("type") in _CALL_BLOCKS else None


def _call(call: ToolCall | InvalidToolCall, *, ascii_only: bool = False) -> str:
    given = call["args"]
    # With the separators' spaces, as integrations write arguments.
    args = given if isinstance(given, str) else json.dumps(given, ensure_ascii=ascii_only, default=_plain)
    return f"{call['name']}{args}{call['id'] or ''}"


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _most_bytes(text: str) -> int:
    size = _bytes(text)
    return size if is_normalized("NFKC", text) else max(size, _bytes(normalize("NFKC", text)))


def _json(value: Any, plain: Callable[[Any], Any] | None = None) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=plain or _plain)


def _known(value: Any) -> Any:
    """As ``_plain``, for what is no longer than it looks.

    Raises:
        EstimationError: ``value`` is a function, a tool or a class that the provider is sent the schema of.
    """
    schema = isinstance(value, type) and issubclass(value, BaseModel)
    if not schema and (callable(value) or hasattr(value, "args_schema")):
        raise EstimationError(
            f"the schema of {value!r} is not known here", hint="give its JSON Schema, as bind_tools does"
        )
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)

"""Tokens before a call: one number to plan with, one that is never too low to hold money with."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic import BaseModel

from langchain_runtime.contracts.errors import EstimationError, InvalidInputError
from langchain_runtime.cost.encodings import encoding_name, load_encoding

_PER_MESSAGE: Final = 4
"""Tokens of role and separators around a message, and of the reply's start (OpenAI cookbook, "How to count tokens")."""

_PER_TOOL: Final = 8
"""Tokens around a tool's schema beyond its JSON (same source)."""

_BOUND_PER_MESSAGE: Final = 16
"""What a provider may add to one message: role, separators, ids."""

_BOUND_PER_CALL: Final = 100
"""What a provider may add to a request: the largest excess of billed tokens over bytes without tools is below it
(recorded provider traffic, 289 calls, 2026)."""

_BOUND_TOOLS: Final = {"anthropic": 1_000}
"""What a provider adds where tools or a reply format are given: Anthropic writes a system prompt of its own (its
tool-use page lists 264 to 804 tokens by model and tool choice; recorded traffic stays below 1,000)."""

_BOUND_TOOLS_ELSEWHERE: Final = 300

_AGENTIC: Final = re.compile(r"compound|openrouter/auto|deep-research|search-preview|sonar", re.IGNORECASE)
"""Models that search, run code or route on the provider's side and bill input that is not in the request (providers'
model pages; recorded traffic: 5,003 billed tokens for a request of 59 bytes)."""

_CHUNK: Final = 40_000
"""Characters encoded at once: tiktoken is quadratic in runs without white space."""

_TEXT_KEYS: Final = {"text": "text", "reasoning": "reasoning", "thinking": "thinking", "refusal": "refusal"}
"""Content blocks that are text, and the key that holds it."""

_DATA_BLOCKS: Final = frozenset(
    {"tool_use", "tool_call", "tool_result", "function_call", "function_call_output", "json"}
)
"""Content blocks whose JSON is what the model reads."""


class TokenEstimator:
    """Counts input tokens of a request: messages, and whatever else it carries as JSON (tools, schemas).

    Texts are encoded once and remembered, so a conversation that grows costs its new part only.

    Args:
        bytes_per_token: Size of a token where no tokeniser can be had: UTF-8 bytes, rounded down, at least one token.

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
        count = self._counter(model)
        total = sum(_PER_MESSAGE + sum(map(count, _parts(message, strict=False))) for message in messages)
        return total + sum(_PER_TOOL + count(_json(tool)) for tool in tools)

    def upper_bound(
        self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> int:
        """Never below what the provider bills as input tokens.

        A byte-level tokeniser never makes more tokens than a text has UTF-8 bytes; what providers add is bounded by
        constants. No tokeniser is loaded.

        Raises:
            EstimationError: A message holds an image, audio, a file or a block of unknown type, or the model reads
                more than it is sent.
        """
        if model is not None and _AGENTIC.search(model):
            raise EstimationError(
                f"{model!r} works on the provider's side and bills input that is not in the request",
                hint="use a model that only reads what it is sent, or a budget without a limit",
            )
        total = _BOUND_PER_CALL
        for message in messages:
            total += _BOUND_PER_MESSAGE + sum(_bytes(part) for part in _parts(message, strict=True))
        if tools:
            provider = (model or "").partition(":")[0]
            total += _BOUND_TOOLS.get(provider, _BOUND_TOOLS_ELSEWHERE)
            total += sum(_BOUND_PER_MESSAGE + _bytes(_json(tool)) for tool in tools)
        return total

    def _counter(self, model: str | None) -> Callable[[str], int]:
        name = encoding_name(model)
        if load_encoding(name) is None:
            return self._by_size
        return functools.partial(_encoded_length, name)

    def _by_size(self, text: str) -> int:
        size = _bytes(text)
        return max(1, size // self._bytes_per_token) if size else 0


def _parts(message: BaseMessage, *, strict: bool) -> Iterator[str]:
    """Every text of a message that the model reads."""
    if isinstance(message.content, str):
        yield message.content
    else:
        for block in message.content:
            yield block if isinstance(block, str) else _block_text(block, strict=strict)
    if message.name:
        yield message.name
    if isinstance(message, AIMessage):
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            yield f"{call['name']}{_json(call['args'])}{call['id'] or ''}"
    if isinstance(message, ToolMessage):
        yield message.tool_call_id


def _block_text(block: Mapping[str, Any], *, strict: bool) -> str:
    kind = str(block.get("type"))
    key = _TEXT_KEYS.get(kind)
    if key is not None and isinstance(block.get(key), str):
        return str(block[key])
    if kind in _DATA_BLOCKS or key is not None or not strict:
        return _json(block)
    raise EstimationError(
        f"a content block of type {kind!r} has no known upper bound in tokens",
        hint="leave it out, send its text instead, or use a budget without a limit",
    )


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, BaseModel):
        return value.model_json_schema()
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else repr(value)


@functools.lru_cache(maxsize=16_384)
def _encoded_length(name: str, text: str) -> int:
    encoding = load_encoding(name)
    assert encoding is not None
    chunks = (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))
    return sum(len(encoding.encode_ordinary(chunk)) for chunk in chunks)

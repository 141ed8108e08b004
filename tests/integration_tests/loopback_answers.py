"""What the provider on loopback says, how it counts tokens, and what it bills: nothing here is the package's own."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from loopback_requests import Asked, compact


@dataclass(frozen=True)
class Rates:
    """List price of a model in nano-USD a token.

    Attributes:
        input: What is read.
        output: What is written, reasoning included.
        cache_read: What is read from a cache.
        cache_write: What is written to a cache for five minutes.
        cache_write_1h: What is written to a cache for an hour.
        reasons: Whether the model reasons unseen before it answers.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int = 0
    cache_write_1h: int = 0
    reasons: bool = False

    @property
    def dearest_input(self) -> int:
        """The most that a token of input can cost."""
        return max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)


PRICES = {
    "gpt-4o-mini": Rates(150, 600, 75),
    "gpt-4.1-nano": Rates(100, 400, 25),
    "gpt-5-mini": Rates(250, 2_000, 25, reasons=True),
    "claude-haiku-4-5": Rates(1_000, 5_000, 100, 1_250, 2_000),
    "claude-sonnet-4-5": Rates(3_000, 15_000, 300, 3_750, 6_000),
}
"""Pricing pages of OpenAI and Anthropic, 2026, for calls below the price tier of long contexts."""

_NO_CAP = 4_096
"""Most output tokens where a request sets no cap."""

_REASONING = 24
"""Tokens that a reasoning model thinks unseen."""

_CACHE_FROM = 1_024
"""Shortest prefix, in tokens, that a provider caches (OpenAI and Anthropic, "Prompt caching")."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one request; the cached ones and the reasoning are parts of input and output."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def nano(self, rates: Rates) -> int:
        """The bill in nano-USD."""
        plain = self.input - self.cache_read - self.cache_write - self.cache_write_1h
        return (
            plain * rates.input
            + self.cache_read * rates.cache_read
            + self.cache_write * rates.cache_write
            + self.cache_write_1h * rates.cache_write_1h
            + self.output * rates.output
        )


@dataclass(frozen=True)
class Call:
    """A call of a tool; cut off, its arguments are no JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Choice:
    """One reply.

    Attributes:
        thinking: Visible thinking.
        text: Prose, or JSON where the request has a schema.
        calls: Calls of tools.
        tokens: All that was written, unseen reasoning included.
        reasoning: Thinking, visible or not.
        cut: Whether it ends at the cap.
    """

    thinking: str
    text: str
    calls: tuple[Call, ...]
    tokens: int
    reasoning: int
    cut: bool


@dataclass(frozen=True)
class Reply:
    """What is sent, and what it is billed as.

    Attributes:
        id: Of the response; its parts are named after it.
        choices: At least one.
        usage: Of the whole request.
        piece: Characters in one event of a stream.
    """

    id: str
    choices: tuple[Choice, ...]
    usage: Usage
    piece: int


@dataclass
class Writer:
    """Answers and counts; remembers what a provider remembers between requests.

    Attributes:
        bytes_per_token: UTF-8 bytes of a token; no tokeniser is denser than one byte.
        padding: Bytes of prose that every answer ends in.
        disobedient: How many times as long as its cap a reply becomes; 0 for one that obeys it.
        piece: Characters in one event of a stream.
    """

    bytes_per_token: int = 4
    padding: int = 0
    disobedient: int = 0
    piece: int = 24
    _kept: dict[str, int] = field(default_factory=dict)
    _cached: set[str] = field(default_factory=set)
    _replies: int = 0

    def answer(self, asked: Asked) -> Reply:
        """A reply that depends on every byte of the prompt, and its bill."""
        self._replies += 1
        reply_id = f"{self._replies:06}"
        choices = tuple(self._choice(asked, number) for number in range(asked.choices))
        reasoning = sum(choice.reasoning for choice in choices)
        self._kept[f"rs_{reply_id}"] = reasoning
        read = asked.overhead + sum(map(self._tokens, asked.read)) + sum(self._kept.get(name, 0) for name in asked.kept)
        usage = Usage(
            input=read,
            output=sum(choice.tokens for choice in choices),
            reasoning=reasoning,
            **self._caching(asked),
        )
        return Reply(reply_id, choices, usage, self.piece)

    def _tokens(self, text: str) -> int:
        return -(-len(text.encode()) // self.bytes_per_token)

    def _choice(self, asked: Asked, number: int) -> Choice:
        digest = hashlib.sha256(f"{asked.prompt}{number or ''}".encode()).hexdigest()
        cap = asked.cap or _NO_CAP
        left = cap * self.disobedient if self.disobedient else cap
        thinking = "Let me think about it. " * 3 if asked.thinking else ""
        hidden = min(_REASONING, left) if PRICES[asked.model].reasons else 0
        reasoning = hidden + self._tokens(thinking)
        left -= reasoning
        if asked.tools and not asked.answered:
            calls, text = self._calls(asked, digest, left), ""
            written = sum(self._tokens(call.name + call.arguments) for call in calls)
            cut = any(not _is_json(call.arguments) for call in calls) or not calls
        else:
            calls, text = (), self._text(asked, digest, left)
            written = self._tokens(text)
            cut = text != self._whole_text(asked, digest)
        return Choice(thinking, text, calls, reasoning + written, reasoning, cut or self.disobedient > 0)

    def _text(self, asked: Asked, digest: str, left: int) -> str:
        whole = self._whole_text(asked, digest)
        if self.disobedient:
            whole += " and so on" * (left * self.bytes_per_token // 10)
        return whole.encode()[: left * self.bytes_per_token].decode(errors="ignore")

    def _whole_text(self, asked: Asked, digest: str) -> str:
        if asked.schema is not None:
            return compact(example(asked.schema, digest))
        answer = f"Reply {digest[:16]} to {asked.prompt.count(chr(10)) + 1} message(s)."
        return answer + " More of it." * -(-self.padding // 12)

    def _calls(self, asked: Asked, digest: str, left: int) -> tuple[Call, ...]:
        named = [tool for tool in asked.tools if tool.name == asked.forced] or list(asked.tools)
        calls: list[Call] = []
        for number in range(asked.at_once):
            tool = named[number % len(named)]
            arguments = compact(example(tool.schema, digest[number:]))
            room = (left - self._tokens(tool.name)) * self.bytes_per_token
            if room <= 0:
                break
            call = Call(tool.name, arguments.encode()[:room].decode(errors="ignore"))
            left -= self._tokens(call.name + call.arguments)
            calls.append(call)
        return tuple(calls)

    def _caching(self, asked: Asked) -> dict[str, int]:
        """Tokens of the prefix that comes from a cache or goes there; the first request writes, later ones read."""
        prefix = "\x00".join((asked.model, *asked.read[: asked.cached]))
        tokens = sum(map(self._tokens, asked.read[: asked.cached]))
        if tokens < _CACHE_FROM or (asked.api == "messages" and asked.lifetime is None):
            return {}
        if prefix in self._cached:
            return {"cache_read": tokens}
        self._cached.add(prefix)
        if asked.lifetime is None:
            return {}
        return {"cache_write_1h" if asked.lifetime == "1h" else "cache_write": tokens}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def example(schema: dict[str, Any], word: str) -> Any:
    """A small value that conforms to a JSON schema; its strings come from ``word``."""
    return _example(schema, schema.get("$defs", {}), word)


def _example(schema: dict[str, Any], named: dict[str, Any], word: str) -> Any:
    if "$ref" in schema:
        return _example(named[schema["$ref"].rpartition("/")[2]], named, word)
    given = [schema[key] for key in ("const", "default") if key in schema] + schema.get("enum", [])
    if given:
        return given[0]
    variants = [schema[key][0] for key in ("anyOf", "oneOf", "allOf") if key in schema]
    if variants:
        return _example(variants[0], named, word)
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties[name], named, word) for name in schema.get("required", properties)}
    if kind == "array":
        return [_example(schema.get("items", {"type": "string"}), named, word)] * max(1, schema.get("minItems", 1))
    low = schema.get("minimum", 1)
    return {"string": word[:8], "integer": int(low), "number": low, "boolean": True, "null": None}[kind]

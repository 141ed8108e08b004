"""A request as an estimator sees it: the sizes of its parts, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import BaseMessage

from langchain_runtime.cost.encodings import load_encoding
from langchain_runtime.cost.image_tokens import UNKNOWN
from langchain_runtime.cost.provider_overheads import PER_MESSAGE, PER_REQUEST, PER_TOOL
from langchain_runtime.cost.token_anchors import Observed
from langchain_runtime.cost.token_facts import ModelFacts, facts_of
from langchain_runtime.cost.token_sizes import Size, message_size, schema_size

_HUMAN: Final = frozenset({"human", "HumanMessageChunk"})

_SPREAD: Final = 2
_SLACK: Final = 32
"""A reply is taken for the one that was reported if its estimate is within a factor of ``_SPREAD`` of it, and some
tokens: tokenisers differ by less, and calls of tools are written in the provider's own way."""


@dataclass(slots=True)
class MeasuredRequest:
    """Messages and tools by their sizes.

    Attributes:
        facts: How the model reads.
        messages: Sizes, oldest first.
        tools: Sizes of schemas and other JSON.
        turn: Position of the first message after the newest human one: thoughts before it are not read any more.
        bytes_per_token: Where sizes are bytes, how many make a token; None where they are tokens.
    """

    facts: ModelFacts
    messages: list[Size]
    tools: list[Size]
    turn: int
    bytes_per_token: int | None

    @classmethod
    def of(
        cls, messages: Sequence[BaseMessage], model: str | None, tools: Sequence[Any], *, bytes_per_token: int
    ) -> MeasuredRequest:
        """Measure a request.

        Args:
            messages: Oldest first.
            model: Whose tokens; None for a current OpenAI model's.
            tools: Tool schemas, reply formats and other JSON.
            bytes_per_token: Size of a token where no tokeniser can be had.
        """
        facts = facts_of(model)
        encoding = load_encoding(facts.encoding)
        turn = len(messages)
        while turn > 0 and messages[turn - 1].type not in _HUMAN:
            turn -= 1
        return cls(
            facts=facts,
            messages=[message_size(message, encoding) for message in messages],
            tools=[schema_size(tool, encoding, declared=facts.declares_tools) for tool in tools],
            turn=turn,
            bytes_per_token=bytes_per_token if encoding is None else None,
        )

    @property
    def serials(self) -> list[int]:
        """The serial of each message."""
        return [size.serial for size in self.messages]

    @property
    def with_tools(self) -> bool:
        """Whether the model reads any schema."""
        return bool(self.tools) and any(size.text for size in self.tools)

    def tokens(self) -> int:
        """What the whole request comes to."""
        text = sum([size.text for size in self.tools])
        if self.bytes_per_token is not None:
            return self._of_messages(0, text, least=1)
        overhead = PER_REQUEST + self.facts.overhead.always
        if self.with_tools:
            read = sum([1 for size in self.tools if size.text])
            overhead += self.facts.overhead.with_tools + PER_TOOL * read
        return overhead + self._of_messages(0, text)

    def tokens_from(self, start: int) -> int:
        """What the messages from ``start`` on add to a request."""
        return self._of_messages(start, 0)

    def _of_messages(self, start: int, text: int, *, least: int = 0) -> int:
        rule = self.facts.images or UNKNOWN
        images = 0
        for position, size in enumerate(self.messages[start:], start):
            text += size.text
            if size.thoughts and position >= self.turn:
                text += size.thoughts
            for image, pixels in size.images:
                images += rule.expected(image.detail, pixels)
        if self.bytes_per_token is not None:
            return images + (max(least, text // self.bytes_per_token) if text else 0)
        return images + text + PER_MESSAGE * (len(self.messages) - start)

    def reply(self, position: int, observed: Observed) -> int | None:
        """What the message at ``position`` adds if it is the reply to the observed call, as that call reported it.

        None if it is not about as long as that reply, because it was shortened or is another's.
        """
        size = self.messages[position]
        guess = size.text // (self.bytes_per_token or 1)
        written = observed.output - observed.reasoning
        if written <= 0 or not (guess - _SLACK) / _SPREAD <= written <= guess * _SPREAD + _SLACK:
            return None
        thoughts = observed.reasoning if size.thoughts and position >= self.turn else 0
        return PER_MESSAGE + written + thoughts

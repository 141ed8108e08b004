"""Tokens and what they cost, in one normal form for all providers."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from langchain_runtime.contracts.money import Cost

TokenCount = Annotated[int, Field(ge=0)]
"""A number of tokens, as the provider counts them."""


class TokenUsage(BaseModel):
    """Tokens of one call or of many, added up.

    The sub-counts are parts of ``input`` and ``output``, never additional to them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: TokenCount = Field(default=0, description="tokens the model read, cached ones included")
    output: TokenCount = Field(default=0, description="tokens the model wrote, reasoning included")
    cache_read: TokenCount = Field(default=0, description="part of input that came from the provider's prompt cache")
    cache_write: TokenCount = Field(default=0, description="part of input written to the prompt cache, any lifetime")
    cache_write_1h: TokenCount = Field(default=0, description="part of cache_write with the one-hour lifetime")
    audio_input: TokenCount = Field(default=0, description="part of input that was audio")
    reasoning: TokenCount = Field(default=0, description="part of output spent on reasoning")
    audio_output: TokenCount = Field(default=0, description="part of output that is audio")

    @property
    def total(self) -> int:
        """Input plus output tokens."""
        return self.input + self.output

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage.model_construct(**{name: value + getattr(other, name) for name, value in self})


class Usage(BaseModel):
    """Tokens and their cost.

    ``cost`` is None when no price is known, which is not the same as free.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: TokenUsage = TokenUsage()
    cost: Cost | None = None

    def __add__(self, other: Usage) -> Usage:
        """Add up; a cost that is unknown on one side leaves the known one, since an unpriced call is not a price."""
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(tokens=self.tokens + other.tokens, cost=sum(costs[1:], costs[0]) if costs else None)


NO_USAGE: Final = Usage()
"""Shared by all who used nothing: one for each of ten thousand tasks would keep the garbage collector busy."""

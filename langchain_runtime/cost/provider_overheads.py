"""What providers put around a request: tokens that are billed and stand in no message."""

from __future__ import annotations

from typing import Final, NamedTuple

PER_REQUEST: Final = 3
PER_MESSAGE: Final = 4
PER_TOOL: Final = 8
"""Expected tokens of the reply's start, of role and separators, and around a schema (OpenAI cookbook, "How to count
tokens with tiktoken")."""

BOUND_PER_REQUEST: Final = 100
BOUND_PER_MESSAGE: Final = 16
"""Most of the same. Recorded traffic of 15 providers (290 calls, 2026) exceeds its bytes by at most 85 tokens where
the request has neither tools nor a reply format."""


class Overhead(NamedTuple):
    """Tokens of a model's own prompts.

    Attributes:
        always: Expected in every request.
        with_tools: Expected on top where tools or a reply format are given.
        bound_with_tools: Most that can come on top then.
    """

    always: int = 0
    with_tools: int = 0
    bound_with_tools: int = 600


# By a part of the model's name, since others host these models, too. Expected figures are medians of the recorded
# traffic. Bounds: Anthropic's tool-use page lists system prompts of 264 to 804 tokens by model and tool choice, traffic
# stays below 1,000; elsewhere it is at most 469 tokens above the bytes (Llama 4 on Groq).
_BY_NAME: Final = {
    "claude": Overhead(with_tools=500, bound_with_tools=1_000),
    "anthropic": Overhead(with_tools=500, bound_with_tools=1_000),
    "llama-4": Overhead(always=30, with_tools=600),
    "llama-3.": Overhead(always=28),
    "gpt-oss": Overhead(always=60),
    "deepseek-v4": Overhead(always=76, with_tools=220),
    "deepseek": Overhead(with_tools=250),
    "mistral": Overhead(with_tools=18),
    "glm": Overhead(with_tools=95),
    "qwen": Overhead(with_tools=200),
}
_DEFAULT: Final = Overhead()


def overhead_of(model: str | None) -> Overhead:
    """The prompts of ``model`` (``provider:name`` or a bare name); the common case for None."""
    name = (model or "").lower()
    return next((overhead for part, overhead in _BY_NAME.items() if part in name), _DEFAULT)

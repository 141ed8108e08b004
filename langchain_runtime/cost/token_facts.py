"""What is known of how a model reads its input, by its name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from langchain_runtime.cost.encodings import encoding_name
from langchain_runtime.cost.image_tokens import ImageRule, image_rule
from langchain_runtime.cost.provider_overheads import Overhead, overhead_of

_AGENTIC: Final = re.compile(r"compound|openrouter/auto|deep-research|search-(preview|api)|sonar", re.IGNORECASE)
"""Models that search, run code or route on the provider's side and bill input that is not in the request (providers'
model pages; recorded traffic: 5,003 billed tokens for a request of 59 bytes)."""

_RENDERS_SCHEMAS: Final = re.compile(r"^(azure|openai)\b|(^|[:/.])(gpt-(?!oss)|o\d)")
"""Models that read a schema as type declarations instead of JSON (OpenAI cookbook, "How to count tokens")."""


class ModelFacts(NamedTuple):
    """How a model reads its input.

    Attributes:
        agentic: Whether it reads more than it is sent.
        declares_tools: Whether it reads schemas as declarations.
        encoding: Name of the encoding that counts for it.
        overhead: What its provider puts around a request.
        images: How it counts images; None where that is not known.
    """

    agentic: bool
    declares_tools: bool
    encoding: str
    overhead: Overhead
    images: ImageRule | None


@lru_cache(maxsize=512)
def facts_of(model: str | None) -> ModelFacts:
    """The facts of ``model`` (``provider:name`` or a bare name); those of a current OpenAI model's text for None."""
    return ModelFacts(
        agentic=model is not None and _AGENTIC.search(model) is not None,
        declares_tools=_RENDERS_SCHEMAS.search(model or "gpt-") is not None,
        encoding=encoding_name(model),
        overhead=overhead_of(model),
        images=image_rule(model),
    )

"""Models, their windows and their list prices: genai-prices, and above it what the user says."""

from __future__ import annotations

import difflib
import functools
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from langchain_runtime.contracts.errors import UnknownModelError
from langchain_runtime.contracts.pricing import ModelInfo, RateCard
from langchain_runtime.cost.price_overlay import Overlay, load_overlay

ROLES: Final = {
    "flagship": "anthropic:claude-opus-4-5",
    "balanced": "anthropic:claude-sonnet-4-5",
    "fast": "anthropic:claude-haiku-4-5",
}
"""What each role means until somebody says otherwise."""

PROVIDERS: Final = {
    "amazon_bedrock": "aws",
    "anthropic-mantle": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle_anthropic": "aws",
    "bedrock_mantle_openai": "aws",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "openai-mantle": "aws",
    "xai": "x-ai",
}
"""genai-prices' name of a provider by LangChain's, where they differ (``init_chat_model`` and ``ls_provider``)."""

_LIMITS: Final = {"context_window", "max_output_tokens", "reasoning"}
"""What an overlay entry without rates may correct: the price and where it comes from stay the catalogue's."""

_DAY: Final = 86_400
"""Seconds."""

LOCAL: Final = "extractive"
_FREE = RateCard(input=0, output=0, cache_read=0, cache_write=0)

# These reason before they answer unless told otherwise, as models do that say so in their name (providers' model pages,
# November 2026). Claude does on demand only.
_REASONS = re.compile(
    r"^(?!.*non-reason)((.*[/.])?"
    r"(o\d|gpt-[5-9](?!.*chat)|gpt-oss|gemini-(2\.5|[3-9])|grok-[34]|deepseek-r|magistral|qwq)|.*(thinking|reason))"
)


class ModelCatalog:
    """Knows models and their prices; lookups are cached and thread-safe.

    Args:
        overlay: The user's own prices and models, which win: a YAML file or a mapping; None for none.
    """

    def __init__(self, overlay: str | Path | Mapping[str, Any] | None = None) -> None:
        self._overlay: Overlay = load_overlay(overlay)
        self._roles = dict(ROLES)
        self._lock = threading.Lock()
        self._known: dict[str, ModelInfo] = {}
        self._hints: dict[str, str] = {}
        self._day = -1

    def get(self, model: str) -> ModelInfo:
        """The model behind ``provider:name``, a bare name or a role.

        Raises:
            UnknownModelError: There is none; the hint names the nearest.
        """
        name = self._roles.get(model, model)
        day = int(time.time() // _DAY)  # of the epoch, in UTC
        known = self._known.get(name) if day == self._day else None
        if known is None:
            known = self._look_up(name, datetime.fromtimestamp(day * _DAY, tz=UTC).date())
            with self._lock:
                if day != self._day:  # list prices change from one day to the next
                    self._known, self._day = {}, day  # in this order: nobody may read old prices under the new day
                self._known[name] = known
        return known

    def by_role(self, role: str) -> ModelInfo:
        """The model of a role: ``flagship``, ``balanced``, ``fast``, or one that was set.

        Raises:
            UnknownModelError: There is no such role.
        """
        if role not in self._roles:
            raise UnknownModelError(f"no role {role!r}", model=role, hint=f"roles: {', '.join(sorted(self._roles))}")
        return self.get(self._roles[role])

    def set_role(self, role: str, model: str) -> None:
        """Let ``role`` mean ``model``.

        Raises:
            UnknownModelError: There is no such model; the role keeps its meaning.
        """
        self.get(model)
        with self._lock:
            self._roles[role] = model

    def names(self) -> list[str]:
        """Every model by its ``provider:name``, sorted."""
        from langchain_runtime.cost.price_table import all_names  # noqa: PLC0415 - genai-prices takes 150 ms to import

        return sorted({LOCAL, *self._overlay.models, *all_names()})

    def _look_up(self, model: str, today: date) -> ModelInfo:
        provider, separator, name = model.partition(":")
        listed_as = f"{PROVIDERS.get(provider, provider)}:{name}" if separator else model
        overlaid = self._overlay.find(model, listed_as, name, today=today)
        if overlaid is not None and overlaid.rates is not None:
            return overlaid
        if provider == LOCAL:
            return ModelInfo(id=LOCAL, rates=_FREE, source="runs on this machine")
        listed = self._listed(listed_as)
        if overlaid is not None:
            given = overlaid.model_dump(exclude_unset=True, include=_LIMITS)
            return overlaid if listed is None else listed.model_copy(update=given)
        if listed is None:
            raise UnknownModelError(f"no model {model!r} in the catalogue", model=model, hint=self._hint(model))
        return listed

    def _listed(self, model: str) -> ModelInfo | None:
        from langchain_runtime.cost.price_table import find_price  # noqa: PLC0415 - as above

        provider, separator, name = model.partition(":")
        found = find_price(name, provider) if separator else find_price(model, None)
        if found is None:
            return None
        return found.model_copy(update={"reasoning": _REASONS.search(name or model) is not None})

    def _hint(self, model: str) -> str:
        """Where to look instead; kept, since many calls of an unknown model may be made without a limit."""
        if model not in self._hints:
            nearest = difflib.get_close_matches(model, self.names(), n=3)
            self._hints[model] = f"nearest: {', '.join(nearest)}" if nearest else "add it to a catalogue overlay"
        return self._hints[model]


@functools.cache
def default_catalog() -> ModelCatalog:
    """The process's catalogue of built-in list prices."""
    return ModelCatalog()

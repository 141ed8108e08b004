"""Cheaper models to fall back on, in the order in which to try them."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import ModelLadder


class FixedLadder:
    """A ladder that somebody wrote down, dearest model first.

    Args:
        models: ``provider:name`` of at least two models, each once.

    Raises:
        InvalidInputError: There are fewer than two, or one occurs twice.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self._models = tuple(models)
        if len(set(self._models)) != len(self._models) or len(self._models) < 2:  # noqa: PLR2004 - a step has two ends
            raise InvalidInputError(
                f"a ladder needs two or more different models, got {list(self._models)}",
                hint='name them from the dearest to the cheapest: ["openai:gpt-5.4", "openai:gpt-5.4-mini"]',
            )

    def below(self, model: str) -> str | None:
        """The next cheaper model; None at the bottom, and for a model that is not on the ladder."""
        if model not in self._models:
            return None
        after = self._models.index(model) + 1
        return self._models[after] if after < len(self._models) else None

    def __repr__(self) -> str:
        return f"FixedLadder({list(self._models)})"


def as_ladder(ladder: ModelLadder | Sequence[str]) -> ModelLadder:
    """A ladder as it is, or one made of names."""
    if isinstance(ladder, str):
        raise InvalidInputError(f"a ladder is a list of models, got {ladder!r}", hint="put the names into a list")
    return FixedLadder(ladder) if isinstance(ladder, Sequence) else ladder

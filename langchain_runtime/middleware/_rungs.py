"""The models that an agent steps down to."""

from __future__ import annotations

from collections.abc import Sequence

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from langchain_runtime.adapters import providers
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import ModelLadder

Ladder = ModelLadder | Sequence[str | BaseChatModel]
"""Models in the order in which to try them, as ``provider:name`` or ready made; or a ladder of names."""


class Rungs:
    """Finds the next model, and opens those that are given by name.

    The models of a list are opened at once, so that a missing key or package is not found out when money is short;
    those of a ``ModelLadder`` when they are needed.
    """

    def __init__(self, ladder: Ladder) -> None:
        self._ladder: ModelLadder | None = None
        self._listed: list[BaseChatModel] = []
        self._opened: dict[str, BaseChatModel] = {}
        if not isinstance(ladder, Sequence):
            self._ladder = ladder
        elif isinstance(ladder, str) or not ladder:
            raise InvalidInputError(f"a ladder is a list of one or more models, got {ladder!r}")
        else:
            self._listed = [self._open(rung) if isinstance(rung, str) else rung for rung in ladder]

    def below(self, model: BaseChatModel) -> BaseChatModel | None:
        """The model to try after ``model``: the one after it on a list, or the first for one that is not listed."""
        if self._ladder is not None:
            name = self._ladder.below(providers.model_id(model, {}))
            return None if name is None else self._open(name)
        after = next((place for place, rung in enumerate(self._listed, 1) if rung is model), None)
        if after is None:
            ids = [providers.model_id(rung, {}) for rung in self._listed]
            own = providers.model_id(model, {})
            after = ids.index(own) + 1 if own in ids else 0
        return self._listed[after] if after < len(self._listed) else None

    def _open(self, name: str) -> BaseChatModel:
        if name not in self._opened:
            self._opened[name] = init_chat_model(name)
        return self._opened[name]

"""Keeps what left a view, and gives it back exactly as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from typing import NamedTuple

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict
from langgraph.store.base import BaseStore, Item, PutOp

from langchain_runtime.contracts.errors import InvalidInputError


def store_namespace(*labels: str) -> tuple[str, ...]:
    """A namespace that every store accepts: labels may hold dots here, but not in a store.

    ``%`` is not in the alphabet of run and task ids, so two ids never share a namespace.
    """
    return tuple(label.replace(".", "%2E") for label in labels)


class Passage(NamedTuple):
    """A piece of what is kept.

    Attributes:
        handle: Of the messages.
        start: Offset of the first character in their text.
        text: The piece.
        score: How well it matches; larger is better.
    """

    handle: str
    start: int
    text: str
    score: float


class Archive:
    """Messages by handle in a LangGraph store.

    Write before a view is used: a failed write then aborts the compaction, and nothing is lost.

    Args:
        store: Where to keep them.
        namespace: The labels of one run or session; see ``store_namespace`` for ids with dots.
    """

    def __init__(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        self._store = store
        self._namespace = store_namespace(*namespace)

    def put(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> None:
        """Keep messages under their handles, in one batch. Handles name content, so repeating it changes nothing.

        Raises:
            InvalidInputError: A message holds what JSON cannot carry; nothing was written.
        """
        if evicted:
            self._store.batch(self._writes(evicted))

    async def aput(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> None:
        """Async twin of ``put``."""
        if evicted:
            await self._store.abatch(self._writes(evicted))

    def recall(self, handle: str) -> list[BaseMessage]:
        """The messages that were put under ``handle``, equal to what went in.

        Raises:
            InvalidInputError: There is no such handle.
        """
        return self._read(handle, self._store.get(self._namespace, handle))

    async def arecall(self, handle: str) -> list[BaseMessage]:
        """Async twin of ``recall``."""
        return self._read(handle, await self._store.aget(self._namespace, handle))

    def _writes(self, evicted: Mapping[str, Sequence[BaseMessage]]) -> list[PutOp]:
        # Not embedded: a recall is by handle, and embedding every evicted message would cost a call each.
        return [
            PutOp(self._namespace, handle, {"messages": _encode(messages)}, index=False)
            for handle, messages in evicted.items()
        ]

    def _read(self, handle: str, item: Item | None) -> list[BaseMessage]:
        if item is None:
            raise InvalidInputError(
                f"no messages are kept under the handle {handle!r}", hint="a handle is the part of [recall:<id>] in <>"
            )
        return messages_from_dict(json.loads(item.value["messages"]))


def _encode(messages: Sequence[BaseMessage]) -> str:
    """JSON in ASCII: stores refuse half surrogate pairs, NUL characters and long integers, and models write all three.

    Raises:
        InvalidInputError: JSON cannot carry a message.
    """
    try:
        return json.dumps(messages_to_dict(messages))
    except TypeError as error:
        raise InvalidInputError(
            f"messages cannot be moved out of view, since JSON cannot carry them: {error}",
            hint="let tools return artifacts, and clients metadata, made of JSON values",
        ) from None

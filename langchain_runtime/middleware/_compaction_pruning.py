"""Durable state without what left the view: the same view from fewer messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from langchain_core.messages import BaseMessage, RemoveMessage

from langchain_runtime.context.conversation_fold import ConversationFold
from langchain_runtime.contracts.context import Boundary


class Pruned(NamedTuple):
    """What to take out of a conversation, and the boundary that gives the same view of the rest."""

    removals: list[RemoveMessage]
    boundary: Boundary


def pruned(messages: Sequence[BaseMessage], boundary: Boundary) -> Pruned:
    """Take out what is behind the boundary and not shown.

    Args:
        messages: The whole conversation, each message with an id.
        boundary: Of its view; what left the view is in an archive.
    """
    shown = [item for item in boundary.head if isinstance(item, int)]
    if len(shown) == boundary.upto:
        return Pruned([], boundary)
    kept = set(shown)
    gone = [message for position, message in enumerate(messages[: boundary.upto]) if position not in kept]
    places = {position: place for place, position in enumerate(sorted(kept))}
    rest = ConversationFold()
    for position in sorted(kept):
        rest.note_down(messages[position])
    return Pruned(
        [RemoveMessage(id=str(message.id)) for message in gone],
        boundary.model_copy(
            update={
                "upto": rest.read,
                "head": tuple(places[item] if isinstance(item, int) else item for item in boundary.head),
                "inserted": tuple((position - len(gone), message) for position, message in boundary.inserted),
                "fingerprint": rest.fingerprint,
            }
        ),
    )

"""What an archive held that is gone, from the messages of the state."""

from __future__ import annotations

import json
from collections.abc import Sequence

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_runtime.context import find_handles, group_messages, handle_of
from langchain_runtime.context.notes import Evicted
from langchain_runtime.contracts.context import Boundary


def rebuilt(messages: Sequence[BaseMessage], boundary: Boundary) -> dict[str, list[BaseMessage]]:
    """Messages for every handle that the view at a boundary shows.

    Handles of groups and of clipped messages follow from what these say. What else is referred to are lists of groups,
    and notes with such lists: in place of each stands a list of all that is out of view.

    Args:
        messages: The whole conversation.
        boundary: Of its view.

    Returns:
        Messages by handle.
    """
    in_view = {item for item in boundary.head if isinstance(item, int)}
    behind = messages[: boundary.upto]
    groups = [
        [behind[position] for position in group] for group in group_messages(behind).groups if in_view.isdisjoint(group)
    ]
    out = {handle_of(group): group for group in groups}
    listing: list[BaseMessage] = [HumanMessage("\n".join(Evicted.of(group).line for group in out.values()))]
    singly = [[message] for position, message in enumerate(behind) if position not in in_view]
    shown = find_handles(json.dumps([item for item in boundary.head if not isinstance(item, int)]))
    return dict.fromkeys(shown, listing) | {handle_of(single): single for single in singly} | out

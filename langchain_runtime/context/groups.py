"""Atomic groups: what must stay together for a conversation to remain valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage


class Grouping(NamedTuple):
    """A conversation taken apart; numbers are positions in it.

    Attributes:
        groups: Each an assistant message with all its tool results, or one other message, by first position.
        orphans: Tool results whose call is not in the conversation; no provider accepts them.
    """

    groups: tuple[tuple[int, ...], ...]
    orphans: tuple[int, ...]


def group_messages(messages: Sequence[BaseMessage]) -> Grouping:
    """Take a conversation apart into atomic groups.

    A tool result belongs to the latest earlier assistant message that made its call, also when other messages stand
    between the two or when the call was answered twice. Providers that number calls per turn reuse ids, hence the
    latest.
    """
    groups: list[list[int]] = []
    orphans: list[int] = []
    group_of_call: dict[str, int] = {}
    for position, message in enumerate(messages):
        if not isinstance(message, ToolMessage):
            group_of_call.update(dict.fromkeys(call_ids(message), len(groups)))
            groups.append([position])
        elif (group := group_of_call.get(message.tool_call_id)) is not None:
            groups[group].append(position)
        else:
            orphans.append(position)
    return Grouping(tuple(map(tuple, groups)), tuple(orphans))


def call_ids(message: BaseMessage) -> Iterator[str]:
    """Ids of the calls that a message makes; calls with broken arguments are answered (and sent) like others."""
    if isinstance(message, AIMessage):
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            if call["id"] is not None:
                yield call["id"]

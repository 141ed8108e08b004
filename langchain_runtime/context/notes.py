"""The note that stands where messages were moved out of view: how many, and the handles to read them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_runtime.context.clipping import plain_text
from langchain_runtime.context.handles import handle_of, reference
from langchain_runtime.context.marks import NOTE_PREFIX

_MOST_LISTED: Final = 16
_ROOM_PER_LINE: Final = 256
"""A note lists one group for so many tokens of room, so that it takes a tenth of the view at most."""
_GIST_LENGTH: Final = 60
_GIST_IS_IN: Final = 400
"""Characters of a text that are looked at: it may be a megabyte."""


class Evicted(NamedTuple):
    """An atomic group that left the view, under its handle.

    Attributes:
        handle: Under which it is kept.
        messages: All of it.
        line: What a list of handles says of it; the first message only, so no tool result speaks in the note.
    """

    handle: str
    messages: tuple[BaseMessage, ...]
    line: str

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Evicted:
        """The group with its line; made once, since many drafts of a view ask for it."""
        handle, first = handle_of(messages), messages[0]
        text = " ".join(plain_text(first)[:_GIST_IS_IN].split())
        gist = text if len(text) <= _GIST_LENGTH else text[:_GIST_LENGTH] + "..."
        calls = [call["name"] for call in first.tool_calls] if isinstance(first, AIMessage) else []
        said = " ".join(filter(None, [gist, f"called {', '.join(calls)}" if calls else ""]))
        return cls(handle, tuple(messages), f"{reference(handle)} {first.type}: {said}")


class Note(NamedTuple):
    """A note and, by handle, the list that did not fit in it."""

    message: HumanMessage
    listing: dict[str, list[BaseMessage]]


def make_note(groups: Sequence[Evicted], room: int) -> Note:
    """A note about ``groups`` (oldest first) for a view of ``room`` tokens.

    The newest are listed; when there are more than fit, the older ones are in a list with a handle of its own.
    """
    groups = list({group.handle: group for group in groups}.values())
    shown = min(_MOST_LISTED, room // _ROOM_PER_LINE)
    if len(groups) <= max(shown, 1):
        older, newest = [], groups
    else:
        older, newest = groups[: len(groups) - shown], groups[len(groups) - shown :]
    lines = [group.line for group in newest]
    listing: dict[str, list[BaseMessage]] = {}
    if older:
        messages: list[BaseMessage] = [_note("\n".join(group.line for group in older))]
        handle = handle_of(messages)
        listing[handle] = messages
        lines.insert(0, f"{reference(handle)} list of the oldest {len(older)}")
    return Note(
        _note("\n".join(["[Earlier messages are kept out of view, under these handles:", *lines, "]"])), listing
    )


def with_summary(note: BaseMessage, summary: str) -> HumanMessage:
    """The note, after a summary of what it stands for."""
    return _note(f"[In short, what was said earlier:\n{summary}\n]\n{note.content}")


def _note(text: str) -> HumanMessage:
    return HumanMessage(text, id=NOTE_PREFIX + handle_of([HumanMessage(text)]))

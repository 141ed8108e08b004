"""Clipping: head and tail of a long text around a note that names the handle of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from langchain_runtime.context.handles import handle_of, reference
from langchain_runtime.context.marks import Inlined, Mark, dependency_message, is_dependency, mark_of, marked

Size = Callable[[Sequence[BaseMessage]], int]
"""Tokens of messages by the configured counter."""

_CHARACTERS_PER_TOKEN: Final = 16
"""More than text has; bounds the search for the longest excerpt, so that a megabyte is not counted twenty times."""


class Clipped(NamedTuple):
    """A shortened message and, by handle, what it was."""

    message: BaseMessage
    evicted: dict[str, list[BaseMessage]]


def is_clippable(message: BaseMessage) -> bool:
    """Whether strategies may shorten the message: a tool result, or what a dependency wrote, alone or in a prompt."""
    return isinstance(message, ToolMessage) or is_dependency(message) or bool(mark_of(message).inlined)


def clip(message: BaseMessage, limit: int, size: Size) -> Clipped | None:
    """Shorten a clippable message to ``limit`` tokens, or as near as a note with a handle comes to it.

    Of a prompt, each output of a dependency is clipped to ``limit`` on its own; the author's words stay as they are.

    Returns:
        None when there is nothing to gain.
    """
    if size([message]) <= limit:
        return None
    clipped = _clip_inlined(message, limit, size) if mark_of(message).inlined else _clip_whole(message, limit, size)
    return clipped if clipped is not None and size([clipped.message]) < size([message]) else None


def plain_text(message: BaseMessage) -> str:
    """The message's text; other content blocks are named, not shown."""
    if isinstance(message.content, str):
        return message.content
    parts = []
    for block in message.content:
        if isinstance(block, str):
            parts.append(block)
        else:
            parts.append(str(block["text"]) if "text" in block else f"[{block.get('type', 'content')} not shown]")
    return "\n".join(parts)


def _clip_whole(message: BaseMessage, limit: int, size: Size) -> Clipped:
    handle = handle_of([message])

    # What a tool keeps beside its result is for programs, which find it where the whole is kept.
    program_side = {"artifact": None} if isinstance(message, ToolMessage) else {}

    def excerpt(text: str) -> BaseMessage:
        return marked(message, Mark(clipped=True), content=text, **program_side)

    note = _note(size([message]), handle)
    text = _shorten(plain_text(message), note, limit, lambda text: size([excerpt(text)]))
    return Clipped(excerpt(text), {handle: [message]})


def _clip_inlined(message: BaseMessage, limit: int, size: Size) -> Clipped | None:
    """Each value's own handle stands in the text; the whole prompt is kept, too, so that no message is lost."""
    source = str(message.content)
    text, end = "", 0
    evicted: dict[str, list[BaseMessage]] = {}
    left: list[Inlined] = []
    for place in mark_of(message).inlined:
        text += source[end : place.start]
        start, end = len(text), place.end
        value = source[place.start : place.end]
        shown = _clip_value(place.alias, value, limit, size, evicted)
        text += shown
        if shown == value:
            left.append(Inlined(alias=place.alias, start=start, end=len(text)))
    if not evicted:
        return None
    evicted[handle_of([message])] = [message]
    return Clipped(marked(message, Mark(clipped=True, inlined=tuple(left)), content=text + source[end:]), evicted)


def _clip_value(alias: str, value: str, limit: int, size: Size, evicted: dict[str, list[BaseMessage]]) -> str:
    def tokens(text: str) -> int:
        return size([HumanMessage(text)])

    if tokens(value) <= limit:
        return value
    whole = dependency_message(alias, value)
    handle = handle_of([whole])
    shown = _shorten(value, _note(tokens(value), handle), limit, tokens)
    if tokens(shown) >= tokens(value):
        return value
    evicted[handle] = [whole]
    return shown


def _note(tokens: int, handle: str) -> str:
    return f"\n[... cut from {tokens} tokens, whole text: {reference(handle)} ...]\n"


def _shorten(text: str, note: str, limit: int, tokens: Callable[[str], int]) -> str:
    """The longest excerpt of at most ``limit`` tokens, three quarters from the head; the note alone if none is."""
    low, high = 0, min(len(text), limit * _CHARACTERS_PER_TOKEN)
    while low < high:
        middle = (low + high + 1) // 2
        if tokens(_around(text, note, middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    return _around(text, note, low)


def _around(text: str, note: str, kept: int) -> str:
    tail = kept // 4
    return text[: kept - tail] + note + text[len(text) - tail :]

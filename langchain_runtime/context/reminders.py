"""Reminders: evicted passages that a new question seems to ask about, shown before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_runtime.context.handles import handle_of, reference
from langchain_runtime.context.lexical_index import Passage
from langchain_runtime.context.marks import REMINDER_PREFIX

MOST_PASSAGES: Final = 8


def make_reminder(
    passages: Sequence[Passage], allowance: int, size: Callable[[list[BaseMessage]], int]
) -> HumanMessage | None:
    """A message with the best passages that fit ``allowance`` tokens together; None if not one does."""
    best: HumanMessage | None = None
    shown: list[str] = []
    for passage in passages:
        lines = [*shown, f"{reference(passage.handle)} {passage.text}"]
        text = "\n".join(["[Out of view, but perhaps asked about next:", *lines, "]"])
        reminder = HumanMessage(text, id=REMINDER_PREFIX + handle_of([HumanMessage(text)]))
        if size([reminder]) <= allowance:
            best, shown = reminder, lines
    return best

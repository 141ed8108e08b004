"""A view in the making: the conversation it comes from, and what has been done to it so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from langchain_core.messages import BaseMessage, ChatMessage, SystemMessage

from langchain_runtime.context.clipping import Clipped, Size, is_clippable
from langchain_runtime.context.groups import group_messages
from langchain_runtime.context.handles import handle_of
from langchain_runtime.context.marks import MEMORY_ID, is_note, is_our_own, is_question, is_reminder
from langchain_runtime.context.notes import Evicted, Note, make_note
from langchain_runtime.contracts.context import ContextPolicy


class Conversation:
    """The messages to fit, and what may happen to each. Numbers are positions in ``messages``.

    Args:
        messages: The whole conversation.
        policy: Says what is pinned and how many groups no strategy evicts (at least the newest).
        size: Tokens of messages.

    Attributes:
        orphans: Tool results without a call; they are in no view.
        evictable: Groups that may leave the view, oldest first.
        lone_notes: Notes that nothing would leave with; they go only where what must stay does not fit beside them.
        fixed: Messages that are never changed: system, memory and what the policy pins.
    """

    def __init__(self, messages: Sequence[BaseMessage], policy: ContextPolicy, size: Size) -> None:
        self.messages = tuple(messages)
        self.size = size
        grouping = group_messages(self.messages)
        self.orphans = grouping.orphans
        self.fixed = frozenset(
            position
            for position, message in enumerate(self.messages)
            if _is_system(message) or message.id == MEMORY_ID or (message.id is not None and message.id in policy.pin)
        )
        free = self._free(grouping.groups, policy.keep_last_n or 1)
        # Notes leave with what follows them; to replace a note by a note about it gains nothing.
        alone = all(is_note(self.messages[group[0]]) for group in free)
        self.evictable = () if alone else free
        self.lone_notes = free if alone else ()
        self._evicted: dict[int, Evicted] = {}

    def _free(self, groups: Sequence[tuple[int, ...]], keep: int) -> tuple[tuple[int, ...], ...]:
        talk = [group for group in groups if self._is_talk(self.messages[group[0]])]
        questions = (position for position in range(len(self.messages)) if is_question(self.messages[position]))
        kept = self.fixed | {max(questions, default=-1)} | {position for group in talk[-keep:] for position in group}
        return tuple(group for group in groups if kept.isdisjoint(group))

    @staticmethod
    def _is_talk(message: BaseMessage) -> bool:
        return not (_is_system(message) or is_our_own(message) or message.id == MEMORY_ID)

    def out(self, count: int) -> list[Evicted]:
        """The oldest ``count`` evictable groups; without reminders, since all they show is kept already."""
        groups = self.evictable[:count]
        return [
            self._under_its_handle(number)
            for number, group in enumerate(groups)
            if not is_reminder(self.messages[group[0]])
        ]

    def _under_its_handle(self, number: int) -> Evicted:
        if number not in self._evicted:
            messages = tuple(self.messages[position] for position in self.evictable[number])
            self._evicted[number] = Evicted.of(messages)
        return self._evicted[number]


@dataclass(frozen=True)
class Draft:
    """A view of a conversation, by its differences from it.

    Attributes:
        source: The conversation.
        room: Tokens the view may have; None for no ceiling.
        evicted: So many of the evictable groups are out, the oldest first.
        noted: Whether a note with their handles stands in the view.
        silent: Whether notes that would stay alone are out, too.
        clipped: Shortened messages by position.
    """

    source: Conversation
    room: int | None
    evicted: int = 0
    noted: bool = False
    silent: bool = False
    clipped: Mapping[int, Clipped] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def note(self) -> Note | None:
        """The note, if there is one."""
        groups = self.source.out(self.evicted) if self.noted else []
        return make_note(groups, self.room) if groups and self.room is not None else None

    @cached_property
    def gone(self) -> frozenset[int]:
        """Positions of messages that are not in the view, clipped or not."""
        groups = [*self.source.evictable[: self.evicted], *(self.source.lone_notes if self.silent else ())]
        return frozenset(position for group in groups for position in group).union(self.source.orphans)

    @cached_property
    def messages(self) -> list[BaseMessage]:
        """The view, in the conversation's order; the note stands where the first message is missing."""
        view: list[BaseMessage] = []
        note = self.note
        first = self.source.evictable[0][0] if note else None
        for position, message in enumerate(self.source.messages):
            if note is not None and position == first:
                view.append(note.message)
            if position not in self.gone:
                view.append(self.clipped[position].message if position in self.clipped else message)
        return view

    @cached_property
    def size(self) -> int:
        """Tokens of the view."""
        return self.source.size(self.messages)

    @property
    def clippable(self) -> list[int]:
        """Positions of messages in view that strategies may shorten, oldest first."""
        return [
            position
            for position, message in enumerate(self.source.messages)
            if position not in self.gone and position not in self.source.fixed and is_clippable(message)
        ]

    def evict(self, groups: int, *, noted: bool) -> Draft:
        """The same view with so many groups out."""
        return replace(self, evicted=groups, noted=noted)

    def without_lone_notes(self) -> Draft:
        """The same view without notes about what left before."""
        return replace(self, silent=True)

    def clip(self, clipped: Mapping[int, Clipped]) -> Draft:
        """The same view with these messages shortened, besides those that were."""
        return replace(self, clipped=MappingProxyType({**self.clipped, **clipped}))

    def by_handle(self) -> dict[str, list[BaseMessage]]:
        """Everything that is not in the view as it was, by handle."""
        source = self.source
        kept = {group.handle: list(group.messages) for group in source.out(self.evicted)}
        notes = [position for group in source.lone_notes for position in group] if self.silent else []
        for position in (*source.orphans, *notes):
            alone = source.messages[position]
            kept[handle_of([alone])] = [alone]
        for position, clipped in self.clipped.items():
            if position not in self.gone:
                kept |= clipped.evicted
        return kept | (self.note.listing if self.note else {})


def _is_system(message: BaseMessage) -> bool:
    role = message.role if isinstance(message, ChatMessage) else None
    return isinstance(message, SystemMessage) or role in {"system", "developer"}

"""A conversation read message by message: its view so far, and the boundary that a restart continues from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_runtime.context.groups import call_ids
from langchain_runtime.context.message_records import decode_messages, encode_messages
from langchain_runtime.contracts.context import Boundary


@dataclass(slots=True)
class ConversationFold:
    """What has been made of the messages read so far.

    A turn works on a copy, so that one that fails changes nothing.

    Attributes:
        read: So many messages have been read.
        seen: They, and perhaps more: folds of one conversation share the list.
        view: What the model would see of them.
        origins: For each message of the view its position in the conversation; None for one of our own.
        calls: For each tool call in view where its message stands in the conversation. Where an id was used again and
            that call has left, an older one in view does not take its results.
        size: At least the tokens that the view adds to a request.
        boundary: Where the view begins.
    """

    read: int = 0
    seen: list[BaseMessage] = field(default_factory=list)
    view: list[BaseMessage] = field(default_factory=list)
    origins: list[int | None] = field(default_factory=list)
    calls: dict[str, int | None] = field(default_factory=dict)
    size: int = 0
    boundary: Boundary = field(default_factory=Boundary)
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    @classmethod
    def restored(cls, boundary: Boundary, messages: Sequence[BaseMessage]) -> ConversationFold | None:
        """The fold as it was when the boundary last moved; None if the boundary is another conversation's."""
        behind = list(messages[: boundary.upto])
        fold = cls(seen=behind, boundary=_with_reminders(boundary, ()))
        for message in behind:
            fold.note_down(message)
        if len(behind) < boundary.upto or fold.fingerprint != boundary.fingerprint:
            return None
        for item in boundary.head:
            if not isinstance(item, int):
                fold.show(message_of(item), None)
            elif item < len(behind):
                fold.show(behind[item], item)
            else:
                return None
        makers = {call: position for position, message in enumerate(behind) for call in call_ids(message)}
        fold.calls = {call: position for call, position in fold.calls.items() if position == makers[call]}
        return fold

    def is_start_of(self, messages: list[BaseMessage]) -> bool:
        """Whether a conversation starts with what was read; next to nothing where the messages are the same objects."""
        seen = self.seen if len(self.seen) == self.read else self.seen[: self.read]
        try:
            # A list that starts another is not greater. Nothing is copied, and of equal items only addresses are read.
            return seen <= messages
        except TypeError:  # where items differ it asks which is less, and messages do not know
            return False

    @property
    def fingerprint(self) -> str:
        """Of the messages read so far."""
        digest: str = self._digest.hexdigest()
        return digest

    def copy(self) -> ConversationFold:
        """One to go on with; ``seen`` is shared until the turn is over."""
        return replace(
            self,
            view=list(self.view),
            origins=list(self.origins),
            calls=dict(self.calls),
            _digest=self._digest.copy(),
        )

    def note_down(self, message: BaseMessage) -> None:
        """Count a message as read, and add it to the fingerprint: its type, id and length, which are cheap to have."""
        self.read += 1
        self._digest.update(f"{message.type}\0{message.id}\0{len(message.content)}\n".encode(errors="surrogatepass"))

    def is_orphan(self, message: BaseMessage) -> bool:
        """Whether it is a tool result whose call is not in view."""
        return isinstance(message, ToolMessage) and message.tool_call_id not in self.calls

    def show(self, message: BaseMessage, origin: int | None) -> None:
        """Append a message to the view."""
        self.view.append(message)
        self.origins.append(origin)
        self.calls.update(dict.fromkeys(call_ids(message), origin))

    def insert(self, reminder: BaseMessage, before: int) -> None:
        """Append a reminder to the view, and have the boundary remember it."""
        self.show(reminder, None)
        inserted = (*self.boundary.inserted, (before, encode_messages([reminder])))
        self.boundary = _with_reminders(self.boundary, inserted)

    def move(self, view: Iterable[BaseMessage], *, handle: str | None) -> None:
        """Start anew with a compacted view of everything read so far."""
        known = {id(message): origin for message, origin in zip(self.view, self.origins, strict=True)}
        self.view = list(view)
        self.origins = [known.get(id(message)) for message in self.view]
        shown = set(self.origins)
        self.calls = {call: position for call, position in self.calls.items() if position in shown}
        self.boundary = Boundary(
            upto=self.read,
            head=tuple(
                encode_messages([message]) if origin is None else origin
                for message, origin in zip(self.view, self.origins, strict=True)
            ),
            events=self.boundary.events + 1,
            fingerprint=self.fingerprint,
            handle=handle or self.boundary.handle,
        )


def message_of(item: Mapping[str, str]) -> BaseMessage:
    """A message of our own, as a boundary holds it."""
    return decode_messages(item)[0]


def _with_reminders(boundary: Boundary, inserted: tuple[tuple[int, dict[str, str]], ...]) -> Boundary:
    """The boundary with other reminders after it."""
    return boundary.model_copy(update={"inserted": inserted})

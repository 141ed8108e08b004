"""How the builder and the compactor recognise messages that they made.

Whole messages by a stable id. Finer facts stand in ``response_metadata``, the one field of a message that no provider
client sends, under a key of our own; they survive serialisation.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import BaseModel, ConfigDict

PROMPT_ID: Final = "prompt"
MEMORY_ID: Final = "memory"
DEPENDENCY_PREFIX: Final = "dep:"
NOTE_PREFIX: Final = "recall-note:"
REMINDER_PREFIX: Final = "reminder:"

_KEY: Final = "langchain_runtime"

_Message = TypeVar("_Message", bound=BaseMessage)


class Inlined(BaseModel):
    """Where in a prompt's text a dependency's output stands.

    Attributes:
        alias: Name of the dependency.
        start: Offset of the first character.
        end: Offset after the last character.
    """

    model_config = ConfigDict(frozen=True)

    alias: str
    start: int
    end: int


class Mark(BaseModel):
    """What we know about a message that we made or changed.

    Attributes:
        clipped: The text is an excerpt; the whole is kept under the handle that stands in it.
        inlined: Outputs of dependencies within a prompt, in order of position.
    """

    model_config = ConfigDict(frozen=True)

    clipped: bool = False
    inlined: tuple[Inlined, ...] = ()


def mark_of(message: BaseMessage) -> Mark:
    """The message's mark; an empty one if it has none."""
    return Mark.model_validate(message.response_metadata.get(_KEY, {}))


def marked(message: _Message, mark: Mark, **update: Any) -> _Message:
    """A copy of ``message`` with a mark and other fields replaced."""
    metadata = message.response_metadata | {_KEY: mark.model_dump(mode="json", exclude_defaults=True)}
    return message.model_copy(update={**update, "response_metadata": metadata})


def dependency_message(alias: str, text: str) -> HumanMessage:
    """What a dependency wrote, as a message of its own."""
    return HumanMessage(f"{alias}:\n{text}", id=f"{DEPENDENCY_PREFIX}{alias}")


def is_dependency(message: BaseMessage) -> bool:
    """Whether the message is what a dependency wrote."""
    return isinstance(message, HumanMessage) and (message.id or "").startswith(DEPENDENCY_PREFIX)


def is_note(message: BaseMessage) -> bool:
    """Whether the message is a compactor's note about what it moved out of view."""
    return isinstance(message, HumanMessage) and (message.id or "").startswith(NOTE_PREFIX)


def is_reminder(message: BaseMessage) -> bool:
    """Whether the message shows again, before a question, what had left the view."""
    return isinstance(message, HumanMessage) and (message.id or "").startswith(REMINDER_PREFIX)


def is_our_own(message: BaseMessage) -> bool:
    """Whether the message stands for what left the view, or shows it again: nobody said it."""
    return is_note(message) or is_reminder(message)


def is_question(message: BaseMessage) -> bool:
    """Whether a person (or the author of a prompt) wrote the message, and not the builder or the compactor."""
    made_here = is_dependency(message) or is_our_own(message) or message.id == MEMORY_ID
    return isinstance(message, HumanMessage) and not made_here

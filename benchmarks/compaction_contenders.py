"""What makes a conversation fit, each asked in the way its documentation shows: given everything so far, the view.

A contender keeps whatever it keeps between the turns of one conversation. The system message counts against the room
of each: middlewares do not see it, so their limits are lower by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware, SummarizationMiddleware
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import BaseMessage, RemoveMessage, SystemMessage, trim_messages
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, ConversationContext
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.cost import TokenEstimator

SUMMARY = "The customer asked several things, and the assistant looked up what was needed and did it. " * 4
"""As short as a summary can be: what the peer keeps besides is what is measured."""

_estimator = TokenEstimator()


def count(messages: Iterable[BaseMessage]) -> int:
    """Tokens by the default estimator, which is what our context counts with."""
    return _estimator.expected(list(messages))


class Ours:
    """``ConversationContext`` with the default policy.

    Attributes:
        archive: Of the conversation.
    """

    def __init__(self, room: int) -> None:
        self.archive = Archive(InMemoryStore(), ("benchmark",))
        self._context = ConversationContext(ContextPolicy(max_tokens=room), self.archive)

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """The view.

        Raises:
            ContextOverflowError: There is none that fits.
        """
        return self._context.view(messages).messages


class Trim:
    """``trim_messages`` before each call.

    Args:
        room: Tokens.
        options: Of the function, besides.
    """

    def __init__(self, room: int, **options: Any) -> None:
        shown = {"token_counter": count, "strategy": "last", "include_system": True}
        self._trim = partial(trim_messages, max_tokens=room, **shown | options)

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        return self._trim(messages)


class Summarization:
    """``SummarizationMiddleware``, which replaces the state's messages, at the trigger and target that ours has."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._middleware: SummarizationMiddleware | None = None
        self._state: list[BaseMessage] = []
        self._read = 0

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        system, self._state = _system(messages), [*self._state, *_talk(messages[self._read :])]
        self._read = len(messages)
        if self._middleware is None:
            room = max(self._room - _size(system), 2)
            self._middleware = SummarizationMiddleware(
                FakeListChatModel(responses=[SUMMARY]),
                trigger=("tokens", room),
                keep=("tokens", room // 2),
                token_counter=count,
            )
        update = self._middleware.before_model({"messages": self._state}, None)
        if update is not None:
            self._state = [message for message in update["messages"] if not isinstance(message, RemoveMessage)]
        return [*system, *self._state]


class ContextEditing:
    """The edit of ``ContextEditingMiddleware``, which clears old tool results at each call."""

    def __init__(self, room: int) -> None:
        self._room = room

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        system, view = _system(messages), _talk(messages)
        clearing = ClearToolUsesEdit(trigger=max(self._room - _size(system), 1))
        for edit in ContextEditingMiddleware(edits=[clearing], token_counter=count).edits:
            edit.apply(view, count_tokens=count)
        return [*system, *view]


Contender = Callable[[list[BaseMessage]], list[BaseMessage]]

PEERS: dict[str, Callable[[int], Contender]] = {
    "trim_messages": Trim,
    "trim_messages, start_on=human": partial(Trim, start_on="human"),
    "SummarizationMiddleware": Summarization,
    "ContextEditingMiddleware": ContextEditing,
}
"""Each for a room of so many tokens."""


def _system(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [message for message in messages[:1] if isinstance(message, SystemMessage)]


def _talk(messages: list[BaseMessage]) -> list[BaseMessage]:
    return [message for message in messages if not isinstance(message, SystemMessage)]


def _size(system: list[BaseMessage]) -> int:
    return count(system) if system else 0

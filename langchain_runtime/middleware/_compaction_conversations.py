"""The conversations of an agent: which one a call belongs to, and what is kept of each between its calls."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.messages import BaseMessage
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from pydantic import ValidationError

from langchain_runtime.context import Archive, ContextView, ConversationContext
from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import Boundary

BOUNDARY: Final = "lcr_boundary"
"""Channel of the agent's state with the boundary of its view, in JSON."""
CONVERSATION: Final = "lcr_conversation"
"""Channel of the agent's state with the conversation's name, where its thread does not name it."""

_KEPT: Final = 128
"""Conversations whose views are remembered; another one's is worked out from its boundary."""


class ConversationName(NamedTuple):
    """Which conversation a call belongs to.

    Attributes:
        labels: Of its archive.
        thread_id: Its thread; None where there is none, so that nothing of it outlives the invocation.
        own: The part that the agent's state has to remember; None where config says it all.
    """

    labels: tuple[str, ...]
    thread_id: str | None
    own: str | None

    @classmethod
    def of(cls, config: Mapping[str, Any], state: Mapping[str, Any]) -> ConversationName:
        """The conversation of a node of an agent.

        A thread is a conversation. A subagent's is one of its thread's: named by the place of the subagent in the graph
        and its first message, since LangGraph names every call anew. Without a thread each invocation is one.

        Args:
            config: As the node has it.
            state: Of the agent.
        """
        configurable = config.get("configurable", {})
        thread_id = configurable.get("thread_id")
        if thread_id in (None, ""):
            own = state.get(CONVERSATION) or uuid.uuid4().hex
            return cls(("lcr", "invocations", own), None, own)
        # "tools:<task>|model:<task>": all but the last part lead to the agent; task ids differ from call to call.
        place = [part.partition(":")[0] for part in str(configurable.get("checkpoint_ns", "")).split("|")[:-1]]
        if not place:
            return cls(("lcr", "threads", str(thread_id)), str(thread_id), None)
        messages = state.get("messages") or ()
        own = state.get(CONVERSATION) or (messages[0].id if messages else None) or uuid.uuid4().hex
        return cls(("lcr", "threads", str(thread_id), "|".join(place), own), str(thread_id), own)


class Conversation:
    """What is kept of one conversation between its calls.

    Attributes:
        name: Which one it is.
        archive: Where what leaves its view is kept.
        durable: Whether the archive may outlive this process.
        view: The latest; None before the first.
        limits: That it had to meet; None for none, or before the first.
    """

    def __init__(self, name: ConversationName, store: BaseStore | None) -> None:
        self.name = name
        self.durable = store is not None
        self.archive = Archive(AnyStore(store or InMemoryStore()), name.labels)
        self.view: ContextView | None = None
        self.limits: Limits | None = None
        self._context: ConversationContext | None = None
        self._setting: Any = None
        self._read = 0
        self._boundaries: tuple[Boundary, ...] = ()

    def context(
        self,
        messages: Sequence[BaseMessage],
        stored: Boundary,
        setting: Any,
        make: Callable[[Boundary], ConversationContext],
    ) -> ConversationContext:
        """The context to ask for the next view.

        The same as before where the conversation went on. Where it was taken back or forked, another process went on
        with it, or other things are to be counted, a new one from the boundary that the agent's state has.

        Args:
            messages: The whole conversation.
            stored: The boundary in the agent's state.
            setting: What contexts differ in.
            make: Makes one from a boundary.
        """
        self.catch_up(stored)
        known = stored in self._boundaries and len(messages) >= self._read and setting == self._setting
        if self._context is None or not known:
            self._context, self._setting = make(stored), setting
        return self._context

    def catch_up(self, stored: Boundary) -> None:
        """Have the archive search what another process may have put into it.

        Args:
            stored: The boundary in the agent's state.
        """
        if stored not in self._boundaries:
            self.archive.refresh()

    def seen(self, messages: Sequence[BaseMessage], stored: Boundary, view: ContextView) -> None:
        """Remember a view that the context gave."""
        self._read = len(messages)
        # After a call that fails the context has its boundary, and the state still the one before.
        self._boundaries = (stored, view.boundary)
        self.view = view


class Conversations:
    """Finds conversations, and remembers those that were used last; for use from many threads.

    Args:
        store: Keeps what leaves views; None for the agent's own store, or else memory.
    """

    def __init__(self, store: BaseStore | None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], Conversation] = OrderedDict()

    def find(self, config: Mapping[str, Any], state: Mapping[str, Any], agents_store: BaseStore | None) -> Conversation:
        """The conversation that a node of an agent is in."""
        name = ConversationName.of(config, state)
        # What no thread leads back to would only pile up in the agent's store.
        store = self._store or (agents_store if name.thread_id is not None else None)
        key = (id(store), name.labels)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = Conversation(name, store)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def latest(self, thread_id: str | None) -> Conversation | None:
        """The conversation of a thread (not one of its subagents'), or the one that was used last."""
        with self._lock:
            used = list(reversed(self._kept.values()))
        return next(
            (kept for kept in used if thread_id is None or kept.name.labels[1:] == ("threads", thread_id)), None
        )


def stored_boundary(state: Mapping[str, Any]) -> Boundary:
    """The boundary in an agent's state; one at the beginning where there is none, or none that can be read."""
    try:
        return Boundary.model_validate(state.get(BOUNDARY) or {})
    except ValidationError:
        return Boundary()

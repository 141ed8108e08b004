"""``CompactionMiddleware`` for an agent that does one task of a run, whose first view the run has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.store.base import BaseStore

from langchain_runtime.context import Archive, ConversationContext
from langchain_runtime.context.conversation_fold import ConversationFold
from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.middleware._compaction_conversations import Conversation, ConversationName, Conversations
from langchain_runtime.middleware.compaction_middleware import CompactionMiddleware


class TaskCompaction(CompactionMiddleware[Any, Any]):
    """Goes on where the run has begun: from its view and its archive, whatever thread the agent is in.

    Args:
        policy: When and how.
        archive: The task's.
        begun: The view that the run made, if something has left it: the agent can recall it from its first call on.
        catalog: Knows the windows of models.
    """

    def __init__(
        self, policy: ContextPolicy, archive: Archive, *, begun: Sequence[BaseMessage] = (), catalog: ModelCatalog
    ) -> None:
        super().__init__(policy, catalog=catalog)
        self._conversations = _OneConversation(archive, _boundary_after(begun))


class _OneConversation(Conversations):
    """The task's only one."""

    def __init__(self, archive: Archive, begun: Boundary) -> None:
        super().__init__(None)
        self._only = _BegunConversation(archive, begun)

    def find(
        self,
        config: Mapping[str, Any],  # noqa: ARG002 - as for many conversations
        state: Mapping[str, Any],  # noqa: ARG002
        agents_store: BaseStore | None,  # noqa: ARG002
    ) -> Conversation:
        """It."""
        return self._only

    def latest(self, thread_id: str | None) -> Conversation:  # noqa: ARG002
        """It."""
        return self._only


class _BegunConversation(Conversation):
    """A conversation whose boundary had moved before the agent's state knew of one."""

    def __init__(self, archive: Archive, begun: Boundary) -> None:
        super().__init__(ConversationName((), None, None), None)
        self.archive = archive
        self.durable = True
        self._begun = begun

    def context(
        self,
        messages: Sequence[BaseMessage],
        stored: Boundary,
        setting: Any,
        make: Callable[[Boundary], ConversationContext],
    ) -> ConversationContext:
        """As for others; from the run's view, where the state knows of no boundary."""
        return super().context(messages, stored, setting, lambda known: make(known if known.events else self._begun))


def _boundary_after(view: Sequence[BaseMessage]) -> Boundary:
    """The boundary of a conversation that begins with a compacted view; one that has not moved where there is none."""
    if not view:
        return Boundary()
    fold = ConversationFold()
    for message in view:
        fold.note_down(message)
    return Boundary(upto=fold.read, head=tuple(range(fold.read)), events=1, fingerprint=fold.fingerprint)

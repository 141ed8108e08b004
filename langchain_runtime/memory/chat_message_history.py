"""A chat message history whose messages always fit, and that loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool
from langgraph.store.base import BaseStore

from langchain_runtime.adapters.recall import RecallRetriever, recall_tool
from langchain_runtime.chat_models.model_summarizer import SummarySource
from langchain_runtime.context import Archive, ContextView, ConversationContext, Passage
from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.context_compactor import Counter
from langchain_runtime.contracts.context import Boundary, ContextPolicy, ContextReport
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import Summarizer, TokenEstimator
from langchain_runtime.memory._session_log import SessionLog
from langchain_runtime.memory._stores import PROCESS_STORE, FreshArchive, namespace_of
from langchain_runtime.memory._view_settings import ViewSettings

Shown = Callable[[list[BaseMessage]], Sequence[BaseMessage]]
"""How a view stands in a request, as messages to count."""

_NEXT_QUESTION: Final = HumanMessage("")
"""Stands for the question that a history does not see."""


class _Latest(NamedTuple):
    """A view, and what it was asked for with."""

    messages: list[BaseMessage]
    max_tokens: int | None
    view: ContextView


class CompactingChatMessageHistory(BaseChatMessageHistory):
    """The history of one session: ``messages`` is a view that fits, everything else can be called back.

    ::

        with SqliteStore.from_conn_string("chats.db") as store:
            chat = RunnableWithMessageHistory(
                prompt | model,
                lambda session_id: CompactingChatMessageHistory(
                    session_id, store=store, policy=ContextPolicy(max_tokens=16_000, reserve_output=2_000)
                ),
                input_messages_key="question",
                history_messages_key="history",
            )

    The view is the conversation itself until it reaches the policy's trigger; then its oldest part leaves it, and a
    note with handles stands there instead. Whatever leaves is in the store first: ``recall`` gives it back as it was.

    A history sees what was said, and not what is asked next: the policy's ``reserve_output`` has to hold the reply
    *and* whatever a chain adds to the history, the new input and its prompt above all.

    Each message is an item of its own in the store: threads and processes that append to a session at once lose
    nothing, and see one another's messages. A history object is cheap to make, but reads the whole session at its first
    use, and from then on decodes only what is new: in long sessions keep the objects (``functools.lru_cache`` around
    the factory does).

    ``RunnableWithMessageHistory`` without ``history_messages_key`` finds out what is new in a call by the length of
    ``messages``. A session in which several calls run at once needs that key, whatever the history.

    Async methods use the store's own; those of a store that has none (``SqliteStore``) wait for it in a thread. Sync
    methods of an async store (``AsyncSqliteStore``) work in every thread but that of its event loop.

    Args:
        session_id: Which session; any text.
        store: Keeps messages, boundary and archive; None for one in memory that all histories of this process share and
            that ends with it.
        policy: How large the view may be and how it is made to fit; None for ``offload`` at four fifths of the window
            of ``model``.
        token_counter: Counts messages, as LangChain's ``token_counter`` or a ``TokenEstimator``; None for ours.
        system: Goes before everything: counted, never evicted, and not kept in the store.
        summarizer: For ``summarize``: a ``Summarizer``, or what a ``ModelSummarizer`` can be made of.
        model: Whose window and tokens count: ``provider:name``, or a chat model.

    Raises:
        InvalidInputError: Neither policy nor model says how large the view may be, ``session_id`` is no text, or the
            policy says ``summarize`` and there is nobody to do it.
    """

    def __init__(
        self,
        session_id: str,
        *,
        store: BaseStore | None = None,
        policy: ContextPolicy | None = None,
        token_counter: Counter | TokenEstimator | None = None,
        system: str | SystemMessage | None = None,
        summarizer: Summarizer | SummarySource | None = None,
        model: str | BaseChatModel | None = None,
    ) -> None:
        super().__init__()
        self.session_id = session_id
        self._settings = ViewSettings.of(policy, token_counter=token_counter, model=model, summarizer=summarizer)
        self._system = SystemMessage(system) if isinstance(system, str) else system
        self._store = AnyStore(PROCESS_STORE if store is None else store)
        self._namespace = namespace_of("sessions", session_id)
        self._labels = (*self._namespace, "archive")
        self._begin()
        self._settings.context(self._archive, Boundary())  # refuses a policy now rather than at the first turn

    def _begin(self) -> None:
        self._log = SessionLog(self._store, self._namespace)
        self._archive = FreshArchive(self._store, self._labels)
        self._context: ConversationContext | None = None
        self._unsaved = False
        self._latest: _Latest | None = None

    # --- LangChain's part --------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain: "a property or attribute"
        """The view: what a model is to see of the session, the system message first.

        Raises:
            ContextOverflowError: What must stay does not fit.
        """
        return carry_out(self._view())

    async def aget_messages(self) -> list[BaseMessage]:
        """Async twin of ``messages``."""
        return await acarry_out(self._view())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages; the store has them when this returns.

        Raises:
            InvalidInputError: A message holds an object that cannot be kept; nothing was added.
        """
        carry_out(self._log.append(messages))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Async twin of ``add_messages``."""
        await acarry_out(self._log.append(messages))

    def clear(self) -> None:
        """Delete the session: messages, boundary and archive."""
        carry_out(self._cleared())

    async def aclear(self) -> None:
        """Async twin of ``clear``."""
        await acarry_out(self._cleared())

    # --- What a view leaves out --------------------------------------------------------------------------------------

    @property
    def full_messages(self) -> list[BaseMessage]:
        """Everything that was added, oldest first."""
        return carry_out(self._log.read())

    async def aget_full_messages(self) -> list[BaseMessage]:
        """Async twin of ``full_messages``."""
        return await acarry_out(self._log.read())

    @property
    def report(self) -> ContextReport:
        """What was done to make the latest view of this object fit; a blank one before the first."""
        return ContextReport() if self._latest is None else self._latest.view.report

    def handles(self) -> list[str]:
        """Handles of what left the view, in the order in which it did."""
        return self._archive.handles()

    async def ahandles(self) -> list[str]:
        """Async twin of ``handles``."""
        return await self._archive.ahandles()

    def recall(self, handle: str) -> list[BaseMessage]:
        """The messages that left the view under ``handle``, equal to what was added.

        Raises:
            InvalidInputError: The session has no such handle.
        """
        return self._archive.recall(handle)

    async def arecall(self, handle: str) -> list[BaseMessage]:
        """Async twin of ``recall``."""
        return await self._archive.arecall(handle)

    def search(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Passages of what left the view by the words of ``query``, best first; under one handle or under all."""
        return self._archive.search(query, limit=limit, handle=handle)

    async def asearch(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Async twin of ``search``."""
        return await self._archive.asearch(query, limit=limit, handle=handle)

    def recall_tool(self) -> BaseTool:
        """The ``recall`` tool for this session: a model calls it with a handle or with words."""
        return recall_tool(self._archive, max_tokens=self._settings.recall_tokens, counter=self._settings.counter)

    def retriever(self) -> BaseRetriever:
        """A retriever of passages that left the view."""
        return RecallRetriever(archive=self._archive)

    # --- For callers that know what else a request holds -------------------------------------------------------------

    def messages_beside(self, others: Sequence[BaseMessage], *, shown: Shown = list) -> list[BaseMessage]:
        """The view that fits together with other messages, which ``messages`` knows nothing of.

        Args:
            others: What goes into the same request: the new input, say.
            shown: How the view stands in the request, if not as it is: as one text, say.

        Raises:
            ContextOverflowError: What must stay does not fit.
        """
        return carry_out(self._view_beside(others, shown))

    async def amessages_beside(self, others: Sequence[BaseMessage], *, shown: Shown = list) -> list[BaseMessage]:
        """Async twin of ``messages_beside``."""
        return await acarry_out(self._view_beside(others, shown))

    def _view(self, max_tokens: int | None = None) -> Plan[list[BaseMessage]]:
        messages = yield from self._log.read()
        if self._context is None:
            boundary = yield from self._log.boundary.read()
            self._context = self._settings.context(Archive(self._store, self._labels), boundary)
        latest = self._latest
        # The same question has the same answer, even if the counter has learned meanwhile: RunnableWithMessageHistory
        # asks again after a call, and takes what is longer for new.
        if latest is None or (latest.messages, latest.max_tokens) != (messages, max_tokens):
            options = {"system": self._system, "max_tokens": max_tokens}
            try:
                view: ContextView = yield Step(self._context, "view", (messages,), options)
            except ContextOverflowError:
                if not self._answered(messages):
                    raise
                view = yield from self._view_of_old(messages, options)
            else:
                self._unsaved = self._unsaved or view.moved
            latest = self._latest = _Latest(messages, max_tokens, view)
        if self._unsaved:
            yield from self._log.boundary.write(latest.view.boundary)
            self._unsaved = False
        shown = [message for message in latest.view.messages if message is not _NEXT_QUESTION]
        return shown if self._system is None else [self._system, *shown]

    def _answered(self, messages: Sequence[BaseMessage]) -> bool:
        """Whether the newest question is an old one, so that a view need not show it."""
        last = messages[-1] if messages else None
        return isinstance(last, AIMessage) and not last.tool_calls and "fail" not in self._settings.policy.strategy

    def _view_of_old(self, messages: Sequence[BaseMessage], options: dict[str, Any]) -> Plan[ContextView]:
        """The view when the newest question, or its answer, is too large for any: as if the next one were asked.

        A context of its own makes it, since its boundary would be that of a conversation that was never held. With the
        next question the large one is old, and leaves the session's own view like any other.
        """
        context = self._settings.context(self._archive, Boundary())
        view: ContextView = yield Step(context, "view", ([*messages, _NEXT_QUESTION],), options)
        return view

    def _view_beside(self, others: Sequence[BaseMessage], shown: Shown) -> Plan[list[BaseMessage]]:
        room, ceiling = self._settings.room, self._settings.ceiling
        if room is None or ceiling is None:
            return (yield from self._view())
        size = self._settings.compactor.count
        taken = size(others, {}) if others else 0
        while True:
            view = yield from self._view(ceiling - taken)
            excess = size([*shown(view), *others], {}) - room
            if excess <= 0:
                return view
            taken += excess

    def _cleared(self) -> Plan[None]:
        yield from self._log.clear()
        self._begin()

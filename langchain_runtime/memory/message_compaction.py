"""``compact_messages``: what goes before a model in a chain or a graph so that its messages fit."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, overload

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langchain_core.tools import BaseTool
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.chat_models.model_summarizer import SummarySource
from langchain_runtime.context import Archive, ContextView
from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.context_compactor import Counter
from langchain_runtime.context.conversation_cache import ConversationCache
from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import Summarizer, TokenEstimator
from langchain_runtime.memory._session_log import BoundaryFile
from langchain_runtime.memory._stores import FreshArchive, namespace_of
from langchain_runtime.memory._view_settings import ViewSettings


class CompactMessages(Runnable[LanguageModelInput, list[BaseMessage]]):
    """Turns a conversation into its view; made by ``compact_messages``, which says how.

    Args:
        settings: What views are made with.
        store: Keeps boundaries and archives.
        tools: Count with every view.
        thread_id: The one conversation that this is for; None to go by the config.
    """

    def __init__(
        self, settings: ViewSettings, store: BaseStore, *, tools: Sequence[Any] = (), thread_id: str | None = None
    ) -> None:
        self.name = "compact_messages"
        self._settings = settings
        self._store = AnyStore(store)
        self._tools = tuple(tools)
        self._thread_id = thread_id
        self._own_id = f"object:{uuid.uuid4().hex}"
        self._contexts = ConversationCache()
        self._unsaved: set[str] = set()
        settings.context(self.archive(), Boundary())  # refuses a policy now rather than at the first turn

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> list[BaseMessage]:
        """The view of a whole conversation.

        Raises:
            ContextOverflowError: What must stay does not fit.
        """
        thread_id = self._conversation(ensure_config(config))
        return self._call_with_config(lambda given: carry_out(self._view(given, thread_id)), input, config)

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> list[BaseMessage]:
        """Async twin of ``invoke``."""
        thread_id = self._conversation(ensure_config(config))

        async def compacted(given: LanguageModelInput) -> list[BaseMessage]:
            return await acarry_out(self._view(given, thread_id))

        return await self._acall_with_config(compacted, input, config)

    def archive(self, thread_id: str | None = None) -> Archive:
        """What left the views of a conversation.

        Args:
            thread_id: Which; None for the one that this was made for, or else the one of calls without an id.
        """
        named = next(name for name in (thread_id, self._thread_id, self._own_id) if name is not None)
        return FreshArchive(self._store, self._labels(named))

    def recall_tool(self, thread_id: str | None = None) -> BaseTool:
        """The ``recall`` tool for a conversation, which ``thread_id`` names as for ``archive``."""
        settings = self._settings
        return recall_tool(self.archive(thread_id), max_tokens=settings.recall_tokens, counter=settings.counter)

    def _view(self, given: LanguageModelInput, thread_id: str) -> Plan[list[BaseMessage]]:
        messages = [HumanMessage(given)] if isinstance(given, str) else convert_to_messages(given)
        # Prompts are often filled in anew at each turn, so what stands first is no part of what was said.
        system = messages[0] if messages and isinstance(messages[0], SystemMessage) else None
        said = messages if system is None else messages[1:]
        file = BoundaryFile(self._store, self._namespace(thread_id))
        context = self._contexts.find(thread_id)
        if context is None:
            stored = yield from file.read()
            archive = Archive(self._store, self._labels(thread_id))
            context = self._contexts.get(thread_id, lambda: self._settings.context(archive, stored))
        view: ContextView = yield Step(context, "view", (said,), {"system": system, "tools": self._tools})
        if view.moved or thread_id in self._unsaved:
            self._unsaved.add(thread_id)  # until it is done: the context will not say so again
            yield from file.write(view.boundary)
            self._unsaved.discard(thread_id)
        return view.messages if system is None else [system, *view.messages]

    def _conversation(self, config: RunnableConfig) -> str:
        if self._thread_id is not None:
            return self._thread_id
        configurable = config.get("configurable", {})
        named = (configurable.get(key) for key in ("thread_id", "session_id"))
        return next((str(name) for name in named if name is not None), self._own_id)

    def _labels(self, thread_id: str) -> tuple[str, ...]:
        return (*self._namespace(thread_id), "archive")

    def _namespace(self, thread_id: str) -> tuple[str, ...]:
        return namespace_of("conversations", thread_id)


@overload
def compact_messages(
    messages: None = None,
    *,
    policy: ContextPolicy | None = None,
    store: BaseStore | None = None,
    token_counter: Counter | TokenEstimator | None = None,
    model: str | BaseChatModel | None = None,
    summarizer: Summarizer | SummarySource | None = None,
    tools: Sequence[Any] = (),
    thread_id: str | None = None,
) -> CompactMessages: ...
@overload
def compact_messages(
    messages: LanguageModelInput,
    *,
    policy: ContextPolicy | None = None,
    store: BaseStore | None = None,
    token_counter: Counter | TokenEstimator | None = None,
    model: str | BaseChatModel | None = None,
    summarizer: Summarizer | SummarySource | None = None,
    tools: Sequence[Any] = (),
    thread_id: str | None = None,
) -> list[BaseMessage]: ...
def compact_messages(
    messages: LanguageModelInput | None = None,
    *,
    policy: ContextPolicy | None = None,
    store: BaseStore | None = None,
    token_counter: Counter | TokenEstimator | None = None,
    model: str | BaseChatModel | None = None,
    summarizer: Summarizer | SummarySource | None = None,
    tools: Sequence[Any] = (),
    thread_id: str | None = None,
) -> CompactMessages | list[BaseMessage]:
    """Make a conversation fit, and keep what leaves it: a drop-in for LangChain's ``trim_messages``.

    Without messages it makes a Runnable to put before a model, in a chain or in a node of a graph::

        compact = compact_messages(policy=ContextPolicy(max_tokens=16_000, reserve_output=2_000), store=store)
        chain = prompt | compact | model

    The input is always the whole conversation. Between two moves of its boundary each view begins as the one before.
    Conversations are told apart by ``thread_id`` or ``session_id`` in the config's ``configurable``, which a node of a
    graph has by itself; calls without either are one conversation of this object. The boundary of each is kept in the
    store, so another process goes on where this one ended. ``archive(thread_id)`` has what left, and
    ``recall_tool(thread_id)`` offers it to a model.

    With messages it returns their view at once; what leaves it can be called back if there is a ``store`` and the
    conversation has an id.

    Args:
        messages: The conversation, as LangChain takes it; None for a Runnable.
        policy: How large the view may be and how it is made to fit; None for ``offload`` at four fifths of the window
            of ``model``.
        store: Keeps boundaries and what leaves the views; None for memory that lives as long as the object.
        token_counter: Counts messages, as LangChain's ``token_counter`` or a ``TokenEstimator``; None for ours.
        model: Whose window and tokens count: ``provider:name``, or a chat model.
        summarizer: For ``summarize``: a ``Summarizer``, or what a ``ModelSummarizer`` can be made of.
        tools: What the model is offered besides, to be counted: LangChain tools or schemas.
        thread_id: The one conversation that this is for; None to go by the config.

    Returns:
        A Runnable from conversations to views; or the view of ``messages``.

    Raises:
        InvalidInputError: Neither policy nor model says how large a view may be, or the policy says ``summarize`` and
            there is nobody to do it.
        ContextOverflowError: What must stay of ``messages`` does not fit.
    """
    settings = ViewSettings.of(policy, token_counter=token_counter, model=model, summarizer=summarizer)
    runnable = CompactMessages(settings, InMemoryStore() if store is None else store, tools=tools, thread_id=thread_id)
    return runnable if messages is None else runnable.invoke(messages)

"""``CompactionMiddleware``: an agent whose model sees what fits, whose state stays whole, and that can look back."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, NotRequired, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from langchain_runtime.adapters import providers
from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.adapters.request_bounds import model_info
from langchain_runtime.chat_models.model_summarizer import ModelSummarizer, SummarySource
from langchain_runtime.context import Archive, ContextView, ConversationContext
from langchain_runtime.context.context_compactor import Counter
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import Boundary, ContextPolicy, ContextReport
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import ModelCatalog, Summarizer, TokenEstimator
from langchain_runtime.cost import default_catalog
from langchain_runtime.middleware._compaction_conversations import (
    BOUNDARY,
    CONVERSATION,
    Conversation,
    Conversations,
    stored_boundary,
)
from langchain_runtime.middleware._compaction_pruning import pruned
from langchain_runtime.middleware._compaction_rebuilding import rebuilt
from langchain_runtime.middleware._model_calls import ModelCall

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
    from langchain.agents.middleware.types import ContextT, ExtendedModelResponse, PrivateStateAttr, ResponseT
    from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
    from langchain.tools import ToolRuntime

    from langchain_runtime.middleware._compaction_recall import agents_recall_tool
except ImportError as error:
    raise ImportError(
        'CompactionMiddleware needs LangChain\'s agents: pip install "langchain-runtime-layer[agents]"'
    ) from error

DEFAULT_POLICY: Final = ContextPolicy(trigger=0.8)
"""Without a policy: a fifth of the window is left for the reply and for what estimates miss."""

_ROOM_PER_RECALL: Final = 4
_SMALLEST_RECALL: Final = 64
_RECALL_WITHOUT_ROOM: Final = 1_024


class CompactionState(AgentState[ResponseT]):
    """What an agent's state has for this middleware; not part of its input and output.

    Attributes:
        lcr_boundary: Where the view begins, in JSON.
        lcr_conversation: Names the archive, where the thread does not.
    """

    lcr_boundary: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]
    lcr_conversation: NotRequired[Annotated[str, PrivateStateAttr]]


class CompactionMiddleware(AgentMiddleware[CompactionState[ResponseT], ContextT, ResponseT]):
    """Shows an agent's model a view of the conversation that fits, and keeps the rest within its reach.

    ::

        compaction = CompactionMiddleware(ContextPolicy(max_tokens=16_000))
        agent = create_agent(model, tools, middleware=[compaction], checkpointer=checkpointer, store=store)

    The agent's messages stay as they are in its state. What the model is sent is the same conversation with its oldest
    part replaced by a note with handles, tools and system message counted, and as long as it fits each request begins
    as the one before, which prompt caches reward. When it does not, the boundary moves: what leaves the view goes to
    an archive in the store first. From then on the model is offered a tool, ``recall``, that reads the archive of its
    own conversation by handle or by words (not with ``recall=False`` in the policy).

    Put it after middleware that changes what is sent (messages, system prompt, tools, model), and before
    ``BudgetMiddleware``, so that what is paid for is what is sent. Messages that other middleware adds for one call
    only are counted and shown.

    A conversation is a thread; a subagent's is its own. An agent that is restarted goes on from the boundary in its
    state. Forked or edited threads have the view of what they hold. Without a checkpointer every invocation is a
    conversation. An archive that was in memory is filled again from the state after a restart; one in a store is under
    the namespace ``("lcr", "threads", thread_id)``, to be deleted with its thread.

    With ``summarize`` a model says in the note what left the view. Its calls charge what is around the agent, and its
    own budget if it has one; without a ``summarizer`` the agent's own model is asked, as middleware before this one
    has left it, a ``BudgetMiddleware`` for instance. Where a summary fails or is of no use, the note has handles only.

    Args:
        policy: When and how; None for ``offload`` at four fifths of the model's window.
        store: Keeps what leaves the view; None for the agent's own store, or else memory. Conversations without a
            thread are kept in memory unless it is given.
        summarizer: For ``summarize``: a ``Summarizer``, or what a ``ModelSummarizer`` can be made of; None for the
            agent's model.
        token_counter: Counts messages, as LangChain's ``token_counter`` or a ``TokenEstimator``; None for ours.
        catalog: Knows the windows of models whose ``profile`` does not; None for the default catalogue.
        prune: Take out of the state what has left the view and is in the archive: checkpoints stay small, and the
            archive is then the only place that has it. Needs a store.

    Raises:
        InvalidInputError: ``summarizer`` cannot write, or there is one and the policy does not ask for summaries.
    """

    state_schema: type[CompactionState[ResponseT]] = CompactionState

    def __init__(
        self,
        policy: ContextPolicy | None = None,
        *,
        store: BaseStore | None = None,
        summarizer: Summarizer | SummarySource | None = None,
        token_counter: Counter | TokenEstimator | None = None,
        catalog: ModelCatalog | None = None,
        prune: bool = False,
    ) -> None:
        super().__init__()
        self._policy = DEFAULT_POLICY if policy is None else policy
        self._summarises = "summarize" in self._policy.strategy
        if summarizer is not None and not self._summarises:
            raise InvalidInputError(
                f"there is a summarizer, and the policy says {' and '.join(self._policy.strategy)}",
                hint='ContextPolicy(strategy="summarize")',
            )
        if summarizer is not None and not isinstance(summarizer, Summarizer):
            summarizer = ModelSummarizer(summarizer)
        self._summarizer = summarizer
        self._agents_summarizer: tuple[BaseChatModel, Summarizer] | None = None
        self._counter = token_counter
        self._catalog = default_catalog() if catalog is None else catalog
        self._windows: dict[str, int | None] = {}
        self._prune = prune
        self._replies = _ReplySchemas()
        self._conversations = Conversations(store)
        self._recall = agents_recall_tool(self._recall_in)
        self.tools = [self._recall] if self._policy.recall else []

    def report(self, thread_id: str | None = None) -> ContextReport | None:
        """What was done for the latest model call, as far as this process has made it.

        Args:
            thread_id: Of the thread; None for whichever was called last.

        Returns:
            None if there was no call, or it is long ago.
        """
        conversation = self._conversations.latest(thread_id)
        return None if conversation is None or conversation.view is None else conversation.view.report

    def wrap_model_call(
        self, request: ModelRequest[ContextT], handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]]
    ) -> ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]:
        """Make the call with what fits.

        Raises:
            ContextOverflowError: System, tools, pinned and newest messages do not fit.
        """
        return carry_out(self._model_call(request, ModelCall.by(handler)))

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]:
        """Async twin of ``wrap_model_call``."""
        return await acarry_out(self._model_call(request, ModelCall.by(handler)))

    def _model_call(
        self, request: ModelRequest[ContextT], call: ModelCall
    ) -> Plan[ModelResponse[ResponseT] | ExtendedModelResponse[ResponseT]]:
        store = None if request.runtime is None else request.runtime.store
        conversation = self._conversations.find(ensure_config(), request.state, store)
        if self._prune and not conversation.durable:
            raise InvalidInputError(
                "prune=True takes messages out of the agent's state, and there is no store to keep them",
                hint="pass store= to CompactionMiddleware; the agent's own is used in threads only",
            )
        stored = stored_boundary(request.state)
        view, lasting = yield from self._view(request, conversation, stored)
        tools = request.tools
        if not view.boundary.events:
            tools = [tool for tool in tools if not self._is_recall(tool)]
        fitted = request.override(messages=cast("list[AnyMessage]", view.messages), tools=tools)
        response: ModelResponse[ResponseT] | AIMessage = yield Step(call, "make", (fitted,))
        update = self._kept(request, stored, view.boundary) if lasting else {}
        if conversation.name.own is not None and request.state.get(CONVERSATION) != conversation.name.own:
            update[CONVERSATION] = conversation.name.own
        if isinstance(response, AIMessage):
            response = ModelResponse(result=[response])
        if not update:
            return response
        return ExtendedModelResponse(model_response=response, command=Command(update=update))

    def _is_recall(self, tool: BaseTool | dict[str, Any]) -> bool:
        """Whether it is our tool, or a copy that other middleware made of it.

        Raises:
            InvalidInputError: It is another one of that name, and the model could not tell the two apart.
        """
        if not self.tools or not isinstance(tool, StructuredTool) or tool.name != self._recall.name:
            return False
        if tool.func is not self._recall.func:
            raise InvalidInputError(
                f"the agent has a tool of its own that is called {tool.name!r}, as CompactionMiddleware's is",
                hint="rename it, or use ContextPolicy(recall=False)",
            )
        return True

    def _view(
        self, request: ModelRequest[Any], conversation: Conversation, stored: Boundary
    ) -> Plan[tuple[ContextView, bool]]:
        """The view, and whether its boundary holds for the messages that the state has."""
        messages = list(request.messages)
        in_state: Sequence[BaseMessage] = request.state.get("messages", ())
        setting = self._setting(request.model)
        window = self._window(request.model)
        options = {
            "system": request.system_message,
            "tools": [*request.tools, *self._replies.of(request.response_format)],
            "max_tokens": window,
        }
        make = partial(self._context, conversation.archive, setting)
        added = len(messages) > len(in_state) and all(map(operator.is_, messages, in_state))
        # What is read with messages that were added for this call only is nothing that the next call could go on from.
        context = make(stored) if added else conversation.context(messages, stored, setting, make)
        view: ContextView = yield Step(context, "view", (messages,), options)
        conversation.limits = Limits.under(self._policy, window)
        if added:
            conversation.view = view
            return view, view.boundary.upto <= len(in_state)
        conversation.seen(messages, stored, view)
        return view, True

    def _context(self, archive: Archive, setting: _Setting, boundary: Boundary) -> ConversationContext:
        return ConversationContext(
            self._policy,
            archive,
            counter=self._counter,
            model=setting.model,
            summarizer=setting.summarizer,
            boundary=boundary if boundary.upto or boundary.inserted else None,
        )

    def _setting(self, model: BaseChatModel) -> _Setting:
        summarizer = self._summarizer
        if self._summarises and summarizer is None:
            last = self._agents_summarizer
            if last is None or last[0] is not model:
                last = self._agents_summarizer = (model, ModelSummarizer(model))
            summarizer = last[1]
        return _Setting(providers.model_id(model, {}), summarizer)

    def _window(self, model: BaseChatModel) -> int | None:
        """The most that the model reads, in tokens.

        Raises:
            InvalidInputError: Nobody says how much the view may have.
        """
        stated = (model.profile or {}).get("max_input_tokens")
        if isinstance(stated, int):
            return stated
        model_id = providers.model_id(model, {})
        if model_id not in self._windows:  # a catalogue looks long for a model that it does not know
            info = model_info(self._catalog, model_id, required=False)
            self._windows[model_id] = None if info is None else info.context_window
        window = self._windows[model_id]
        has_ceiling = self._policy.keep_last_n is not None and "keep_last" in self._policy.strategy
        if window is None and self._policy.max_tokens is None and not has_ceiling:
            raise InvalidInputError(
                f"nobody knows the window of {model_id!r}, and the context policy gives no max_tokens",
                hint="CompactionMiddleware(ContextPolicy(max_tokens=...))",
            )
        return window

    def _kept(self, request: ModelRequest[Any], stored: Boundary, boundary: Boundary) -> dict[str, Any]:
        """What the state has to remember of a view."""
        update: dict[str, Any] = {}
        if self._prune and request.messages == request.state["messages"]:
            removals, boundary = pruned(request.messages, boundary)
            update |= {"messages": removals} if removals else {}
        if boundary != stored:
            update[BOUNDARY] = boundary.model_dump(mode="json")
        return update

    def _recall_in(self, runtime: ToolRuntime[Any, Any]) -> Plan[BaseTool]:
        conversation = self._conversations.find(runtime.config, runtime.state, runtime.store)
        stored = stored_boundary(runtime.state)
        conversation.catch_up(stored)
        archive = conversation.archive
        if stored.handle is not None:
            known = yield Step(archive, "has", (stored.handle,))
            if not known:
                # The archive was in another process's memory, and is filled again by the next model call.
                archive = Archive(InMemoryStore(), ("lcr",))
                yield Step(archive, "put", (rebuilt(runtime.state["messages"], stored),))
        return recall_tool(archive, max_tokens=self._recall_tokens(conversation), counter=self._counter)

    def _recall_tokens(self, conversation: Conversation) -> int:
        if self._policy.recall_tokens is not None:
            return self._policy.recall_tokens
        limits = conversation.limits or Limits.under(self._policy, None)
        return _RECALL_WITHOUT_ROOM if limits is None else max(limits.room // _ROOM_PER_RECALL, _SMALLEST_RECALL)


class _Setting(NamedTuple):
    """What the contexts of a conversation differ in."""

    model: str
    summarizer: Summarizer | None


class _ReplySchemas:
    """The schemas that a request carries for structured output: ``create_agent`` adds them after all middleware."""

    def __init__(self) -> None:
        self._last: tuple[Any, list[dict[str, Any]]] = (None, [])

    def of(self, response_format: Any) -> list[dict[str, Any]]:
        """The schemas for a response format; the same objects for the same one."""
        last = self._last
        if response_format is not last[0]:
            last = self._last = (response_format, _reply_schemas(response_format))
        return last[1]


def _reply_schemas(response_format: Any) -> list[dict[str, Any]]:
    if response_format is None:
        return []
    if isinstance(response_format, ProviderStrategy):
        specs = [response_format.schema_spec]
    elif isinstance(response_format, ToolStrategy):
        specs = response_format.schema_specs
    else:  # the model decides which of the two; as tools they are larger
        schema = response_format.schema if isinstance(response_format, AutoStrategy) else response_format
        specs = ToolStrategy(schema).schema_specs
    return [{"name": spec.name, "description": spec.description, "parameters": spec.json_schema} for spec in specs]

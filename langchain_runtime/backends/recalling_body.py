"""A prompt whose view does not hold everything: the model may ask for the rest, or reads in short what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.store.base import BaseStore

from langchain_runtime.adapters.account import current_account
from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.backends.task_body import Occupancy, TaskBody, TaskRuntime, call_arguments, result_of_reply
from langchain_runtime.context import ContextCompactor, ConversationContext
from langchain_runtime.context.marks import is_dependency
from langchain_runtime.context.notes import with_summary
from langchain_runtime.context.strategies import Limits
from langchain_runtime.context.task_archive import TalkArchive, task_archive
from langchain_runtime.contracts.context import ContextPolicy, ContextReport
from langchain_runtime.contracts.events import ContextCompacted
from langchain_runtime.contracts.job import LeftOut, TaskJob
from langchain_runtime.contracts.protocols import Summarizer
from langchain_runtime.contracts.run import TaskResult
from langchain_runtime.contracts.usage import Usage

_MOST_ROUNDS: Final = 8
"""Turns in which the model may recall; then it has to answer with what it has."""

_MOST_PINNED: Final = 0.75
"""Share of the room that the first view may take for good: an answer of a quarter still fits beside it."""

_WHOLE: Final = HumanMessage("[The whole texts are kept under the handles that stand in their excerpts.]")


def can_call_tools(model: BaseChatModel) -> bool:
    """Whether tools can be bound to the model, by its class and by what is known of it."""
    offers = getattr(type(model), "bind_tools", None) is not BaseChatModel.bind_tools
    return offers and (model.profile or {}).get("tool_calling", True)


@dataclass
class _Bill:
    """What a body did about its view, to be told at its end."""

    recalls: int = 0
    summary: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class RecallingBody:
    """Answers a prompt; where its view lacks something, in several calls, each reserved and journalled by itself.

    A killed task does its calls again and finds their replies in the journal: the conversation is the same, because
    what is recalled is.

    Attributes:
        whole: Answers a prompt of which nothing was left out, or nothing that it can do anything about.
        partial: Answers one for which it has only a summary of the rest.
        models: The models by the name under which a job asks for them; they reserve for themselves.
        priced_as: By that name, the model whose tokens are counted.
        store: Holds the run's archives.
        summarizer_of: Lets a model write summaries.
    """

    whole: TaskBody
    partial: TaskBody
    models: Mapping[str, BaseChatModel]
    priced_as: Callable[[str], str]
    store: BaseStore
    summarizer_of: Callable[[BaseChatModel], Summarizer]

    async def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> TaskResult:
        """Answer the prompt."""
        left_out = job.left_out
        if left_out is None:
            return await self.whole(job, runtime, occupancy)
        bill = _Bill()
        try:
            if left_out.summarize:
                job = job.model_copy(update={"messages": await self._summarised(job, left_out, bill)})
            if left_out.recall_tokens is None:
                return await self.partial(job, runtime, occupancy)
            reply = await self._talk(job, left_out, left_out.recall_tokens, bill)
        finally:
            if bill.recalls or bill.summary != Usage():
                _tell(job, recalls=bill.recalls, summary=bill.summary)
        return result_of_reply(reply, task_id=job.task_id)

    # --- the summary -------------------------------------------------------------------------------------------------

    async def _summarised(self, job: TaskJob, left_out: LeftOut, bill: _Bill) -> list[AnyMessage]:
        """The view with a summary of what it lacks; as it is, where nobody wrote one that is of use."""
        view = list(job.messages or ())
        limits = Limits.under(left_out.policy, left_out.window)
        assert limits is not None  # without them nothing is summarised
        archive = task_archive(self.store, job.run_id, job.task_id)
        found = [message for handle in left_out.handles for message in await archive.arecall(handle)]
        gone = [message for message in found if is_dependency(message)]
        summarizer = self.summarizer_of(self.models[str(job.model)])
        try:
            summary = await summarizer.asummarize(gone, max_tokens=limits.summary)
        except Exception:  # noqa: BLE001 - whatever a model's client raises: the view without a summary is sound
            return view
        bill.summary += summary.usage
        longer = _with_summary(view, left_out.note, summary.text)
        compactor = ContextCompactor(model=self.priced_as(str(job.model)))
        return longer if compactor.count(longer, {}) <= limits.room else view

    # --- the conversation --------------------------------------------------------------------------------------------

    async def _talk(self, job: TaskJob, left_out: LeftOut, recall_tokens: int, bill: _Bill) -> BaseMessage:
        archive = TalkArchive(self.store, job.run_id, job.task_id)
        tool = recall_tool(archive, max_tokens=recall_tokens)
        model = self.models[str(job.model)]
        context = ConversationContext(
            self._with_pins(job, left_out, tool),
            archive,
            model=self.priced_as(str(job.model)),
            max_tokens=left_out.window,
            summarizer=self.summarizer_of(model),
        )
        arguments = call_arguments(job)
        recalling = model.bind_tools([tool])
        conversation: list[BaseMessage] = list(job.messages or ())
        for _ in range(_MOST_ROUNDS):
            view = await self._view(context, conversation, [tool], job, bill)
            reply = await recalling.ainvoke(view, **arguments)
            if not reply.tool_calls:
                return reply
            conversation.append(reply)
            for call in reply.tool_calls:
                bill.recalls += 1
                conversation.append(await _answer(tool, call))
        return await model.ainvoke(_as_told(await self._view(context, conversation, [], job, bill)), **arguments)

    def _with_pins(self, job: TaskJob, left_out: LeftOut, tool: BaseTool) -> ContextPolicy:
        """The policy that keeps the first view, if that leaves room: it names what can be recalled."""
        policy, view = left_out.policy, list(job.messages or ())
        limits = Limits.under(policy, left_out.window)
        compactor = ContextCompactor(model=self.priced_as(str(job.model)))
        taken = compactor.count(view, {tool.name: convert_to_openai_tool(tool)})
        if limits is not None and taken > _MOST_PINNED * limits.room:
            return policy
        return policy.model_copy(update={"pin": (*policy.pin, *(str(message.id) for message in view))})

    async def _view(
        self,
        context: ConversationContext,
        conversation: list[BaseMessage],
        tools: list[BaseTool],
        job: TaskJob,
        bill: _Bill,
    ) -> list[BaseMessage]:
        view = await context.aview(conversation, tools=tools)
        if view.moved and (report := view.report).strategy:
            bill.summary += report.summary
            _tell(job, report)
        return view.messages


def _with_summary(view: list[AnyMessage], note_id: str | None, text: str) -> list[AnyMessage]:
    """The view with the summary in its note or, where all that is missing was clipped, before the prompt."""
    if note_id is None:
        return [*view[:-1], with_summary(_WHOLE, text), *view[-1:]]
    return [with_summary(message, text) if message.id == note_id else message for message in view]


async def _answer(tool: BaseTool, call: ToolCall) -> BaseMessage:
    if call["name"] != tool.name:
        text = f"There is no tool {call['name']!r}; there is {tool.name!r}."
        return ToolMessage(text, name=call["name"], tool_call_id=call["id"] or "", status="error")
    answer: BaseMessage = await tool.ainvoke(call)
    return answer


def _as_told(view: list[BaseMessage]) -> list[BaseMessage]:
    """What was recalled as plain messages: some providers refuse tool calls where no tool is offered."""
    told: list[BaseMessage] = []
    for message in view:
        if isinstance(message, ToolMessage):
            told.append(HumanMessage(f"Recalled:\n{message.text}", id=message.id))
        elif not (isinstance(message, AIMessage) and message.tool_calls):
            told.append(message)
    return told


def _tell(job: TaskJob, report: ContextReport | None = None, *, recalls: int = 0, summary: Usage | None = None) -> None:
    """Add to the run's events what was done for a view, or at the end what was done in all."""
    account = current_account()
    run = None if account is None else account.run
    if run is None or run.on_event is None:
        return
    done = report or ContextReport()
    run.on_event(
        ContextCompacted(
            run_id=job.run_id,
            task=job.task_id,
            strategy=done.strategy,
            tokens_before=done.tokens_before,
            tokens_after=done.tokens_after,
            evicted=done.evicted,
            clipped=done.clipped,
            recalls=recalls,
            summary=summary or Usage(),
        )
    )

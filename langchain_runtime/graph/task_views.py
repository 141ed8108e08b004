"""The view that the model of a prompt gets, and what is to be done about what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import JsonValue

from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.backends.recalling_body import can_call_tools
from langchain_runtime.context import ContextBuilder, ContextCompactor
from langchain_runtime.context.strategies import Limits
from langchain_runtime.context.task_archive import task_archive
from langchain_runtime.contracts.context import Compaction, ContextBundle, ContextPolicy
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.job import LeftOut
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition

_ROOM_PER_ANSWER: Final = 4
"""A recalled answer and the call for it have at most this part of the room: two of them beside half a room's view."""
_CALL: Final = 48
"""Tokens of the call."""
_LEAST_ANSWER: Final = 64
_ANSWER_WITHOUT_LIMITS: Final = 2_000
"""Tokens of a recalled answer where neither policy nor model has a limit."""


@dataclass(frozen=True)
class TaskView:
    """What a model sees of a task.

    Attributes:
        compaction: How it was made to fit; its bundle is the view.
        evicted: Messages that left it.
        left_out: What it lacks, where the body is to do something about it.
    """

    compaction: Compaction
    evicted: int
    left_out: LeftOut | None = None

    @property
    def messages(self) -> list[Any]:
        """The view."""
        return self.compaction.bundle.messages


class TaskViews:
    """Makes the views of one run's prompts; what they lack is in the archive of their task before they are used.

    The same task, model and memory give the same view, in whichever process: replies are found again by it.

    Args:
        spec: The graph.
        services: Components.
        run_id: The run.
        inputs: The run's inputs.
    """

    def __init__(self, spec: GraphSpec, services: Services, run_id: str, inputs: Mapping[str, JsonValue]) -> None:
        self._spec = spec
        self._services = services
        self._run_id = run_id
        self._inputs = inputs
        self._builder = ContextBuilder()
        # Of its own: the shared one learns from calls, and would cut a view differently after a restart.
        self._estimator = TokenEstimator()

    async def view(
        self,
        definition: TaskDefinition,
        routed: Mapping[str, JsonValue],
        memory: Mapping[str, JsonValue],
        *,
        model: str,
        chat_model: BaseChatModel,
    ) -> TaskView:
        """The view of a task on ``model``.

        Args:
            definition: The task.
            routed: What it receives, by name.
            memory: The run's, as the task sees it.
            model: Name of the model.
            chat_model: The model.

        Raises:
            ContextOverflowError: What must stay does not fit.
            InvalidInputError: The prompt has a variable that nothing supplies.
        """
        bundle = self._builder.build(
            definition.spec, inputs=self._inputs, routed=routed, memory=memory, tools=_schemas(definition.tools)
        )
        policy, info = self._spec.context_of(definition), self._services.info(model)
        window = info.context_window if info is not None else None
        compactor = ContextCompactor(self._estimator, model=self._services.priced_as(model))
        archive = task_archive(self._services.store, self._run_id, definition.spec.id)
        compaction = compactor.compact(bundle, _used_once(policy, definition), max_tokens=window)
        recall_tokens = None
        if compaction.evicted and definition.is_single_call and policy.recall and can_call_tools(chat_model):
            tokens = _answer_tokens(policy, window)
            with_recall = _with_tool(recall_tool(archive, max_tokens=tokens), compactor, bundle, policy, window)
            if with_recall is not None:
                compaction, recall_tokens = with_recall, tokens
        await archive.aput(compaction.evicted)
        summarize = "summarize" in compaction.strategy
        left_out = None
        if recall_tokens is not None or summarize or (compaction.evicted and definition.tools):
            left_out = LeftOut(
                policy=_going_on(policy),
                window=window,
                handles=tuple(compaction.evicted),
                note=compaction.note,
                recall_tokens=recall_tokens,
                summarize=summarize,
            )
        shown = {id(message) for message in compaction.bundle.messages}
        gone = sum(id(message) not in shown for message in bundle.messages)
        return TaskView(compaction, gone - compaction.clipped, left_out)


def _schemas(tools: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Tools as a request carries them; providers' own are dicts already."""
    schemas = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in tools]
    return {str(number): schema for number, schema in enumerate(schemas)}


def _used_once(policy: ContextPolicy, definition: TaskDefinition) -> ContextPolicy:
    """A low water mark spares later turns of a conversation a compaction; a view that is used once needs none."""
    if definition.tools or "target" in policy.model_fields_set:
        return policy
    return policy.model_copy(update={"target": policy.trigger})


def _with_tool(
    tool: BaseTool, compactor: ContextCompactor, bundle: ContextBundle, policy: ContextPolicy, window: int | None
) -> Compaction | None:
    """The view with room for the tool and for what it answers; None if that leaves too little for the rest."""
    offered = bundle.model_copy(update={"tools": {tool.name: convert_to_openai_tool(tool)}})
    try:
        return compactor.compact(offered, policy, max_tokens=window)
    except ContextOverflowError:
        return None


def _going_on(policy: ContextPolicy) -> ContextPolicy:
    """The policy for the turns of a task.

    What the model asks for itself is no reason to fail; and since the turns are few, as much of it stays as fits.
    """
    strategy = tuple(name for name in policy.strategy if name != "fail") or ("offload",)
    target = policy.target if "target" in policy.model_fields_set else policy.trigger
    return policy.model_copy(update={"strategy": strategy, "target": target})


def _answer_tokens(policy: ContextPolicy, window: int | None) -> int:
    if policy.recall_tokens is not None:
        return policy.recall_tokens
    limits = Limits.under(policy, window)
    return _ANSWER_WITHOUT_LIMITS if limits is None else max(limits.room // _ROOM_PER_ANSWER - _CALL, _LEAST_ANSWER)

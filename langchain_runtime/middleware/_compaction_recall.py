"""The ``recall`` tool of an agent: one tool for all its conversations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from langchain.tools import ToolRuntime
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, ConfigDict, create_model

from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.context import Archive
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out

RecallIn = Callable[[ToolRuntime[Any, Any]], Plan[BaseTool]]
"""Finds the recall tool of the conversation that a call of the agent's tool is made in."""

_ANY_SIZE: Final = 1_024
"""Of answers that are never given: the tool is only looked at."""


class _FromLangGraph(BaseModel):
    """What LangGraph hands to tools and never shows to models."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    runtime: ToolRuntime[Any, Any]


def agents_recall_tool(recall_in: RecallIn) -> StructuredTool:
    """A tool that looks to a model as ``recall_tool``'s do, and answers by that of the conversation it is called in."""
    model_side = recall_tool(Archive(InMemoryStore(), ("lcr",)), max_tokens=_ANY_SIZE)

    def answer(runtime: ToolRuntime[Any, Any], asked: dict[str, Any]) -> Plan[Any]:
        tool = yield from recall_in(runtime)
        # Without callbacks: whoever traces or streams tools sees this call already.
        return (yield Step(tool, "invoke", (asked, {"callbacks": []})))

    def recall(runtime: ToolRuntime[Any, Any], **asked: Any) -> Any:
        return carry_out(answer(runtime, asked))

    async def arecall(runtime: ToolRuntime[Any, Any], **asked: Any) -> Any:
        return await acarry_out(answer(runtime, asked))

    arguments: Any = model_side.get_input_schema()
    return StructuredTool(
        name=model_side.name,
        description=model_side.description,
        func=recall,
        coroutine=arecall,
        args_schema=create_model(arguments.__name__, __base__=(arguments, _FromLangGraph), __doc__=arguments.__doc__),
    )

"""Stable ids for the LangGraph tasks of a run, so that a human's answer finds the task that asked.

LangGraph numbers the tasks that a node calls in the order of the calls, and makes that number part of their ids. Our
order depends on which task ends first, so the answer to an ``interrupt()`` inside a task would reach another one, or
none, on resume. The number is therefore made to depend on the task's own calls only; its name is in the id already.
"""

from __future__ import annotations

import contextvars
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config

_SCRATCHPAD: Final = "__pregel_scratchpad"
"""LangGraph's own bookkeeping of the node that runs. The name is private: without it tasks cannot ask humans."""

_TASK_ID: Final = "__pregel_task_id"

_COUNTER: Final = "call_counter"

_number: contextvars.ContextVar[int] = contextvars.ContextVar("lcr_call_number", default=0)


def pin_call_ids(config: RunnableConfig) -> bool:
    """Let tasks that are called from this node have the ids that ``number_call`` gives them; False if it cannot be."""
    scratchpad: Any = config.get("configurable", {}).get(_SCRATCHPAD)
    if not callable(getattr(scratchpad, _COUNTER, None)):
        return False
    object.__setattr__(scratchpad, _COUNTER, _number.get)  # the record is frozen
    return True


def number_of_call() -> int:
    """The number of the next LangGraph task that is called in this context."""
    return _number.get()


def number_call(number: int) -> None:
    """Set the number of the next LangGraph task that is called in this context; a name and a number are used once."""
    _number.set(number)


def langgraph_task_id() -> str:
    """Id of the LangGraph task that runs now: another one for each checkpoint that a graph is run from."""
    return str(get_config().get("configurable", {}).get(_TASK_ID, ""))

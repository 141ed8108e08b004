"""What spans of tasks are called, and how what they stand for has ended."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from langgraph.errors import GraphBubbleUp

from langchain_runtime.contracts.errors import LangChainRuntimeError, TaskCancelledError
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import TaskError, TaskState
from langchain_runtime.telemetry import attributes as name

SUSPENDED: Final = "suspended"
CANCELLED: Final = "cancelled"
FAILED: Final = "failed"


def title_of(task_id: str) -> str:
    """A span's name: the same for all children of a ``for_each`` task, since back ends group by it."""
    return f"{name.EXECUTE_TOOL} {tool_of(task_id)}"


def tool_of(task_id: str) -> str:
    """What a task is the execution of."""
    return task_id.partition(CHILD_SEPARATOR)[0]


def identity(run_id: str, task_id: str, attempt: int) -> dict[str, Any]:
    """What tells one attempt from all others."""
    return {
        name.OPERATION_NAME: name.EXECUTE_TOOL,
        name.TOOL_NAME: tool_of(task_id),
        name.TOOL_TYPE: "function",
        name.RUN_ID: run_id,
        name.TASK_ID: task_id,
        name.TASK_ATTEMPT: attempt,
    }


def state_of(state: TaskState, error: TaskError | None) -> str:
    """A task's state; what was cancelled did not fail."""
    return CANCELLED if error is not None and is_cancelled(error) else str(state)


def is_cancelled(error: TaskError) -> bool:
    """Whether somebody stopped the task; that is no failure of its own."""
    return error.code == TaskCancelledError.code


def broken_off(error: BaseException) -> str:
    """How something ended that an exception left."""
    if isinstance(error, GraphBubbleUp):
        return SUSPENDED
    return CANCELLED if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else FAILED


def code_of(error: BaseException) -> str:
    """Our stable code; of others' errors the class."""
    return error.code if isinstance(error, LangChainRuntimeError) else type(error).__qualname__

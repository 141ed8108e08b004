"""Work that LangGraph sees as a task of its own: streams, traces and callbacks show it under its name.

The driver is async. Under ``invoke`` and ``stream`` LangGraph offers only sync tasks: the driver then runs in an event
loop of its own, and LangGraph's threads merely wait for what happens there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from langgraph.func import task as langgraph_task

from langchain_runtime.graph.journaled_saver import Journaled

Work = Callable[[], Coroutine[Any, Any, dict[str, Any]]]


class LangGraphTask(Protocol):
    """Does work as a LangGraph task."""

    async def __call__(self, name: str, shown: dict[str, Any], work: Work) -> dict[str, Any]:
        """Do the work, or give back what LangGraph has kept of it in an earlier execution.

        Args:
            name: The task's.
            shown: What streams and traces show as its input.
            work: Its result is what they show as the task's.
        """
        ...


async def async_task(name: str, shown: dict[str, Any], work: Work) -> dict[str, Any]:
    """For a driver under ``ainvoke`` or ``astream``."""

    async def body(_shown: dict[str, Any]) -> Journaled:
        return Journaled(await work())

    result: dict[str, Any] = await _named(name, body)(shown)
    return result


async def sync_task(name: str, shown: dict[str, Any], work: Work) -> dict[str, Any]:
    """For a driver under ``invoke`` or ``stream``; the work is done in the driver's loop, in the task's context."""
    loop = asyncio.get_running_loop()

    def body(_shown: dict[str, Any]) -> Journaled:
        return Journaled(asyncio.run_coroutine_threadsafe(work(), loop).result())

    result: dict[str, Any] = await asyncio.wrap_future(_named(name, body)(shown))
    return result


_SIGNATURE: Final = inspect.Signature([inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD)])


def _named(name: str, body: Any) -> Any:
    # LangGraph inspects the function of every call. It would remember one that it can import by its name; ours has
    # another name each time, and LangGraph forgets nothing.
    body.__signature__ = _SIGNATURE
    return langgraph_task(name=name)(body)

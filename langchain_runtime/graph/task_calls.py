"""Each task runs as a LangGraph task, so that streams, traces and callbacks see it under its own name.

The driver is async. Under ``invoke`` and ``stream`` LangGraph offers only sync tasks: the driver then runs in an event
loop of its own, and LangGraph's threads merely wait for what happens there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from langgraph.func import task as langgraph_task

RunJob = Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]


class CallTask(Protocol):
    """Runs a job as the LangGraph task ``task_id`` and waits for its outcome."""

    async def __call__(self, task_id: str, job: dict[str, Any], run: RunJob) -> dict[str, Any]:
        """Call ``run(job)`` inside the task."""
        ...


async def call_async_task(task_id: str, job: dict[str, Any], run: RunJob) -> dict[str, Any]:
    """For a driver under ``ainvoke`` or ``astream``."""

    async def body(job: dict[str, Any]) -> dict[str, Any]:
        return await run(job)

    call: Any = langgraph_task(name=task_id)
    outcome: dict[str, Any] = await call(body)(job)
    return outcome


async def call_sync_task(task_id: str, job: dict[str, Any], run: RunJob) -> dict[str, Any]:
    """For a driver under ``invoke`` or ``stream``."""
    loop = asyncio.get_running_loop()

    def body(job: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(run(job), loop).result()

    call: Any = langgraph_task(name=task_id)
    outcome: dict[str, Any] = await asyncio.wrap_future(call(body)(job))
    return outcome

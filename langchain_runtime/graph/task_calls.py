"""Each task runs as a LangGraph task, so that streams, traces and callbacks see it under its own name.

The driver is async. Under ``invoke`` and ``stream`` LangGraph offers only sync tasks: the driver then runs in an event
loop of its own, and LangGraph's threads merely wait for what happens there.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from langgraph.func import task as langgraph_task

T = TypeVar("T")
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


def run_in_own_loop(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a new event loop in a new thread, in a copy of the current context, and wait for it.

    The calling thread may have a running loop of its own (a notebook's). Ctrl-C while waiting cancels the coroutine.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    context = contextvars.copy_context()

    async def main() -> T:
        task = asyncio.ensure_future(start())
        started.append((asyncio.get_running_loop(), task))
        return await task

    def work() -> None:
        try:
            outcome.append(context.run(asyncio.run, main()))
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread
            failure.append(error)

    thread = threading.Thread(target=work, name="lcr-driver", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        for loop, task in started:
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]

"""Equal tasks do their work once: while one of them is under way, and from what the graph's cache keeps.

::

    get_or_run ──> nobody does it: leads ──> in the cache ──────────────> taken
               │                        └──> does the work ──> kept, and handed to all who wait
               └─> somebody does it: waits ──> taken
                                          └──> the leader failed or was cancelled: one of those who wait leads
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache

from langchain_runtime.adapters.providers import model_id
from langchain_runtime.adapters.replies import request_digest
from langchain_runtime.backends.task_body import TaskBody, body_name, call_arguments
from langchain_runtime.contracts.errors import TaskTimeoutError
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskOutcome, TaskResult, TaskState, now
from langchain_runtime.graph.spec import TaskDefinition

_NAMESPACE: Final = ("langchain_runtime", "tasks")
_VERSION: Final = 1

_log = logging.getLogger(__name__)


class TaskCache:
    """Results of the cached tasks of one compiled graph; safe for threads and event loops.

    Tasks of any of its runs in this process share the work that is under way; what is kept can be shared with other
    graphs and processes through ``cache``. A body's code is not part of a task's identity, only its name is: what it
    reads besides its inputs, and writes besides its output, is its author's business.

    Args:
        cache: LangGraph's; None keeps results in memory.
        fingerprint: Tells the graph's bodies from those of other graphs.
        bodies: The graph's bodies by task id.
        clock: The time in UTC.
    """

    def __init__(
        self,
        cache: BaseCache[Any] | None,
        fingerprint: str,
        bodies: Mapping[str, TaskBody] | None = None,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._cache: BaseCache[Any] = InMemoryCache() if cache is None else cache
        self._fingerprint = fingerprint
        self._bodies = dict(bodies or {})  # keeps them alive, so that ids go on naming them
        self._tasks = {id(body): task_id for task_id, body in self._bodies.items()}
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[str, deque[Future[str | None]]] = {}

    def key_of(self, definition: TaskDefinition, job: TaskJob, model: BaseChatModel | None) -> str:
        """The same for tasks that do the same work.

        Prompts are equal in all graphs: same model and settings, messages, tools and reply format. Other bodies are
        equal within a graph: same task of the graph, inputs and name of the function or class. A child of a
        ``for_each`` task, or a task that is like another, has that one's body.

        Args:
            definition: What the task does.
            job: With the inputs; prompts: with messages and model, before money is reserved.
            model: Prompts: the chat model of that name.
        """
        if model is None:
            task = self._tasks.get(id(definition.body), definition.spec.id)
            return _digest([self._fingerprint, task, body_name(definition.body), job.inputs])
        settings = {
            "settings": model.asdict(),
            "arguments": call_arguments(job),
            "response_format": definition.response_format,
            "tools": [convert_to_openai_tool(tool) for tool in definition.tools],
        }
        return request_digest(model=model_id(model, {}), messages=job.messages or (), stop=None, kwargs=settings)

    async def get_or_run(
        self,
        key: str,
        job: TaskJob,
        run: Callable[[], Awaitable[TaskOutcome]],
        *,
        ttl_seconds: int | None = None,
    ) -> tuple[TaskOutcome, bool]:
        """The outcome of ``job``, and whether it was taken from an equal task: then nothing was spent for it.

        Whatever ``run`` raises reaches only its own caller. Failures are not shared, nor are replies that were cut for
        want of money, nor outcomes that add tasks to their run: one of the tasks that wait does the work then.

        Args:
            key: From ``key_of``.
            job: The task that wants the outcome.
            run: Does the work, reserving the money for it; called at most once.
            ttl_seconds: How old a result may be that is taken, and how long one is kept; None for no limit.

        Raises:
            TaskTimeoutError: An equal task did not end within the task's own ``timeout_ms``.
        """
        while (place := self._join(key)) is not None:
            kept = await self._wait(key, place, job)
            if kept is None:
                break
            if self._is_fresh(kept, ttl_seconds):  # the leader may take older ones
                return self._taken(_decoded(kept), job), True
        return await self._lead(key, job, run, ttl_seconds)

    # --- leaders -----------------------------------------------------------------------------------------------------

    async def _lead(
        self, key: str, job: TaskJob, run: Callable[[], Awaitable[TaskOutcome]], ttl_seconds: int | None
    ) -> tuple[TaskOutcome, bool]:
        kept: str | None = None
        try:
            kept = await self._read(key, ttl_seconds)
            if kept is not None:
                return self._taken(_decoded(kept), job), True
            outcome = await run()
            kept = self._encoded(outcome)
            if kept is not None:
                await self._write(key, kept, ttl_seconds)
            return outcome, False
        finally:
            self._hand_over(key, kept)

    def _hand_over(self, key: str, kept: str | None) -> None:
        """Give the result to all who wait; or, where there is none, the lead to the first of them."""
        with self._lock:
            waiting = self._under_way[key]
            while waiting:
                place = waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(kept)
                    if kept is None:
                        return
            del self._under_way[key]

    # --- followers ---------------------------------------------------------------------------------------------------

    def _join(self, key: str) -> Future[str | None] | None:
        """A place in line behind the leader; None for the leader."""
        with self._lock:
            waiting = self._under_way.get(key)
            if waiting is None:
                self._under_way[key] = deque()
                return None
            # A future of one's own: whoever stops waiting takes nothing from the others.
            place: Future[str | None] = Future()
            waiting.append(place)
            return place

    async def _wait(self, key: str, place: Future[str | None], job: TaskJob) -> str | None:
        """What the leader did; None if this task is to lead now."""
        try:
            async with asyncio.timeout(None if job.timeout_ms is None else job.timeout_ms / 1000):
                return await asyncio.wrap_future(place)
        except BaseException as error:
            with self._lock:
                left = place.cancel()
            if not left and place.result() is None:
                self._hand_over(key, None)
            if isinstance(error, TimeoutError) and job.timeout_ms is not None:
                raise TaskTimeoutError(
                    f"task {job.task_id!r} waited for an equal task, which did not end within {job.timeout_ms} ms",
                    task_id=job.task_id,
                    timeout_ms=job.timeout_ms,
                ) from None
            raise

    def _taken(self, result: TaskResult, job: TaskJob) -> TaskOutcome:
        return TaskOutcome(
            task=job.task_id,
            state=TaskState.COMPLETED,
            output=result.output,
            outputs=result.outputs,
            usage=job.used,
            model=result.model,
            attempts=job.attempt,
            ended_at=now(),
            metadata={**result.metadata, "cached": True},
        )

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _encoded(self, outcome: TaskOutcome) -> str | None:
        """The outcome as it is kept; None for one that other tasks cannot take."""
        if outcome.state is not TaskState.COMPLETED or outcome.enqueued or outcome.metadata.get("lcr_capped"):
            return None
        record = {"at": self._clock().isoformat(), "result": outcome.result().model_dump(mode="json")}
        return json.dumps({"version": _VERSION, **record})

    def _is_fresh(self, kept: str, ttl_seconds: int | None) -> bool:
        age = self._clock() - datetime.fromisoformat(json.loads(kept)["at"])
        return ttl_seconds is None or age.total_seconds() < ttl_seconds

    async def _read(self, key: str, ttl_seconds: int | None) -> str | None:
        try:
            found = await self._cache.aget([(_NAMESPACE, key)])
            for kept in found.values():
                _decoded(kept)
                if self._is_fresh(kept, ttl_seconds):
                    return str(kept)
        except Exception as error:  # noqa: BLE001 - each cache has its own errors, and a damaged entry any
            _log.warning("the cached result of a task cannot be read, so the work is done: %r", error)
        return None

    async def _write(self, key: str, kept: str, ttl_seconds: int | None) -> None:
        try:
            await self._cache.aset({(_NAMESPACE, key): (kept, ttl_seconds)})
        except Exception as error:  # noqa: BLE001 - as above; the work is done and paid for
            _log.warning("the result of a task was not kept for equal ones: %r", error)


def _decoded(kept: str) -> TaskResult:
    record = json.loads(kept)
    if record["version"] != _VERSION:
        raise ValueError(f"version {record['version']} of a cached result is unknown")
    return TaskResult.model_validate(record["result"])


def _digest(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

"""Where a task's body runs: as a LangGraph task of the task's name, or, where nobody could tell, in the driver's own.

A LangGraph task costs more than everything else that is done for a task, and keeps memory until the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol

from langchain_core.runnables.config import var_child_runnable_config

from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.graph.call_ids import number_of_call
from langchain_runtime.graph.langgraph_tasks import LangGraphTask
from langchain_runtime.graph.own_contexts import OwnContexts

RunJob = Callable[[TaskJob], Coroutine[Any, Any, TaskOutcome]]


class CallTask(Protocol):
    """Has a job run where it belongs."""

    async def __call__(self, job: TaskJob, run: RunJob, *, has_asked: bool) -> TaskOutcome:
        """Call ``run(job)`` and return its outcome; or what LangGraph has kept of an earlier execution.

        Args:
            job: The job.
            run: Runs it.
            has_asked: Whether its body has asked a human in an earlier execution.
        """
        ...


class LangGraphCalls:
    """Runs every job as a LangGraph task."""

    def __init__(self, langgraph_task: LangGraphTask) -> None:
        self._langgraph_task = langgraph_task

    async def __call__(self, job: TaskJob, run: RunJob, *, has_asked: bool = False) -> TaskOutcome:  # noqa: ARG002 - LangGraph knows it
        """As ``CallTask``."""
        outcomes: list[TaskOutcome] = []

        async def work() -> dict[str, Any]:
            outcomes.append(await run(job))
            return outcomes[0].model_dump(mode="json")

        kept = await self._langgraph_task(job.task_id, job.model_dump(mode="json"), work)
        return outcomes[0] if outcomes else TaskOutcome.model_validate(kept)


class DirectCalls:
    """Runs jobs here, each in a context of its own; as LangGraph tasks only those that need it.

    Args:
        contexts: Makes contexts.
        langgraph_calls: For jobs whose body has asked a human, or calls LangGraph tasks of its own.
        keeps: Whether LangGraph keeps what tasks return that a body calls: then they must be called from its own task.
    """

    def __init__(self, contexts: OwnContexts, langgraph_calls: LangGraphCalls, *, keeps: bool) -> None:
        self._contexts = contexts
        self._langgraph_calls = langgraph_calls
        self._keeps = keeps
        self._callers: set[str] = set()

    async def __call__(self, job: TaskJob, run: RunJob, *, has_asked: bool) -> TaskOutcome:
        """As ``CallTask``."""
        if has_asked or job.task_id in self._callers:
            return await self._langgraph_calls(job, run)

        def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
            self._callers.add(job.task_id)
            raise _CallsTasksError

        config = self._contexts.config_of(job.task_id, number_of_call(), call=refuse if self._keeps else None)
        token = var_child_runnable_config.set(config)
        outcome = await run(job)
        if outcome.state is TaskState.FAILED and job.task_id in self._callers:
            var_child_runnable_config.reset(token)
            outcome = await self._langgraph_calls(job.model_copy(update={"used": outcome.usage}), run)
        return outcome


class _CallsTasksError(BaseException):
    """Ends a body that is to be run again as a LangGraph task."""

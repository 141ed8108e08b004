"""One attempt at a task: its condition, its job and money, its body, and what the planner must be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_runtime.backends import InProcessBackend
from langchain_runtime.backends.in_process import task_error
from langchain_runtime.contracts.errors import BudgetExceededError, ContextOverflowError, LangChainRuntimeError
from langchain_runtime.contracts.events import TaskStarted
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.graph.conditions import holds
from langchain_runtime.graph.dispatch import Dispatcher
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.ladders import Descent
from langchain_runtime.graph.refusals import Refusals, Remedy
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.task_calls import CallTask
from langchain_runtime.orchestration import Deferred, Ended

Report = tuple[Ended | Deferred, TaskOutcome | None]
"""What the planner is told, and the outcome behind it where the attempt ended."""


class Attempts:
    """Makes attempts at the tasks of one run.

    Args:
        spec: The graph.
        dispatcher: Makes a task's job and reserves its money.
        backend: Runs bodies.
        call_task: Runs a body as a LangGraph task.
        refusals: Judges what a refusal means.
        descent: Knows which model each task is on.
        log: Receives the run's events.
        outcomes: Of the tasks that have ended; read, not written.
    """

    def __init__(
        self,
        *,
        spec: GraphSpec,
        dispatcher: Dispatcher,
        backend: InProcessBackend,
        call_task: CallTask,
        refusals: Refusals,
        descent: Descent,
        log: EventLog,
        outcomes: Mapping[str, TaskOutcome],
    ) -> None:
        self._spec = spec
        self._dispatcher = dispatcher
        self._backend = backend
        self._call_task = call_task
        self._refusals = refusals
        self._descent = descent
        self._log = log
        self._outcomes = outcomes

    async def make(self, task_id: str, attempt: int, *, used: Usage, others_in_flight: Callable[[], bool]) -> Report:
        """Make one attempt; never raises for what the body or the budget did."""
        started = now()
        condition = self._spec.tasks[task_id].spec.when
        try:
            if condition is not None and not holds(condition, self._outcomes):
                return self._skipped(task_id)
            model = self._descent.model_of(task_id)
            job = await self._dispatcher.prepare(task_id, attempt, self._outcomes, used, model=model)
            self._refusals.admitted(task_id)
            outcome = await self._run(job)
        except LangChainRuntimeError as error:
            if put_off := self._put_off(task_id, error, others_in_flight()):
                return put_off, None
            outcome = self._failed(task_id, attempt, error, used)
        if _ran_out_of_money(outcome) and self._refusals.asks_human:
            return Deferred(task_id, time.monotonic(), ask=True), None
        return self._ended(outcome.model_copy(update={"started_at": outcome.started_at or started}))

    def _put_off(self, task_id: str, error: LangChainRuntimeError, others_in_flight: bool) -> Deferred | None:
        """What else the task can wait for or run on; None if nothing can help it."""
        has_cheaper = self._descent.has_next(task_id)
        if isinstance(error, BudgetExceededError):
            remedy = self._refusals.judge(task_id, error, others_in_flight=others_in_flight, has_cheaper=has_cheaper)
        elif isinstance(error, ContextOverflowError) and self._descent.was_moved(task_id) and has_cheaper:
            remedy = Remedy.CHEAPER  # a model whose window is too small for the view is none that it could be moved to
        else:
            remedy = Remedy.NONE
        if remedy is Remedy.NONE:
            return None
        model = self._descent.step_down(task_id) if remedy is Remedy.CHEAPER else None
        return Deferred(task_id, time.monotonic(), ask=remedy is Remedy.HUMAN, model=model)

    async def _run(self, job: TaskJob) -> TaskOutcome:
        self._log.emit(TaskStarted(run_id=job.run_id, task=job.task_id, attempt=job.attempt, model=job.model))
        executed = False

        async def run(order: dict[str, Any]) -> dict[str, Any]:
            nonlocal executed
            executed = True
            return await self._backend.run(order)

        order = job.model_dump(mode="json")
        try:
            outcome = TaskOutcome.model_validate(await self._call_task(job.task_id, order, run))
            if outcome.state is not TaskState.COMPLETED and not executed:
                # LangGraph read a failure of an earlier execution back from its checkpoint; a resumed run tries again.
                outcome = TaskOutcome.model_validate(await self._call_task(job.task_id, order, run))
        finally:
            if job.hold is not None and not executed:
                await asyncio.shield(self._dispatcher.give_back(job.hold))
        return outcome

    def _ended(self, outcome: TaskOutcome) -> Report:
        event = Ended(
            outcome.task,
            time.monotonic(),
            outcome.state,
            retryable=outcome.error is not None and outcome.error.retryable,
            body_alive=self._backend.is_occupied(outcome.task),
        )
        return event, outcome

    def _skipped(self, task_id: str) -> Report:
        outcome = TaskOutcome(
            task=task_id, state=TaskState.SKIPPED, skipped_because="its condition does not hold", ended_at=now()
        )
        return Ended(task_id, time.monotonic(), TaskState.SKIPPED), outcome

    def _failed(self, task_id: str, attempt: int, error: LangChainRuntimeError, used: Usage) -> TaskOutcome:
        return TaskOutcome(
            task=task_id,
            state=TaskState.FAILED,
            model=self._descent.model_of(task_id),
            error=task_error(error),
            attempts=attempt,
            usage=used,
            ended_at=now(),
        )


def _ran_out_of_money(outcome: TaskOutcome) -> bool:
    return outcome.error is not None and outcome.error.code == BudgetExceededError.code

"""One attempt at a task: its condition, its job and money, its body, and what the planner must be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from langgraph.errors import GraphInterrupt

from langchain_runtime.backends import InProcessBackend
from langchain_runtime.backends.in_process import task_error
from langchain_runtime.contracts.errors import BudgetExceededError, ContextOverflowError, LangChainRuntimeError
from langchain_runtime.contracts.events import task_started
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.graph.call_ids import number_call
from langchain_runtime.graph.conditions import holds
from langchain_runtime.graph.dispatch import Dispatcher, Draft
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.ladders import Descent
from langchain_runtime.graph.model_gates import ModelGates
from langchain_runtime.graph.refusals import Refusals, Remedy
from langchain_runtime.graph.task_cache import TaskCache
from langchain_runtime.graph.task_calls import CallTask
from langchain_runtime.graph.trace_metadata import name_in_traces
from langchain_runtime.orchestration import Deferred, Ended, Event, Grew, Suspended, Throttled
from langchain_runtime.telemetry import AttemptTrace, RunTrace

_ASKED_AGAIN = 1_000_000
"""Added to a call's number when LangGraph gave back what an earlier execution's call had returned."""


@dataclass(frozen=True)
class Report:
    """What an attempt led to.

    Attributes:
        events: What the planner is told, in order.
        outcome: How the task ended; or where it stands, if its body asks a human or was broken off.
        question: What it asks.
    """

    events: tuple[Event, ...]
    outcome: TaskOutcome | None = None
    question: GraphInterrupt | None = None


class Attempts:
    """Makes attempts at the tasks of one run.

    Args:
        run_id: The run.
        tasks: All its tasks.
        dispatcher: Makes a task's job and reserves its money.
        backend: Runs bodies.
        call_task: Has jobs run where they belong.
        refusals: Judges what a refusal means.
        descent: Knows which model each task is on.
        gates: Know which models take no calls now.
        cache: Results of equal tasks.
        log: Receives the run's events.
        trace: Hears of every attempt that comes to run its body.
        outcomes: Of the tasks that have ended; read, not written.
        suspended: Attempts of tasks at which they asked a human in an earlier execution.
        keep: Makes the outcome durable of a task that ran no body.
    """

    def __init__(
        self,
        *,
        run_id: str,
        tasks: RunTasks,
        dispatcher: Dispatcher,
        backend: InProcessBackend,
        call_task: CallTask,
        refusals: Refusals,
        descent: Descent,
        gates: ModelGates,
        cache: TaskCache,
        log: EventLog,
        trace: RunTrace,
        outcomes: Mapping[str, TaskOutcome],
        suspended: Mapping[str, int],
        keep: Callable[[TaskOutcome], Awaitable[None]],
    ) -> None:
        self._run_id = run_id
        self._tasks = tasks
        self._dispatcher = dispatcher
        self._backend = backend
        self._call_task = call_task
        self._refusals = refusals
        self._descent = descent
        self._gates = gates
        self._cache = cache
        self._log = log
        self._trace = trace
        self._outcomes = outcomes
        self._suspended = suspended
        self._keep = keep

    async def make(self, task_id: str, attempt: int, *, used: Usage, others_in_flight: Callable[[], bool]) -> Report:
        """Make one attempt; never raises for what the body or the budget did."""
        started = now()
        try:
            if report := await self._without_a_body(task_id):
                return report
            model = self._descent.model_of(task_id)
            draft = await self._dispatcher.lay_out(task_id, attempt, self._outcomes, used, model=model)
            outcome = await self._result_of(draft)
        except GraphInterrupt as question:
            return self._waiting_for_a_human(task_id, attempt, used, question)
        except _ModelClosedError as closed:
            return Report((Throttled(task_id, time.monotonic(), closed.until),))
        except LangChainRuntimeError as error:
            if put_off := self._put_off(task_id, error, others_in_flight()):
                return Report((put_off,))
            outcome = self._failed(task_id, attempt, error, used)
        if outcome.started_at is None:
            outcome = outcome.model_copy(update={"started_at": started})
        return self._judged(outcome)

    async def _without_a_body(self, task_id: str) -> Report | None:
        """What becomes of a task whose body does not run: not at all, or in its children; None if it is to run."""
        spec = self._tasks.definition(task_id).spec
        if self._tasks.is_expanded(task_id):
            outcome = self._tasks.gather(task_id, self._outcomes)
            await self._keep(outcome)
            return Report((Ended(task_id, time.monotonic(), outcome.state),), outcome)
        if spec.when is not None and not holds(spec.when, self._outcomes):
            return self._skipped(task_id)
        if spec.for_each is not None:
            return self._expanded(task_id)
        return None

    # --- the body ----------------------------------------------------------------------------------------------------

    async def _result_of(self, draft: Draft) -> TaskOutcome:
        """The task's outcome: from its body, or from an equal task."""
        definition, job = self._tasks.definition(draft.job.task_id), draft.job
        if definition.spec.cache is None:
            return await self._paid_result_of(draft)
        whose_body = self._tasks.whose_body(job.task_id)
        does = definition if whose_body is None else self._tasks.definition(whose_body)
        key = self._cache.key_of(does, job, self._dispatcher.chat_model_of(job))
        ttl_seconds = definition.spec.cache.ttl_seconds
        outcome, shared = await self._cache.get_or_run(
            key, job, lambda: self._paid_result_of(draft), ttl_seconds=ttl_seconds
        )
        if shared:
            await self._keep(outcome)
        return outcome

    async def _paid_result_of(self, draft: Draft) -> TaskOutcome:
        run_id, task_id = draft.job.run_id, draft.job.task_id
        if not draft.paid and (until := self._dispatcher.opens_at(draft)) is not None:
            raise _ModelClosedError(until)
        try:
            job = await self._dispatcher.fund(draft)
            self._refusals.admitted(task_id)
            return await self._run(job)
        finally:
            self._gates.leave(run_id, task_id)

    async def _run(self, job: TaskJob) -> TaskOutcome:
        self._log.emit(task_started(job.run_id, job.task_id, attempt=job.attempt, model=job.model))
        with self._trace.attempt(job) as attempt:
            outcome = await self._called(job, attempt)
            attempt.ended(outcome)
        return outcome

    async def _called(self, job: TaskJob, attempt: AttemptTrace) -> TaskOutcome:
        executed = False

        async def run(order: TaskJob) -> TaskOutcome:
            nonlocal executed
            executed = True
            name_in_traces(order)
            with attempt.body():
                return await self._backend.execute(order)

        has_asked = job.task_id in self._suspended
        number = self._call_number(job.task_id, job.attempt)
        try:
            number_call(number)
            outcome = await self._call_task(job, run, has_asked=has_asked)
            if outcome.state is not TaskState.COMPLETED and not executed:
                # LangGraph read a failure of an earlier execution back from its checkpoint; a resumed run tries again.
                number_call(number + _ASKED_AGAIN)
                outcome = await self._call_task(job, run, has_asked=has_asked)
        finally:
            if job.hold is not None and not executed:
                await asyncio.shield(self._dispatcher.give_back(job.hold))
        return outcome

    def _call_number(self, task_id: str, attempt: int) -> int:
        """Which call of its LangGraph task an attempt makes; one that was suspended makes the same call again."""
        return self._suspended.get(task_id, 1) + attempt - 1

    # --- reports -----------------------------------------------------------------------------------------------------

    def _expanded(self, task_id: str) -> Report:
        at, children = time.monotonic(), self._tasks.expand(task_id, self._outcomes)
        ended = [child.task_id for child in children if child.state.ended]
        again = (Grew(at, each.tasks, each.parent) for each in self._tasks.grown_by(ended, self._outcomes))
        return Report((Grew(at, tuple(children), task_id, parent_waits=True), *again))

    def _judged(self, outcome: TaskOutcome) -> Report:
        """The end of the attempt; or no attempt, where it failed for want of what can still come."""
        if outcome.state is TaskState.FAILED:
            if _ran_out_of_money(outcome) and self._refusals.asks_human:
                return Report((Deferred(outcome.task, time.monotonic(), ask=True),), outcome)
            until = self._gates.closed_by(self._run_id, outcome.task, outcome.model, time.monotonic())
            if until is not None:
                return Report((Throttled(outcome.task, time.monotonic(), until),), outcome)
        return self._ended(outcome)

    def _waiting_for_a_human(self, task_id: str, attempt: int, used: Usage, question: GraphInterrupt) -> Report:
        number = self._call_number(task_id, attempt)
        outcome = TaskOutcome(task=task_id, state=TaskState.READY, attempts=number, usage=used)
        return Report((Suspended(task_id, time.monotonic()),), outcome, question)

    def _ended(self, outcome: TaskOutcome) -> Report:
        at = time.monotonic()
        event = Ended(
            outcome.task,
            at,
            outcome.state,
            retryable=outcome.error is not None and outcome.error.retryable,
            body_alive=self._backend.is_occupied(outcome.task),
        )
        if not outcome.enqueued:
            return Report((event,), outcome)
        added = self._tasks.enqueue(outcome, self._outcomes)
        return Report((Grew(at, tuple(added), outcome.task), event), outcome)

    def _skipped(self, task_id: str) -> Report:
        outcome = TaskOutcome(
            task=task_id, state=TaskState.SKIPPED, skipped_because="its condition does not hold", ended_at=now()
        )
        return Report((Ended(task_id, time.monotonic(), TaskState.SKIPPED),), outcome)

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


class _ModelClosedError(Exception):
    """The model takes no calls before ``until``; nothing was reserved."""

    def __init__(self, until: float) -> None:
        super().__init__(until)
        self.until = until


def _ran_out_of_money(outcome: TaskOutcome) -> bool:
    return outcome.error is not None and outcome.error.code == BudgetExceededError.code

"""The default backend: bodies run in this process, sync ones in daemon threads.

What a body did never leaves as an exception: it comes back as a ``TaskOutcome``, and that outcome is durable before it
is returned, in one transaction with the settlement of the model call that produced it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langgraph.errors import GraphBubbleUp, GraphInterrupt
from pydantic_core import to_jsonable_python

from langchain_runtime.adapters.account import Account, BudgetScope, paying
from langchain_runtime.backends.json_values import error_text
from langchain_runtime.backends.run_memory import RunMemory
from langchain_runtime.backends.task_body import Additions, Occupancy, TaskBody, TaskRuntime
from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import (
    InvalidInputError,
    LangChainRuntimeError,
    LedgerUnavailableError,
    ReservationLostError,
    TaskCancelledError,
    TaskExecutionError,
    TaskFailedError,
    TaskTimeoutError,
)
from langchain_runtime.contracts.events import CallSettled, LifecycleEvent
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import TaskError, TaskOutcome, TaskResult, TaskState, now
from langchain_runtime.contracts.usage import TokenUsage, Usage

_CALLS_OF_AN_ATTEMPT = 1_000_000
"""Numbers set aside for the calls of one attempt at a prompt: another attempt wants another reply. Other bodies are
tried again over the replies that they bought before."""

_GRACE_SECONDS = 0.1
"""How long a cancelled body may clean up before it is let go as a zombie."""


@dataclass(frozen=True)
class RunContext:
    """What all bodies of one run share.

    Attributes:
        ledger: The books.
        memory: The run's memory.
        budgets: Charged by every model call of the run; the run's own first.
        on_event: Receives reservations and settlements; may be called from any thread.
        on_body_stopped: Told when a body that had been let go really ended.
        stream: Writes to the graph's ``custom`` stream; may be called from any thread.
        accept: Judges a success before it is kept; gives back a failure where the run cannot take what it asks for.
        answers: Whether a human's answer to an ``interrupt()`` in a body would find its way back to it.
    """

    ledger: Ledger
    memory: MemoryManager
    budgets: tuple[Budget, ...]
    on_event: Callable[[LifecycleEvent], None]
    on_body_stopped: Callable[[str], None]
    stream: Callable[[Any], None]
    accept: Callable[[TaskOutcome], TaskOutcome] = lambda outcome: outcome
    answers: bool = False


class _Bill:
    """Adds up what an attempt's calls cost while passing their events on; calls may settle from any thread."""

    def __init__(self, used: Usage, on_event: Callable[[LifecycleEvent], None]) -> None:
        self.usage = used
        self._on_event = on_event
        self._lock = threading.Lock()

    def __call__(self, event: LifecycleEvent) -> None:
        if isinstance(event, CallSettled):
            with self._lock:
                self.usage += Usage(tokens=event.usage or TokenUsage(), cost=event.cost)
        self._on_event(event)


@dataclass
class _Attempt:
    """A body that runs now."""

    task: asyncio.Task[TaskResult]
    additions: Additions
    memory: RunMemory
    decided: asyncio.Future[None]
    """Done once the body has ended, or was told to stop."""
    stopped_by: TaskExecutionError | None = field(default=None)

    def __post_init__(self) -> None:
        self.task.add_done_callback(self._decide)

    def stop(self, reason: TaskExecutionError) -> None:
        if self.stopped_by is None:
            self.stopped_by = reason
            self.task.cancel()
            self._decide()

    def _decide(self, _ended: object = None) -> None:
        if not self.decided.done():
            self.decided.set_result(None)


class InProcessBackend:
    """Runs the bodies of one run in this process.

    Args:
        body_of: Tells what a task does.
        context: What they share.
    """

    def __init__(self, body_of: Callable[[str], TaskBody], context: RunContext) -> None:
        self._body_of = body_of
        self._context = context
        self._running: dict[str, _Attempt] = {}
        self._zombies: set[str] = set()

    def is_occupied(self, task_id: str) -> bool:
        """Whether a body of the task still runs although it was let go."""
        return task_id in self._zombies

    def cancel(self, task_id: str) -> bool:
        """Stop a running body; its ``run`` then returns a failed outcome. False if none runs."""
        attempt = self._running.get(task_id)
        if attempt is not None:
            attempt.stop(cancelled(task_id))
        return attempt is not None

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """As ``execute``, with both as JSON."""
        return (await self.execute(TaskJob.model_validate(job))).model_dump(mode="json")

    async def execute(self, order: TaskJob) -> TaskOutcome:
        """Execute a job and return its outcome, which is durable by then if it is a success.

        Raises:
            GraphInterrupt: The body asks a human, and has to be run again with the answer.
        """
        bill = _Bill(order.used, self._context.on_event)
        account = Account(
            ledger=self._context.ledger,
            budgets=self._context.budgets,
            run_id=order.run_id,
            task_id=order.task_id,
            hold=order.hold,
            on_event=bill,
            replay=True,
            defer_settlement=order.hold is not None,
            first_call=first_call_of(order),
        )
        started = now()
        attempt = await self._attempt(order, account)
        if self._context.answers and (question := _question_of(attempt)):
            await self._give_back(account)
            raise question
        outcome = _outcome_of(order, attempt, started, bill.usage)
        if outcome.state is TaskState.COMPLETED:
            outcome = self._context.accept(outcome)
        await self._commit(order, account, outcome)
        if _has_ended(attempt):
            await attempt.memory.aend()
        return outcome

    async def _attempt(self, order: TaskJob, account: Account) -> _Attempt:
        occupancy = Occupancy(on_end=lambda: self._body_ended(order.task_id))
        additions = Additions(order.task_id)
        memory = self._memory_of(order)
        with paying(account):
            body = asyncio.ensure_future(self._body(order, occupancy, additions, memory))
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = self._running[order.task_id] = _Attempt(body, additions, memory, decided)
        try:
            await self._wait(attempt, order)
        except asyncio.CancelledError:
            body.cancel()
            raise
        finally:
            memory.close()
            del self._running[order.task_id]
        if occupancy.busy or not body.done():
            self._zombies.add(order.task_id)
            if not occupancy.busy:
                body.add_done_callback(lambda ended: self._zombie_ended(ended, order.task_id))
        return attempt

    async def _wait(self, attempt: _Attempt, order: TaskJob) -> None:
        timeout_ms = order.timeout_ms
        if timeout_ms is None:
            await attempt.decided
        else:
            await asyncio.wait({attempt.decided}, timeout=timeout_ms / 1000)
            if not attempt.task.done() and attempt.stopped_by is None:
                message = f"task {order.task_id!r} did not end within {timeout_ms} ms"
                attempt.stop(TaskTimeoutError(message, task_id=order.task_id, timeout_ms=timeout_ms))
        if attempt.stopped_by is not None and not attempt.task.done():
            await asyncio.wait({attempt.task}, timeout=_GRACE_SECONDS)

    def _memory_of(self, order: TaskJob) -> RunMemory:
        memory = self._context.memory
        return RunMemory(memory, order.run_id, memory.log_of(order.run_id, order.task_id))

    async def _body(self, order: TaskJob, occupancy: Occupancy, additions: Additions, memory: RunMemory) -> TaskResult:
        runtime = TaskRuntime(
            run_id=order.run_id,
            task_id=order.task_id,
            attempt=order.attempt,
            memory=memory,
            stream=self._context.stream,
            budget=BudgetScope(self._context.budgets[0], self._context.ledger),
            _additions=additions,
        )
        try:
            return await self._body_of(order.task_id)(_own_copy(order), runtime, occupancy)
        except (SystemExit, GeneratorExit, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # somebody has pressed Ctrl-C
            # It would end the event loop, and every other task with it.
            raise TaskFailedError(f"the body raised {error_text(error)}", task_id=order.task_id) from error

    async def _commit(self, order: TaskJob, account: Account, outcome: TaskOutcome) -> None:
        ledger = self._context.ledger
        await self._give_back(account)
        finished = outcome if outcome.state is TaskState.COMPLETED else None
        if account.deferred is not None:
            await ledger.asettle(account.deferred, outcome=finished, run_id=order.run_id)
        elif finished is not None:
            await ledger.arecord_outcome(order.run_id, finished)

    async def _give_back(self, account: Account) -> None:
        if unused := account.take_hold():
            await self._context.ledger.arelease(unused.reservation_id)

    def _zombie_ended(self, body: asyncio.Task[TaskResult], task_id: str) -> None:
        if not body.cancelled():
            body.exception()  # looked at, so that asyncio does not complain about it
        self._body_ended(task_id)

    def _body_ended(self, task_id: str) -> None:
        if task_id in self._zombies:
            self._zombies.discard(task_id)
            self._context.on_body_stopped(task_id)


def _own_copy(order: TaskJob) -> TaskJob:
    """The job with inputs that the body may change: others read the same outputs of dependencies."""
    if not order.inputs:
        return order
    return trusted(TaskJob, {**vars(order), "inputs": to_jsonable_python(order.inputs)})


def first_call_of(job: TaskJob) -> int:
    """Number of the first call of an attempt, under which its reply is kept."""
    return 0 if job.messages is None else (job.attempt - 1) * _CALLS_OF_AN_ATTEMPT


def _has_ended(attempt: _Attempt) -> bool:
    """Whether an attempt came to its end: one that was cancelled, or called off by LangGraph, is executed again."""
    if attempt.stopped_by is not None:
        return not isinstance(attempt.stopped_by, TaskCancelledError)
    if attempt.task.cancelled():
        return True
    error = attempt.task.exception()
    # What a body in a thread raises that is no Exception comes as the cause of one.
    cause = error if error is None or error.__cause__ is None else error.__cause__
    return cause is None or isinstance(cause, (Exception, SystemExit, GeneratorExit, KeyboardInterrupt))


def _question_of(attempt: _Attempt) -> GraphInterrupt | None:
    """What the body asks a human, if that is how it ended."""
    body = attempt.task
    if attempt.stopped_by is not None or body.cancelled():
        return None
    error = body.exception()
    return error if isinstance(error, GraphInterrupt) else None


def _outcome_of(order: TaskJob, attempt: _Attempt, started: datetime, usage: Usage) -> TaskOutcome:
    facts: dict[str, Any] = {
        "task": order.task_id,
        "state": TaskState.FAILED,
        "output": None,
        "outputs": {},
        "usage": usage,
        "estimated_use": order.estimated_use,
        "model": order.model,
        "error": None,
        "attempts": order.attempt,
        "started_at": started,
        "ended_at": now(),
        "skipped_because": None,
        "enqueued": [],
        "metadata": {},
    }
    body, enqueued = attempt.task, attempt.additions.close()
    if attempt.stopped_by is not None:
        return trusted(TaskOutcome, {**facts, "error": task_error(attempt.stopped_by)})
    if body.cancelled():
        itself = cancelled(order.task_id, "by its own body")
        return trusted(TaskOutcome, {**facts, "error": task_error(itself)})
    error = body.exception()
    if isinstance(error, GraphBubbleUp):
        error = InvalidInputError(
            f"task {order.task_id!r} left for a parent graph, or asked a human where no answer can come back",
            hint="tasks can call interrupt() in a graph that is compiled with a checkpointer; to go elsewhere, return "
            "what the parent graph needs to decide it",
        )
    if error is not None:
        return trusted(TaskOutcome, {**facts, "error": task_error(error)})
    result = body.result()
    facts["state"] = TaskState.COMPLETED
    facts.update(output=result.output, outputs=result.outputs, metadata=result.metadata, enqueued=enqueued)
    return trusted(TaskOutcome, facts)


def cancelled(task_id: str, how: str = "") -> TaskCancelledError:
    """The error of a task that was cancelled; ``how`` ends the sentence."""
    return TaskCancelledError(f"task {task_id!r} was cancelled {how}".rstrip(), task_id=task_id)


def task_error(error: BaseException) -> TaskError:
    """Describe what a body raised: our own errors keep their code and hint, and are not worth another try."""
    if isinstance(error, LangChainRuntimeError):
        hint = f" ({error.hint})" if error.hint else ""
        retryable = isinstance(error, (TaskFailedError, TaskTimeoutError, ReservationLostError, LedgerUnavailableError))
        return TaskError(code=error.code, message=f"{error}{hint}", retryable=retryable)
    return TaskError(code="task_failed", message=error_text(error), retryable=_is_retryable(error))


def _is_retryable(error: BaseException) -> bool:
    """What LangChain's errors say of themselves; of others nothing is known, and what they say may be anything."""
    try:
        return getattr(error, "is_retryable", True) is not False
    except Exception:  # noqa: BLE001 - the error's own code
        return True

"""Carries out what the planner decides: starts attempts, waits, reports back, until the run has ended.

The planner (``orchestration.ParallelExecutor``) knows all the rules and does no I/O; the driver does the I/O and knows
no rule. One driver serves one execution of the graph's ``driver`` node; on resume a new one goes on from the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from langchain_runtime.backends import InProcessBackend
from langchain_runtime.backends.in_process import cancelled, task_error
from langchain_runtime.contracts.events import TaskFinished, TaskReady, TaskRetried
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import RunState, TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.graph.attempts import Attempts, Report
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.orchestration import (
    Abort,
    Action,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Ended,
    Event,
    Finish,
    ParallelExecutor,
    Skip,
    Sleep,
    Start,
    Tick,
    ToppedUp,
)


@dataclass(frozen=True)
class Ending:
    """How a driver let go of its run."""

    state: RunState
    reason: str | None


class Driver:
    """One execution of a run.

    Args:
        spec: The graph.
        run_id: The run.
        planner: Decides; knows already what is completed.
        attempts: Makes attempts at tasks.
        backend: Runs their bodies.
        outcomes: Of the tasks that are completed; the driver adds the others.
        used: What each task used in earlier executions.
        ledger: Keeps the outcomes that bodies did not commit themselves: failures.
        log: Receives the run's events.
        top_up: Asks a human for money and adds it; False if the human wants the run to end instead.
    """

    def __init__(
        self,
        *,
        spec: GraphSpec,
        run_id: str,
        planner: ParallelExecutor,
        attempts: Attempts,
        backend: InProcessBackend,
        outcomes: dict[str, TaskOutcome],
        used: dict[str, Usage],
        ledger: Ledger,
        log: EventLog,
        top_up: Callable[[Sequence[str]], bool],
    ) -> None:
        self._spec = spec
        self._run_id = run_id
        self._planner = planner
        self._attempts = attempts
        self._backend = backend
        self._outcomes = outcomes
        self._used = used
        self._ledger = ledger
        self._log = log
        self._top_up = top_up
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[tuple[Event, TaskOutcome | None]] = asyncio.Queue()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._wake_at: float | None = None

    def abort(self, reason: str) -> None:
        """End the run soon; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._reports.put_nowait, (Abort(time.monotonic(), reason), None))

    def body_stopped(self, task_id: str) -> None:
        """A body that had been let go has ended."""
        self._reports.put_nowait((BodyStopped(task_id, time.monotonic()), None))

    async def run(self) -> Ending:
        """Drive the run to its end.

        Raises:
            GraphInterrupt: Nothing can go on without a human; resuming the graph with the answer goes on.
        """
        event: Event = Begin(time.monotonic())
        outcome: TaskOutcome | None = None
        try:
            while True:
                actions = self._planner.next(event)
                await self._note(event, outcome)
                if ending := await self._carry_out(actions):
                    return ending
                event, outcome = await self._next_report()
        finally:
            await self._let_go()

    async def _carry_out(self, actions: Sequence[Action]) -> Ending | None:
        self._wake_at = None
        for action in actions:
            match action:
                case Start(task_id, attempt):
                    self._running[task_id] = asyncio.create_task(self._attempt(task_id, attempt))
                case Cancel(task_id, _):
                    self._cancel(task_id)
                case Skip(task_id, because):
                    await self._finish(_skipped(task_id, because))
                case Sleep(until):
                    self._wake_at = until
                case Ask(waiting):
                    await self._ask(waiting)
                case Finish(state, reason):
                    return Ending(state, reason)
        return None

    async def _next_report(self) -> tuple[Event, TaskOutcome | None]:
        if self._wake_at is None:
            return await self._reports.get()
        try:
            async with asyncio.timeout(max(0.0, self._wake_at - time.monotonic())):
                return await self._reports.get()
        except TimeoutError:
            return Tick(time.monotonic()), None

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def _attempt(self, task_id: str, attempt: int) -> None:
        try:
            report: Report = await self._attempts.make(
                task_id,
                attempt,
                used=self._used.get(task_id, Usage()),
                others_in_flight=lambda: len(self._running) > 1,
            )
        except asyncio.CancelledError:
            if task_id not in self._cancelled:
                raise
            report = _cancelled_before_its_body(task_id, attempt)
        finally:
            del self._running[task_id]
        self._reports.put_nowait(report)

    def _cancel(self, task_id: str) -> None:
        self._cancelled.add(task_id)
        if not self._backend.cancel(task_id):
            self._running[task_id].cancel()

    # --- what became of tasks ----------------------------------------------------------------------------------------

    async def _note(self, event: Event, outcome: TaskOutcome | None) -> None:
        """Keep what an attempt led to; the planner has judged it by now."""
        if isinstance(event, Begin):
            self._announce(self._planner.states)
        if outcome is None or not isinstance(event, Ended):
            return
        self._used[outcome.task] = outcome.usage
        if self._planner.states[outcome.task].ended:
            await self._finish(outcome)
        elif outcome.error is not None:
            self._log.emit(
                TaskRetried(run_id=self._run_id, task=outcome.task, attempt=outcome.attempts, error=outcome.error)
            )

    async def _finish(self, outcome: TaskOutcome) -> None:
        self._outcomes[outcome.task] = outcome
        if outcome.state is TaskState.COMPLETED:
            self._announce(self._spec.dag.nodes[outcome.task].next)
        elif outcome.state is TaskState.FAILED:
            await self._ledger.arecord_outcome(self._run_id, outcome)
        self._log.emit(
            TaskFinished(
                run_id=self._run_id,
                task=outcome.task,
                state=outcome.state,
                attempts=outcome.attempts,
                usage=outcome.usage,
                error=outcome.error,
                skipped_because=outcome.skipped_because,
            )
        )

    def _announce(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            if self._planner.states[task_id] in {TaskState.READY, TaskState.RUNNING}:
                self._log.emit(TaskReady(run_id=self._run_id, task=task_id))

    async def _ask(self, waiting: Sequence[str]) -> None:
        more = self._top_up(waiting)
        answer = ToppedUp(time.monotonic()) if more else Abort(time.monotonic(), "stopped")
        self._reports.put_nowait((answer, None))

    async def _let_go(self) -> None:
        """Leave nothing running behind, whatever ended the driver."""
        leftover = list(self._running.values())
        for task in leftover:
            task.cancel()
        await asyncio.gather(*leftover, return_exceptions=True)


def _skipped(task_id: str, because: str) -> TaskOutcome:
    return TaskOutcome(task=task_id, state=TaskState.SKIPPED, skipped_because=because, ended_at=now())


def _cancelled_before_its_body(task_id: str, attempt: int) -> Report:
    error = task_error(cancelled(task_id, "before its body began"))
    outcome = TaskOutcome(task=task_id, state=TaskState.FAILED, error=error, attempts=attempt, ended_at=now())
    return Ended(task_id, time.monotonic(), TaskState.FAILED), outcome

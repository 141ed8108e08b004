"""Carries out what the planner decides: starts attempts, waits, reports back, until the run has ended.

The planner (``orchestration.ParallelExecutor``) knows all the rules and does no I/O; the driver does the I/O and knows
no rule. One driver serves one execution of a run; on resume a new one goes on from the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt

from langchain_runtime.backends import InProcessBackend
from langchain_runtime.backends.in_process import cancelled, task_error
from langchain_runtime.contracts.events import TaskRetried, TasksAdded, TaskSuspended, task_finished, task_ready
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import RunState, TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import NO_USAGE, Usage
from langchain_runtime.graph.attempts import Attempts, Report
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.orchestration import (
    Abort,
    Action,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Drain,
    Ended,
    Finish,
    Grew,
    ParallelExecutor,
    Released,
    Skip,
    Sleep,
    Start,
    Tick,
    ToppedUp,
)

_DRAIN_POLL_SECONDS = 0.05
"""How often LangGraph's run control is looked at; it calls nobody."""


@dataclass(frozen=True)
class Ending:
    """How a driver let go of its run.

    Attributes:
        state: Of the run; ``running`` when it stands still.
        reason: As for ``Finish``.
        held: Tasks that could have started but were not released, most urgent first.
    """

    state: RunState
    reason: str | None
    held: tuple[str, ...] = ()


class Driver:
    """One execution of a run.

    Args:
        tasks: All tasks of the run.
        run_id: The run.
        planner: Decides; knows already what is completed.
        attempts: Makes attempts at tasks.
        backend: Runs their bodies.
        outcomes: Of the tasks that are completed; the driver adds the others.
        used: What each task used in earlier executions.
        ledger: Keeps the outcomes that bodies did not commit themselves: failures, and questions to humans.
        log: Receives the run's events.
        top_up: Asks a human for money and adds it; False if the human wants the run to end instead.
        on_finished: Told of every task that has ended.
        is_draining: Whether nothing more is to be started; None where nobody can ask for that.
    """

    def __init__(
        self,
        *,
        tasks: RunTasks,
        run_id: str,
        planner: ParallelExecutor,
        attempts: Attempts,
        backend: InProcessBackend,
        outcomes: dict[str, TaskOutcome],
        used: dict[str, Usage],
        ledger: Ledger,
        log: EventLog,
        top_up: Callable[[Sequence[str]], Awaitable[bool]],
        on_finished: Callable[[str], None],
        is_draining: Callable[[], bool] | None = None,
    ) -> None:
        self._tasks = tasks
        self._run_id = run_id
        self._planner = planner
        self._attempts = attempts
        self._backend = backend
        self._outcomes = outcomes
        self._used = used
        self._ledger = ledger
        self._log = log
        self._top_up = top_up
        self._on_finished = on_finished
        self._is_draining = is_draining
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[Report | Exception] = asyncio.Queue()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._questions: list[Interrupt] = []
        self._wake_at: float | None = None

    def abort(self, reason: str) -> None:
        """End the run soon; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._reports.put_nowait, Report((Abort(time.monotonic(), reason),)))

    def release(self, task_ids: Sequence[str]) -> None:
        """Let held tasks start."""
        self._reports.put_nowait(Report((Released(time.monotonic(), tuple(task_ids)),)))

    def body_stopped(self, task_id: str) -> None:
        """A body that had been let go has ended."""
        self._reports.put_nowait(Report((BodyStopped(task_id, time.monotonic()),)))

    async def run(self) -> Ending:
        """Drive the run to its end, or to where it stands still.

        Raises:
            GraphInterrupt: Nothing can go on without a human; resuming the graph with the answer goes on.
            Exception: An attempt broke off on its own, for example because the ledger is out of reach.
        """
        report = Report((Begin(time.monotonic()),))
        try:
            while True:
                for event in report.events:
                    actions = self._planner.next(event)
                    if event is report.events[-1]:
                        await self._note(report)
                    if ending := await self._carry_out(actions):
                        return ending
                report = await self._next_report()
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
                    return self._ending(state, reason)
        return None

    def _ending(self, state: RunState, reason: str | None) -> Ending:
        if reason == "suspended":
            raise GraphInterrupt(tuple(self._questions))
        return Ending(state, reason, tuple(self._planner.held_ready))

    async def _next_report(self) -> Report:
        while True:
            patience = self._patience()
            try:
                if patience is None:
                    report = await self._reports.get()
                else:
                    async with asyncio.timeout(patience):
                        report = await self._reports.get()
            except TimeoutError:
                if self._wake_at is not None and time.monotonic() >= self._wake_at:
                    return self._drained(Report((Tick(time.monotonic()),)))
                if self._is_draining is not None and self._is_draining():
                    return self._drained(Report(()))
            else:
                if isinstance(report, Exception):
                    raise report
                return self._drained(report)

    def _drained(self, report: Report) -> Report:
        """The report, and before it the news that LangGraph wants the run to stop."""
        if self._is_draining is None or not self._is_draining():
            return report
        self._is_draining = None
        return replace(report, events=(Drain(time.monotonic()), *report.events))

    def _patience(self) -> float | None:
        """Seconds until there is something to do without a report; None if there will not be."""
        waits = [] if self._wake_at is None else [max(0.0, self._wake_at - time.monotonic())]
        if self._is_draining is not None:
            waits.append(_DRAIN_POLL_SECONDS)
        return min(waits, default=None)

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def _attempt(self, task_id: str, attempt: int) -> None:
        try:
            report = await self._attempts.make(
                task_id,
                attempt,
                used=self._used.get(task_id, NO_USAGE),
                others_in_flight=lambda: len(self._running) > 1,
            )
        except asyncio.CancelledError:
            if task_id not in self._cancelled:
                raise
            report = _cancelled_before_its_body(task_id, attempt)
        except Exception as error:  # noqa: BLE001 - nobody awaits an attempt, so the driver raises it: no run may hang
            self._reports.put_nowait(error)
            return
        finally:
            del self._running[task_id]
        self._reports.put_nowait(report)

    def _cancel(self, task_id: str) -> None:
        self._cancelled.add(task_id)
        if not self._backend.cancel(task_id):
            self._running[task_id].cancel()

    # --- what became of tasks ----------------------------------------------------------------------------------------

    async def _note(self, report: Report) -> None:
        """Keep what an attempt led to; the planner has judged it by now."""
        last = report.events[-1]
        if isinstance(last, Begin):
            self._announce(self._planner.states)
        for event in report.events:
            if isinstance(event, Grew):
                self._note_growth(event)
        if report.outcome is not None:
            self._used[report.outcome.task] = report.outcome.usage
            if report.question is not None:
                await self._suspend(report.outcome, report.question)
            elif isinstance(last, Ended):
                await self._note_end(report.outcome)

    def _note_growth(self, event: Grew) -> None:
        added = tuple(task.task_id for task in event.tasks if not task.state.ended)
        if added:
            self._log.emit(TasksAdded(run_id=self._run_id, parent=event.parent, tasks=added))
            self._announce(added)

    async def _note_end(self, outcome: TaskOutcome) -> None:
        if self._planner.states[outcome.task].ended:
            await self._finish(outcome)
        elif outcome.error is not None:
            self._log.emit(
                TaskRetried(run_id=self._run_id, task=outcome.task, attempt=outcome.attempts, error=outcome.error)
            )

    async def _suspend(self, outcome: TaskOutcome, question: GraphInterrupt) -> None:
        self._questions += question.args[0]
        await self._ledger.arecord_outcome(self._run_id, outcome)  # the answer must find the same attempt again
        self._log.emit(TaskSuspended(run_id=self._run_id, task=outcome.task))

    async def _finish(self, outcome: TaskOutcome) -> None:
        self._outcomes[outcome.task] = outcome
        if outcome.state is TaskState.COMPLETED:
            self._announce(self._tasks.next_of(outcome.task))
        elif outcome.state is TaskState.FAILED:
            await self._ledger.arecord_outcome(self._run_id, outcome)
        self._log.emit(task_finished(self._run_id, outcome))
        self._on_finished(outcome.task)

    def _announce(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            if self._planner.states.get(task_id) in {TaskState.READY, TaskState.RUNNING}:
                self._log.emit(task_ready(self._run_id, task_id))

    async def _ask(self, waiting: Sequence[str]) -> None:
        try:
            more = await self._top_up(waiting)
        except GraphInterrupt as question:  # bodies may be asking, too: the human sees all questions at once
            raise GraphInterrupt((*question.args[0], *self._questions)) from None
        answer = ToppedUp(time.monotonic()) if more else Abort(time.monotonic(), "stopped")
        self._reports.put_nowait(Report((answer,)))

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
    return Report((Ended(task_id, time.monotonic(), TaskState.FAILED),), outcome)

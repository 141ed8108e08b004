"""A run that this process carries out now, and the ways in which it is tied to LangGraph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.errors import GraphInterrupt

from langchain_runtime.adapters.leases import lease_keeper
from langchain_runtime.contracts.budget import Reservation, ReservationState
from langchain_runtime.contracts.events import RunEnded
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import RunHeader, TaskOutcome, now
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.cost import UsageTracker
from langchain_runtime.graph.driver import Driver, Ending
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.task_calls import CallTask
from langchain_runtime.graph.top_ups import AskHuman
from langchain_runtime.telemetry import RunTrace


def _nobody(_task_id: str) -> None:
    pass


@dataclass(frozen=True)
class Ways:
    """How an execution of a run is tied to LangGraph; the two modes differ in this alone.

    Attributes:
        call_task: Runs a body under its task's name.
        ask: Interrupts the graph with a question about money.
        answers: Whether humans can answer questions of bodies.
        held: Tasks that start only when they are released.
        gated: Whether somebody releases them in this execution.
        on_finished: Told of every task that has ended.
        is_draining: Whether LangGraph wants the run to stop at the next occasion; None where it never does.
    """

    call_task: CallTask
    ask: AskHuman
    answers: bool
    held: frozenset[str] = frozenset()
    gated: bool = False
    on_finished: Callable[[str], None] = _nobody
    is_draining: Callable[[], bool] | None = None


@dataclass(frozen=True)
class OpenRun:
    """A run that was taken up.

    Attributes:
        header: As it was.
        tasks: All its tasks.
        outcomes: Of the tasks that have ended; grows.
        driver: Carries it out.
        ledger: The books.
        log: Receives its events.
        trace: Of this execution.
        remember: Keeps what its tasks took in this execution.
        let_go: Called when it is over.
    """

    header: RunHeader
    tasks: RunTasks
    outcomes: dict[str, TaskOutcome]
    driver: Driver
    ledger: Ledger
    log: EventLog
    trace: RunTrace
    remember: Callable[[], Awaitable[None]]
    let_go: Callable[[], None]

    async def carry_out(self) -> dict[str, Any]:
        """Drive the run to its end or to where it stands still, let go of it, and return the graph's new state.

        Raises:
            GraphInterrupt: A human is asked.
        """
        with self.trace.run():
            try:
                ending = await self._drive()
                usage = tracked(await self.ledger.areservations(self.header.run_id)).total()
                run_id = self.header.run_id
                self.log.emit(RunEnded(run_id=run_id, state=ending.state, reason=ending.reason, usage=usage))
            finally:
                self.let_go()
                lease_keeper(self.ledger).stop()
                await self.log.close()
        return {"run": self._left(ending, usage), "results": results_update(self.outcomes, self.outcomes)}

    async def _drive(self) -> Ending:
        """Drive the run, and keep what its tasks took; also where it stops to ask a human."""
        try:
            ending = await self.driver.run()
        except GraphInterrupt:
            await self.remember()
            raise
        await self.remember()
        return ending

    def _left(self, ending: Ending, usage: Usage) -> dict[str, Any]:
        update = {
            "state": ending.state,
            "reason": ending.reason,
            "paused_at": list(ending.held) if ending.reason == "paused" else [],
            "usage": usage,
            "updated_at": now(),
        }
        return self.header.model_copy(update=update).model_dump(mode="json")


def results_update(outcomes: Mapping[str, TaskOutcome], task_ids: Iterable[str]) -> dict[str, Any]:
    """The outcomes of these tasks as the graph's state keeps them."""
    return {task_id: outcomes[task_id].model_dump(mode="json") for task_id in task_ids if task_id in outcomes}


def tracked(reservations: Iterable[Reservation]) -> UsageTracker:
    """What the calls used."""
    tracker = UsageTracker()
    for reservation in reservations:
        tracker.add(reservation)
    return tracker


def used_so_far(reservations: Iterable[Reservation], outcomes: Mapping[str, TaskOutcome]) -> dict[str, Usage]:
    """What earlier executions spent on tasks that they did not finish."""
    tracker = tracked(reservations)
    broken_off = {reservation.hold.task_id for reservation in reservations} - outcomes.keys()
    return {task_id: tracker.total(task_id=task_id) for task_id in broken_off if task_id is not None}


def paid_for(reservations: Iterable[Reservation], outcomes: Mapping[str, TaskOutcome]) -> frozenset[str]:
    """Tasks whose reply may be in the journal although they have no outcome."""
    settled = (each.hold.task_id for each in reservations if each.state is ReservationState.SETTLED)
    return frozenset(task_id for task_id in settled if task_id is not None and task_id not in outcomes)

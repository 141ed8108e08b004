"""The three nodes of the graph: ``prepare`` names the run, ``driver`` carries it out, ``finish`` judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.types import Overwrite

from langchain_runtime.adapters.account import current_account
from langchain_runtime.adapters.leases import lease_keeper
from langchain_runtime.backends import InProcessBackend
from langchain_runtime.backends.in_process import RunContext
from langchain_runtime.contracts.budget import Budget, Reservation, ReservationState, Scope
from langchain_runtime.contracts.errors import InvalidDAGError, RunCompletedError
from langchain_runtime.contracts.events import RunEnded, RunStarted
from langchain_runtime.contracts.identifiers import check_run_id
from langchain_runtime.contracts.run import RunHeader, RunPolicy, RunState, TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.cost import UsageTracker
from langchain_runtime.graph.attempts import Attempts
from langchain_runtime.graph.bodies import TaskModels, open_models, task_bodies
from langchain_runtime.graph.dispatch import Dispatcher
from langchain_runtime.graph.driver import Driver, Ending
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.ladders import Descent
from langchain_runtime.graph.refusals import Refusals
from langchain_runtime.graph.run_ids import new_run_id
from langchain_runtime.graph.services import Services, run_budget
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.state import RunGraphState
from langchain_runtime.graph.task_calls import CallTask, call_async_task, call_sync_task, run_in_own_loop
from langchain_runtime.graph.top_ups import TopUps
from langchain_runtime.orchestration import ParallelExecutor

RUN_ID = "run_id"
"""Key of ``config["configurable"]``: the new run's id."""
BUDGETS = "budgets"
"""Key of ``config["configurable"]``: more budgets for this run to charge."""
CONTINUE_RUN = "continue_run"
"""Key of ``config["configurable"]``: take up a run whose journal exists although its checkpoint does not."""
KEEP_FAILURES = "keep_failures"
"""Key of ``config["configurable"]``: the run goes on after an answer, so what has failed is not bought again."""
MAX_PARALLELISM = "max_parallelism"
"""Key of ``config["configurable"]``: what the caller wrote as ``max_concurrency``."""


@dataclass
class Execution:
    """Runs of one compiled graph.

    Attributes:
        spec: The graph.
        services: Components.
        drivers: Of the runs that are carried out in this process now, by run id.
    """

    spec: GraphSpec
    services: Services
    drivers: dict[str, Driver] = field(default_factory=dict)

    @cached_property
    def models(self) -> TaskModels:
        """The models of the prompt tasks; opened for the first run and kept."""
        return open_models(self.spec, self.services)

    # --- prepare -----------------------------------------------------------------------------------------------------

    def prepare(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Name the run and check what depends on its inputs; nothing is spent before this has passed."""
        run_id = self._new_run(state, config)
        started = self.services.ledger.outcomes(run_id)
        return self._prepared(run_id, started=bool(started), config=config)

    async def aprepare(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Async twin of ``prepare``."""
        run_id = self._new_run(state, config)
        started = await self.services.ledger.aoutcomes(run_id)
        return self._prepared(run_id, started=bool(started), config=config)

    def _new_run(self, state: RunGraphState, config: RunnableConfig) -> str:
        self.spec.run_inputs(state.get("inputs") or {})
        run_id = check_run_id(config.get("configurable", {}).get(RUN_ID) or new_run_id())
        self.services.check_prices(self.services.ladder.all_models(self.spec), self._budgets(run_id, config))
        _ = self.models
        return run_id

    def _prepared(self, run_id: str, *, started: bool, config: RunnableConfig) -> dict[str, Any]:
        if started and not config.get("configurable", {}).get(CONTINUE_RUN):
            raise RunCompletedError(
                f"run {run_id!r} has been carried out before",
                run_id=run_id,
                hint="resume it by passing None as input, or choose another run_id",
            )
        header = RunHeader(run_id=run_id, state=RunState.RUNNING, spec_hash=self.spec.fingerprint)
        return {"run": header.model_dump(mode="json"), "results": Overwrite({})}

    # --- driver ------------------------------------------------------------------------------------------------------

    def drive(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Carry the run out under ``invoke`` or ``stream``."""
        return run_in_own_loop(lambda: self._drive(state, config, call_sync_task))

    async def adrive(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Carry the run out under ``ainvoke`` or ``astream``."""
        return await self._drive(state, config, call_async_task)

    async def _drive(self, state: RunGraphState, config: RunnableConfig, call_task: CallTask) -> dict[str, Any]:
        header = RunHeader.model_validate(state["run"])
        self._check_same_graph(header)
        ledger = self.services.ledger
        log = EventLog(ledger, get_stream_writer())
        keeper = lease_keeper(ledger)
        keeper.start()
        try:
            driver, outcomes = await self._new_driver(header, state, config, call_task, log)
            self.drivers[header.run_id] = driver
            ending = await driver.run()
            usage = _tracked(await ledger.areservations(header.run_id)).total()
            log.emit(RunEnded(run_id=header.run_id, state=ending.state, reason=ending.reason, usage=usage))
        finally:
            self.drivers.pop(header.run_id, None)
            keeper.stop()
            await log.close()
        return _left(header, ending, outcomes, usage)

    async def _new_driver(
        self, header: RunHeader, state: RunGraphState, config: RunnableConfig, call_task: CallTask, log: EventLog
    ) -> tuple[Driver, dict[str, TaskOutcome]]:
        run_id, ledger = header.run_id, self.services.ledger
        inputs = self.spec.run_inputs(state.get("inputs") or {})
        budgets = self._budgets(run_id, config)
        for budget in budgets:
            await ledger.aopen_scope(Scope.of(budget))
        outcomes = await self._ended(run_id, state, config)
        reservations = await ledger.areservations(run_id)
        backend = InProcessBackend(
            task_bodies(self.spec, self.services, self.models),
            RunContext(
                ledger=ledger,
                memory=self.services.memory,
                budgets=budgets,
                on_event=log.emit,
                on_body_stopped=lambda task_id: driver.body_stopped(task_id),  # noqa: PLW0108 - made further down
                stream=log.stream,
            ),
        )
        dispatcher = Dispatcher(
            spec=self.spec,
            services=self.services,
            run_id=run_id,
            inputs=inputs,
            budgets=budgets,
            models=self.models,
            paid=_paid_for(reservations, outcomes),
            log=log,
        )
        policy = self._policy(config)
        refusals = Refusals(run_id=run_id, policy=policy, budgets=budgets, tell=log.emit)
        attempts = Attempts(
            spec=self.spec,
            dispatcher=dispatcher,
            backend=backend,
            call_task=call_task,
            refusals=refusals,
            descent=Descent({task_id: tuple(models) for task_id, models in self.models.items()}),
            log=log,
            outcomes=outcomes,
        )
        planner = ParallelExecutor(
            self.spec.dag,
            policy=policy,
            models={task_id: definition.model for task_id, definition in self.spec.tasks.items()},
            retries={task_id: self.spec.retry_of(task_id) for task_id in self.spec.tasks},
            expected_seconds=self.spec.expected_seconds,
            priorities={task_id: definition.spec.priority for task_id, definition in self.spec.tasks.items()},
            completed=_in_state(outcomes, TaskState.COMPLETED),
            failed=_in_state(outcomes, TaskState.FAILED),
        )
        driver = Driver(
            spec=self.spec,
            run_id=run_id,
            planner=planner,
            attempts=attempts,
            backend=backend,
            outcomes=outcomes,
            used=_used_so_far(reservations, outcomes),
            ledger=ledger,
            log=log,
            top_up=TopUps(ledger, refusals, budgets[0]),
        )
        log.emit(
            RunStarted(
                run_id=run_id,
                name=self.spec.name,
                tasks=len(self.spec.tasks),
                finished=len(_in_state(outcomes, TaskState.COMPLETED)),
                limit=policy.budget_limit,
            )
        )
        return driver, outcomes

    async def _ended(self, run_id: str, state: RunGraphState, config: RunnableConfig) -> dict[str, TaskOutcome]:
        """Tasks that need not run: by the journal, and by the state, which a user may have edited."""
        kept = {TaskState.COMPLETED}
        if config.get("configurable", {}).get(KEEP_FAILURES):
            kept.add(TaskState.FAILED)
        journal = await self.services.ledger.aoutcomes(run_id)
        edited = {key: TaskOutcome.model_validate(value) for key, value in (state.get("results") or {}).items()}
        return {
            task_id: outcome
            for task_id, outcome in {**journal, **edited}.items()
            if outcome.state in kept and task_id in self.spec.tasks
        }

    def _policy(self, config: RunnableConfig) -> RunPolicy:
        wanted = config.get("configurable", {}).get(MAX_PARALLELISM)
        policy = self.spec.policy
        if wanted is None:
            return policy
        return policy.model_copy(update={"max_parallelism": min(policy.max_parallelism, wanted)})

    def _budgets(self, run_id: str, config: RunnableConfig) -> tuple[Budget, ...]:
        """Everything that every call of the run charges, each scope once: the run's own, the graph's, the caller's."""
        currency = self.services.currency_of(self.spec.models)
        found = [run_budget(run_id, self.spec.policy, currency), *self.services.budgets]
        found += config.get("configurable", {}).get(BUDGETS, ())
        account = current_account()
        while account is not None:
            if account.ledger is self.services.ledger:
                found += account.budgets
            account = account.enclosing
        return tuple({budget.scope: budget for budget in found[::-1]}.values())[::-1]

    def _check_same_graph(self, header: RunHeader) -> None:
        if header.spec_hash != self.spec.fingerprint:
            raise InvalidDAGError(
                f"run {header.run_id!r} was started with a different graph",
                hint="resume it with the graph it was started with, or start a new run",
            )


def _tracked(reservations: Sequence[Reservation]) -> UsageTracker:
    tracker = UsageTracker()
    for reservation in reservations:
        tracker.add(reservation)
    return tracker


def _used_so_far(reservations: Sequence[Reservation], outcomes: Mapping[str, TaskOutcome]) -> dict[str, Usage]:
    """What earlier executions spent on tasks that they did not finish."""
    tracker = _tracked(reservations)
    broken_off = {reservation.hold.task_id for reservation in reservations} - outcomes.keys()
    return {task_id: tracker.total(task_id=task_id) for task_id in broken_off if task_id is not None}


def _paid_for(reservations: Sequence[Reservation], outcomes: Mapping[str, TaskOutcome]) -> frozenset[str]:
    """Tasks whose reply may be in the journal although they have no outcome."""
    settled = (each.hold.task_id for each in reservations if each.state is ReservationState.SETTLED)
    return frozenset(task_id for task_id in settled if task_id is not None and task_id not in outcomes)


def _in_state(outcomes: Mapping[str, TaskOutcome], state: TaskState) -> list[str]:
    return [task_id for task_id, outcome in outcomes.items() if outcome.state is state]


def _left(header: RunHeader, ending: Ending, outcomes: dict[str, TaskOutcome], usage: Usage) -> dict[str, Any]:
    update = {"state": ending.state, "reason": ending.reason, "usage": usage, "updated_at": now()}
    return {
        "run": header.model_copy(update=update).model_dump(mode="json"),
        "results": {task_id: outcome.model_dump(mode="json") for task_id, outcome in outcomes.items()},
    }

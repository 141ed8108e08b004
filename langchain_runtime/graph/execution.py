"""Takes runs up: names new ones, and makes everything that carries one out from its journal."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from pydantic import JsonValue

from langchain_runtime.adapters.leases import lease_keeper
from langchain_runtime.backends import InProcessBackend, TaskBody
from langchain_runtime.backends.in_process import RunContext
from langchain_runtime.backends.json_values import unfit
from langchain_runtime.callbacks.blocks import heard_by
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import InvalidInputError, RunCompletedError
from langchain_runtime.contracts.events import RunStarted
from langchain_runtime.contracts.identifiers import check_run_id
from langchain_runtime.contracts.plans import acarry_out
from langchain_runtime.contracts.run import RunHeader, RunPolicy, RunState, TaskOutcome, TaskState
from langchain_runtime.graph.attempts import Attempts
from langchain_runtime.graph.bodies import TaskModels, task_body
from langchain_runtime.graph.dispatch import Dispatcher
from langchain_runtime.graph.driver import Driver
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.expectations import known_seconds
from langchain_runtime.graph.graph_changes import check_same_graph
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.ladders import Descent
from langchain_runtime.graph.open_run import OpenRun, Ways, paid_for, used_so_far
from langchain_runtime.graph.refusals import Refusals
from langchain_runtime.graph.run_ids import new_run_id
from langchain_runtime.graph.run_settings import observers_of, settings_of
from langchain_runtime.graph.run_view import outcomes_of
from langchain_runtime.graph.samples import samples_of
from langchain_runtime.graph.services import Services, all_budgets
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.graph.state import RunGraphState
from langchain_runtime.graph.top_ups import TopUps
from langchain_runtime.orchestration import Durations, Grew, ParallelExecutor
from langchain_runtime.telemetry import RunTrace, trace_of

_log = logging.getLogger(__name__)

_CHECKPOINTER: Final = "__pregel_checkpointer"
"""Key under which LangGraph tells a node where its state is kept."""


@dataclass
class Execution:
    """Runs of one compiled graph.

    Attributes:
        spec: The graph.
        services: Components.
        drivers: Of the runs that are carried out in this process now, by run id and by the execution's key.
    """

    spec: GraphSpec
    services: Services
    drivers: dict[object, Driver] = field(default_factory=dict)

    @cached_property
    def models(self) -> TaskModels:
        """The models of the prompt tasks; opened for the first run and kept."""
        return TaskModels(self.spec, self.services)

    @cached_property
    def _bodies(self) -> Mapping[str, TaskBody]:
        """What the graph's own tasks do."""
        return {task_id: task_body(each, self.services, self.models) for task_id, each in self.spec.tasks.items()}

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
        inputs = state.get("inputs") or {}
        _check_inputs(inputs)
        self.spec.run_inputs(inputs)
        run_id = check_run_id(settings_of(config).run_id or new_run_id())
        self.services.check_prices(self.services.ladder.all_models(self.spec), self._budgets(run_id, config))
        _ = self._bodies  # a missing model or package is refused before anything runs
        return run_id

    def _prepared(self, run_id: str, *, started: bool, config: RunnableConfig) -> dict[str, Any]:
        if started and not settings_of(config).continue_run:
            raise RunCompletedError(
                f"run {run_id!r} has been carried out before",
                run_id=run_id,
                hint="resume it by passing None as input, or choose another run_id",
            )
        header = RunHeader(
            run_id=run_id,
            state=RunState.RUNNING,
            spec_hash=self.spec.fingerprint,
            task_hashes=self.spec.task_hashes,
        )
        return {"run": header.model_dump(mode="json"), "results": None}

    # --- driver ------------------------------------------------------------------------------------------------------

    async def open(self, state: RunGraphState, config: RunnableConfig, ways: Ways) -> OpenRun:
        """Take the state's run up from where its journal says it is; ``OpenRun.carry_out`` must follow."""
        header = RunHeader.model_validate(state["run"])
        check_same_graph(header, self.spec)
        ledger = self.services.ledger
        write = get_stream_writer() if settings_of(config).shows_events else None
        trace = trace_of(header.run_id, self.spec.name, heard_by=heard_by)
        log = EventLog(ledger, write, [*observers_of(config), *trace.observers])
        keeper = lease_keeper(ledger)
        keeper.start()
        try:
            run = await self._opened(header, state, config, ways, log, trace=trace)
        except BaseException:
            keeper.stop()
            await log.close()
            raise
        self.drivers[header.run_id] = self.drivers[settings_of(config).key] = run.driver
        return run

    def abort(self, which: object, reason: str) -> bool:
        """End a run soon; from any thread. False if it is not carried out here.

        Args:
            which: Its id, or the key of its execution.
            reason: As the run's end will tell it.
        """
        driver = self.drivers.get(which)
        if driver is not None:
            driver.abort(reason)
        return driver is not None

    def _let_go(self, run_id: str, key: object, driver: Driver) -> None:
        self.drivers.pop(key, None)
        if self.drivers.get(run_id) is driver:  # the run may have been taken up again meanwhile
            del self.drivers[run_id]
        self.services.gates.forget(run_id)

    def keeps_answers(self, config: RunnableConfig) -> bool:
        """Whether what a human answers is kept: only then can a task ask."""
        return config.get("configurable", {}).get(_CHECKPOINTER) is not None

    async def _opened(
        self,
        header: RunHeader,
        state: RunGraphState,
        config: RunnableConfig,
        ways: Ways,
        log: EventLog,
        *,
        trace: RunTrace,
    ) -> OpenRun:
        run_id, ledger = header.run_id, self.services.ledger
        inputs = self.spec.run_inputs(state.get("inputs") or {})
        budgets = self._budgets(run_id, config)
        for budget in budgets:
            await ledger.aopen_scope(Scope.of(budget))
        journal = await ledger.aoutcomes(run_id)
        outcomes = self._ended(journal, state, config)
        reservations = await ledger.areservations(run_id)
        tasks = RunTasks(self.spec, inputs=inputs, check_model=partial(self._check_model, budgets))
        grown = tasks.restore(outcomes)
        policy = self._policy(config)
        refusals = Refusals(run_id=run_id, policy=policy, budgets=budgets, tell=log.emit)
        backend = InProcessBackend(
            lambda task_id: self._body_of(tasks.definition(task_id)),
            RunContext(
                ledger=ledger,
                memory=self.services.memory,
                budgets=budgets,
                on_event=log.emit,
                on_body_stopped=lambda task_id: driver.body_stopped(task_id),  # noqa: PLW0108 - made further down
                stream=log.stream,
                accept=tasks.accept,
                answers=ways.answers,
            ),
        )
        attempts = Attempts(
            run_id=run_id,
            tasks=tasks,
            dispatcher=Dispatcher(
                spec=self.spec,
                tasks=tasks,
                services=self.services,
                run_id=run_id,
                inputs=inputs,
                budgets=budgets,
                models=self.models,
                paid=paid_for(reservations, outcomes),
                log=log,
            ),
            backend=backend,
            call_task=ways.call_task,
            refusals=refusals,
            descent=Descent(lambda task_id: self.services.ladder.models_of(tasks.definition(task_id))),
            gates=self.services.gates,
            cache=self.services.cache,
            log=log,
            trace=trace,
            outcomes=outcomes,
            suspended={task: each.attempts for task, each in journal.items() if each.state is TaskState.READY},
            keep=partial(ledger.arecord_outcome, run_id),
        )
        latest = await self._latest_runs()
        planner = ParallelExecutor(
            self.spec.dag,
            policy=policy,
            models={task_id: definition.model for task_id, definition in self.spec.tasks.items()},
            retries={task_id: self.spec.retry_of(task_id) for task_id in self.spec.tasks},
            expected_seconds=known_seconds(self.spec, latest),
            priorities={task_id: definition.spec.priority for task_id, definition in self.spec.tasks.items()},
            completed=_in_state(outcomes, TaskState.COMPLETED, self.spec),
            failed=_in_state(outcomes, TaskState.FAILED, self.spec),
            held=ways.held,
            gated=ways.gated,
        )
        for growth in grown:
            planner.next(Grew(-math.inf, growth.tasks, growth.parent))
        driver = Driver(
            tasks=tasks,
            run_id=run_id,
            planner=planner,
            attempts=attempts,
            backend=backend,
            outcomes=outcomes,
            used=used_so_far(reservations, outcomes),
            ledger=ledger,
            log=log,
            top_up=TopUps(ledger, refusals, budgets[0], ways.ask),
            on_finished=ways.on_finished,
            is_draining=ways.is_draining,
        )
        log.emit(
            RunStarted(
                run_id=run_id,
                name=self.spec.name,
                tasks=len({*self.spec.tasks, *outcomes, *(task.task_id for each in grown for task in each.tasks)}),
                finished=sum(outcome.state is TaskState.COMPLETED for outcome in outcomes.values()),
                limit=policy.budget_limit,
            )
        )
        return OpenRun(
            header=header,
            tasks=tasks,
            outcomes=outcomes,
            driver=driver,
            ledger=ledger,
            log=log,
            trace=trace,
            remember=partial(self._remember, run_id, tasks, inputs, outcomes, frozenset(outcomes)),
            let_go=partial(self._let_go, run_id, settings_of(config).key, driver),
        )

    async def _latest_runs(self) -> Sequence[Durations]:
        try:
            return await acarry_out(self.services.history.durations(self.spec.name))
        except Exception as error:  # noqa: BLE001 - each store has its own errors
            _log.warning("tasks are not ordered by what earlier runs took: %r", error)
            return ()

    async def _remember(
        self,
        run_id: str,
        tasks: RunTasks,
        inputs: Mapping[str, JsonValue],
        outcomes: Mapping[str, TaskOutcome],
        before: Collection[str],
    ) -> None:
        """Keep what the tasks took that ended in this execution, for later plans; no run fails for want of that."""
        samples = samples_of(tasks, inputs, outcomes, [task_id for task_id in outcomes if task_id not in before])
        try:
            await acarry_out(self.services.history.add(self.spec.name, run_id, samples))
        except Exception as error:  # noqa: BLE001 - each store has its own errors
            _log.warning("what run %s took is not kept for later plans: %r", run_id, error)

    def _ended(
        self, journal: Mapping[str, TaskOutcome], state: RunGraphState, config: RunnableConfig
    ) -> dict[str, TaskOutcome]:
        """Tasks that need not run: by the journal, and by the state, which a user may have edited."""
        kept = {TaskState.COMPLETED}
        if settings_of(config).keep_failures:
            kept.add(TaskState.FAILED)
        edited = outcomes_of(state)
        return {task_id: outcome for task_id, outcome in {**journal, **edited}.items() if outcome.state in kept}

    def _check_model(self, budgets: Sequence[Budget], definition: TaskDefinition) -> None:
        """Check that a prompt which a body wrote can be called, and charged."""
        self.models.of(definition)
        self.services.check_prices(self.services.ladder.models_of(definition), budgets)

    def _body_of(self, definition: TaskDefinition) -> TaskBody:
        made_at_run_time = self.spec.tasks.get(definition.spec.id) is not definition
        if made_at_run_time:
            return task_body(definition, self.services, self.models)
        return self._bodies[definition.spec.id]

    def _policy(self, config: RunnableConfig) -> RunPolicy:
        wanted = settings_of(config).max_parallelism
        policy = self.spec.policy
        if wanted is None:
            return policy
        return policy.model_copy(update={"max_parallelism": min(policy.max_parallelism, wanted)})

    def _budgets(self, run_id: str, config: RunnableConfig) -> tuple[Budget, ...]:
        return all_budgets(run_id, self.spec, self.services, settings_of(config).budgets)


def _check_inputs(inputs: Any) -> None:
    """Refuse what checkpoints, journals and jobs could not carry."""
    problem = f"they are a {type(inputs).__name__}" if not isinstance(inputs, dict) else unfit(inputs)
    if problem:
        raise InvalidInputError(
            f"the run's inputs cannot be kept as JSON: {problem}",
            hint='pass {"inputs": {name: value}} with strings, numbers, lists and dicts; convert other values first',
        )


def _in_state(outcomes: Mapping[str, TaskOutcome], state: TaskState, spec: GraphSpec) -> list[str]:
    return [task_id for task_id, outcome in outcomes.items() if outcome.state is state and task_id in spec.tasks]

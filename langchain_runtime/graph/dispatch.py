"""Makes a task ready to run: its inputs, the view its model gets, and the money for the call.

What was compacted is what the model receives: the messages priced here are the messages that are sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from pydantic import JsonValue

from langchain_runtime.adapters.account import Charge
from langchain_runtime.adapters.leases import LEASE_SECONDS, lease_keeper
from langchain_runtime.adapters.pacing import expected_use
from langchain_runtime.adapters.providers import model_id
from langchain_runtime.adapters.replies import reply_key, request_digest
from langchain_runtime.adapters.request_bounds import CallBound, bound_call
from langchain_runtime.backends.in_process import first_call_of
from langchain_runtime.backends.task_body import call_arguments
from langchain_runtime.context import ContextRouter
from langchain_runtime.context.memory_log import MemoryLog
from langchain_runtime.contracts.budget import Budget, Hold
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.events import BudgetRefused, CallReserved, ContextCompacted, LifecycleEvent
from langchain_runtime.contracts.job import AdoptedHold, TaskJob
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import TaskOutcome
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.cost import BudgetEnforcer
from langchain_runtime.graph.bodies import TaskModels
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.graph.task_views import TaskView, TaskViews

_CARRIED_OUT_BY_THE_GRAPH: Final = frozenset({"wait", "interrupt", "downgrade"})


_SEEN: Final = "seen"
"""Key of the memory in what is recorded of it, so that an empty one is not taken for none."""


_BLANK: Final = {name: field.default for name, field in TaskJob.model_fields.items()}
"""Of a job that says nothing yet."""


@dataclass(frozen=True)
class Draft:
    """An attempt that is laid out and has no money yet.

    Attributes:
        job: What it would do.
        view: What its model sees; None for a body of its own.
        paid: Its reply was bought before.
    """

    job: TaskJob
    view: TaskView | None = None
    paid: bool = False


class Dispatcher:
    """Makes the jobs of one run.

    Args:
        spec: The graph.
        tasks: All tasks of the run.
        services: Components.
        run_id: The run.
        inputs: The run's inputs.
        budgets: Charged by every call of the run.
        models: Opened models of prompts.
        paid: Tasks for which an earlier execution settled a call and then did not finish them.
        log: Receives the run's events.
    """

    def __init__(
        self,
        *,
        spec: GraphSpec,
        tasks: RunTasks,
        services: Services,
        run_id: str,
        inputs: Mapping[str, JsonValue],
        budgets: Sequence[Budget],
        models: TaskModels,
        paid: frozenset[str],
        log: EventLog,
    ) -> None:
        self._spec = spec
        self._tasks = tasks
        self._services = services
        self._run_id = run_id
        self._inputs = dict(inputs)
        # Waiting, asking and moving are the driver's: it can let other tasks run meanwhile, or take another model.
        self._budgets = tuple(
            budget.model_copy(update={"on_exceed": "raise"})
            if budget.on_exceed in _CARRIED_OUT_BY_THE_GRAPH
            else budget
            for budget in budgets
        )
        self._scopes = tuple(budget.scope for budget in self._budgets)
        self._charge = Charge(services.ledger, self._budgets)
        self._models = models
        self._paid = paid
        self._log = log
        self._router = ContextRouter()
        self._views = TaskViews(spec, services, run_id, self._inputs)
        self._memories = MemoryLog(services.store)
        self._begun: set[tuple[str, int]] = set()
        self._enforcer = BudgetEnforcer(services.ledger, on_event=self._tell)

    async def lay_out(
        self, task_id: str, attempt: int, outcomes: Mapping[str, TaskOutcome], used: Usage, *, model: str | None
    ) -> Draft:
        """What one attempt on ``model`` would do; nothing is reserved yet.

        Raises:
            ContextOverflowError: What the model must see does not fit its window.
            InvalidInputError: A dependency has no output of the wanted name.
        """
        definition = self._tasks.definition(task_id)
        routed = {**self._router.route(definition.spec, outcomes), **definition.inputs}
        is_prompt = definition.spec.prompt is not None
        job = trusted(
            TaskJob,
            {
                **_BLANK,
                "run_id": self._run_id,
                "task_id": task_id,
                "attempt": attempt,
                "inputs": {} if is_prompt else {**self._inputs, **routed},
                "max_output_tokens": definition.spec.max_output_tokens if is_prompt else None,
                "scopes": self._scopes,
                "timeout_ms": definition.spec.timeout_ms or self._spec.policy.task_timeout_ms,
                "used": used,
            },
        )
        if not is_prompt:
            return Draft(job)
        assert model is not None  # a prompt has one
        if task_id in self._paid or (task_id, attempt) in self._begun:
            again = await self._again(definition, routed, job, model)
            if again is not None:
                return again
        memory = await self._services.memory.asnapshot(self._run_id)
        draft = await self._draft(definition, routed, memory, job, model)
        if memory or not self._is_single_call(draft.job):
            # Of several calls some may be paid for when the process dies: then it matters that there was none, too.
            await self._memories.asnapshot(self._run_id, task_id, attempt, {_SEEN: memory})
        return draft

    async def _draft(
        self,
        definition: TaskDefinition,
        routed: Mapping[str, JsonValue],
        memory: Mapping[str, JsonValue],
        job: TaskJob,
        model: str,
    ) -> Draft:
        chat_model = self._models.of(definition)[model]
        view = await self._views.view(definition, routed, memory, model=model, chat_model=chat_model)
        return Draft(
            job.model_copy(update={"model": model, "messages": view.messages, "left_out": view.left_out}), view
        )

    async def _again(
        self, definition: TaskDefinition, routed: Mapping[str, JsonValue], job: TaskJob, model: str
    ) -> Draft | None:
        """The attempt with the run's memory as it saw it when it was first made, if that is of use; else None.

        Of a single call: on whichever model its reply was bought. Tasks of several calls find each reply for
        themselves, if they ask the same.
        """
        record = await self._memories.arecorded(self._run_id, job.task_id, job.attempt)
        memory: Any = record.get(_SEEN, {})
        for name in self._models.of(definition):
            try:
                draft = await self._draft(definition, routed, memory, job, name)
            except ContextOverflowError:
                continue  # it cannot have answered
            if self._is_single_call(draft.job):
                if await self._is_bought(draft.job):
                    return Draft(draft.job, paid=True)
            elif record and name == model:
                return draft
        return None

    async def _is_bought(self, job: TaskJob) -> bool:
        chat_model, arguments = self._chat_model(job), call_arguments(job)
        request = request_digest(
            model=model_id(chat_model, arguments), messages=job.messages or (), stop=None, kwargs=arguments
        )
        key = reply_key(self._run_id, job.task_id, first_call_of(job), request)
        return await self._services.ledger.areplay(key) is not None

    def _is_single_call(self, job: TaskJob) -> bool:
        """Whether the body makes one call, over the messages of the job: then its hold can be made here."""
        return self._tasks.definition(job.task_id).is_single_call and job.left_out is None

    def chat_model_of(self, job: TaskJob) -> BaseChatModel | None:
        """The model that answers; None for a body of its own."""
        return None if job.model is None else self._models.of(self._tasks.definition(job.task_id))[job.model]

    def opens_at(self, draft: Draft) -> float | None:
        """When the attempt's model takes its call, on the monotonic clock; None for now: a single call has its turn.

        Raises:
            ModelUnavailableError: The model is not worth waiting for.
        """
        job, gates = draft.job, self._services.gates
        if not self._is_single_call(job):
            return gates.opens_at(job.model, 0, time.monotonic())
        counts = gates.counts_tokens(job.model)
        tokens = expected_use(self._bound(job), job.messages or (), self._services.estimator) if counts else 0
        return gates.enter(self._run_id, job.task_id, job.model, tokens, time.monotonic())

    async def fund(self, draft: Draft) -> TaskJob:
        """The job of the attempt, with its hold if its one call is to be paid; the body runs next.

        Raises:
            BudgetExceededError: The worst case of its call does not fit.
        """
        job = draft.job
        if draft.view is not None and not self._is_single_call(job):
            self._begun.add((job.task_id, job.attempt))
        elif draft.view is not None and not draft.paid:
            hold, worst_case = await self._reserve(job)
            job = job.model_copy(update={"hold": hold, "estimated_use": worst_case})
        if draft.view is not None and draft.view.compaction.strategy:
            self._log.emit(_compacted(job, draft.view))
        return job

    async def give_back(self, hold: AdoptedHold) -> None:
        """Release the hold of a job whose body never ran."""
        await self._services.ledger.arelease(hold.reservation_id)

    async def _reserve(self, job: TaskJob) -> tuple[AdoptedHold, Usage]:
        bound = self._bound(job)
        admitted = bound

        def shrink(free_nano: int | None, free_tokens: int | None) -> Hold | None:
            nonlocal admitted
            smaller = bound.shrink(free_nano, free_tokens, self._spec.policy.min_output_tokens)
            if smaller is None:
                return None
            admitted = smaller
            return self._hold(job, smaller)

        reservation = await self._enforcer.aadmit(self._hold(job, bound), self._budgets, shrink=shrink)
        hold = reservation.hold
        worst_case = Cost.from_nano(hold.nano, hold.currency) if hold.priced else None
        self._log.emit(
            CallReserved(
                run_id=self._run_id,
                task=job.task_id,
                reservation_id=hold.id,
                worst_case=worst_case,
                model=job.model,
            )
        )
        adopted = AdoptedHold(
            reservation_id=hold.id,
            lease=reservation.lease,
            nano=hold.nano,
            tokens=hold.tokens,
            max_output_tokens=admitted.output_cap,
        )
        tokens = TokenUsage(input=admitted.input_tokens, output=admitted.output_cap)
        return adopted, Usage(tokens=tokens, cost=worst_case)

    def _bound(self, job: TaskJob) -> CallBound:
        return bound_call(
            self._chat_model(job),
            job.messages or (),
            call_arguments(job),
            estimator=self._services.estimator,
            calculator=self._services.calculator,
            catalog=self._services.catalog,
            price_as=self._services.price_as,
            priced=self._charge.limits_money,
            bounded=self._charge.limits,
        )

    def _chat_model(self, job: TaskJob) -> BaseChatModel:
        chat_model = self.chat_model_of(job)
        assert chat_model is not None  # a prompt has one
        return chat_model

    def _hold(self, job: TaskJob, bound: CallBound) -> Hold:
        return Hold(
            scopes=self._scopes,
            nano=bound.nano,
            currency=bound.currency,
            tokens=bound.tokens,
            holder=lease_keeper(self._services.ledger).holder,
            lease_seconds=LEASE_SECONDS,
            run_id=self._run_id,
            task_id=job.task_id,
            model=job.model,
            priced=bound.terms.calculator is not None,
        )

    def _tell(self, event: LifecycleEvent) -> None:
        # What a refusal leads to is decided later, and told then.
        if not (isinstance(event, BudgetRefused) and event.action == "raise"):
            self._log.emit(event)


def _compacted(job: TaskJob, view: TaskView) -> ContextCompacted:
    compaction = view.compaction
    return ContextCompacted(
        run_id=job.run_id,
        task=job.task_id,
        strategy=compaction.strategy,
        tokens_before=compaction.tokens_before,
        tokens_after=compaction.tokens_after,
        evicted=view.evicted,
        clipped=compaction.clipped,
    )

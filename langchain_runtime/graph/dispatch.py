"""Makes a task ready to run: its inputs, the view its model gets, and the money for the call.

What was compacted is what the model receives: the messages priced here are the messages that are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from pydantic import JsonValue

from langchain_runtime.adapters.leases import LEASE_SECONDS, lease_keeper
from langchain_runtime.adapters.request_bounds import CallBound, bound_call
from langchain_runtime.context import ContextBuilder, ContextCompactor, ContextRouter, HandleStore
from langchain_runtime.contracts.budget import Budget, Hold
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.events import CallReserved, ContextCompacted
from langchain_runtime.contracts.job import AdoptedHold, TaskJob
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import TaskOutcome
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.cost import BudgetEnforcer
from langchain_runtime.graph.event_log import EventLog
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition

_CARRIED_OUT_BY_THE_GRAPH: Final = frozenset({"wait", "interrupt"})


class Dispatcher:
    """Makes the jobs of one run.

    Args:
        spec: The graph.
        services: Components.
        run_id: The run.
        inputs: The run's inputs.
        budgets: Charged by every call of the run.
        models: Of the prompt tasks, by task id.
        log: Receives the run's events.
    """

    def __init__(
        self,
        *,
        spec: GraphSpec,
        services: Services,
        run_id: str,
        inputs: Mapping[str, JsonValue],
        budgets: Sequence[Budget],
        models: Mapping[str, BaseChatModel],
        log: EventLog,
    ) -> None:
        self._spec = spec
        self._services = services
        self._run_id = run_id
        self._inputs = dict(inputs)
        # Waiting and asking are the driver's: it can let other tasks run meanwhile, the enforcer could only block.
        self._budgets = tuple(
            budget.model_copy(update={"on_exceed": "raise"})
            if budget.on_exceed in _CARRIED_OUT_BY_THE_GRAPH
            else budget
            for budget in budgets
        )
        self._models = models
        self._log = log
        self._router = ContextRouter()
        self._builder = ContextBuilder()
        self._handles = HandleStore(services.store, ("lcr", run_id, "evicted"))
        self._enforcer = BudgetEnforcer(services.ledger, on_event=log.emit)

    async def prepare(self, task_id: str, attempt: int, outcomes: Mapping[str, TaskOutcome], used: Usage) -> TaskJob:
        """The job of one attempt, with its hold.

        Raises:
            BudgetExceededError: The worst case of its call does not fit.
            ContextOverflowError: What the model must see does not fit its window.
            InvalidInputError: A dependency has no output of the wanted name.
        """
        definition = self._spec.tasks[task_id]
        routed = self._router.route(definition.spec, outcomes)
        timeout_ms = definition.spec.timeout_ms or self._spec.policy.task_timeout_ms
        job = TaskJob(
            run_id=self._run_id,
            task_id=task_id,
            attempt=attempt,
            scopes=tuple(budget.scope for budget in self._budgets),
            timeout_ms=timeout_ms,
            used=used,
        )
        if definition.spec.prompt is None:
            return job.model_copy(update={"inputs": {**self._inputs, **routed}})
        messages = await self._view(definition, routed)
        update: dict[str, Any] = {
            "messages": messages,
            "model": definition.model,
            "max_output_tokens": definition.spec.max_output_tokens,
        }
        if definition.is_single_call:
            update["hold"], update["estimated_use"] = await self._reserve(definition, messages)
        return job.model_copy(update=update)

    async def give_back(self, hold: AdoptedHold) -> None:
        """Release the hold of a job whose body never ran."""
        await self._services.ledger.arelease(hold.reservation_id)

    async def _view(self, definition: TaskDefinition, routed: Mapping[str, JsonValue]) -> list[AnyMessage]:
        bundle = self._builder.build(
            definition.spec,
            inputs=self._inputs,
            routed=routed,
            memory=await self._services.memory.asnapshot(self._run_id),
            tools={},
        )
        model = str(definition.model)
        info = self._services.info(model)
        policy = definition.spec.context or self._spec.policy.context or ContextPolicy()
        if "target" not in policy.model_fields_set:
            # A low water mark spares later turns of a conversation a compaction; a task's view is used once.
            policy = policy.model_copy(update={"target": policy.trigger})
        window = info.context_window if info is not None else None
        compactor = ContextCompactor(self._services.estimator, model=self._services.priced_as(model))
        compaction = compactor.compact(bundle, policy, max_tokens=window)
        if compaction.strategy:
            await self._handles.aput(compaction.evicted)
            self._log.emit(
                ContextCompacted(
                    run_id=self._run_id,
                    task=definition.spec.id,
                    strategy=compaction.strategy,
                    tokens_before=compaction.tokens_before,
                    tokens_after=compaction.tokens_after,
                    evicted=len(compaction.evicted),
                    clipped=compaction.clipped,
                )
            )
        return compaction.bundle.messages

    async def _reserve(self, definition: TaskDefinition, messages: Sequence[AnyMessage]) -> tuple[AdoptedHold, Usage]:
        bound = self._bound(definition, messages)
        admitted = bound

        def shrink(free_nano: int | None, free_tokens: int | None) -> Hold | None:
            nonlocal admitted
            smaller = bound.shrink(free_nano, free_tokens, self._spec.policy.min_output_tokens)
            if smaller is None:
                return None
            admitted = smaller
            return self._hold(definition, smaller)

        reservation = await self._enforcer.aadmit(self._hold(definition, bound), self._budgets, shrink=shrink)
        hold = reservation.hold
        worst_case = Cost.from_nano(hold.nano, hold.currency) if hold.priced else None
        self._log.emit(
            CallReserved(
                run_id=self._run_id,
                task=definition.spec.id,
                reservation_id=hold.id,
                worst_case=worst_case,
                model=definition.model,
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

    def _bound(self, definition: TaskDefinition, messages: Sequence[AnyMessage]) -> CallBound:
        cap = definition.spec.max_output_tokens
        return bound_call(
            self._models[definition.spec.id],
            messages,
            {} if cap is None else {"max_tokens": cap},
            estimator=self._services.estimator,
            calculator=self._services.calculator,
            catalog=self._services.catalog,
            price_as=self._services.price_as,
            priced=any(budget.limit is not None for budget in self._budgets),
            bounded=any(budget.limit is not None or budget.token_limit is not None for budget in self._budgets),
        )

    def _hold(self, definition: TaskDefinition, bound: CallBound) -> Hold:
        return Hold(
            scopes=tuple(budget.scope for budget in self._budgets),
            nano=bound.nano,
            currency=bound.currency,
            tokens=bound.tokens,
            holder=lease_keeper(self._services.ledger).holder,
            lease_seconds=LEASE_SECONDS,
            run_id=self._run_id,
            task_id=definition.spec.id,
            model=definition.model,
            priced=bound.terms.calculator is not None,
        )

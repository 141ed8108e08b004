"""What can be known of a run without carrying it out: what it would take, and what else it could have taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_runtime.contracts.plans import Plan, acarry_out, carry_out
from langchain_runtime.contracts.run import ModelLimits, Run
from langchain_runtime.graph.expectations import known_seconds, seconds_on
from langchain_runtime.graph.list_prices import ListPrices, PriceSource
from langchain_runtime.graph.other_models import ModelChoice
from langchain_runtime.graph.plan import RunPlan
from langchain_runtime.graph.planning import check_run, facts_of, plan_run
from langchain_runtime.graph.run_threads import RunThreads
from langchain_runtime.graph.what_if import what_if
from langchain_runtime.graph.what_if_result import WhatIf


class RunForecasts(RunThreads):
    """The part of a compiled graph that looks ahead."""

    @property
    def model_names(self) -> list[str]:
        """Models that its prompts may be answered by, those that a budget may move them to included."""
        spec, ladder = self._execution.spec, self._execution.services.ladder
        return list(dict.fromkeys(model for task in spec.tasks.values() for model in ladder.models_of(task)))

    def check(self, inputs: Mapping[str, Any] | None = None) -> None:
        """Check that a run with these inputs would be let start.

        Raises:
            InputError: It would be refused.
        """
        check_run(self._execution.spec, self._execution.services, inputs or {})

    def plan(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        max_parallelism: int | None = None,
        items: Mapping[str, int] | None = None,
    ) -> RunPlan:
        """What a run would do, take and cost; spends and writes nothing.

        Figures come from earlier runs in the graph's store, else from the prompts and from assumptions.

        Args:
            inputs: The run's.
            max_parallelism: Tasks at a time; None for the policy's.
            items: How long the lists of ``for_each`` tasks will be, by task id; None for as long as they were in
                earlier runs, or one item.

        Raises:
            InputError: The run would be refused, or an argument is wrong.
            LedgerUnavailableError: The balance of a budget cannot be read.
        """
        spec, services = self._execution.spec, self._execution.services
        facts = carry_out(facts_of(spec, services))
        return plan_run(
            spec, services, facts, inputs or {}, max_parallelism=max_parallelism, items=items, steps=self._is_native
        )

    async def aplan(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        max_parallelism: int | None = None,
        items: Mapping[str, int] | None = None,
    ) -> RunPlan:
        """Async twin of ``plan``."""
        spec, services = self._execution.spec, self._execution.services
        facts = await acarry_out(facts_of(spec, services))
        return plan_run(
            spec, services, facts, inputs or {}, max_parallelism=max_parallelism, items=items, steps=self._is_native
        )

    def what_if(
        self,
        run: Run,
        *,
        models: ModelChoice | None = None,
        max_parallelism: int | None = None,
        per_model: Mapping[str, ModelLimits | Mapping[str, Any]] | None = None,
        prices: PriceSource | None = None,
    ) -> WhatIf:
        """What a finished run would have taken and cost under other settings; spends nothing.

        Its tasks are played again in virtual time, each for as long as it took and with the tokens that it used.

        Args:
            run: As ``invoke`` returned it, or ``get_run``.
            models: Other models, by a task's id or by the model they replace, or a function of the task that returns
                one or None.
            max_parallelism: Tasks at a time; None as it was.
            per_model: Ceilings by model, in place of the policy's for these models.
            prices: Other prices: an overlay (mapping or YAML file) for the models that it names, or a catalogue.

        Raises:
            InputError: The run has not ended or has no times; or an argument names a task or model that the run does
                not have, or is out of range.
        """
        facts = carry_out(self._facts_about(run))
        return what_if(run, models=models, max_parallelism=max_parallelism, per_model=per_model, prices=prices, **facts)

    async def awhat_if(
        self,
        run: Run,
        *,
        models: ModelChoice | None = None,
        max_parallelism: int | None = None,
        per_model: Mapping[str, ModelLimits | Mapping[str, Any]] | None = None,
        prices: PriceSource | None = None,
    ) -> WhatIf:
        """Async twin of ``what_if``."""
        facts = await acarry_out(self._facts_about(run))
        return what_if(run, models=models, max_parallelism=max_parallelism, per_model=per_model, prices=prices, **facts)

    def _facts_about(self, run: Run) -> Plan[dict[str, Any]]:
        """What is known besides the run: prices, durations, and what its planner knew when it began."""
        spec, services = self._execution.spec, self._execution.services
        past = yield from services.history.past_runs(spec.name, others=True)
        latest_then = yield from services.history.durations(spec.name, before=run.created_at)
        return {
            "list_prices": ListPrices(services.catalog, services.calculator, services.price_as),
            "seconds_on": lambda task, model: seconds_on(past, task, model),
            "expected_seconds": known_seconds(spec, latest_then),
        }

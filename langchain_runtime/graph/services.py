"""What a compiled graph works with; made once at ``compile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel
from langgraph.store.base import BaseStore

from langchain_runtime.adapters.account import current_account
from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import CurrencyMismatchError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.pricing import ModelInfo
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.cost import CostCalculator, ModelCatalog, TokenEstimator
from langchain_runtime.graph.ladders import RunLadder
from langchain_runtime.graph.model_gates import ModelGates
from langchain_runtime.graph.run_history import RunHistory
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.task_cache import TaskCache


@dataclass(frozen=True)
class Services:
    """Components shared by all runs of a compiled graph.

    Attributes:
        ledger: The books and the journal.
        store: Holds the run's memory and what was evicted from views.
        memory: The run's memory.
        catalog: Models and prices.
        estimator: Counts tokens.
        calculator: Prices calls.
        budgets: Charged by every run, besides its own.
        price_as: Model to take the list price of, by model; for models without a price.
        models: Chat models to use instead of opening them by name.
        ladder: Cheaper models for prompts that do not fit.
        gates: When models take calls.
        cache: Results of tasks that may be taken for equal ones.
        history: What earlier runs took.
    """

    ledger: Ledger
    store: BaseStore
    memory: MemoryManager
    catalog: ModelCatalog
    estimator: TokenEstimator
    calculator: CostCalculator
    budgets: tuple[Budget, ...]
    price_as: Mapping[str, str]
    models: Mapping[str, BaseChatModel]
    ladder: RunLadder
    gates: ModelGates
    cache: TaskCache
    history: RunHistory

    def priced_as(self, model: str) -> str:
        """The model whose list price counts for ``model``."""
        return self.price_as.get(model, model)

    def info(self, model: str) -> ModelInfo | None:
        """What is known of the model behind a price; None if nothing is."""
        try:
            return self.catalog.get(self.priced_as(model))
        except UnknownModelError:
            return None

    def currency_of(self, models: Sequence[str]) -> str:
        """The currency in which calls of these models are priced; USD where they differ or have no price."""
        found = {info.currency for model in models if (info := self.info(model)) is not None}
        return found.pop() if len(found) == 1 else "USD"

    def check_prices(self, models: Sequence[str], budgets: Sequence[Budget]) -> None:
        """Check that every model can be charged to every limited budget.

        Raises:
            UnknownModelError: The catalogue does not know a model.
            UnpricedModelError: It knows no price for it.
            CurrencyMismatchError: A price is in another currency than a limit.
        """
        limited = [budget for budget in budgets if budget.limit is not None and budget.on_exceed != "warn"]
        for model in models if limited else ():
            info = self.catalog.get(self.priced_as(model))
            if info.rates is None:
                raise UnpricedModelError(
                    f"no price is known for {model!r}, so a budget cannot hold it",
                    model=model,
                    hint="give its price in a catalogue overlay, name a model to price it as, or run without a limit",
                )
            for budget in limited:
                if budget.currency != info.currency:
                    raise CurrencyMismatchError(
                        f"{_name(budget)} is in {budget.currency}, the price of {model!r} in {info.currency}",
                        expected=budget.currency,
                        actual=info.currency,
                        hint=f"give the budget in {info.currency}, or a price in {budget.currency} in an overlay",
                    )


def _name(budget: Budget) -> str:
    return "the run's budget" if budget.scope.startswith("run:") else f"budget {budget.scope!r}"


def all_budgets(run_id: str, spec: GraphSpec, services: Services, given: Sequence[Budget] = ()) -> tuple[Budget, ...]:
    """Everything that every call of a run charges, each scope once: its own, the graph's, the caller's, the enclosing.

    Args:
        run_id: The run.
        spec: The graph.
        services: Components.
        given: By the caller, for this run.
    """
    found = [run_budget(run_id, spec.policy, services.currency_of(spec.models)), *services.budgets, *given]
    account = current_account()
    while account is not None:
        if account.ledger is services.ledger:
            found += account.budgets
        account = account.enclosing
    return tuple({budget.scope: budget for budget in found[::-1]}.values())[::-1]


def run_budget(run_id: str, policy: RunPolicy, currency: str) -> Budget:
    """The budget of one run: its policy's limits under the scope ``run:<id>``; without a limit, in ``currency``."""
    return Budget(
        policy.budget_limit,
        currency=currency if policy.budget_limit is None else policy.budget_limit.currency,
        scope=f"run:{run_id}",
        token_limit=policy.token_limit,
        on_exceed=policy.on_exceed,
        wait_timeout=None if policy.wait_timeout_ms is None else policy.wait_timeout_ms / 1000,
        min_output_tokens=policy.min_output_tokens,
    )

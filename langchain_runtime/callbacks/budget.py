"""A budget for chat models that cannot be wrapped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_runtime.adapters.account import BudgetScope, Charge, charges, current_account
from langchain_runtime.adapters.announced_calls import AnnouncedCall, WorstCase, worst_case
from langchain_runtime.adapters.cached_replies import cached_replies
from langchain_runtime.adapters.charge_marks import charge_marks, uncharged
from langchain_runtime.adapters.ended_calls import usage_of_failure, usage_of_reply
from langchain_runtime.adapters.fixed_holds import FixedHolds
from langchain_runtime.adapters.pricing import Pricing, list_price
from langchain_runtime.adapters.usage import ReportedUsage
from langchain_runtime.callbacks._open_calls import OpenCalls
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.protocols import CostCalculator, ModelCatalog
from langchain_runtime.ledgers import default_ledger

LEASE_SECONDS: Final = 600.0
"""Default time-out of the OpenAI and Anthropic clients: hardly any call takes longer and still gets its reply."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A call that a handler has reserved for.

    Attributes:
        params: Its invocation parameters: one object for all prompts of a ``generate``.
        prompt: What ``cached_replies`` knows its prompt by.
        marks: What is charged.
        worst: What is held.
        holds: Where.
        calculator: Prices the call.
    """

    params: Mapping[str, Any]
    prompt: int
    marks: list[str]
    worst: WorstCase
    holds: FixedHolds
    calculator: CostCalculator

    def end(self, reported: ReportedUsage | None) -> None:
        """Settle by usage; at the full hold where usage or price is unknown. None gives the hold back."""
        if reported is None:
            self.holds.release()
        elif self.worst.currency is None:  # nobody has a price, and no limit asks for one; the tokens are counted
            self.holds.settle(0, reported.usage)
        else:
            cost = list_price(reported, self.worst.model, self.calculator, service_tier=self.worst.service_tier)
            same = cost is not None and cost.currency == self.worst.currency
            self.holds.settle(cost.nano if cost is not None and same else None, reported.usage)


_open: Final[OpenCalls[dict[int, _Guarded]]] = OpenCalls()
"""What all handlers of the process hold, by run id and handler: they must not charge one scope twice for one call, and
when one refuses a call the others' holds for it are given back, since no event will tell them."""


class BudgetCallbackHandler(BaseCallbackHandler):
    """Puts the calls of models that cannot be wrapped under a budget: what does not fit is refused before it is sent.

    >>> from langchain_runtime import Budget
    >>> from langchain_runtime.callbacks import BudgetCallbackHandler
    >>> from langchain_runtime.testing import ScriptedChatModel
    >>> guard = BudgetCallbackHandler(Budget.usd("0.01"), price_as={"scripted": "openai:gpt-4o-mini"}, attempts=1)
    >>> model = ScriptedChatModel(script=["It is sunny."], max_tokens=1_000)
    >>> reply = model.invoke("How is the weather?", config={"callbacks": [guard]})
    >>> print(guard.scope.spent)
    0.00000255 USD
    >>> model.invoke("And tomorrow?", max_tokens=20_000, config={"callbacks": [guard]})
    Traceback (most recent call last):
    langchain_runtime.contracts.errors.BudgetExceededError: a call of openai:gpt-4o-mini needs up to ...

    **Use ``with_budget`` where you can.** A callback sees a call, but cannot change it:

    * It cannot cap the output. What bounds a call is the ``max_tokens`` that it announces, else the catalogue's limit
      for the model; where neither is known the call is refused. ``on_exceed="cap"`` therefore acts as ``raise``;
      ``wait``, ``downgrade`` and ``interrupt`` are refused here, and act as ``raise`` in budgets around a call.
    * It cannot see the client's retries unless the class announces them, and holds for three requests otherwise.
    * It hears nothing of the end of a cancelled ``ainvoke``, of a call that somebody else's handler held back, and of
      the other prompts of a ``generate`` in which one failed: these are charged in full when their lease is over.
    * Streams must report usage (``stream_usage=True`` for ChatOpenAI with a ``base_url``), else they cost their hold.
    * Replies from LangChain's response cache cost nothing, but there must be room for the call.
    * Model classes that LangChain cannot serialise do not show all their fields: a parameter there that makes the
      provider read more than the request goes unnoticed.
    * Text-completion models (``BaseLLM``) are refused, since their usage has no common form.
    * It blocks while the ledger works, also in async code.

    Each call charges ``budget``, and every ``budget_scope`` and run around it. A model under ``with_budget`` charges
    those itself: of such a call the handler charges ``budget`` only, and only if the model does not.

    Args:
        budget: What the calls may spend.
        ledger: Where it is kept; None for the process-wide ledger in memory.
        catalog: Models and prices; None for the default catalogue.
        price_as: Catalogue models to price others as, by id, provider or name: ``{"my-proxy": "openai:gpt-5-mini"}``.
        attempts: Requests that one call can make, each held for; None for what the model announces, else 3.
        lease_seconds: How long a call may go on until it is charged in full; when it ends later, that is corrected.

    Attributes:
        scope: Handle with ``spent``, ``held``, ``remaining``, ``limit`` and ``snapshot()``.

    Raises:
        InvalidInputError: The budget wants what a callback cannot do, or is known with another limit.
    """

    raise_error = True  # else LangChain logs a refusal and makes the call
    run_inline = True  # else async calls have it run beside other handlers

    def __init__(
        self,
        budget: Budget,
        *,
        ledger: Ledger | None = None,
        catalog: ModelCatalog | None = None,
        price_as: Mapping[str, str] | None = None,
        attempts: int | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        _check(budget, attempts, lease_seconds)
        books = default_ledger() if ledger is None else ledger
        books.open_scope(Scope.of(budget))
        self.scope = BudgetScope(budget, books)
        self._pricing = Pricing.of(catalog)
        self._price_as = dict(price_as) if price_as else None
        self._attempts = attempts
        self._lease_seconds = lease_seconds

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **event: Any,
    ) -> None:
        """Reserve the worst case.

        Raises:
            BudgetExceededError: The call does not fit.
            UnpricedModelError: Money is limited and nobody has a price.
            EstimationError: Something is limited and the call cannot be bounded.
            LedgerUnavailableError: The books cannot be reached.
        """
        call = AnnouncedCall.of(serialized, metadata, event)
        try:
            self._reserve(call, messages[0], run_id)
        except BaseException:
            _give_back(run_id, call.params if event.get("batch_size", 1) > 1 else None)
            raise

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],  # noqa: ARG002 - LangChain's signature
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **event: Any,
    ) -> None:
        """Refuse a text-completion model.

        Raises:
            InvalidInputError: Something is limited.
        """
        call = AnnouncedCall.of(serialized, metadata, event)
        if any(bill.limits for bill in self._bills(call, run_id)):
            raise InvalidInputError(
                f"{call.model_id} is a text-completion model, whose calls a budget cannot guard",
                hint="use the provider's chat model, or a budget without a limit",
            )
        _log.warning("calls of the text-completion model %s are not charged to any budget", call.model_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_event: Any) -> None:
        """Settle by the usage that the reply reports. Never raises: the reply is paid for."""

        def used(guarded: _Guarded) -> ReportedUsage | None:
            return None if cached_replies.answers(run_id, guarded.prompt, response) else usage_of_reply(response)

        self._end(run_id, used)

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_event: Any
    ) -> None:
        """Give the hold back where nothing was billed, else settle at the full hold. Never raises."""
        self._end(run_id, lambda _: usage_of_failure(error, response))

    def _reserve(self, call: AnnouncedCall, messages: Sequence[BaseMessage], run_id: UUID) -> None:
        bills = self._bills(call, run_id)
        if not bills:
            return
        worst = worst_case(
            call,
            messages,
            self._pricing,
            price_as=self._price_as,
            attempts=self._attempts,
            priced=any(bill.limits_money for bill in bills),
            bounded=any(bill.limits for bill in bills),
        )
        account = current_account()
        holds = FixedHolds(account.run if account is not None else None, self._lease_seconds)
        holds.reserve(bills, worst)
        prompt = cached_replies.ask(run_id, call.model_id, messages)
        guarded = _Guarded(call.params, prompt, charge_marks(bills), worst, holds, self._pricing.calculator)
        _open.begin(run_id, {})[id(self)] = guarded

    def _bills(self, call: AnnouncedCall, run_id: UUID) -> list[Charge]:
        """What is to be charged: not what the model or another handler has charged for this call."""
        own = [Charge(self.scope.ledger, (self.scope.budget,))]
        account = current_account()
        known = set(call.charged or ())
        if call.charged is not None:
            known.update(charge_marks(charges(account)))
            account = None
        for guarded in (_open.get(run_id) or {}).values():
            known.update(guarded.marks)
        return list(uncharged(charges(account, own), known))

    def _end(self, run_id: UUID, read: Callable[[_Guarded], ReportedUsage | None]) -> None:
        handlers = _open.get(run_id) or {}
        guarded = handlers.pop(id(self), None)
        if not handlers:
            _open.end(run_id)
        if guarded is None:
            return
        try:
            guarded.end(read(guarded))
        except Exception:  # noqa: BLE001 - it would take a reply away that is paid for
            # An open hold ends with its lease, in full.
            _log.exception("the call %s is charged at its full hold", run_id)


def _check(budget: Budget, attempts: int | None, lease_seconds: float) -> None:
    if not isinstance(budget, Budget):
        raise InvalidInputError(f"BudgetCallbackHandler needs a Budget, got {type(budget).__name__}")
    if budget.on_exceed in {"wait", "downgrade", "interrupt"}:
        raise InvalidInputError(
            f"a callback cannot carry out on_exceed={budget.on_exceed!r}",
            hint='use "raise" or "warn" here, or with_budget around the model',
        )
    if attempts is not None and attempts < 1:
        raise InvalidInputError(f"a call makes at least one attempt, got attempts={attempts}")
    if lease_seconds <= 0:
        raise InvalidInputError(f"lease_seconds must be positive, got {lease_seconds}")


def _give_back(run_id: UUID, params: Mapping[str, Any] | None) -> None:
    """Release what handlers hold for a call that was refused, and for the other prompts of its ``generate``.

    LangChain announces all prompts before it sends the first one, with one object of parameters, and tells nobody
    that it sent none.

    Args:
        run_id: The call.
        params: The parameters of all prompts; None where there is one only.
    """
    runs = {run_id}
    if params is not None:
        runs.update(run for run, calls in _open.all() if any(call.params is params for call in calls.values()))
    for run in runs:
        for guarded in (_open.end(run) or {}).values():
            guarded.holds.release()

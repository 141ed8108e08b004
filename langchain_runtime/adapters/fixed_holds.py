"""Holds with a lease of their own that nobody renews: for whoever may never hear of the end of a call."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from langchain_runtime.adapters.account import Account, Charge
from langchain_runtime.adapters.announced_calls import WorstCase
from langchain_runtime.contracts.budget import Budget, Hold, Settlement
from langchain_runtime.contracts.errors import LangChainRuntimeError
from langchain_runtime.contracts.events import CallReserved, CallSettled
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import BudgetEnforcer

_log = logging.getLogger(__name__)


class _Held(NamedTuple):
    ledger: Ledger
    hold: Hold


class FixedHolds:
    """What is held for one call, in every ledger that it charges: all or none. Blocks while a ledger works.

    The holds are marked sent at once: between them and the request lies nothing that could be told apart.

    Args:
        run: The run that the call belongs to; None outside runs.
        lease_seconds: When a call that nobody ended is charged in full; a later settlement still corrects it.
    """

    def __init__(self, run: Account | None, lease_seconds: float) -> None:
        self._run = run
        self._lease_seconds = lease_seconds
        self._held: list[_Held] = []

    def reserve(self, bills: Sequence[Charge], worst: WorstCase) -> None:
        """Hold ``worst`` in all budgets of ``bills``. What does not fit is refused, unless its budget only warns.

        Raises:
            BudgetExceededError: It does not fit; nothing is held.
            LedgerUnavailableError: The books cannot be reached; nothing is held.
        """
        try:
            for bill in bills:
                self._hold(bill, worst)
        except BaseException:
            self.release()
            raise

    def settle(self, nano: int | None, usage: TokenUsage | None) -> None:
        """End all holds at what the call cost; None for the full hold."""

        def at_cost(held: _Held) -> None:
            held.ledger.settle(Settlement(reservation_id=held.hold.id, nano=nano, usage=usage))
            self._tell_settled(held, held.hold.nano if nano is None else nano, usage)

        self._end(at_cost)

    def release(self) -> None:
        """Give all holds back."""

        def back(held: _Held) -> None:
            held.ledger.release(held.hold.id)
            self._tell_settled(held, 0, TokenUsage())

        self._end(back)

    def _hold(self, bill: Charge, worst: WorstCase) -> None:
        run = self._run if self._run is not None and self._run.ledger is bill.ledger else None
        hold = Hold(
            id=uuid.uuid4().hex,
            scopes=bill.scopes,
            nano=worst.nano,
            currency=worst.currency or bill.budgets[0].currency,
            tokens=worst.tokens,
            holder=f"unrenewed:{uuid.uuid4().hex}",
            lease_seconds=self._lease_seconds,
            sent=True,
            run_id=run.run_id if run is not None else None,
            task_id=run.task_id if run is not None else None,
            model=worst.model,
            priced=worst.currency is not None,
        )
        on_event = run.on_event if run is not None else None
        budgets = [_at_once(budget) for budget in bill.budgets]
        BudgetEnforcer(bill.ledger, on_event=on_event).admit(hold, budgets, shrink=lambda *_free: None)
        self._held.append(_Held(bill.ledger, hold))
        if on_event is not None:
            reserved = Cost.from_nano(hold.nano, hold.currency) if hold.priced else None
            on_event(
                CallReserved(
                    run_id=str(hold.run_id),
                    task=hold.task_id,
                    reservation_id=hold.id,
                    worst_case=reserved,
                    model=hold.model,
                )
            )

    def _end(self, how: Callable[[_Held], None]) -> None:
        """End every hold, whatever happens to the others: one that stays open is charged when its lease runs out."""
        while self._held:
            held = self._held.pop()
            try:
                how(held)
            except LangChainRuntimeError as error:
                _log.warning("reservation %s stays open until its lease ends: %s", held.hold.id, error)

    def _tell_settled(self, held: _Held, nano: int, usage: TokenUsage | None) -> None:
        run, hold = self._run, held.hold
        if run is None or run.on_event is None or hold.run_id is None:
            return
        run.on_event(
            CallSettled(
                run_id=hold.run_id,
                task=hold.task_id,
                reservation_id=hold.id,
                cost=Cost.from_nano(nano, hold.currency) if hold.priced else None,
                usage=usage,
                model=hold.model,
            )
        )


def _at_once(budget: Budget) -> Budget:
    """The budget, which raises where it would wait or ask: a callback can do neither without stopping everybody."""
    if budget.on_exceed in {"wait", "interrupt", "downgrade"}:
        return budget.model_copy(update={"on_exceed": "raise"})
    return budget

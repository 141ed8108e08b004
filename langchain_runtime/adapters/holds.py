"""The holds of one call, in every ledger that it charges: all or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from langchain_runtime.adapters.account import Account, Charge
from langchain_runtime.adapters.leases import LEASE_SECONDS, LeaseKeeper, lease_keeper
from langchain_runtime.adapters.request_bounds import CallBound
from langchain_runtime.contracts.budget import Hold
from langchain_runtime.contracts.errors import LangChainRuntimeError
from langchain_runtime.contracts.events import CallReserved
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step
from langchain_runtime.contracts.records import trusted
from langchain_runtime.cost import BudgetEnforcer

_log = logging.getLogger(__name__)


class Held(NamedTuple):
    """One hold.

    Attributes:
        ledger: Where it is.
        id: Of its reservation.
        lease: Fencing number.
        keeper: Renews its lease.
        nano: How much is held.
        sent: Whether it was marked sent in the step that made it.
        of_run: Whether it stands for the call in the run's books, and carries its reply.
        adopted: Whether the graph made it.
    """

    ledger: Ledger
    id: str
    lease: int
    keeper: LeaseKeeper
    nano: int
    sent: bool
    of_run: bool
    adopted: bool


class CallHolds:
    """What is held for a call now. Its methods are plans.

    Args:
        bills: What the call charges.
        run: The run that it belongs to; None outside runs.
    """

    def __init__(self, bills: Sequence[Charge], run: Account | None) -> None:
        self._bills = bills
        self._run = run
        self._held: list[Held] = []

    @property
    def least(self) -> int | None:
        """The smallest hold in nano units: what the call may spend; None where nothing is held."""
        return min((held.nano for held in self._held), default=None)

    def reserve(self, bound: CallBound) -> Plan[CallBound]:
        """Hold ``bound``, or less where a budget's ``cap`` shrinks it, and mark everything sent.

        Returns:
            What is held, whose cap the request must carry.

        Raises:
            BudgetExceededError: It does not fit; nothing is held.
            ReservationLostError: A hold was lost before it was marked sent; nothing is held.
        """
        try:
            bills = self._bills
            if self._run is not None:
                bills, bound = yield from self._adopt(bound, self._run)
            # Where one step holds all there is to hold, nothing lies between it and the request.
            alone = len(bills) == 1 and not self._held
            for bill in bills:
                bound = yield from self._hold(bill, bound, sent=alone)
            for held in self._held:
                if not held.sent:
                    yield Step(held.ledger, "mark_sent", (held.id, held.lease))
        except BaseException:
            yield from self.end(release)
            raise
        return bound

    def end(self, how: Callable[[Held], Step | None]) -> Plan[None]:
        """End every hold, whatever happens to the others.

        Books that cannot be reached are no reason to lose a reply that is paid for: a hold that stays open is charged
        in full when its lease runs out.

        Args:
            how: The step that ends a hold; None leaves it to its owner.
        """
        interrupted: BaseException | None = None
        while self._held:
            held = self._held.pop()
            held.keeper.stop()
            try:
                step = how(held)
                if step is not None:
                    yield step
            except LangChainRuntimeError as error:
                _log.warning("reservation %s stays open until its lease ends: %s", held.id, error)
            except BaseException as error:  # noqa: BLE001 - raised below, when the other holds are ended
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _adopt(self, bound: CallBound, run: Account) -> Plan[tuple[Sequence[Charge], CallBound]]:
        """Take over the hold that the graph made, if it is large enough; returns what else is to be charged."""
        hold = run.take_hold()
        if hold is None:
            return self._bills, bound
        fits = hold.max_output_tokens >= bound.output_cap
        adopted = bound if fits else bound.capped(hold.max_output_tokens)
        if adopted.nano > hold.nano or adopted.tokens > hold.tokens:
            yield Step(run.ledger, "release", (hold.reservation_id,))
            return self._bills, bound
        keeper = lease_keeper(run.ledger)
        self._keep(
            Held(run.ledger, hold.reservation_id, hold.lease, keeper, hold.nano, sent=False, of_run=True, adopted=True)
        )
        return _without(self._bills, run), adopted

    def _hold(self, bill: Charge, bound: CallBound, *, sent: bool) -> Plan[CallBound]:
        run = self._run_of(bill)
        keeper = lease_keeper(bill.ledger)
        terms = bound.terms
        hold = trusted(
            Hold,
            {
                "id": keeper.new_id(),
                "scopes": bill.scopes,
                "nano": bound.nano,
                "currency": terms.currency if terms.calculator is not None else bill.budgets[0].currency,
                "tokens": bound.tokens,
                "holder": keeper.holder,
                "lease_seconds": LEASE_SECONDS,
                "sent": sent,
                "shadows": (),
                "run_id": run.run_id if run is not None else None,
                "task_id": run.task_id if run is not None else None,
                "model": terms.model,
                "priced": terms.calculator is not None,
            },
        )
        admitted = bound

        def shrink(free_nano: int | None, free_tokens: int | None) -> Hold | None:
            nonlocal admitted
            smaller = bound.shrink(free_nano, free_tokens, bill.floor)
            if smaller is None:
                return None
            admitted = smaller
            return hold.model_copy(update={"nano": smaller.nano, "tokens": smaller.tokens})

        enforcer = bill.enforcer if run is None else BudgetEnforcer(bill.ledger, on_event=run.on_event)
        reservation = yield from enforcer.admission(hold, bill.budgets, shrink)
        made = reservation.hold
        of_run = run is not None
        self._keep(
            Held(bill.ledger, made.id, reservation.lease, keeper, made.nano, sent=sent, of_run=of_run, adopted=False)
        )
        if run is not None and run.on_event is not None:
            run.on_event(
                CallReserved(
                    run_id=str(run.run_id),
                    task=run.task_id,
                    reservation_id=made.id,
                    worst_case=Cost.from_nano(made.nano, made.currency) if made.priced else None,
                    model=bound.model,
                )
            )
        return admitted

    def _run_of(self, bill: Charge) -> Account | None:
        """The run, where this bill's hold stands for the call in its books: one hold does, an adopted one first."""
        run = self._run
        if run is None or run.ledger is not bill.ledger or any(held.adopted for held in self._held):
            return None
        return run

    def _keep(self, held: Held) -> None:
        self._held.append(held)
        held.keeper.start()


def release(held: Held) -> Step:
    """Give a hold back."""
    return Step(held.ledger, "release", (held.id,))


def _without(bills: Sequence[Charge], run: Account) -> list[Charge]:
    """What is left to charge when a hold covers the budgets of ``run``."""
    covered = {budget.scope for budget in run.budgets}
    rest = [
        bill
        if bill.ledger is not run.ledger
        else Charge(bill.ledger, tuple(budget for budget in bill.budgets if budget.scope not in covered))
        for bill in bills
    ]
    return [bill for bill in rest if bill.budgets]

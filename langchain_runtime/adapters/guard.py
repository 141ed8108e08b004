"""The one place where a model call is guarded: bound, reserve, mark sent, settle. Shared by all faces.

A ``GuardedCall`` does no I/O: its methods are plans, which the face carries out, sync or async, around the request::

    open ──> request ──> succeeded          settles by usage
      │         └──────> failed             releases, or settles at the full hold; may ask for another try
      └──> a reply from the journal         nothing is sent

Every hold of a call is marked sent in the step before its request leaves; a hold that was lost until then is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_runtime.adapters import failures, providers
from langchain_runtime.adapters.account import Account, Charge, charges, current_account
from langchain_runtime.adapters.leases import LEASE_SECONDS, lease_keeper
from langchain_runtime.adapters.plans import Plan, Step
from langchain_runtime.adapters.pricing import Pricing
from langchain_runtime.adapters.replies import decode_reply, encode_reply, reply_key
from langchain_runtime.adapters.request_bounds import CallBound, bound_call
from langchain_runtime.adapters.stream_meter import StreamMeter, mark_cut_replies
from langchain_runtime.adapters.usage import ReportedUsage, usage_of_result
from langchain_runtime.contracts.budget import Budget, Hold, Reservation, Settlement
from langchain_runtime.contracts.errors import LangChainRuntimeError, ReservationLostError
from langchain_runtime.contracts.events import CallReserved, CallSettled
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.protocols import Ledger
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import BudgetEnforcer

ErrorSettlement = Literal["release", "hold"]

_LOST_HOLDS: Final = 3
"""How often a hold is made anew before its loss is reported."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallGuard:
    """How calls of one model are guarded.

    Attributes:
        own: Budgets of the model itself, charged beside those of the account that pays.
        pricing: Bounds and prices its calls.
        price_as: Catalogue models to price others as.
        error_settlement: What a complete HTTP error status costs: nothing (``release``), or the full hold.
        retries: How often a request that may pass is tried again, each time with a hold of its own.
    """

    own: tuple[Charge, ...]
    pricing: Pricing
    price_as: Mapping[str, str] | None = None
    error_settlement: ErrorSettlement = "release"
    retries: int = 0


@dataclass(slots=True)
class _Held:
    """A hold of this call.

    Attributes:
        sent: Whether it was marked sent in the step that made it.
        of_run: Whether it stands for the call in the run's books, and carries its reply.
        adopted: Whether the graph made it.
    """

    ledger: Ledger
    id: str
    lease: int
    nano: int
    sent: bool
    of_run: bool
    adopted: bool


class GuardedCall:
    """One model call and the money behind it; not for use by two threads at once.

    Attributes:
        subject: The model to send the request with: the one given, or a copy whose fields carry the cap.
        kwargs: Keyword arguments to send it with.
        bound: The worst case that is held; None before ``open``, and where nobody pays.
        retry_in: After ``failed``: seconds until the next try; None when the failure is final.
    """

    def __init__(
        self,
        guard: CallGuard,
        model: BaseChatModel,
        messages: Sequence[BaseMessage],
        stop: Sequence[str] | None,
        kwargs: dict[str, Any],
    ) -> None:
        account = current_account()
        self.subject = model
        self._model = model
        self.kwargs = kwargs
        self.bound: CallBound | None = None
        self.retry_in: float | None = None
        self._guard = guard
        self._messages = messages
        self._stop = stop
        self._asked = kwargs
        self._run = account.run if account is not None else None
        self._bills = charges(account, guard.own)
        self._reply_key: str | None = None
        self._held: list[_Held] = []
        self._failures = 0
        self._next_count = 0

    @property
    def cuts(self) -> bool:
        """Whether a reply that reaches its cap is cut by us and not by the caller."""
        return self.bound is not None and self.bound.cut_by_us

    # --- before the request ------------------------------------------------------------------------------------------

    def open(self) -> Plan[ChatResult | None]:
        """Reserve and mark sent; or return the reply that was bought before, if this run has one.

        Raises:
            BudgetExceededError: The call does not fit.
            UnpricedModelError: Money is limited and nobody has a price.
            EstimationError: Something is limited and the call cannot be bounded.
            LedgerUnavailableError: The books cannot be reached.
        """
        run = self._run
        if run is not None and run.replay:
            reply = yield from self._replay(run)
            if reply is not None:
                return reply
        if self._bills:
            yield from self._reserve()
        return None

    def _replay(self, run: Account) -> Plan[ChatResult | None]:
        self._reply_key = reply_key(
            str(run.run_id),
            run.task_id,
            run.next_call(),
            model=providers.model_id(self.subject, self._asked),
            messages=self._messages,
            stop=self._stop,
            kwargs=self._asked,
        )
        data = yield Step(run.ledger, "replay", (self._reply_key,))
        reply = None if data is None else decode_reply(data)
        if reply is not None and (hold := run.take_hold()) is not None:
            yield Step(run.ledger, "release", (hold.reservation_id,))
        return reply

    def _reserve(self) -> Plan[None]:
        for tries_left in reversed(range(_LOST_HOLDS)):
            self.bound = self._worst_case()
            self._next_count = self.bound.output_cap
            try:
                return (yield from self._hold_everywhere())
            except ReservationLostError:
                if not tries_left:
                    raise

    def _worst_case(self) -> CallBound:
        budgets = [budget for bill in self._bills for budget in bill.budgets]
        pricing = self._guard.pricing
        return bound_call(
            self._model,
            self._messages,
            self._asked,
            estimator=pricing.estimator,
            calculator=pricing.calculator,
            catalog=pricing.catalog,
            price_as=self._guard.price_as,
            priced=any(budget.limit is not None for budget in budgets),
            bounded=any(budget.limit is not None or budget.token_limit is not None for budget in budgets),
        )

    def _hold_everywhere(self) -> Plan[None]:
        """Reserve with every payer or with none, then mark all sent."""
        try:
            bills = yield from self._adopt()
            alone = len(bills) == 1 and not self._held
            for bill in bills:
                yield from self._hold(bill, sent=alone)
            for held in self._held:
                if not held.sent:
                    yield Step(held.ledger, "mark_sent", (held.id, held.lease))
        except BaseException:
            yield from self._close(lambda held: Step(held.ledger, "release", (held.id,)))
            raise
        assert self.bound is not None
        self.kwargs = providers.reporting_usage(self._model, self.bound.call_kwargs())
        updates = self.bound.field_updates()
        self.subject = self._model.model_copy(update=updates) if updates else self._model

    def _adopt(self) -> Plan[list[Charge]]:
        """Take over the hold that the graph made, if it is large enough; returns what else is to be charged."""
        run = self._run
        hold = run.take_hold() if run is not None else None
        if run is None or hold is None:
            return self._bills
        assert self.bound is not None
        bound = self.bound.capped(min(self.bound.output_cap, hold.max_output_tokens))
        if bound.nano > hold.nano or bound.tokens > hold.tokens:
            yield Step(run.ledger, "release", (hold.reservation_id,))
            return self._bills
        self.bound = bound
        self._keep(_Held(run.ledger, hold.reservation_id, hold.lease, hold.nano, sent=False, of_run=True, adopted=True))
        return _without(self._bills, run)

    def _hold(self, bill: Charge, *, sent: bool) -> Plan[None]:
        bound = self.bound
        assert bound is not None
        # A call is reported to its run once: an adopted hold stands for the call already.
        run = self._run if self._run is not None and self._run.ledger is bill.ledger else None
        if any(held.adopted for held in self._held):
            run = None
        hold = Hold(
            scopes=tuple(budget.scope for budget in bill.budgets),
            nano=bound.nano,
            currency=bound.currency if bound.calculator is not None else bill.budgets[0].currency,
            tokens=bound.tokens,
            holder=lease_keeper(bill.ledger).holder,
            lease_seconds=LEASE_SECONDS,
            sent=sent,
            run_id=run.run_id if run is not None else None,
            task_id=run.task_id if run is not None else None,
            model=bound.model,
        )
        admitted = bound

        def shrink(free_nano: int | None, free_tokens: int | None) -> Hold | None:
            nonlocal admitted
            smaller = bound.shrink(free_nano, free_tokens, _floor(bill.budgets))
            if smaller is None:
                return None
            admitted = smaller
            return hold.model_copy(update={"nano": smaller.nano, "tokens": smaller.tokens})

        enforcer = BudgetEnforcer(bill.ledger)
        reservation: Reservation = yield Step(enforcer, "admit", (hold, bill.budgets), {"shrink": shrink})
        held = reservation.hold
        if held.tokens != hold.tokens:
            self.bound = admitted
        self._keep(
            _Held(bill.ledger, held.id, reservation.lease, held.nano, sent=sent, of_run=run is not None, adopted=False)
        )
        if run is not None and run.on_event is not None:
            run.on_event(
                CallReserved(
                    run_id=str(run.run_id),
                    task=run.task_id,
                    reservation_id=held.id,
                    worst_case=Cost.from_nano(held.nano, held.currency),
                    model=bound.model,
                )
            )

    def _keep(self, held: _Held) -> None:
        self._held.append(held)
        lease_keeper(held.ledger).start()

    # --- after the request -------------------------------------------------------------------------------------------

    def succeeded(self, result: ChatResult) -> Plan[ChatResult]:
        """Settle by the usage that ``result`` reports; at the full hold where it reports none."""
        if self.cuts:
            mark_cut_replies(result)
        yield from self._settle(usage_of_result(result), result)
        return result

    def streamed(self, meter: StreamMeter[Any], *, cut: bool) -> Plan[None]:
        """Settle a stream that ended, or that was ``cut`` because its text reached the hold."""
        if not self._held:
            return
        reported = _UNREPORTED if cut else meter.reported()
        reply = meter.result() if self._reply_key is not None and meter.started and not cut else None
        yield from self._settle(reported, reply)

    def abandoned(self, meter: StreamMeter[Any]) -> Plan[None]:
        """Settle a stream that its consumer left: by what was reported until then, else at the full hold."""
        yield from self._settle(meter.reported(), None)

    def failed(self, error: BaseException, *, started: bool = False) -> Plan[None]:
        """End a call that raised, and set ``retry_in``.

        Args:
            error: What the model raised, cancellation included.
            started: Whether part of the reply had arrived: then it may be billed whatever the error says.
        """
        self.retry_in = None
        billed = started or self._guard.error_settlement == "hold" or failures.http_error_status(error) is None
        if billed:
            yield from self._settle(_UNREPORTED, None)
        else:
            yield from self._close(lambda held: Step(held.ledger, "release", (held.id,)), cost=0, usage=TokenUsage())
        if not started and self._failures < self._guard.retries and failures.may_pass(error):
            self._failures += 1
            self.retry_in = failures.retry_delay(error, self._failures)

    def reopen(self) -> Plan[None]:
        """Reserve for another try."""
        if self._bills:
            yield from self._reserve()

    def is_overrun(self, meter: StreamMeter[Any]) -> bool:
        """Whether a stream that does not obey its cap has used up the hold.

        Counting costs time, so it is put off for as long as even one token per byte would fit.
        """
        bound = self.bound
        if bound is None or not bound.enforced or meter.bytes < self._next_count:
            return False
        estimator = self._guard.pricing.estimator
        read = min(estimator.expected(self._messages, model=bound.model), bound.input_tokens)
        framing = estimator.expected([AIMessage("")], model=bound.model)
        written = estimator.expected([AIMessage(meter.text)], model=bound.model) - framing
        most = bound.output_cap * bound.choices
        if bound.calculator is None:
            return written > most
        cost = bound.calculator.worst_case(read, written, bound.model, service_tier=bound.service_tier)
        if cost.nano >= min(held.nano for held in self._held):
            return True
        self._next_count = meter.bytes + max(most - written, _COUNT_EVERY)
        return False

    def _settle(self, reported: ReportedUsage, reply: ChatResult | None) -> Plan[None]:
        nano = self._cost(reported)
        encoded = encode_reply(reply) if reply is not None and self._reply_key is not None else None
        run = self._run

        def settle(held: _Held) -> Step | None:
            settlement = Settlement(
                reservation_id=held.id,
                nano=nano,
                usage=reported.usage,
                reply_key=self._reply_key if held.of_run and encoded is not None else None,
                reply=encoded if held.of_run else None,
            )
            if held.adopted and run is not None and run.defer_settlement and reply is not None:
                run.defer(settlement)
                return None
            return Step(held.ledger, "settle", (settlement,))

        yield from self._close(settle, cost=nano, usage=reported.usage)

    def _cost(self, reported: ReportedUsage) -> int | None:
        bound = self.bound
        if reported.usage is None or bound is None:
            return None
        if bound.calculator is None:
            return 0  # nobody has a price and no limit asks for one; the tokens are kept
        tier = reported.service_tier or bound.service_tier
        try:
            return sum(
                bound.calculator.cost(usage, model or bound.model, service_tier=tier).nano
                for model, usage in reported.parts
            )
        except LangChainRuntimeError as error:
            _log.warning("a call of %s is charged at its full hold: %s", bound.model, error)
            return None

    def _close(
        self, end: Callable[[_Held], Step | None], *, cost: int | None = 0, usage: TokenUsage | None = None
    ) -> Plan[None]:
        """End every hold, whatever happens to the others.

        Books that cannot be reached are no reason to lose a reply that is paid for: what stays open then is charged in
        full when its lease runs out.
        """
        interrupted: BaseException | None = None
        while self._held:
            held = self._held.pop()
            lease_keeper(held.ledger).stop()
            step = end(held)
            if step is not None:
                try:
                    yield step
                except LangChainRuntimeError as error:
                    _log.warning("reservation %s stays open until its lease ends: %s", held.id, error)
                except BaseException as error:  # noqa: BLE001 - raised below, when the other holds are ended
                    interrupted = error
            self._report(held, held.nano if cost is None else cost, usage)
        if interrupted is not None:
            raise interrupted

    def _report(self, held: _Held, nano: int, usage: TokenUsage | None) -> None:
        run = self._run
        if not held.of_run or run is None or run.on_event is None or self.bound is None:
            return
        run.on_event(
            CallSettled(
                run_id=str(run.run_id),
                task=run.task_id,
                reservation_id=held.id,
                cost=Cost.from_nano(nano, self.bound.currency),
                usage=usage,
                model=self.bound.model,
            )
        )


_UNREPORTED: Final = ReportedUsage(None, missing="the reply did not arrive")
_COUNT_EVERY: Final = 64
"""Bytes between two counts of a stream that is close to its hold."""


def _without(bills: list[Charge], run: Account) -> list[Charge]:
    """What is left to charge when a hold covers the budgets of ``run``."""
    covered = {budget.scope for budget in run.budgets}
    rest = [
        bill
        if bill.ledger is not run.ledger
        else Charge(bill.ledger, tuple(budget for budget in bill.budgets if budget.scope not in covered))
        for bill in bills
    ]
    return [bill for bill in rest if bill.budgets]


def _floor(budgets: Sequence[Budget]) -> int | None:
    """The highest floor that a budget sets; None where all leave it to the model's kind."""
    return max((budget.min_output_tokens for budget in budgets if budget.min_output_tokens is not None), default=None)

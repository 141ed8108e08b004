"""The one place where a model call is guarded: bound, reserve, mark sent, settle. Shared by all faces.

A ``GuardedCall`` does no I/O: its methods are plans, which the face carries out, sync or async, around the request::

    open ──> request ──> succeeded, streamed     settles by usage
      │         └──────> failed                  releases, or settles at the full hold; may ask for another try
      └──> a reply from the journal              nothing is sent
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_runtime.adapters import failures, providers
from langchain_runtime.adapters.account import Account, Charge, charges, current_account
from langchain_runtime.adapters.holds import CallHolds, Held, release
from langchain_runtime.adapters.pricing import Pricing
from langchain_runtime.adapters.replies import decode_reply, encode_reply, reply_key
from langchain_runtime.adapters.request_bounds import CallBound, bound_call
from langchain_runtime.adapters.stream_meter import StreamMeter, mark_cut_replies
from langchain_runtime.adapters.usage import ReportedUsage, usage_of_result
from langchain_runtime.contracts.budget import Settlement
from langchain_runtime.contracts.errors import ReservationLostError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.events import CallSettled
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step
from langchain_runtime.contracts.usage import TokenUsage

ErrorSettlement = Literal["release", "hold"]

_HOLDS_LOST: Final = 3
"""How often a call's hold may be lost before its request leaves, until that is an error."""

_COUNT_EVERY: Final = 64
"""Bytes between two counts of a stream that comes close to its hold."""

_UNREPORTED: Final = ReportedUsage(None, missing="the reply did not arrive whole")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallGuard:
    """How the calls of one model are guarded.

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


class GuardedCall:
    """One model call and the money behind it. Made by the code that makes the call; not for two threads at once.

    Attributes:
        subject: The model to send the request with: the one given, or a copy whose fields carry the cap.
        kwargs: Keyword arguments to send it with.
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
        self.kwargs = kwargs
        self.retry_in: float | None = None
        self._guard = guard
        self._model = model
        self._messages = messages
        self._stop = stop
        self._asked = kwargs
        self._run = account.run if account is not None else None
        self._bills = charges(account, guard.own)
        self._holds = CallHolds(self._bills, self._run)
        self._bound: CallBound | None = None
        self._reply_key: str | None = None
        self._failures = 0
        self._count_at = 0

    @property
    def cuts(self) -> bool:
        """Whether a reply that reaches its cap is cut by us and not by the caller."""
        return self._bound is not None and self._bound.cut_by_us

    # --- before the request ------------------------------------------------------------------------------------------

    def open(self) -> Plan[ChatResult | None]:
        """Reserve and mark sent; or return the reply that this run has bought before.

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
        yield from self.reopen()
        return None

    def reopen(self) -> Plan[None]:
        """Reserve and mark sent, for another try of a call that failed."""
        if not self._bills:
            return
        for losses_left in reversed(range(_HOLDS_LOST)):
            bound = self._worst_case()
            try:
                bound = yield from self._holds.reserve(bound)
            except ReservationLostError:
                if not losses_left:
                    raise
            else:
                self._carry(bound)
                return

    def _replay(self, run: Account) -> Plan[ChatResult | None]:
        self._reply_key = reply_key(
            str(run.run_id),
            run.task_id,
            run.next_call(),
            model=providers.model_id(self._model, self._asked),
            messages=self._messages,
            stop=self._stop,
            kwargs=self._asked,
        )
        data = yield Step(run.ledger, "replay", (self._reply_key,))
        reply = None if data is None else decode_reply(data)
        if reply is not None and (hold := run.take_hold()) is not None:
            yield Step(run.ledger, "release", (hold.reservation_id,))
        return reply

    def _worst_case(self) -> CallBound:
        # A budget that only warns blocks nothing: not what cannot be priced, and not what cannot be bounded.
        limiting = [budget for bill in self._bills for budget in bill.budgets if budget.on_exceed != "warn"]
        pricing = self._guard.pricing
        return bound_call(
            self._model,
            self._messages,
            self._asked,
            estimator=pricing.estimator,
            calculator=pricing.calculator,
            catalog=pricing.catalog,
            price_as=self._guard.price_as,
            priced=any(budget.limit is not None for budget in limiting),
            bounded=any(budget.limit is not None or budget.token_limit is not None for budget in limiting),
        )

    def _carry(self, bound: CallBound) -> None:
        """Put the cap that is held into the request."""
        self._bound = bound
        self._count_at = bound.output_cap
        self.kwargs = providers.reporting_usage(self._model, bound.call_kwargs())
        updates = bound.field_updates()
        self.subject = self._model.model_copy(update=updates) if updates else self._model

    # --- after the request -------------------------------------------------------------------------------------------

    def succeeded(self, result: ChatResult) -> Plan[ChatResult]:
        """Settle by the usage that ``result`` reports; at the full hold where it reports none."""
        if self._bound is not None:
            if self.cuts:
                mark_cut_replies(result)
            yield from self._settle(usage_of_result(result), result)
        return result

    def streamed(self, meter: StreamMeter[Any], *, cut: bool) -> Plan[None]:
        """Settle a stream that ended, or that was ``cut`` because its text reached the hold."""
        if self._bound is not None:
            kept = self._reply_key is not None and meter.started and not cut
            yield from self._settle(_UNREPORTED if cut else meter.reported(), meter.result() if kept else None)

    def failed(self, error: BaseException, meter: StreamMeter[Any] | None = None) -> Plan[None]:
        """End a call that raised, and set ``retry_in``.

        A stream that its consumer left settles by what was reported until then. Everything else that is no complete
        HTTP error answer may be billed: it settles at the full hold.

        Args:
            error: What the model raised, cancellation included; ``GeneratorExit`` where a consumer left.
            meter: What of a stream had arrived; None for whole replies.
        """
        self.retry_in = None
        started = meter is not None and meter.started
        refused = not started and failures.http_error_status(error) is not None
        if refused and self._guard.error_settlement == "release":
            yield from self._release()
        elif meter is not None and isinstance(error, GeneratorExit):
            yield from self._settle(meter.reported(), None)
        else:
            yield from self._settle(_UNREPORTED, None)
        if not started and self._failures < self._guard.retries and failures.may_pass(error):
            self._failures += 1
            self.retry_in = failures.retry_delay(error, self._failures)

    def is_overrun(self, meter: StreamMeter[Any]) -> bool:
        """Whether a stream that does not obey its cap has used up the hold.

        Counting costs time, so it is put off for as long as the text would fit at a token for each byte.
        """
        bound = self._bound
        if bound is None or not bound.enforced or meter.bytes < self._count_at:
            return False
        estimator = self._guard.pricing.estimator
        framing = estimator.expected([AIMessage("")], model=bound.model)
        written = estimator.expected([AIMessage(meter.text)], model=bound.model) - framing
        terms = bound.terms
        most = bound.output_cap * terms.choices
        self._count_at = meter.bytes + max(most - written, _COUNT_EVERY)
        if written <= most or terms.calculator is None:
            return written > most
        read = min(estimator.expected(self._messages, model=bound.model), bound.input_tokens)
        cost = terms.calculator.worst_case(read, written, bound.model, service_tier=terms.service_tier)
        return cost.nano >= (self._holds.least or 0)

    def _settle(self, reported: ReportedUsage, reply: ChatResult | None) -> Plan[None]:
        nano = self._cost(reported)
        run, key = self._run, self._reply_key
        encoded = encode_reply(reply) if reply is not None and key is not None else None

        def settle(held: Held) -> Step | None:
            kept = held.of_run and encoded is not None
            settlement = Settlement(
                reservation_id=held.id,
                nano=nano,
                usage=reported.usage,
                reply_key=key if kept else None,
                reply=encoded if kept else None,
            )
            self._tell(held, held.nano if nano is None else nano, reported.usage)
            if held.adopted and reply is not None and run is not None and run.defer_settlement:
                run.defer(settlement)
                return None
            return Step(held.ledger, "settle", (settlement,))

        yield from self._holds.end(settle)

    def _release(self) -> Plan[None]:
        def give_back(held: Held) -> Step:
            self._tell(held, 0, TokenUsage())
            return release(held)

        yield from self._holds.end(give_back)

    def _cost(self, reported: ReportedUsage) -> int | None:
        """What the call cost in nano units; None for its full hold."""
        if reported.usage is None or self._bound is None:
            return None
        terms = self._bound.terms
        calculator = terms.calculator
        if calculator is None:
            return 0  # nobody has a price, and no limit asks for one; the tokens are counted
        tier = reported.service_tier or terms.service_tier
        try:
            return sum(
                calculator.cost(usage, model or terms.model, service_tier=tier).nano for model, usage in reported.parts
            )
        except (UnknownModelError, UnpricedModelError) as error:
            _log.warning("a call of %s is charged at its full hold: %s", terms.model, error)
            return None

    def _tell(self, held: Held, nano: int, usage: TokenUsage | None) -> None:
        run, bound = self._run, self._bound
        if not held.of_run or run is None or run.on_event is None or bound is None:
            return
        run.on_event(
            CallSettled(
                run_id=str(run.run_id),
                task=run.task_id,
                reservation_id=held.id,
                cost=Cost.from_nano(nano, bound.currency) if bound.terms.calculator is not None else None,
                usage=usage,
                model=bound.model,
            )
        )

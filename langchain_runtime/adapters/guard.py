"""The one place where a model call is guarded: bound, reserve, mark sent, settle. Shared by all faces.

A ``GuardedCall`` does no I/O: its methods are plans, which the face carries out, sync or async, around the request::

    open ──> request ──> succeeded, streamed     settles by usage
      │         └──────> failed                  releases, or settles at the full hold; may begin another try
      └──> a reply from the journal              nothing is sent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_runtime.adapters import failures, providers
from langchain_runtime.adapters.account import Account, Charge, charges, current_account
from langchain_runtime.adapters.holds import CallHolds, Held, release
from langchain_runtime.adapters.pacing import CallPace, Pace
from langchain_runtime.adapters.pricing import Pricing, list_price
from langchain_runtime.adapters.replies import decode_reply, encode_reply, reply_key, request_digest, without_usage
from langchain_runtime.adapters.request_bounds import CallBound, TermsMemo
from langchain_runtime.adapters.stream_meter import StreamMeter, mark_cut_replies
from langchain_runtime.adapters.usage import ReportedUsage, usage_of_error, usage_of_result
from langchain_runtime.contracts.budget import Settlement
from langchain_runtime.contracts.errors import BudgetExceededError, ReservationLostError
from langchain_runtime.contracts.events import BudgetRefused, CallSettled
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step, pause
from langchain_runtime.contracts.protocols import ModelLadder
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.usage import TokenUsage

ErrorSettlement = Literal["release", "hold"]

_HOLDS_LOST: Final = 3
"""How often a call's hold may be lost before its request leaves, until that is an error."""

_COUNT_EVERY: Final = 64
"""Bytes between two counts of a stream that comes close to its hold."""

_UNSURE: Final = 64
"""Tokens beyond a hold that prove nothing: a model that obeys its cap may count fewer than we do, and what it writes
between two of our counts must not overdraw its budget."""

_UNREPORTED: Final = ReportedUsage(None, missing="the stream was cut")


class _Seen(NamedTuple):
    """A stream as it has passed by, counted here.

    Attributes:
        usage: Input as estimated, and the output that was seen.
        nano: Its price in nano units; None when nobody has one.
    """

    usage: TokenUsage
    nano: int | None


@dataclass(frozen=True, slots=True)
class CallGuard:
    """How the calls of one model are guarded.

    Attributes:
        own: Budgets of the model itself, charged beside those of the account that pays.
        pricing: Bounds and prices its calls.
        price_as: Catalogue models to price others as.
        error_settlement: What a complete HTTP error status that bills nothing costs: nothing (``release``), or the full
            hold.
        retries: How often a request that may pass is tried again, each time with a hold of its own.
        ladder: Cheaper models for budgets that downgrade; None for none.
        pace: What calls wait for before they go; None for nothing.
        memo: Spares most calls a look at the model's parameters.
    """

    own: tuple[Charge, ...]
    pricing: Pricing
    price_as: Mapping[str, str] | None = None
    error_settlement: ErrorSettlement = "release"
    retries: int = 0
    ladder: ModelLadder | None = None
    pace: Pace | None = None
    memo: TermsMemo = field(default_factory=TermsMemo, compare=False, repr=False)


class GuardedCall:
    """One model call and the money behind it. Made by the code that makes the call; not for two threads at once.

    Attributes:
        subject: The model to send the request with: the one given, or a copy whose fields carry the cap, or the name
            of a cheaper model.
        kwargs: Keyword arguments to send it with.
    """

    __slots__ = (
        "_asked",
        "_bills",
        "_bound",
        "_count_at",
        "_ended",
        "_failures",
        "_guard",
        "_holds",
        "_messages",
        "_model",
        "_pace",
        "_reply_key",
        "_run",
        "_stop",
        "kwargs",
        "subject",
    )

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
        self._guard = guard
        self._model = model
        self._messages = messages
        self._stop = stop
        self._asked = kwargs
        self._run = account.run if account is not None else None
        self._bills = charges(account, guard.own)
        self._holds = CallHolds(self._bills, self._run)
        self._pace = None if guard.pace is None else CallPace(guard.pace)
        self._bound: CallBound | None = None
        self._reply_key: str | None = None
        self._ended = False
        self._failures = 0
        self._count_at = 0

    @property
    def cuts(self) -> bool:
        """Whether a reply that reaches its cap is cut by us and not by the caller."""
        return self._bound is not None and self._bound.cut_by_us

    # --- before the request ------------------------------------------------------------------------------------------

    def open(self) -> Plan[ChatResult | None]:
        """Wait for a turn, reserve and mark sent; or return the reply that this run has bought before.

        Raises:
            BudgetExceededError: The call does not fit.
            UnpricedModelError: Money is limited and nobody has a price.
            EstimationError: Something is limited and the call cannot be bounded.
            LedgerUnavailableError: The books cannot be reached.
            ModelUnavailableError: A circuit breaker holds the call back.
        """
        run = self._run
        if run is not None and run.replay:
            reply = yield from self._replay(run)
            if reply is not None:
                return reply
        yield from self._reserve()
        return None

    def _reserve(self) -> Plan[None]:
        if not self._bills and self._pace is None:
            return
        losses_left = _HOLDS_LOST
        while True:
            bound = self._worst_case()
            if self._pace is not None:
                yield from self._pace.enter(bound.model, self._expected_use(bound))
            try:
                bound = yield from self._holds.reserve(bound)
                self._carry(bound)
            except BaseException as error:
                yield from self._holds.end(release)
                if self._pace is not None:
                    self._pace.leave()
                if isinstance(error, ReservationLostError) and losses_left > 1:
                    losses_left -= 1
                elif not (isinstance(error, BudgetExceededError) and self._step_down(error)):
                    raise
            else:
                return

    def _step_down(self, refusal: BudgetExceededError) -> bool:
        """Take the next cheaper model, if the refusing budget wishes it; False if there is none."""
        budgets = {budget.scope: budget for bill in self._bills for budget in bill.budgets}
        if refusal.scope not in budgets or budgets[refusal.scope].on_exceed != "downgrade":
            return False
        cheaper = self._cheaper()
        if cheaper is not None:
            self._model, self._asked = cheaper
        run = self._run
        if run is not None and run.on_event is not None:
            run.on_event(
                BudgetRefused(
                    run_id=str(run.run_id),
                    task=run.task_id,
                    scope=refusal.scope,
                    action="raise" if cheaper is None else "downgrade",
                    needed=refusal.needed,
                )
            )
        return cheaper is not None

    def _cheaper(self) -> tuple[BaseChatModel, dict[str, Any]] | None:
        """The same call of the next model on the ladder that the class can make."""
        ladder = self._guard.ladder
        name = None if ladder is None else ladder.below(providers.model_id(self._model, self._asked))
        while ladder is not None and name is not None:
            call = providers.renamed(self._model, self._asked, name)
            if call is not None:
                return call
            name = ladder.below(name)
        return None

    def _expected_use(self, bound: CallBound) -> int:
        """Tokens that the call may use, as providers count them towards a limit per minute."""
        if self._guard.pace is None or not self._guard.pace.counts_tokens:
            return 0
        terms = bound.terms
        read = self._guard.pricing.estimator.expected(self._messages, model=terms.model, tools=terms.extras)
        return min(read, bound.input_tokens) + bound.output_cap * terms.choices

    def _replay(self, run: Account) -> Plan[ChatResult | None]:
        request = request_digest(
            model=providers.model_id(self._model, self._asked),
            messages=self._messages,
            stop=self._stop,
            kwargs=self._asked,
        )
        self._reply_key = reply_key(str(run.run_id), run.task_id, run.next_call(request), request)
        data = yield Step(run.ledger, "replay", (self._reply_key,))
        reply = None if data is None else decode_reply(data)
        if reply is not None and (hold := run.take_hold()) is not None:
            yield Step(run.ledger, "release", (hold.reservation_id,))
        return reply

    def _worst_case(self) -> CallBound:
        guard, pricing = self._guard, self._guard.pricing
        terms = guard.memo.terms(
            self._model,
            self._asked,
            calculator=pricing.calculator,
            catalog=pricing.catalog,
            price_as=guard.price_as,
            priced=True in [bill.limits_money for bill in self._bills],
            bounded=True in [bill.limits for bill in self._bills],
        )
        return terms.bound(self._messages, pricing.estimator)

    def _carry(self, bound: CallBound) -> None:
        """Put the cap that is held into the request."""
        self._bound, self._ended = bound, False
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
        if self._bound is not None and not self._ended:  # the last item of a stream may have settled it
            kept = self._reply_key is not None and meter.started and not cut
            reported = _UNREPORTED if cut else meter.reported()
            yield from self._settle(reported, meter.result() if kept else None, meter)

    def failed(self, error: BaseException, meter: StreamMeter[Any] | None = None) -> Plan[bool]:
        """End a try that raised; True if the next one is under way: a request that may pass, with a hold of its own.

        A stream that its consumer left settles by what was reported until then, an error that brings its usage along by
        that. Everything else that is no complete HTTP error answer may be billed: it settles at the full hold.

        Args:
            error: What the model raised, cancellation included; ``GeneratorExit`` where a consumer left.
            meter: What of a stream had arrived; None for whole replies.
        """
        started = meter is not None and meter.started
        unbilled = failures.http_error_status(error) is not None or failures.was_never_sent(error)
        refused = not started and unbilled
        if self._pace is not None:
            self._pace.failed(error)
        if refused and self._guard.error_settlement == "release":
            yield from self._release()
        elif meter is not None and isinstance(error, GeneratorExit):
            yield from self._settle(meter.reported(), None, meter)
        else:
            yield from self._settle(usage_of_error(error), None, meter)
        if started or self._failures >= self._guard.retries or not failures.may_pass(error):
            return False
        self._failures += 1
        yield pause(failures.retry_delay(error, self._failures))
        yield from self._reserve()
        return True

    def is_overrun(self, meter: StreamMeter[Any]) -> bool:
        """Whether a stream that does not obey its cap has used up the hold.

        Counting costs time, so it is put off for as long as the text would fit at a token for each byte.
        """
        bound = self._bound
        if bound is None or not bound.enforced or meter.bytes < self._count_at:
            return False
        seen = self._seen(meter.text, bound)
        most, written = bound.output_tokens, seen.usage.output
        self._count_at = meter.bytes + max(most - written, _COUNT_EVERY)
        return written > most and (seen.nano is None or seen.nano >= (self._holds.least or 0))

    def _seen(self, text: str, bound: CallBound, *, but: int = 0) -> _Seen:
        """The request with the reply ``text``, less so many tokens."""
        estimator, terms = self._guard.pricing.estimator, bound.terms
        framing = estimator.expected([AIMessage("")], model=terms.model)
        written = estimator.expected([AIMessage(text)], model=terms.model) - framing - but
        read = min(estimator.expected(self._messages, model=terms.model, tools=terms.extras), bound.input_tokens)
        usage = TokenUsage(input=read, output=max(written, 0))
        if terms.calculator is None:
            return _Seen(usage, None)
        cost = terms.calculator.worst_case(read, usage.output, terms.model, service_tier=terms.service_tier)
        return _Seen(usage, cost.nano)

    def _settle(
        self, reported: ReportedUsage, reply: ChatResult | None, meter: StreamMeter[Any] | None = None
    ) -> Plan[None]:
        self._ended = True
        bound, seen = self._bound, self._beyond_hold(meter) if reported.usage is None else None
        if reported.undated_writes and providers.keeps_cache_for_an_hour(self._messages, self._asked):
            reported = reported.kept_for_an_hour()
        nano, usage = self._cost(reported), reported.usage
        if seen is not None and bound is not None and seen.usage.total > bound.tokens:
            usage = seen.usage  # the hold's tokens do not cover it
        run, key = self._run, self._reply_key
        if self._pace is not None:
            self._pace.succeeded(None if usage is None else usage.total)
        encoded = None
        if reply is not None and key is not None:
            encoded = encode_reply(reply if reported.usage is not None else without_usage(reply))

        def settle(held: Held) -> Step | None:
            kept = held.of_run and encoded is not None
            cost = nano
            if seen is not None and seen.nano is not None and seen.nano > held.nano:
                cost = seen.nano
            settlement = trusted(
                Settlement,
                {
                    "reservation_id": held.id,
                    "nano": cost,
                    "usage": usage,
                    "reply_key": key if kept else None,
                    "reply": encoded if kept else None,
                },
            )
            self._tell(held, held.nano if cost is None else cost, usage)
            if held.adopted and reply is not None and run is not None and run.defer_settlement:
                run.defer(settlement)
                return None
            return Step(held.ledger, "settle", (settlement,))

        yield from self._holds.end(settle)
        if reported.usage is not None and len(reported.parts) == 1 and bound is not None:
            terms = bound.terms
            self._guard.pricing.estimator.observe(self._messages, reported.usage, model=terms.model, tools=terms.extras)

    def _beyond_hold(self, meter: StreamMeter[Any] | None) -> _Seen | None:
        """What has passed of a stream that was clearly more than is held; None of any other."""
        bound = self._bound
        # No text has more tokens than bytes: most streams need no counting.
        if meter is None or bound is None or meter.bytes <= bound.output_tokens:
            return None
        least = self._seen(meter.text, bound, but=_UNSURE)
        dearer = least.nano is not None and least.nano > (self._holds.least or 0)
        return self._seen(meter.text, bound) if dearer or least.usage.total > bound.tokens else None

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
        if terms.calculator is None:
            return 0  # nobody has a price, and no limit asks for one; the tokens are counted
        cost = list_price(reported, terms.model, terms.calculator, service_tier=terms.service_tier)
        return cost.nano if cost is not None and cost.currency == terms.currency else None

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

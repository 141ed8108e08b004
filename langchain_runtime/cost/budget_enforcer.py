"""What happens when a call's worst case does not fit: the budgets' ``on_exceed``, carried out.

The decision is a plan: a generator without I/O that says what to do next (``contracts/plans.py``).
"""

from __future__ import annotations

import asyncio
import math
import random as random_module
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from langchain_runtime.contracts.budget import Balance, Budget, Decision, Hold, Reservation, Scope, Verdict
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.events import BudgetRefused, LifecycleEvent
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out

Shrink = Callable[[int | None, int | None], Hold | None]
"""Makes a smaller hold that fits the free nano units and tokens (None: no limit); None if none is worth making."""

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
"""Seconds between tries of a waiting call: short beside a model call, long beside a ledger's transaction."""

_MOST_SHRINKS: Final = 8
"""Others may take what was free between two tries; a call that loses that often is refused."""


@dataclass(frozen=True, slots=True)
class _Pauses:
    """Where a plan may wait."""

    sleep: Callable[[float], None]
    asleep: Callable[[float], Awaitable[None]]


class BudgetEnforcer:
    """Reserves worst cases, and carries out what the refusing budget wishes when one does not fit.

    ``interrupt`` and ``downgrade`` need a graph or a choice of models: they raise here, with the decision.

    Args:
        ledger: The books.
        on_event: Told of each refusal of a call that belongs to a run; None for nobody.
        sleep: Blocks for seconds.
        asleep: The same, awaited.
        random: Uniform in [0, 1), for jitter.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        on_event: Callable[[LifecycleEvent], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        asleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._on_event = on_event
        self._pauses = _Pauses(sleep, asleep)
        self._random = random
        self._clock = clock

    def open(self, budgets: Sequence[Budget]) -> None:
        """Open the scopes of ``budgets``.

        Raises:
            InvalidInputError: A scope exists with other limits.
        """
        for budget in budgets:
            self._ledger.open_scope(Scope.of(budget))

    async def aopen(self, budgets: Sequence[Budget]) -> None:
        """Async twin of ``open``."""
        for budget in budgets:
            await self._ledger.aopen_scope(Scope.of(budget))

    def admit(self, hold: Hold, budgets: Sequence[Budget], *, shrink: Shrink) -> Reservation:
        """Reserve ``hold``, or a smaller one that ``shrink(free_nano, free_tokens)`` makes.

        Args:
            hold: The worst case.
            budgets: What is behind its scopes; opened before.
            shrink: See ``Shrink``.

        Raises:
            BudgetExceededError: It does not fit.
            LedgerUnavailableError: The books cannot be reached; nothing may be spent.
        """
        return carry_out(self.admission(hold, budgets, shrink))

    async def aadmit(self, hold: Hold, budgets: Sequence[Budget], *, shrink: Shrink) -> Reservation:
        """Async twin of ``admit``."""
        return await acarry_out(self.admission(hold, budgets, shrink))

    def admission(self, hold: Hold, budgets: Sequence[Budget], shrink: Shrink) -> Plan[Reservation]:
        """What ``admit`` does, as a plan, for plans that contain it."""
        hold = _with_shadows(hold, budgets)
        shrinks, pause, deadlines = 0, _FIRST_PAUSE, dict[str, float]()
        while True:
            decision: Decision = yield Step(self._ledger, "reserve", (hold,))
            if decision.reservation is not None:
                self._tell(hold, decision, "warn")
                return decision.reservation
            assert decision.refused_by is not None
            refused_by = decision.refused_by.scope.name
            budget = next((budget for budget in budgets if budget.scope == refused_by), None)
            wish = budget.on_exceed if budget is not None else "raise"
            if wish == "cap" and shrinks < _MOST_SHRINKS:
                smaller = shrink(decision.free_nano, decision.free_tokens)
                if smaller is None:
                    raise self._refusal(hold, decision, "raise")
                shrinks += 1
                self._tell(hold, decision, "cap")
                hold = _with_shadows(smaller, budgets)
            elif budget is not None and wish == "wait" and decision.verdict is Verdict.WAIT:
                yield from self._wait(hold, decision, budget, pause, deadlines)
                pause = min(_LONGEST_PAUSE, pause * 2)
            elif wish == "downgrade":
                raise refusal(hold, decision)  # who has other models tells what comes of it
            else:
                raise self._refusal(hold, decision, "interrupt" if wish == "interrupt" else "raise")

    def _wait(
        self, hold: Hold, decision: Decision, budget: Budget, pause: float, deadlines: dict[str, float]
    ) -> Plan[None]:
        """Let some time pass before the next try.

        Args:
            hold: What waits.
            decision: Why.
            budget: The one that is in its way now.
            pause: Seconds, about.
            deadlines: When each budget's time is up; a budget gets its entry when it first makes the call wait.

        Raises:
            BudgetExceededError: The budget's time is up.
        """
        if budget.scope not in deadlines:
            self._tell(hold, decision, "wait")
            seconds = math.inf if budget.wait_timeout is None else budget.wait_timeout
            deadlines[budget.scope] = self._clock() + seconds
        left = deadlines[budget.scope] - self._clock()
        if left <= 0:
            raise self._refusal(hold, decision, "raise")
        yield Step(self._pauses, "sleep", (min(left, pause * (0.5 + self._random())),))

    def _refusal(self, hold: Hold, decision: Decision, action: Literal["raise", "interrupt"]) -> BudgetExceededError:
        self._tell(hold, decision, action)
        return refusal(hold, decision)

    def _tell(
        self,
        hold: Hold,
        decision: Decision,
        action: Literal["raise", "cap", "wait", "interrupt", "warn"],
    ) -> None:
        if self._on_event is None or hold.run_id is None or decision.refused_by is None:
            return
        self._on_event(
            BudgetRefused(
                run_id=hold.run_id,
                task=hold.task_id,
                scope=decision.refused_by.scope.name,
                action=action,
                needed=Cost.from_nano(hold.nano, hold.currency),
            )
        )


def _with_shadows(hold: Hold, budgets: Sequence[Budget]) -> Hold:
    """``hold``, so that the scopes of budgets that warn refuse nothing; a budget that does refuse has precedence."""
    if not any([budget.on_exceed == "warn" for budget in budgets]):  # noqa: C419 - a generator takes twice the time
        return hold
    refusing = {budget.scope for budget in budgets if budget.on_exceed != "warn"}
    warning = {budget.scope for budget in budgets} - refusing
    return hold.model_copy(update={"shadows": tuple(name for name in hold.scopes if name in warning)})


def refusal(hold: Hold, decision: Decision) -> BudgetExceededError:
    """The error that explains why ``hold`` was not admitted."""
    account = decision.refused_by
    assert account is not None
    needed = Cost.from_nano(hold.nano, hold.currency)
    by_tokens = _fits_in_money(hold, account, decision.verdict)
    call = f"a call of {hold.model}" if hold.model else "a call"
    figures = f"spent {account.spent}, held {account.held}, limit {account.limit or 'none'}"
    if account.scope.token_limit is not None:
        figures += (
            f"; tokens: needed {hold.tokens}, spent {account.tokens_spent}, held {account.tokens_held}, "
            f"limit {account.scope.token_limit}"
        )
    if decision.verdict is Verdict.WAIT:
        hint = 'calls in flight hold the rest: try again later, or use on_exceed="wait"'
    else:
        more = "give the budget more tokens" if by_tokens else "raise the limit with a top-up"
        hint = f"{more}, or lower max_output_tokens"
    amount = f"{hold.tokens} tokens" if by_tokens else needed
    return BudgetExceededError(
        f"{call} needs up to {amount}, which does not fit budget {account.scope.name!r} ({figures})",
        scope=account.scope.name,
        limit=account.limit,
        spent=account.spent,
        held=account.held,
        needed=needed,
        model=hold.model,
        decision=decision,
        hint=hint,
    )


def _fits_in_money(hold: Hold, account: Balance, verdict: Verdict) -> bool:
    in_flight = account.held_nano if verdict is Verdict.WAIT else 0
    limit = account.scope.limit_nano
    return limit is None or account.spent_nano + in_flight + hold.nano <= limit

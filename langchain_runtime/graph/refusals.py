"""What a budget's refusal means for a task of a run: try again later, take a cheaper model, ask a human, or fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final, Literal

from langchain_runtime.contracts.budget import Budget, Decision, Verdict
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.events import BudgetRefused
from langchain_runtime.contracts.money import format_amount
from langchain_runtime.contracts.run import RunPolicy


class Remedy(StrEnum):
    """What can help a refused task."""

    NONE = "none"
    LATER = "later"
    CHEAPER = "cheaper"
    HUMAN = "human"


_ACTIONS: Final[dict[Remedy, Literal["raise", "wait", "downgrade", "interrupt"]]] = {
    Remedy.NONE: "raise",
    Remedy.LATER: "wait",
    Remedy.CHEAPER: "downgrade",
    Remedy.HUMAN: "interrupt",
}


class Refusals:
    """Judges refusals of one run, tells of them, and remembers the last one, to explain it.

    A task waits as long as money may come back by itself: from other tasks of the run under every policy, from other
    processes under ``wait`` and ``interrupt``. So it is moved to a cheaper model only when its own is out of reach, or
    when its patience is at an end, and not because a sibling holds its worst case for a moment.

    Args:
        run_id: The run.
        policy: The run's.
        budgets: What its calls charge.
        tell: Receives each refusal as an event.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        run_id: str,
        policy: RunPolicy,
        budgets: Sequence[Budget],
        tell: Callable[[BudgetRefused], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_id = run_id
        self._on_exceed = policy.on_exceed
        self._patience = None if policy.wait_timeout_ms is None else policy.wait_timeout_ms / 1000
        self._capping = {budget.scope for budget in budgets if budget.on_exceed == "cap"}
        self._downgrading = {budget.scope for budget in budgets if budget.on_exceed == "downgrade"}
        self._tell = tell
        self._clock = clock
        self._waiting_since: dict[str, float] = {}
        self._last: BudgetExceededError | None = None

    @property
    def asks_human(self) -> bool:
        """Whether the policy wants a human asked when money has run out."""
        return self._on_exceed == "interrupt"

    def judge(self, task_id: str, error: BudgetExceededError, *, others_in_flight: bool, has_cheaper: bool) -> Remedy:
        """Decide what can help the task that was refused.

        Args:
            task_id: The task.
            error: Why.
            others_in_flight: Whether other tasks of the run may give money back.
            has_cheaper: Whether there is a cheaper model for the task.
        """
        self._last = error
        waits_already = task_id in self._waiting_since
        remedy = self._remedy(task_id, error, others_in_flight=others_in_flight, has_cheaper=has_cheaper)
        if not (remedy is Remedy.LATER and waits_already):
            self._tell(
                BudgetRefused(
                    run_id=self._run_id,
                    task=task_id,
                    scope=error.scope,
                    action=_ACTIONS[remedy],
                    needed=error.needed,
                )
            )
        return remedy

    def _remedy(self, task_id: str, error: BudgetExceededError, *, others_in_flight: bool, has_cheaper: bool) -> Remedy:
        held_up = error.decision is not None and self._is_held_up(error.decision)
        if held_up and (others_in_flight or self._on_exceed in {"wait", "interrupt"}):
            since = self._waiting_since.setdefault(task_id, self._clock())
            if self._patience is None or self._clock() - since < self._patience:
                return Remedy.LATER
        if has_cheaper and (self._on_exceed == "downgrade" or error.scope in self._downgrading):
            return Remedy.CHEAPER
        return Remedy.HUMAN if self.asks_human else Remedy.NONE

    def _is_held_up(self, decision: Decision) -> bool:
        """Whether the call could have the money that is held: whole, or what is left of it under a smaller cap."""
        account = decision.refused_by
        could_be_capped = account is not None and account.held_nano > 0 and account.scope.name in self._capping
        return decision.verdict is Verdict.WAIT or could_be_capped

    def admitted(self, task_id: str) -> None:
        """The task got its money."""
        self._waiting_since.pop(task_id, None)

    def question(self, waiting: Sequence[str], *, scope: str, currency: str) -> dict[str, Any]:
        """The interrupt's payload; money as decimal strings, None where unknown or unlimited."""
        error = self._last
        limit = None if error is None or error.limit is None else format_amount(error.limit.amount)
        return {
            "type": "budget_exceeded",
            "scope": scope if error is None else error.scope,
            "currency": currency,
            "spent": None if error is None else format_amount(error.spent.amount),
            "limit": limit,
            "needs": None if error is None else format_amount(error.needed.amount),
            "waiting": list(waiting),
        }

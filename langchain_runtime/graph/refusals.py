"""What a budget's refusal means for a task of a run: fail, try again later, or ask a human."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from langchain_runtime.contracts.budget import Verdict
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import format_amount
from langchain_runtime.contracts.run import RunPolicy


class Remedy(StrEnum):
    """What can help a refused task."""

    NONE = "none"
    LATER = "later"
    HUMAN = "human"


class Refusals:
    """Judges refusals of one run and remembers the last one, to explain it.

    A task waits as long as money may come back by itself: from other tasks of the run under every policy, from other
    processes under ``wait`` and ``interrupt``.

    Args:
        policy: The run's.
        clock: Monotonic seconds.
    """

    def __init__(self, policy: RunPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_exceed = policy.on_exceed
        self._patience = None if policy.wait_timeout_ms is None else policy.wait_timeout_ms / 1000
        self._clock = clock
        self._refused_since: dict[str, float] = {}
        self._last: BudgetExceededError | None = None

    @property
    def asks_human(self) -> bool:
        """Whether the policy wants a human asked when money has run out."""
        return self._on_exceed == "interrupt"

    def judge(self, task_id: str, error: BudgetExceededError, *, others_in_flight: bool) -> Remedy:
        """Decide what can help the task that was refused."""
        self._last = error
        since = self._refused_since.setdefault(task_id, self._clock())
        patient = self._patience is None or self._clock() - since < self._patience
        held_up = error.decision is not None and error.decision.verdict is Verdict.WAIT
        if held_up and patient and (others_in_flight or self._on_exceed in {"wait", "interrupt"}):
            return Remedy.LATER
        return Remedy.HUMAN if self.asks_human else Remedy.NONE

    def admitted(self, task_id: str) -> None:
        """The task got its money."""
        self._refused_since.pop(task_id, None)

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

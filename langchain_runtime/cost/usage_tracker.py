"""Adds up what calls used: one source, the reservations that ended."""

from __future__ import annotations

import threading

from langchain_runtime.contracts.budget import Reservation, ReservationState
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage

_PAID = frozenset({ReservationState.SETTLED, ReservationState.FORFEITED})


class UsageTracker:
    """Usage by run, task and model; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paid: dict[str, Reservation] = {}

    def add(self, reservation: Reservation) -> None:
        """Count a reservation that was paid: settled or forfeited.

        Others are ignored, and so is a second one with the same id, unless it is the settlement that corrects a
        forfeit.
        """
        if reservation.state in _PAID:
            with self._lock:
                known = self._paid.get(reservation.hold.id)
                if known is None or known.state is ReservationState.FORFEITED:
                    self._paid[reservation.hold.id] = reservation

    def total(self, *, run_id: str | None = None, task_id: str | None = None, model: str | None = None) -> Usage:
        """Everything counted that matches all of the given; None matches everything.

        Raises:
            CurrencyMismatchError: Calls in different currencies match.
        """
        with self._lock:
            paid = list(self._paid.values())
        wanted = {"run_id": run_id, "task_id": task_id, "model": model}
        total = Usage()
        for reservation in paid:
            if all(value is None or getattr(reservation.hold, name) == value for name, value in wanted.items()):
                total += usage_of(reservation)
        return total


def usage_of(reservation: Reservation) -> Usage:
    """What one paid reservation used; the cost is None where nobody had a price for the model."""
    cost = Cost.from_nano(reservation.charged_nano or 0, reservation.hold.currency)
    return Usage(tokens=reservation.usage or TokenUsage(), cost=cost if reservation.hold.priced else None)

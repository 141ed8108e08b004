"""What the rules of the ledger suite stand on: a clock that stands still, fixtures and short forms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from langchain_runtime.contracts.budget import (
    Balance,
    Decision,
    Hold,
    Reservation,
    ReservationState,
    Scope,
    Settlement,
)
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.usage import TokenUsage


class FakeClock:
    """Seconds since the epoch that pass only when told to; starts on Monday 2026-03-02, 12:00 UTC."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 12, tzinfo=ZoneInfo("UTC")).timestamp()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def set(self, year: int, month: int, day: int, hour: int = 0, *, zone: str = "UTC") -> None:
        """Go to a wall-clock time in ``zone``."""
        self.now = datetime(year, month, day, hour, tzinfo=ZoneInfo(zone)).timestamp()


class LedgerDriver:
    """The fixtures of the suite, and short forms of what its tests do all the time."""

    ledger: Ledger
    clock: FakeClock

    @abstractmethod
    def make_ledger(self, tmp_path: Path, clock: Callable[[], float]) -> Ledger:
        """Your ledger, empty, with ``clock`` as its store's clock."""

    @pytest.fixture(autouse=True)
    def _open(self, tmp_path: Path) -> Iterator[None]:
        self.clock = FakeClock()
        self.ledger = self.make_ledger(tmp_path, self.clock)
        yield
        self.ledger.close()

    def scope(self, name: str = "user", limit: int | None = 100, **fields: Any) -> Balance:
        """Open a scope."""
        return self.ledger.open_scope(Scope(name=name, limit_nano=limit, **fields))

    def hold(self, nano: int = 10, *, scopes: tuple[str, ...] = ("user",), **fields: Any) -> Hold:
        """A hold of owner ``me``, leased for 60 seconds."""
        return Hold(nano=nano, scopes=scopes, **{"holder": "me", **fields})

    def reserve(self, nano: int = 10, *, scopes: tuple[str, ...] = ("user",), **fields: Any) -> Reservation:
        """Reserve, and fail unless admitted."""
        reservation = self.ledger.reserve(self.hold(nano, scopes=scopes, **fields)).reservation
        assert reservation is not None, "the hold should have been admitted"
        return reservation

    def sent(self, nano: int = 10, **fields: Any) -> str:
        """Reserve and mark sent; returns the id."""
        return self.reserve(nano, sent=True, **fields).hold.id

    def refused(self, nano: int, **fields: Any) -> Decision:
        """Reserve, and fail if admitted."""
        decision = self.ledger.reserve(self.hold(nano, **fields))
        assert decision.reservation is None, "the hold should have been refused"
        return decision

    def settle(self, reservation_id: str, nano: int | None = None, tokens: int | None = None, **fields: Any) -> int:
        """Settle."""
        usage = None if tokens is None else TokenUsage(input=tokens)
        return self.ledger.settle(Settlement(reservation_id=reservation_id, nano=nano, usage=usage, **fields))

    def state(self, reservation_id: str) -> ReservationState:
        """Where a reservation stands."""
        reservation = self.ledger.reservation(reservation_id)
        assert reservation is not None
        return reservation.state

    def figures(self, name: str = "user") -> tuple[int, int]:
        """Spent and held."""
        balance = self.ledger.balance(name)
        return balance.spent_nano, balance.held_nano

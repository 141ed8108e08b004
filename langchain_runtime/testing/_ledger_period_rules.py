"""Rules of ledgers: budgets that start afresh."""

# ruff: noqa: PLR2004 - tests: their names say it, with ids of reference_scenarios.md, about small figures
from __future__ import annotations

from typing import Any

import pytest

from langchain_runtime.contracts.budget import (
    Period,
    ReservationState,
    Verdict,
)
from langchain_runtime.testing._ledger_driver import LedgerDriver


class PeriodRules(LedgerDriver):
    """Budgets that start afresh."""

    @pytest.mark.parametrize(
        ("kind", "last", "next_"),
        [
            ("day", (2026, 3, 2, 23), (2026, 3, 3)),
            ("week", (2026, 3, 8, 23), (2026, 3, 9)),
            ("month", (2026, 3, 31, 23), (2026, 4, 1)),
        ],
    )
    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
    def test_a_calendar_period_starts_at_midnight_of_its_time_zone(
        self, kind: Any, last: tuple[int, ...], next_: tuple[int, ...], zone: str
    ) -> None:
        self.clock.set(2026, 3, 2, 1, zone=zone)
        self.scope(period=Period(kind=kind, timezone=zone))
        self.settle(self.sent(80, tokens=5), 80, tokens=5)
        self.clock.set(*last, zone=zone)
        assert self.refused(80).verdict is Verdict.EXHAUSTED
        self.clock.set(*next_, zone=zone)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.tokens_spent) == (0, 0)
        self.reserve(80)

    def test_calls_in_flight_stay_held_and_are_charged_to_the_period_they_end_in(self) -> None:
        self.scope(period=Period(kind="day"))
        call = self.sent(60, lease_seconds=10**6)
        self.clock.advance(86_400)
        assert self.figures() == (0, 60)
        self.settle(call, 50)
        assert self.figures() == (50, 0)

    def test_a_forfeit_counts_for_its_own_period_only(self) -> None:
        self.scope(period=Period(kind="day"))
        self.sent(60)
        self.clock.advance(60)
        assert self.ledger.balance("user").forfeited_nano == 60
        self.clock.advance(86_400)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.forfeited_nano) == (0, 0)

    @pytest.mark.parametrize("period", [Period(kind="day"), Period(kind="rolling", seconds=3600)], ids=lambda p: p.kind)
    @pytest.mark.parametrize(("cost", "spent", "used"), [(10, 0, 0), (75, 15, 3)])
    def test_a_forfeit_of_an_earlier_period_is_corrected_upwards_only(
        self, period: Period, cost: int, spent: int, used: int
    ) -> None:
        self.scope(period=period)
        call = self.sent(60, tokens=5)
        self.clock.advance(60)
        assert self.figures() == (60, 0)
        self.clock.advance(86_400)
        assert self.settle(call, cost, tokens=5 + used) == cost
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.tokens_spent, balance.forfeited_nano) == (spent, used, 0)
        self.clock.advance(86_400)
        assert self.figures() == (0, 0)

    def test_a_forfeit_at_midnight_counts_for_the_day_that_begins(self) -> None:
        self.scope(period=Period(kind="day"))
        call = self.sent(60, lease_seconds=43_200)
        self.clock.advance(43_200)
        assert self.figures() == (60, 0)
        self.settle(call, 20)
        assert self.figures() == (20, 0)

    def test_overdrawn_is_never_forgotten(self) -> None:
        self.scope(period=Period(kind="day"))
        self.settle(self.sent(10), 30)
        self.clock.advance(86_400)
        assert self.ledger.balance("user").overdrawn_nano == 20

    def test_a_rolling_period_looks_back_over_its_seconds(self) -> None:
        self.scope(period=Period(kind="rolling", seconds=100))
        self.settle(self.sent(60, tokens=6), 60, tokens=6)
        self.clock.advance(50)
        self.settle(self.sent(40, tokens=4), 40, tokens=4)
        self.clock.advance(50)
        assert self.figures() == (100, 0)
        assert self.refused(1).verdict is Verdict.EXHAUSTED
        self.clock.advance(1)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.tokens_spent) == (40, 4)
        self.reserve(60)
        self.clock.advance(50)
        assert self.figures() == (0, 60)

    def test_a_rolling_period_forgets_a_forfeit_and_its_correction(self) -> None:
        self.scope(period=Period(kind="rolling", seconds=1000))
        corrected, kept = self.sent(60), self.sent(30)
        self.clock.advance(60)
        assert self.figures() == (90, 0)
        self.clock.advance(500)
        self.settle(corrected, 20)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.forfeited_nano) == (50, 30)
        self.clock.advance(501)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.forfeited_nano) == (0, 0)
        assert self.state(kept) is ReservationState.FORFEITED

    def test_a_rolling_period_forgets_what_was_charged_while_the_clock_was_back(self) -> None:
        self.scope(period=Period(kind="rolling", seconds=100))
        self.settle(self.sent(60), 60)
        self.clock.advance(-1_000)
        self.settle(self.sent(30), 30)
        assert self.figures() == (90, 0)
        self.clock.advance(1_101)
        assert self.figures() == (0, 0)

    def test_a_clock_that_goes_back_does_not_start_a_period_twice(self) -> None:
        self.scope(period=Period(kind="day"))
        self.clock.advance(86_400)
        self.settle(self.sent(60), 60)
        self.clock.advance(-86_400)
        assert self.figures() == (60, 0)
        self.clock.advance(86_400)
        assert self.figures() == (60, 0)

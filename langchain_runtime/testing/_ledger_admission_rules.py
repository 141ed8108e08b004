"""Rules of ledgers: which scopes there are, and what fits them."""

# ruff: noqa: N802, PLR2004 - tests: their names say it, with ids of reference_scenarios.md, about small figures
from __future__ import annotations

from threading import Barrier, Thread
from typing import Any

import pytest

from langchain_runtime.contracts.budget import (
    Balance,
    Period,
    ReservationState,
    Scope,
    Verdict,
)
from langchain_runtime.contracts.errors import (
    BudgetNotSetError,
    CurrencyMismatchError,
    InvalidInputError,
)
from langchain_runtime.contracts.money import MAX_NANO
from langchain_runtime.testing._ledger_driver import LedgerDriver


class ScopeRules(LedgerDriver):
    """Opening, limits, top-ups."""

    def test_a_new_scope_is_empty(self) -> None:
        assert self.scope() == Balance(scope=Scope(name="user", limit_nano=100))

    def test_opening_the_same_scope_again_keeps_what_was_spent(self) -> None:
        self.scope()
        self.settle(self.sent(10), 7)
        assert self.scope().spent_nano == 7

    @pytest.mark.parametrize(
        "other",
        [
            {"limit_nano": 50},
            {"limit_nano": None},
            {"currency": "EUR"},
            {"token_limit": 5},
            {"period": Period(kind="day")},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_opening_a_scope_on_other_terms_is_refused_and_names_both(self, other: dict[str, Any]) -> None:
        self.ledger.open_scope(Scope(name="user", limit_nano=1_000_000_000))
        with pytest.raises(InvalidInputError, match=r"'user' is open with a limit of 1\.00 USD, but was asked for"):
            self.ledger.open_scope(Scope(**{"name": "user", "limit_nano": 1_000_000_000, **other}))

    def test_other_periods_are_other_terms(self) -> None:
        self.scope(period=Period(kind="day", timezone="Europe/Vienna"))
        with pytest.raises(InvalidInputError, match=r"per day in Europe/Vienna.*per 60 rolling seconds"):
            self.scope(period=Period(kind="rolling", seconds=60))
        self.scope(period=Period(kind="day", timezone="Europe/Vienna"))

    def test_an_unknown_scope_has_no_balance(self) -> None:
        with pytest.raises(BudgetNotSetError) as raised:
            self.ledger.balance("nobody")
        assert raised.value.scope == "nobody"

    def test_balances_are_listed_by_prefix_and_name(self) -> None:
        for name in ("run:\U0001f600", "run:b", "run:a", "user:run:", "rum"):
            self.scope(name)
        runs = ["run:a", "run:b", "run:\U0001f600"]
        assert [balance.scope.name for balance in self.ledger.balances("run:")] == runs
        assert [balance.scope.name for balance in self.ledger.balances()] == ["rum", *runs, "user:run:"]

    def test_wildcards_in_a_prefix_are_letters(self) -> None:
        for name in ("a%", "a_", "ab"):
            self.scope(name)
        assert [balance.scope.name for balance in self.ledger.balances("a%")] == ["a%"]

    def test_a_limit_can_be_changed_and_lifted(self) -> None:
        self.scope()
        assert self.ledger.set_limit("user", 20).scope.limit_nano == 20
        assert self.refused(21).verdict is Verdict.EXHAUSTED
        assert self.ledger.set_limit("user", None).limit is None
        self.reserve(MAX_NANO)

    def test_a_limit_below_what_is_spent_admits_nothing_more(self) -> None:
        self.scope()
        self.settle(self.sent(50), 50)
        self.ledger.set_limit("user", 20)
        assert self.refused(0).verdict is Verdict.EXHAUSTED
        assert self.figures() == (50, 0)

    def test_a_top_up_counts_once_for_each_key_of_a_scope(self) -> None:
        self.scope()
        self.scope("other")
        for _ in range(2):
            assert self.ledger.top_up("user", 5, key="k").scope.limit_nano == 105
        assert self.ledger.top_up("user", 5, key="l").scope.limit_nano == 110
        assert self.ledger.top_up("other", 5, key="k").scope.limit_nano == 105

    def test_an_unlimited_scope_cannot_be_topped_up(self) -> None:
        self.scope(limit=None)
        for _ in range(2):  # the refused key is not used up
            with pytest.raises(InvalidInputError, match="no limit to top up"):
                self.ledger.top_up("user", 5, key="k")

    def test_unknown_scopes_have_no_limit_to_change(self) -> None:
        with pytest.raises(BudgetNotSetError):
            self.ledger.set_limit("nobody", 5)
        with pytest.raises(BudgetNotSetError):
            self.ledger.top_up("nobody", 5, key="k")

    def test_a_raised_scope_opens_by_its_first_its_set_and_its_current_limit(self) -> None:
        self.scope(limit=100)
        self.ledger.set_limit("user", 500)
        self.ledger.top_up("user", 7, key="k")
        for limit in (100, 500, 507):
            assert self.scope(limit=limit).scope.limit_nano == 507
        for other in (107, None):
            with pytest.raises(InvalidInputError):
                self.scope(limit=other)

    def test_a_scope_whose_limit_was_lifted_opens_by_its_first_limit(self) -> None:
        self.scope(limit=100)
        self.ledger.set_limit("user", None)
        assert self.scope(limit=100).limit is None


class ReserveRules(LedgerDriver):
    """What fits, what waits, what never will."""

    def test_a_hold_that_fits_exactly_is_admitted_K5(self) -> None:
        self.scope()
        self.settle(self.sent(50), 50)
        self.reserve(50)
        assert self.figures() == (50, 50)

    def test_a_hold_of_nothing_fits_a_spent_budget_K11(self) -> None:
        self.scope()
        self.settle(self.sent(100), 100)
        self.reserve(0)

    def test_decimal_thirds_fit_exactly_K12(self) -> None:
        self.scope(limit=300_000_000)
        self.settle(self.sent(100_000_000), 100_000_000)
        self.reserve(200_000_000)

    def test_what_calls_in_flight_stand_in_the_way_of_waits(self) -> None:
        self.scope()
        self.reserve(60)
        decision = self.refused(41)
        assert decision.verdict is Verdict.WAIT
        assert decision.free_nano == 40
        assert decision.refused_by == self.ledger.balance("user")

    def test_what_does_not_fit_beside_the_spending_is_exhausted_K6(self) -> None:
        self.scope()
        self.settle(self.sent(60), 60)
        decision = self.refused(50)
        assert decision.verdict is Verdict.EXHAUSTED
        assert (decision.free_nano, decision.refused_by) == (40, self.ledger.balance("user"))

    def test_a_refusal_holds_nothing_and_leaves_the_id_free(self) -> None:
        self.scope()
        other = self.reserve(60)
        hold = self.hold(60)
        assert self.ledger.reserve(hold).reservation is None
        assert self.figures() == (0, 60)
        assert self.ledger.reservation(hold.id) is None
        self.ledger.release(other.hold.id)
        assert self.ledger.reserve(hold).verdict is Verdict.ADMIT

    def test_an_admission_says_what_is_left_beside_it(self) -> None:
        self.scope(token_limit=50)
        decision = self.ledger.reserve(self.hold(30, tokens=20))
        assert (decision.verdict, decision.refused_by) == (Verdict.ADMIT, None)
        assert (decision.free_nano, decision.free_tokens) == (70, 30)

    def test_without_limits_nothing_is_refused_and_free_is_unknown(self) -> None:
        self.scope(limit=None)
        decision = self.ledger.reserve(self.hold(10**15, tokens=10**9))
        assert (decision.verdict, decision.free_nano, decision.free_tokens) == (Verdict.ADMIT, None, None)
        assert self.figures() == (0, 10**15)

    def test_tokens_are_limited_beside_money(self) -> None:
        self.scope(token_limit=100)
        first = self.sent(1, tokens=60)
        decision = self.refused(1, tokens=41)
        assert (decision.verdict, decision.free_tokens) == (Verdict.WAIT, 40)
        assert self.refused(1, tokens=101).verdict is Verdict.EXHAUSTED
        self.settle(first, 1, tokens=60)
        assert self.refused(1, tokens=41).verdict is Verdict.EXHAUSTED
        balance = self.ledger.balance("user")
        assert (balance.tokens_spent, balance.tokens_held) == (60, 0)
        self.reserve(1, tokens=40)

    def test_all_scopes_are_charged_or_none(self) -> None:
        self.scope("run", 100)
        self.scope("user", 50)
        self.reserve(40, scopes=("user", "run"))
        assert self.figures("run") == self.figures("user") == (0, 40)
        self.refused(20, scopes=("run", "user"))
        assert self.figures("run") == self.figures("user") == (0, 40)

    def test_the_least_free_amount_over_all_scopes_is_named(self) -> None:
        self.scope("a", 100, token_limit=9)
        self.scope("b", 30)
        self.scope("c", None)
        decision = self.refused(31, scopes=("a", "b", "c"))
        assert (decision.free_nano, decision.free_tokens) == (30, 9)

    def test_the_first_refusing_scope_is_named_an_exhausted_one_before_a_waiting_one(self) -> None:
        for name, limit in (("a", 100), ("b", 50), ("c", 15), ("d", 15)):
            self.scope(name, limit)
        self.reserve(45, scopes=("a", "b"))
        waiting = self.refused(10, scopes=("d", "b", "a"))
        assert waiting.verdict is Verdict.WAIT
        assert waiting.refused_by == self.ledger.balance("b")
        exhausted = self.refused(16, scopes=("d", "c", "b", "a"))
        assert exhausted.verdict is Verdict.EXHAUSTED
        assert exhausted.refused_by == self.ledger.balance("c")

    def test_a_hold_without_scopes_is_recorded(self) -> None:
        reservation = self.reserve(10, scopes=())
        assert self.ledger.reservation(reservation.hold.id) == reservation

    def test_an_unopened_scope_is_refused_and_nothing_is_held(self) -> None:
        self.scope()
        with pytest.raises(BudgetNotSetError) as raised:
            self.ledger.reserve(self.hold(scopes=("user", "zzz")))
        assert raised.value.scope == "zzz"
        assert self.figures() == (0, 0)

    def test_another_currency_is_refused_and_nothing_is_held_Z7(self) -> None:
        self.scope("a")
        self.scope("b", currency="EUR")
        with pytest.raises(CurrencyMismatchError) as raised:
            self.ledger.reserve(self.hold(scopes=("a", "b")))
        assert (raised.value.expected, raised.value.actual) == ("EUR", "USD")
        assert self.figures("a") == (0, 0)

    def test_reserving_twice_with_one_id_holds_once(self) -> None:
        self.scope()
        hold = self.hold(60)
        first, second = self.ledger.reserve(hold), self.ledger.reserve(hold)
        assert first == second
        assert self.figures() == (0, 60)

    def test_reserving_again_after_sending_returns_the_sent_reservation(self) -> None:
        self.scope()
        hold = self.hold(60)
        self.ledger.mark_sent(hold.id, self.reserve(60, id=hold.id).lease)
        again = self.ledger.reserve(hold).reservation
        assert again is not None
        assert again.state is ReservationState.SENT
        assert self.figures() == (0, 60)

    @pytest.mark.parametrize("other", [{"nano": 61}, {"holder": "you"}, {"sent": True}, {"model": "m"}], ids=str)
    def test_an_id_cannot_hold_for_another_call(self, other: dict[str, Any]) -> None:
        self.scope()
        hold = self.hold(60)
        self.ledger.reserve(hold)
        with pytest.raises(InvalidInputError, match="another call"):
            self.ledger.reserve(hold.model_copy(update=other))
        assert self.figures() == (0, 60)

    @pytest.mark.parametrize("end", ["settle", "release", "expire", "forfeit"])
    def test_an_ended_id_cannot_hold_again(self, end: str) -> None:
        self.scope()
        hold = self.hold(60, sent=end == "forfeit")
        self.ledger.reserve(hold)
        if end == "settle":
            self.settle(hold.id, 0)
        elif end == "release":
            self.ledger.release(hold.id)
        else:
            self.clock.advance(60)
        with pytest.raises(InvalidInputError, match="has ended"):
            self.ledger.reserve(hold)

    def test_everything_asked_for_is_read_back(self) -> None:
        self.scope()
        self.scope("run")
        hold = self.hold(
            10,
            id="call-1",
            scopes=("user", "run"),
            tokens=5,
            holder="h",
            lease_seconds=7.5,
            sent=True,
            shadows=("run",),
            run_id="r",
            task_id="t",
            model="openai:gpt",
        )
        reservation = self.ledger.reserve(hold).reservation
        assert reservation is not None
        assert reservation == self.ledger.reservation("call-1")
        assert reservation.hold == hold
        assert reservation.state is ReservationState.SENT
        assert reservation.created_at == self.clock.now
        assert (reservation.charged_nano, reservation.usage, reservation.ended_at) == (None, None, None)

    def test_reservations_of_a_run_are_listed_oldest_first(self) -> None:
        self.scope()
        ids = [self.reserve(1, run_id="r").hold.id for _ in range(5)]
        self.reserve(1, run_id="other")
        self.reserve(1)
        self.settle(ids[0], 1)
        assert [reservation.hold.id for reservation in self.ledger.reservations("r")] == ids
        assert self.ledger.reservations("unknown") == []
        assert self.ledger.reservation("unknown") is None

    def test_threads_together_never_hold_more_than_the_limit_L8(self) -> None:
        self.scope(limit=50)
        start = Barrier(8)
        admitted: list[bool] = []

        def work() -> None:
            start.wait()
            admitted.extend(self.ledger.reserve(self.hold(1)).verdict is Verdict.ADMIT for _ in range(10))

        threads = [Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert admitted.count(True) == 50
        assert self.figures() == (0, 50)

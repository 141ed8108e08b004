"""Rules of ledgers: how calls end, on their own or with their lease."""

# ruff: noqa: N802, PLR2004 - tests: their names say it, with ids of reference_scenarios.md, about small figures
from __future__ import annotations

import pytest

from langchain_runtime.contracts.budget import (
    Balance,
    ReservationState,
    Scope,
    Settlement,
)
from langchain_runtime.contracts.errors import (
    InvalidInputError,
    ReservationLostError,
)
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.testing._ledger_driver import LedgerDriver


class SettleRules(LedgerDriver):
    """How calls end."""

    def test_a_settlement_charges_what_the_call_cost(self) -> None:
        self.scope()
        call = self.sent(60, tokens=50)
        self.clock.advance(1)
        assert self.settle(call, 12, tokens=34) == 12
        assert self.ledger.balance("user") == Balance(
            scope=Scope(name="user", limit_nano=100), spent_nano=12, tokens_spent=34
        )
        reservation = self.ledger.reservation(call)
        assert reservation is not None
        assert (reservation.state, reservation.charged_nano) == (ReservationState.SETTLED, 12)
        assert (reservation.usage, reservation.ended_at) == (TokenUsage(input=34), self.clock.now)

    def test_each_detail_of_the_usage_is_kept(self) -> None:
        self.scope()
        usage = TokenUsage(
            input=9, output=8, cache_read=3, cache_write=2, cache_write_1h=1, audio_input=1, reasoning=4, audio_output=1
        )
        call = self.sent()
        self.ledger.settle(Settlement(reservation_id=call, nano=1, usage=usage))
        reservation = self.ledger.reservation(call)
        assert reservation is not None
        assert reservation.usage == usage

    def test_a_held_call_can_settle_without_having_been_marked(self) -> None:
        self.scope()
        assert self.settle(self.reserve(60).hold.id, 12) == 12
        assert self.figures() == (12, 0)

    def test_every_scope_is_charged(self) -> None:
        self.scope("run")
        self.scope("user")
        self.settle(self.sent(60, scopes=("user", "run")), 12)
        assert self.figures("run") == self.figures("user") == (12, 0)

    def test_a_second_settlement_changes_nothing(self) -> None:
        self.scope()
        call = self.sent(60)
        assert self.settle(call, 12, tokens=1) == self.settle(call, 50, tokens=9) == 12
        assert self.figures() == (12, 0)
        assert self.ledger.balance("user").tokens_spent == 1

    def test_an_unknown_price_charges_the_full_hold_in_money_and_tokens(self) -> None:
        self.scope()
        assert self.settle(self.sent(60, tokens=50)) == 60
        assert self.settle(self.sent(10, tokens=50), None, tokens=3) == 10
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.tokens_spent) == (70, 100)

    def test_unknown_tokens_charge_the_tokens_of_the_hold(self) -> None:
        self.scope()
        self.settle(self.sent(60, tokens=50), 12)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.tokens_spent) == (12, 50)

    def test_more_than_the_hold_is_recorded_in_full_even_above_the_limit_L6(self) -> None:
        self.scope()
        self.settle(self.sent(80), 80)
        assert self.settle(self.sent(20), 50) == 50
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.overdrawn_nano) == (130, 30)
        assert balance.remaining is not None
        assert balance.remaining.nano == 0

    def test_settling_an_unknown_reservation_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="not in this ledger"):
            self.settle("unknown", 1)

    @pytest.mark.parametrize("sent", [False, True])
    def test_a_release_gives_the_hold_back(self, sent: bool) -> None:
        self.scope()
        call = self.reserve(60, tokens=5, sent=sent).hold.id
        for _ in range(2):
            self.ledger.release(call)
        reservation = self.ledger.reservation(call)
        assert reservation is not None
        assert (reservation.state, reservation.charged_nano) == (ReservationState.RELEASED, 0)
        assert self.ledger.balance("user") == Balance(scope=Scope(name="user", limit_nano=100))

    def test_releasing_what_has_ended_or_is_unknown_changes_nothing(self) -> None:
        self.scope()
        call = self.sent(60)
        self.settle(call, 12)
        self.ledger.release(call)
        self.ledger.release("unknown")
        assert self.state(call) is ReservationState.SETTLED
        assert self.figures() == (12, 0)


class LeaseRules(LedgerDriver):
    """What happens to the calls of owners who vanish, pause or come back."""

    def test_marking_sent_needs_the_lease_number(self) -> None:
        self.scope()
        reservation = self.reserve()
        with pytest.raises(ReservationLostError) as raised:
            self.ledger.mark_sent(reservation.hold.id, reservation.lease + 1)
        assert raised.value.reservation_id == reservation.hold.id
        self.ledger.mark_sent(reservation.hold.id, reservation.lease)
        assert self.state(reservation.hold.id) is ReservationState.SENT

    def test_leases_are_numbered_differently(self) -> None:
        self.scope()
        assert len({self.reserve(1).lease for _ in range(5)}) == 5

    def test_a_call_is_sent_once(self) -> None:
        self.scope()
        reservation = self.reserve()
        self.ledger.mark_sent(reservation.hold.id, reservation.lease)
        with pytest.raises(ReservationLostError):
            self.ledger.mark_sent(reservation.hold.id, reservation.lease)

    def test_an_unknown_or_ended_reservation_cannot_be_sent(self) -> None:
        self.scope()
        reservation = self.reserve()
        self.ledger.release(reservation.hold.id)
        for reservation_id in (reservation.hold.id, "unknown"):
            with pytest.raises(ReservationLostError):
                self.ledger.mark_sent(reservation_id, reservation.lease)

    @pytest.mark.parametrize("swept", [False, True])
    def test_an_owner_who_wakes_after_his_lease_cannot_send(self, swept: bool) -> None:
        self.scope()
        reservation = self.reserve(60)
        self.clock.advance(60)
        if swept:
            assert self.figures() == (0, 0)
        with pytest.raises(ReservationLostError):
            self.ledger.mark_sent(reservation.hold.id, reservation.lease)

    def test_a_held_call_is_released_when_its_lease_runs_out(self) -> None:
        self.scope()
        call = self.reserve(60).hold.id
        self.clock.advance(59.9)
        assert self.figures() == (0, 60)
        self.clock.advance(0.1)
        assert self.figures() == (0, 0)
        reservation = self.ledger.reservation(call)
        assert reservation is not None
        assert (reservation.state, reservation.ended_at) == (ReservationState.RELEASED, self.clock.now)

    def test_a_sent_call_is_forfeited_at_its_worst_case(self) -> None:
        self.scope()
        call = self.sent(60, tokens=5)
        self.clock.advance(60)
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.held_nano, balance.forfeited_nano) == (60, 0, 60)
        assert (balance.tokens_spent, balance.tokens_held) == (5, 0)
        reservation = self.ledger.reservation(call)
        assert reservation is not None
        assert (reservation.state, reservation.charged_nano) == (ReservationState.FORFEITED, 60)

    def test_abandoning_a_run_ends_its_live_calls_at_once_and_nobody_elses(self) -> None:
        self.scope()
        sent = self.sent(30, run_id="dead")
        held = self.reserve(20, run_id="dead").hold.id
        settled = self.sent(10, run_id="dead")
        self.settle(settled, 4)
        other = self.sent(5, run_id="alive")
        assert self.ledger.abandon("dead") == 2
        assert [self.state(call) for call in (sent, held, settled, other)] == [
            ReservationState.FORFEITED,
            ReservationState.RELEASED,
            ReservationState.SETTLED,
            ReservationState.SENT,
        ]
        assert self.figures() == (34, 5)
        assert self.ledger.abandon("dead") == 0
        assert self.settle(sent, 12) == 12
        assert self.figures() == (16, 5)

    def test_a_reserve_ends_the_abandoned_calls_of_all_scopes_first(self) -> None:
        self.scope("a")
        self.scope("b")
        dead = self.reserve(100, scopes=("a",)).hold.id
        self.clock.advance(60)
        self.reserve(100, scopes=("b",))
        assert self.state(dead) is ReservationState.RELEASED

    def test_more_abandoned_calls_than_one_step_ends_are_all_gone_from_the_balance(self) -> None:
        self.scope(limit=None)
        for _ in range(1_100):
            last = self.reserve(1, lease_seconds=59).hold
        alive = self.reserve(1, lease_seconds=120).hold.id
        self.clock.advance(59)
        with pytest.raises(InvalidInputError, match="has ended"):
            self.ledger.reserve(last)
        assert self.ledger.balances()[0].held_nano == 1
        assert self.state(alive) is ReservationState.HELD

    def test_listing_balances_ends_abandoned_calls(self) -> None:
        self.scope()
        self.sent(60)
        self.clock.advance(60)
        assert [balance.forfeited_nano for balance in self.ledger.balances()] == [60]

    def test_marking_sent_renews_the_lease(self) -> None:
        self.scope()
        reservation = self.reserve(60)
        self.clock.advance(40)
        self.ledger.mark_sent(reservation.hold.id, reservation.lease)
        self.clock.advance(40)
        assert self.figures() == (0, 60)
        self.clock.advance(20)
        assert self.figures() == (60, 0)

    def test_marking_sent_does_not_shorten_the_lease(self) -> None:
        self.scope()
        reservation = self.reserve(60)
        self.ledger.renew("me", 500)
        self.ledger.mark_sent(reservation.hold.id, reservation.lease)
        self.clock.advance(499)
        assert self.figures() == (0, 60)

    def test_renewing_extends_all_live_leases_of_one_holder(self) -> None:
        self.scope()
        mine = [self.reserve(10).hold.id, self.sent(10)]
        ended, other = self.sent(10), self.reserve(10, holder="you").hold.id
        self.settle(ended, 1)
        self.clock.advance(50)
        assert self.ledger.renew("me", 60) == 2
        self.clock.advance(50)
        assert self.figures() == (1, 20)
        assert [self.state(call) for call in mine] == [ReservationState.HELD, ReservationState.SENT]
        assert self.state(other) is ReservationState.RELEASED

    def test_renewing_does_not_shorten_and_does_not_revive(self) -> None:
        self.scope()
        self.reserve(10, lease_seconds=100)
        dead = self.reserve(20).hold.id
        self.clock.advance(60)
        assert self.ledger.renew("me", 1) == 1
        self.clock.advance(39)
        assert self.figures() == (0, 10)
        assert self.state(dead) is ReservationState.RELEASED
        assert self.ledger.renew("nobody", 1) == 0

    @pytest.mark.parametrize(("cost", "overdrawn"), [(0, 0), (25, 0), (60, 0), (75, 15)])
    def test_a_late_settlement_corrects_a_forfeit(self, cost: int, overdrawn: int) -> None:
        self.scope()
        call = self.sent(60, tokens=50)
        self.clock.advance(60)
        assert self.figures() == (60, 0)
        assert self.settle(call, cost, tokens=7) == cost
        assert self.ledger.balance("user") == Balance(
            scope=Scope(name="user", limit_nano=100), spent_nano=cost, tokens_spent=7, overdrawn_nano=overdrawn
        )
        assert self.state(call) is ReservationState.SETTLED

    def test_a_late_settlement_of_unknown_cost_keeps_the_full_charge(self) -> None:
        self.scope()
        call = self.sent(60)
        self.clock.advance(60)
        assert self.figures() == (60, 0)
        assert self.settle(call) == 60
        assert self.ledger.balance("user").forfeited_nano == 0

    def test_a_settlement_that_comes_before_anyone_noticed_the_lease_is_an_ordinary_one(self) -> None:
        self.scope()
        call = self.sent(60)
        self.clock.advance(600)
        assert self.settle(call, 12) == 12
        assert self.ledger.balance("user") == Balance(
            scope=Scope(name="user", limit_nano=100), spent_nano=12, tokens_spent=0
        )

    def test_money_spent_under_a_lost_lease_is_recorded_and_counted_as_overdrawn(self) -> None:
        self.scope()
        call = self.reserve(60).hold.id
        self.clock.advance(60)
        self.reserve(100)
        assert self.settle(call, 50, tokens=7) == 50
        balance = self.ledger.balance("user")
        assert (balance.spent_nano, balance.held_nano, balance.overdrawn_nano) == (50, 100, 50)
        assert balance.tokens_spent == 7
        assert self.settle(call, 50) == 50
        assert self.figures() == (50, 100)

    def test_money_spent_after_a_release_is_recorded(self) -> None:
        self.scope()
        call = self.sent(60)
        self.ledger.release(call)
        assert self.settle(call, 10) == 10
        assert self.ledger.balance("user").overdrawn_nano == 10
        assert self.figures() == (10, 0)

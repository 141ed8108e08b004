"""Rules of ledgers: scopes that record without refusing."""

from __future__ import annotations

import pytest

from langchain_runtime.contracts.budget import ReservationState, Verdict
from langchain_runtime.contracts.errors import BudgetNotSetError, CurrencyMismatchError, InvalidInputError
from langchain_runtime.testing._ledger_driver import LedgerDriver


class ShadowRules(LedgerDriver):
    """What a shadow admits, records and tells."""

    def test_a_shadow_records_above_its_limit_and_says_that_it_would_have_refused(self) -> None:
        self.scope()
        before = self.ledger.balance("user")
        decision = self.ledger.reserve(self.hold(150, shadows=("user",)))
        assert (decision.verdict, decision.refused_by) == (Verdict.ADMIT, before)
        assert decision.reservation is not None
        assert self.figures() == (0, 150)
        self.settle(decision.reservation.hold.id, 120)
        assert self.figures() == (120, 0)
        assert self.refused(1).verdict is Verdict.EXHAUSTED

    def test_a_shadow_that_the_hold_fits_says_nothing(self) -> None:
        self.scope(token_limit=50)
        decision = self.ledger.reserve(self.hold(100, tokens=50, shadows=("user",)))
        assert (decision.verdict, decision.refused_by) == (Verdict.ADMIT, None)

    @pytest.mark.parametrize(("nano", "tokens"), [(41, 0), (0, 21)], ids=["money", "tokens"])
    def test_a_shadow_counts_calls_in_flight_and_tokens(self, nano: int, tokens: int) -> None:
        self.scope(token_limit=50)
        self.reserve(60, tokens=30)
        before = self.ledger.balance("user")
        assert self.ledger.reserve(self.hold(nano, tokens=tokens, shadows=("user",))).refused_by == before

    def test_of_several_shadows_the_first_that_would_have_refused_is_named(self) -> None:
        for name, limit in (("a", 100), ("b", 5), ("c", 5)):
            self.scope(name, limit)
        decision = self.ledger.reserve(self.hold(10, scopes=("c", "b", "a"), shadows=("c", "b", "a")))
        assert decision.refused_by is not None
        assert decision.refused_by.scope.name == "b"

    @pytest.mark.parametrize("names", [("a", "z"), ("z", "a")], ids=["shadow first", "shadow last"])
    def test_the_other_scopes_refuse_as_ever_and_then_nothing_is_recorded(self, names: tuple[str, str]) -> None:
        shadow, strict = names
        self.scope(shadow, 5)
        self.scope(strict, 50)
        decision = self.ledger.reserve(self.hold(60, scopes=names, shadows=(shadow,)))
        assert (decision.verdict, decision.refused_by) == (Verdict.EXHAUSTED, self.ledger.balance(strict))
        self.reserve(40, scopes=names, shadows=(shadow,))
        decision = self.ledger.reserve(self.hold(20, scopes=names, shadows=(shadow,)))
        assert (decision.verdict, decision.refused_by) == (Verdict.WAIT, self.ledger.balance(strict))
        assert self.figures(shadow) == self.figures(strict) == (0, 40)

    def test_what_is_free_leaves_shadows_out(self) -> None:
        self.scope("a", 5, token_limit=1)
        self.scope("b", 50, token_limit=20)
        refused = self.ledger.reserve(self.hold(60, scopes=("a", "b"), shadows=("a",)))
        assert (refused.free_nano, refused.free_tokens) == (50, 20)
        admitted = self.ledger.reserve(self.hold(10, tokens=5, scopes=("a", "b"), shadows=("a",)))
        assert (admitted.free_nano, admitted.free_tokens) == (40, 15)
        alone = self.ledger.reserve(self.hold(10, scopes=("a",), shadows=("a",)))
        assert (alone.free_nano, alone.free_tokens) == (None, None)

    def test_a_shadow_must_be_open_and_in_the_currency_of_the_call(self) -> None:
        self.scope("a", currency="EUR")
        self.scope("b")
        with pytest.raises(CurrencyMismatchError):
            self.ledger.reserve(self.hold(scopes=("a", "b"), shadows=("a",)))
        with pytest.raises(BudgetNotSetError):
            self.ledger.reserve(self.hold(scopes=("b", "nobody"), shadows=("nobody",)))
        assert self.figures("b") == (0, 0)

    def test_a_shadowed_hold_ends_like_any_other(self) -> None:
        self.scope()
        call = self.sent(150, shadows=("user",))
        self.clock.advance(60)
        assert self.figures() == (150, 0)
        assert self.state(call) is ReservationState.FORFEITED
        self.settle(call, 30)
        assert self.figures() == (30, 0)

    def test_asking_again_holds_once_and_warns_once(self) -> None:
        self.scope()
        hold = self.hold(150, shadows=("user",))
        first, second = self.ledger.reserve(hold), self.ledger.reserve(hold)
        assert first.reservation == second.reservation
        assert second.refused_by is None
        assert self.figures() == (0, 150)
        with pytest.raises(InvalidInputError, match="another call"):
            self.ledger.reserve(hold.model_copy(update={"shadows": ()}))

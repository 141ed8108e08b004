"""Rules of ledgers: amounts, tokens and leases that no ledger keeps, however they got past the contracts."""

from __future__ import annotations

from math import inf, nan
from typing import Any, Final

import pytest

from langchain_runtime.contracts.budget import Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import MAX_NANO
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.testing._ledger_driver import LedgerDriver

_NO_AMOUNTS: Final[list[Any]] = [-1, -(10**30), MAX_NANO + 1, 10**30, 0.5, 1.0, nan, inf, -inf, True]
_NO_LEASES: Final = [0, -1, nan, inf, -inf]


class AmountRules(LedgerDriver):
    """What is refused before anything changes."""

    @pytest.mark.parametrize("limit", [0, *_NO_AMOUNTS])
    def test_a_limit_out_of_range_is_refused(self, limit: Any) -> None:
        self.scope()
        with pytest.raises(InvalidInputError, match="a limit must be a whole number"):
            self.ledger.set_limit("user", limit)
        for field in ("limit_nano", "token_limit"):
            scope = Scope(name="other").model_copy(update={field: limit})
            with pytest.raises(InvalidInputError, match="limit must be a whole number"):
                self.ledger.open_scope(scope)
        assert [balance.scope for balance in self.ledger.balances()] == [Scope(name="user", limit_nano=100)]

    @pytest.mark.parametrize("nano", [0, MAX_NANO, *_NO_AMOUNTS])
    def test_a_top_up_out_of_range_is_refused_and_its_key_stays_free(self, nano: Any) -> None:
        self.scope()
        with pytest.raises(InvalidInputError):
            self.ledger.top_up("user", nano, key="k")
        assert self.ledger.top_up("user", 1, key="k").scope.limit_nano == 101  # noqa: PLR2004 - 100 and 1

    @pytest.mark.parametrize("amount", _NO_AMOUNTS)
    @pytest.mark.parametrize("field", ["nano", "tokens"])
    def test_a_hold_out_of_range_is_refused(self, field: str, amount: Any) -> None:
        self.scope(limit=None)
        with pytest.raises(InvalidInputError, match="must be a whole number"):
            self.ledger.reserve(self.hold(1, id="x").model_copy(update={field: amount}))
        assert self.ledger.reservation("x") is None
        assert self.figures() == (0, 0)

    @pytest.mark.parametrize("amount", _NO_AMOUNTS)
    def test_a_price_out_of_range_is_refused_and_the_hold_stays(self, amount: Any) -> None:
        self.scope()
        call = self.sent(10)
        settlement = Settlement(reservation_id=call)
        with pytest.raises(InvalidInputError, match="a price must be a whole number"):
            self.ledger.settle(settlement.model_copy(update={"nano": amount}))
        assert self.figures() == (0, 10)

    @pytest.mark.parametrize("amount", [-1, -(10**30), 10**30, 0.5, nan, inf])
    def test_tokens_out_of_range_are_refused_and_the_hold_stays(self, amount: Any) -> None:
        self.scope()
        call = self.sent(10, tokens=5)
        usage = TokenUsage().model_copy(update={"input": amount})
        with pytest.raises(InvalidInputError, match="the tokens of a call must be a whole number"):
            self.ledger.settle(Settlement(reservation_id=call, nano=1).model_copy(update={"usage": usage}))
        balance = self.ledger.balance("user")
        assert (balance.held_nano, balance.tokens_held, balance.tokens_spent) == (10, 5, 0)

    @pytest.mark.parametrize("seconds", _NO_LEASES)
    def test_a_lease_that_is_over_or_never_ends_is_refused(self, seconds: float) -> None:
        self.scope()
        with pytest.raises(InvalidInputError, match="a lease must last"):
            self.ledger.reserve(self.hold(10).model_copy(update={"lease_seconds": seconds}))
        self.reserve(10)
        with pytest.raises(InvalidInputError, match="a lease must last"):
            self.ledger.renew("me", seconds)
        self.clock.advance(60)
        assert self.figures() == (0, 0)

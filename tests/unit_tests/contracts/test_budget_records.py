"""Budgets, scopes, periods and balances: what they refuse and what they compute."""

import pytest
from pydantic import ValidationError

from langchain_runtime.contracts.budget import Balance, Budget, Hold, Period, Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost

# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [pytest.param("0", id="K2"), pytest.param("-10", id="K3"), pytest.param("-0.000000001", id="one nano")]
)
def test_a_limit_is_positive(limit):
    with pytest.raises(InvalidInputError, match="positive") as caught:
        Budget(Cost.usd(limit))
    assert "None" in caught.value.hint


@pytest.mark.parametrize("limit", [0.5, "0.5", 1])
def test_a_limit_is_money_and_the_hint_says_how_to_write_it(limit):
    with pytest.raises(InvalidInputError, match="must be a Cost") as caught:
        Budget(limit)
    assert f'Budget.usd("{limit}")' in caught.value.hint


def test_a_budget_in_dollars_is_short_to_write():
    budget = Budget.usd("0.50", scope="user:42")
    assert (budget.limit, budget.scope, budget.currency, budget.on_exceed) == (Cost("0.5"), "user:42", "USD", "cap")
    with pytest.raises(InvalidInputError, match="float"):
        Budget.usd(0.5)


def test_a_budget_takes_the_currency_of_its_limit():
    assert Budget(Cost("5", "EUR")).currency == "EUR"
    assert Budget(limit={"amount": "5", "currency": "EUR"}).currency == "EUR"
    assert Budget(limit={"amount": "5"}).currency == "USD"


def test_a_budget_and_its_limit_are_in_one_currency():
    with pytest.raises(InvalidInputError, match="limit is in EUR, the budget in USD"):
        Budget(Cost("5", "EUR"), currency="USD")


def test_a_budget_without_a_limit_tracks_in_a_currency_of_choice_Z8():
    assert (Budget().limit, Budget(currency="JPY").currency) == (None, "JPY")


def test_budgets_without_a_name_are_accounts_of_their_own():
    assert Budget.usd("1").scope != Budget.usd("1").scope


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_token_limit_is_positive(tokens):
    with pytest.raises(InvalidInputError, match=f"token limit must be positive, got {tokens}"):
        Budget(token_limit=tokens)


@pytest.mark.parametrize("scope", ["", "x" * 201, "two\nlines", "\0", "\ud800", 42])
def test_a_scope_is_a_short_printable_name(scope):
    with pytest.raises(InvalidInputError, match="not a valid scope"):
        Budget.usd("1", scope=scope)
    with pytest.raises(InvalidInputError, match="not a valid scope"):
        Hold(scopes=(scope,), nano=1, holder="me")


def test_a_scope_may_be_long_and_in_any_script():
    assert Budget.usd("1", scope="x" * 200).scope == "x" * 200
    assert Budget.usd("1", scope="Abteilung: Zürich 日本").scope


@pytest.mark.parametrize(
    "fields",
    [
        {"wait_timeout": -1},
        {"wait_timeout": float("nan")},
        {"min_output_tokens": 0},
        {"on_exceed": "ignore"},
        {"limmit": 1},
    ],
    ids=str,
)
def test_a_budget_with_a_senseless_field_is_refused(fields):
    with pytest.raises(ValidationError):
        Budget.usd("1", **fields)


def test_a_ledger_keeps_the_part_of_a_budget_that_it_enforces():
    day = Period(kind="day", timezone="Europe/Vienna")
    budget = Budget(Cost("2", "EUR"), scope="s", token_limit=9, period=day, on_exceed="wait")
    assert Scope.of(budget) == Scope(name="s", currency="EUR", limit_nano=2 * 10**9, token_limit=9, period=day)
    assert Scope.of(Budget(scope="s")).limit_nano is None


# --- periods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_a_calendar_period_has_a_time_zone_and_no_length(kind):
    assert Period(kind=kind).timezone == "UTC"
    with pytest.raises(InvalidInputError, match="must not have"):
        Period(kind=kind, seconds=60)


def test_a_rolling_period_has_a_length():
    assert Period(kind="rolling", seconds=60).seconds == 60
    with pytest.raises(InvalidInputError, match="needs seconds"):
        Period(kind="rolling")
    with pytest.raises(ValidationError):
        Period(kind="rolling", seconds=0)


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "a\0b", "America"])
def test_a_time_zone_is_one_that_exists(timezone):
    with pytest.raises(InvalidInputError, match="unknown time zone") as caught:
        Period(kind="day", timezone=timezone)
    assert "Europe/Vienna" in caught.value.hint


# --- holds and balances -----------------------------------------------------------------------------------------------


def test_a_hold_charges_each_scope_once_and_in_one_order():
    assert Hold(scopes=("b", "a", "b"), nano=1, holder="me").scopes == ("a", "b")


def test_shadows_are_sorted_and_among_the_scopes():
    assert Hold(scopes=("c", "b", "a"), shadows=("c", "a", "c"), nano=1, holder="me").shadows == ("a", "c")
    with pytest.raises(InvalidInputError, match=r"'x', 'y' cannot be a shadow"):
        Hold(scopes=("a",), shadows=("y", "a", "x"), nano=1, holder="me")
    with pytest.raises(InvalidInputError, match="not a valid scope"):
        Hold(scopes=("a",), shadows=("",), nano=1, holder="me")


@pytest.mark.parametrize("fields", [{"nano": -1}, {"tokens": -1}, {"lease_seconds": 0}], ids=str)
def test_a_hold_is_not_negative_and_its_lease_not_over(fields):
    with pytest.raises(ValidationError):
        Hold(**{"scopes": ("s",), "nano": 1, "holder": "me", **fields})


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_lease_is_positive_and_ends(seconds):
    with pytest.raises(ValidationError):
        Hold(scopes=("s",), nano=1, holder="me", lease_seconds=seconds)


@pytest.mark.parametrize("currency", ["usd", "XYZ", "", "US", None, 840])
def test_a_currency_is_one_that_exists(currency):
    for make in (
        lambda: Cost("1", currency),
        lambda: Budget(currency=currency),
        lambda: Scope(name="s", currency=currency),
        lambda: Hold(scopes=("s",), nano=1, holder="me", currency=currency),
    ):
        with pytest.raises(InvalidInputError, match="unknown currency") as caught:
            make()
        assert "ISO 4217" in caught.value.hint


def test_a_settlement_is_not_negative():
    with pytest.raises(ValidationError):
        Settlement(reservation_id="r", nano=-1)


def test_a_balance_gives_its_amounts_as_money():
    scope = Scope(name="s", currency="EUR", limit_nano=10)
    balance = Balance(scope=scope, spent_nano=5, held_nano=3, forfeited_nano=2)
    amounts = (balance.limit, balance.spent, balance.held, balance.forfeited, balance.remaining)
    assert amounts == tuple(Cost.from_nano(nano, "EUR") for nano in (10, 5, 3, 2, 2))


def test_an_overdrawn_balance_has_nothing_left_and_not_less():
    assert Balance(scope=Scope(name="s", limit_nano=10), spent_nano=30).remaining == Cost("0")


def test_a_balance_without_a_limit_has_no_remainder():
    balance = Balance(scope=Scope(name="s"), spent_nano=30)
    assert (balance.limit, balance.remaining) == (None, None)

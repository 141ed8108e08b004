"""Amounts are exact whatever happens around them."""

import copy
import decimal
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.errors import CurrencyMismatchError, InvalidInputError
from langchain_runtime.contracts.money import CURRENCIES, MAX_NANO, Cost, format_amount

NANOS = st.integers(-MAX_NANO, MAX_NANO)
HALVES = st.integers(-MAX_NANO // 2, MAX_NANO // 2)


def test_sums_that_floats_get_wrong_are_exact_K12():
    assert Cost.usd("0.1") + Cost.usd("0.2") == Cost.usd("0.3")
    assert Cost.usd("0.3") - Cost.usd("0.1") == Cost.usd("0.2")


@pytest.mark.parametrize("amount", ["0.5", Decimal("0.5"), Decimal("0.50000000000000000000000000000000000")])
def test_an_amount_is_written_as_a_string_or_a_decimal(amount):
    assert Cost(amount).nano == 500_000_000


def test_whole_amounts_may_be_integers():
    assert (Cost(2).nano, Cost(2).currency) == (2_000_000_000, "USD")


@pytest.mark.parametrize(
    ("amount", "complaint"),
    [
        pytest.param(0.5, r"must not be a float, got 0\.5", id="float"),
        pytest.param(float("nan"), "must not be a float", id="float nan K13"),
        pytest.param(True, "got bool", id="bool"),
        pytest.param(None, "got NoneType", id="none"),
        pytest.param("a lot", "not a decimal number", id="word"),
        pytest.param("", "not a decimal number", id="empty"),
        pytest.param("NaN", "must be finite", id="nan K13"),
        pytest.param(Decimal("sNaN"), "must be finite", id="signalling nan"),
        pytest.param("-Infinity", "must be finite", id="infinite K13"),
        pytest.param("0.0000000001", "9 decimal places", id="too fine"),
        pytest.param("1.0000000000000000000000000000000001", "9 decimal places", id="finer than any context"),
        pytest.param("1e-999999", "9 decimal places", id="tiny"),
        pytest.param("4611686018.427387905", "larger than a ledger", id="one nano too many"),
        pytest.param("1e999999", "larger than a ledger", id="huge"),
        pytest.param("-1e999999", "larger than a ledger", id="huge debt"),
    ],
)
def test_what_is_no_exact_amount_is_refused(amount, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        Cost(amount)


def test_a_float_is_refused_with_the_way_to_write_it():
    with pytest.raises(InvalidInputError) as caught:
        Cost(0.1)
    assert '"0.1"' in caught.value.hint


@pytest.mark.parametrize("currency", ["usd", "US", "BTC", "", None])
def test_a_currency_is_an_iso_code(currency):
    with pytest.raises(InvalidInputError, match="unknown currency"):
        Cost("1", currency)


def test_every_currency_is_three_capital_letters():
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES)
    assert {"USD", "EUR", "JPY", "CHF"} <= CURRENCIES


@given(nano=NANOS)
def test_nano_units_come_back_as_they_went_in(nano):
    cost = Cost.from_nano(nano, "EUR")
    assert (cost.nano, cost.currency) == (nano, "EUR")
    assert Cost.model_validate_json(cost.model_dump_json()) == cost
    assert Cost(str(cost).removesuffix(" EUR"), "EUR") == cost


@given(left=HALVES, right=HALVES)
def test_arithmetic_and_order_are_those_of_nano_units(left, right):
    one, other = Cost.from_nano(left), Cost.from_nano(right)
    assert (one + other).nano == left + right
    assert (one - other).nano == left - right
    assert (one < other, one <= other, one > other, one >= other, one == other) == (
        left < right,
        left <= right,
        left > right,
        left >= right,
        left == right,
    )


@given(nano=NANOS)
def test_the_callers_decimal_context_changes_nothing(nano):
    with decimal.localcontext(decimal.Context(prec=3, traps=[])):
        cost = Cost.from_nano(nano)
        assert cost.nano == nano
        assert Cost(format_amount(cost.amount)) == cost
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded])):
        assert Cost.from_nano(nano).nano == nano


def test_equal_amounts_are_equal_however_they_are_written():
    assert Cost("0.50") == Cost("0.5") == Cost.from_nano(500_000_000)
    assert len({Cost("0.50"), Cost("0.5"), Cost("0.5", "EUR")}) == 2
    assert Cost("0.5") != "0.5"


@pytest.mark.parametrize("combine", ["__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_two_currencies_do_not_meet_without_a_rate(combine):
    with pytest.raises(CurrencyMismatchError) as caught:
        getattr(Cost("1", "EUR"), combine)(Cost("1", "USD"))
    assert (caught.value.expected, caught.value.actual) == ("EUR", "USD")
    assert Cost("1", "EUR") != Cost("1", "USD")


@pytest.mark.parametrize("combine", ["__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_a_bare_number_is_no_money(combine):
    with pytest.raises(TypeError, match=r"Cost\('5', 'EUR'\)"):
        getattr(Cost("1", "EUR"), combine)(5)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.5", "0.50 USD"),
        ("12", "12.00 USD"),
        ("0.000123", "0.000123 USD"),
        ("-3.1", "-3.10 USD"),
        ("1e3", "1000.00 USD"),
        ("0E-9", "0.00 USD"),
        ("1.100000000", "1.10 USD"),
    ],
)
def test_an_amount_is_shown_without_exponent_and_with_cents(amount, text):
    assert str(Cost(amount)) == text


def test_an_amount_is_a_plain_string_in_json_and_as_plain_data():
    assert Cost.from_nano(5).model_dump_json() == '{"amount":"0.000000005","currency":"USD"}'
    assert Cost(**Cost("2", "EUR").model_dump()) == Cost("2", "EUR")


def test_an_amount_cannot_be_changed_and_can_be_copied():
    cost = Cost("1.5", "EUR")
    with pytest.raises(ValueError, match="frozen"):
        cost.amount = Decimal(2)
    assert copy.deepcopy(cost) == pickle.loads(pickle.dumps(cost)) == cost


def test_a_sum_that_no_ledger_can_hold_is_refused():
    with pytest.raises(InvalidInputError, match="larger"):
        Cost.from_nano(MAX_NANO) + Cost.from_nano(1)

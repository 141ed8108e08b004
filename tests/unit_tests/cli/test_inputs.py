from decimal import Decimal

import pytest

from langchain_runtime.cli.inputs import parse_budget, parse_inputs
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost


def test_inputs_are_split_at_their_first_equals_sign():
    assert parse_inputs(["a=1", "formula=x=y", "empty=", " spaced = kept "]) == {
        "a": "1",
        "formula": "x=y",
        "empty": "",
        "spaced": " kept ",
    }


@pytest.mark.parametrize("pairs", [["topic"], ["=x"], [" =x"], ["a=1", "a=2"]])
def test_inputs_without_a_key_or_with_one_twice_are_refused(pairs):
    with pytest.raises(InvalidInputError) as caught:
        parse_inputs(pairs)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("0.50", Cost("0.50")),
        (" 1 ", Cost("1")),
        ("0.50 EUR", Cost("0.50", "EUR")),
        ("eur 0.5", Cost("0.50", "EUR")),
        ("1e-3", Cost(Decimal("0.001"))),
    ],
)
def test_a_budget_is_an_amount_with_an_optional_currency(text, cost):
    assert parse_budget(text) == cost


@pytest.mark.parametrize(
    "text", ["", "free", "0", "-1", "0.00 EUR", "nan", "inf", "1 2", "1 XYZ", "1 EUR USD", "1e-12", "$5"]
)
def test_anything_else_is_refused_with_what_to_write(text):
    with pytest.raises(InvalidInputError):
        parse_budget(text)

import pytest
from pydantic import ValidationError

from langchain_runtime.contracts.errors import CurrencyMismatchError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage


def test_every_count_is_added_up():
    names = list(TokenUsage.model_fields)
    one = TokenUsage(**{name: 10**index for index, name in enumerate(names)})
    two = TokenUsage(**{name: 2 * 10**index for index, name in enumerate(names)})
    assert one + two == TokenUsage(**{name: 3 * 10**index for index, name in enumerate(names)})


def test_the_total_counts_parts_once():
    usage = TokenUsage(input=10, output=5, cache_read=4, cache_write=3, cache_write_1h=2, reasoning=5, audio_output=1)
    assert usage.total == 15


@pytest.mark.parametrize("name", TokenUsage.model_fields)
@pytest.mark.parametrize("count", [-1, 0.5, "many", None], ids=repr)
def test_a_count_is_a_whole_number_and_not_negative(name, count):
    with pytest.raises(ValidationError):
        TokenUsage(**{name: count})


def test_a_count_that_nobody_knows_is_refused():
    with pytest.raises(ValidationError):
        TokenUsage(inptu=1)


def test_costs_are_added_up_with_their_tokens():
    one = Usage(tokens=TokenUsage(input=1), cost=Cost.usd("0.1"))
    two = Usage(tokens=TokenUsage(output=2), cost=Cost.usd("0.2"))
    assert one + two == Usage(tokens=TokenUsage(input=1, output=2), cost=Cost.usd("0.3"))


@pytest.mark.parametrize(
    ("left", "right", "total"), [(None, "1", "1"), ("1", None, "1"), (None, None, None)], ids=["left", "right", "both"]
)
def test_an_unknown_cost_is_not_free_and_not_a_price(left, right, total):
    def used(cost):
        return Usage(tokens=TokenUsage(input=1), cost=None if cost is None else Cost.usd(cost))

    added = used(left) + used(right)
    assert added.tokens.input == 2
    assert added.cost == (None if total is None else Cost.usd(total))


def test_usages_in_two_currencies_do_not_add_up():
    with pytest.raises(CurrencyMismatchError):
        Usage(cost=Cost("1", "USD")) + Usage(cost=Cost("1", "EUR"))

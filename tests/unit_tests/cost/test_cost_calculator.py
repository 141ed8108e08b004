"""Rows H of the reference. Its mean of both rates is a defect (H12): half of the tokens each way gives its figures."""

import pytest

from langchain_runtime.contracts.errors import CurrencyMismatchError, UnknownModelError, UnpricedModelError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.protocols import CostCalculator as CostCalculatorProtocol
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import CostCalculator, ModelCatalog

CARD = {"input": "1", "output": "10"}
FULL = {
    **CARD,
    "cache_read": "0.1",
    "cache_write": "1.25",
    "cache_write_1h": "2",
    "audio_input": "5",
    "audio_output": "50",
}
TIERED = {**CARD, "tiers": [{"above": 100, "input": "2", "output": "15"}, {"above": 200, "input": "3", "output": "20"}]}
CALCULATOR = CostCalculator(ModelCatalog({"models": {"card": CARD, "full": FULL, "tiered": TIERED, "unpriced": {}}}))
MILLION = 1_000_000


def nano(model, *, tier=None, **usage):
    return CALCULATOR.cost(TokenUsage(**usage), model, service_tier=tier).nano


def test_it_is_a_cost_calculator():
    assert isinstance(CostCalculator(), CostCalculatorProtocol)


@pytest.mark.parametrize(
    ("model", "tokens", "amount"),
    [
        pytest.param("claude-3-haiku-20240307", 0, "0", id="H1"),
        pytest.param("claude-3-haiku-20240307", MILLION, "0.75", id="H2-H11"),
        pytest.param("claude-sonnet-4-5-20250929", 200_000, "1.80", id="H3"),
        pytest.param("claude-opus-4-5-20251101", MILLION, "15", id="H4-fixed"),
        pytest.param("claude-3-haiku-20240307", 100_000, "0.075", id="H5"),
        pytest.param("claude-3-5-sonnet-20240620", MILLION, "9", id="H7"),
    ],
)
def test_half_read_and_half_written_costs_the_mean_of_both_rates(model, tokens, amount):
    half = TokenUsage(input=tokens // 2, output=tokens // 2)
    assert CostCalculator().cost(half, f"anthropic:{model}") == Cost.usd(amount)


def test_an_unknown_model_is_refused_H6():
    with pytest.raises(UnknownModelError):
        nano("acme/nothing", input=1)


def test_roles_are_priced_as_their_models_H8():
    catalog = ModelCatalog()
    usage = TokenUsage(input=1000, output=1000)
    for role in ("flagship", "balanced", "fast"):
        assert CostCalculator(catalog).cost(usage, role) == CostCalculator(catalog).cost(
            usage, catalog.by_role(role).id
        )


def test_a_model_without_a_price_is_refused_and_not_free():
    with pytest.raises(UnpricedModelError) as caught:
        nano("unpriced", input=1)
    assert (caught.value.model, caught.value.unit) == ("unpriced", None)
    with pytest.raises(UnpricedModelError):
        CALCULATOR.worst_case(1, 1, "unpriced")


# --- units ------------------------------------------------------------------------------------------------------------


def test_every_token_is_charged_once_at_its_own_rate():
    usage = {"input": 100, "cache_read": 10, "cache_write": 30, "cache_write_1h": 20, "audio_input": 5}
    plain = 100 - 10 - 30 - 5
    per_million = plain * 1_000 + 10 * 100 + 10 * 1_250 + 20 * 2_000 + 5 * 5_000
    assert nano("full", **usage) == per_million


def test_audio_written_is_charged_instead_of_text():
    assert nano("full", output=10, audio_output=4) == 6 * 10_000 + 4 * 50_000


def test_reasoning_is_part_of_the_output():
    assert nano("full", output=10, reasoning=9) == nano("full", output=10)


def test_cached_tokens_without_a_rate_are_charged_as_input():
    assert nano("card", input=10, cache_read=4, cache_write=6, cache_write_1h=2) == nano("card", input=10)


def test_a_longer_lifetime_without_a_rate_is_charged_as_a_cache_write():
    catalog = ModelCatalog({"models": {"m": {**CARD, "cache_write": "1.25"}}})
    assert CostCalculator(catalog).cost(TokenUsage(input=4, cache_write=4, cache_write_1h=4), "m").nano == 5_000


@pytest.mark.parametrize("unit", ["audio_input", "audio_output"])
def test_audio_without_a_rate_is_refused_by_its_unit(unit):
    with pytest.raises(UnpricedModelError, match="3 audio") as caught:
        nano("card", input=10, output=10, **{unit: 3})
    assert (caught.value.model, caught.value.unit) == ("card", unit)


def test_parts_that_exceed_the_whole_are_charged_and_nothing_is_given_back():
    assert nano("full", input=5, cache_read=10) == 10 * 100


def test_a_call_is_rounded_up_once():
    catalog = ModelCatalog({"models": {"m": {"input": "0.0001", "output": "0.0001"}}})
    cost = CostCalculator(catalog).cost(TokenUsage(input=1, output=1), "m")
    assert cost.nano == 1  # 0.2 nano units; each part rounded up by itself would make 2
    assert CostCalculator(catalog).cost(TokenUsage(), "m").nano == 0
    assert CostCalculator(catalog).worst_case(1, 1, "m").nano == 1


def test_a_call_may_have_a_fee_of_its_own():
    calculator = CostCalculator()
    assert calculator.cost(TokenUsage(), "perplexity:sonar").nano == 12_000_000
    assert calculator.worst_case(0, 0, "perplexity:sonar").nano == 12_000_000


# --- tiers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "rate"), [(0, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_the_highest_threshold_that_the_input_exceeds_prices_the_whole_call(tokens, rate):
    assert nano("tiered", input=tokens) == tokens * rate * 1_000


@pytest.mark.parametrize("tier", [None, "default", "standard", "auto", "standard_only", "on_demand"])
def test_the_standard_tier_by_any_name_keeps_the_price_of_long_inputs(tier):
    usage = TokenUsage(input=400_000, output=1_000)
    assert CostCalculator().cost(usage, "openai:gpt-5.4", service_tier=tier) == Cost.usd("2.0225")


def test_service_tiers_have_prices_of_their_own():
    calculator, usage = CostCalculator(), TokenUsage(input=1_000, output=1_000)
    standard, flex, batch, priority = (
        calculator.cost(usage, "openai:gpt-5.4", service_tier=tier).nano for tier in (None, "flex", "batch", "priority")
    )
    assert (2 * flex, 2 * batch, priority) == (standard, standard, 2 * standard)


def test_a_service_tier_has_long_inputs_of_its_own():
    usage = TokenUsage(input=400_000, output=1_000)
    assert CostCalculator().cost(usage, "openai:gpt-5.4", service_tier="flex") == Cost.usd("1.01125")


@pytest.mark.parametrize("tier", ["flex", "batch"])
def test_a_discount_that_nobody_knows_is_not_given(tier):
    assert nano("card", input=1_000, tier=tier) == nano("card", input=1_000)


def test_a_tier_that_may_be_dearer_and_has_no_price_is_refused():
    calculator = CostCalculator()
    with pytest.raises(UnpricedModelError, match="'priority'") as caught:
        calculator.worst_case(1, 1, "anthropic:claude-sonnet-4-5", service_tier="priority")
    assert caught.value.unit == "service_tier:priority"
    with pytest.raises(UnpricedModelError):
        calculator.cost(TokenUsage(input=1), "anthropic:claude-sonnet-4-5", service_tier="priority")


# --- worst case -------------------------------------------------------------------------------------------------------


def test_the_worst_case_writes_everything_to_the_longest_cache():
    assert CALCULATOR.worst_case(10, 3, "full").nano == 10 * 2_000 + 3 * 50_000


def test_the_worst_case_reads_everything_from_the_cache_where_that_is_dearer():
    calculator = CostCalculator(ModelCatalog({"models": {"m": {**CARD, "cache_read": "1.5"}}}))
    assert calculator.worst_case(10, 0, "m").nano == 10 * 1_500


def test_the_worst_case_without_cache_prices_is_plain_input():
    assert CALCULATOR.worst_case(10, 3, "card").nano == 10 * 1_000 + 3 * 10_000


@pytest.mark.parametrize(("tokens", "rates"), [(100, (1, 10)), (101, (2, 15)), (201, (3, 20))])
def test_the_worst_case_takes_the_dearest_tier_within_reach(tokens, rates):
    assert CALCULATOR.worst_case(tokens, 7, "tiered").nano == (tokens * rates[0] + 7 * rates[1]) * 1_000


def test_the_worst_case_of_a_discount_is_the_standard_price_since_providers_fall_back():
    calculator = CostCalculator()
    standard = calculator.worst_case(1_000, 1_000, "openai:gpt-5.4")
    assert calculator.worst_case(1_000, 1_000, "openai:gpt-5.4", service_tier="flex") == standard
    assert calculator.worst_case(1_000, 1_000, "openai:gpt-5.4", service_tier="priority") > standard


def test_costs_in_two_currencies_do_not_add_up_Z9():
    catalog = ModelCatalog({"models": {"yen": {**CARD, "currency": "JPY"}, "dollar": CARD}})
    yen, dollar = (CostCalculator(catalog).cost(TokenUsage(input=MILLION), name) for name in ("yen", "dollar"))
    assert (str(yen), str(dollar)) == ("1.00 JPY", "1.00 USD")
    with pytest.raises(CurrencyMismatchError):
        _ = yen + dollar

"""Prices are exact, and whatever a call within its bounds turns out to be, its hold was large enough."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.errors import UnpricedModelError
from langchain_runtime.contracts.pricing import ModelInfo, PriceTier, RateCard
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import CostCalculator, default_catalog

RATES = st.integers(0, 10**11)
MAYBE = st.none() | RATES
COUNTS = st.integers(0, 2_000_000)
SERVICE_TIERS = ("flex", "priority")

rate_cards = st.builds(
    RateCard,
    input=RATES,
    output=RATES,
    cache_read=MAYBE,
    cache_write=MAYBE,
    cache_write_1h=MAYBE,
    audio_output=MAYBE,
    per_request=st.integers(0, 10**9),
)


tier_cards = st.dictionaries(st.sampled_from(SERVICE_TIERS), rate_cards)


@st.composite
def models(draw):
    thresholds = sorted(draw(st.sets(st.integers(0, 2_000_000), max_size=3)))
    tiers = tuple(
        PriceTier(above_input_tokens=start, rates=draw(rate_cards), service_tiers=draw(tier_cards))
        for start in thresholds
    )
    return ModelInfo(id="m", rates=draw(rate_cards), tiers=tiers, service_tiers=draw(tier_cards))


@st.composite
def usages(draw, most_input, most_output):
    read = draw(st.integers(0, most_input))
    written = draw(st.integers(0, most_output))
    cached = draw(st.integers(0, read))
    stored = draw(st.integers(0, read - cached))
    return TokenUsage(
        input=read,
        output=written,
        cache_read=cached,
        cache_write=stored,
        cache_write_1h=draw(st.integers(0, stored)),
        audio_output=draw(st.integers(0, written)),
    )


class OneModel:
    def __init__(self, info):
        self.info = info

    def get(self, _model):
        return self.info


@given(info=models(), tier=st.sampled_from([None, "default", *SERVICE_TIERS]), data=st.data())
def test_the_worst_case_covers_every_usage_within_its_bounds(info, tier, data):
    most_input, most_output = data.draw(COUNTS), data.draw(COUNTS)
    calculator = CostCalculator(OneModel(info))
    usage = data.draw(usages(most_input, most_output))
    try:
        worst = calculator.worst_case(most_input, most_output, "m", service_tier=tier)
    except UnpricedModelError:
        assert tier == "priority"
        assert tier not in info.service_tiers
        return
    for served in {tier, None}:  # a provider may fall back to the standard tier
        try:
            cost = calculator.cost(usage, "m", service_tier=served)
        except UnpricedModelError as refused:
            if refused.unit != "audio_output":  # for which the full hold is charged
                raise
        else:
            assert cost <= worst


LISTED = st.sampled_from(
    [
        "anthropic:claude-sonnet-4-5",
        "bedrock:global.anthropic.claude-sonnet-4-20250514-v1:0",
        "deepseek:deepseek-v4-flash",
        "google_genai:gemini-2.5-pro",
        "openai:gpt-5-mini",
        "openai:gpt-5.4",
        "openai:gpt-realtime",
        "perplexity:sonar",
    ]
)


def without_unpriced_audio(usage, info):
    return usage if info.rates.audio_output is not None else usage.model_copy(update={"audio_output": 0})


@given(model=LISTED, data=st.data())
def test_the_worst_case_covers_every_usage_at_real_prices(model, data):
    most_input, most_output = data.draw(COUNTS), data.draw(COUNTS)
    usage = without_unpriced_audio(data.draw(usages(most_input, most_output)), default_catalog().get(model))
    calculator = CostCalculator()
    assert calculator.cost(usage, model) <= calculator.worst_case(most_input, most_output, model)


@given(model=LISTED, part=st.sampled_from(["input", "output"]), more=COUNTS, data=st.data())
def test_more_tokens_never_cost_less_at_real_prices(model, part, more, data):
    usage = without_unpriced_audio(
        data.draw(usages(data.draw(COUNTS), data.draw(COUNTS))), default_catalog().get(model)
    )
    larger = usage.model_copy(update={part: getattr(usage, part) + more})
    assert CostCalculator().cost(usage, model) <= CostCalculator().cost(larger, model)


@given(info=models(), data=st.data())
def test_a_price_is_the_exact_sum_rounded_up_once(info, data):
    usage = data.draw(usages(data.draw(COUNTS), data.draw(COUNTS))).model_copy(update={"audio_output": 0})
    card = [info.rates, *(tier.rates for tier in info.tiers if usage.input > tier.above_input_tokens)][-1]
    rate = {name: value if value is not None else card.input for name, value in card}
    an_hour = card.cache_write_1h if card.cache_write_1h is not None else rate["cache_write"]
    exact = (
        Fraction(usage.input - usage.cache_read - usage.cache_write, 10**6) * card.input
        + Fraction(usage.cache_read, 10**6) * rate["cache_read"]
        + Fraction(usage.cache_write - usage.cache_write_1h, 10**6) * rate["cache_write"]
        + Fraction(usage.cache_write_1h, 10**6) * an_hour
        + Fraction(usage.output, 10**6) * card.output
    )
    assert CostCalculator(OneModel(info)).cost(usage, "m").nano == ceil(exact + card.per_request)


@given(info=models(), data=st.data())
def test_a_larger_bound_never_costs_less(info, data):
    small_input, small_output, more = data.draw(COUNTS), data.draw(COUNTS), data.draw(COUNTS)
    calculator = CostCalculator(OneModel(info))
    small = calculator.worst_case(small_input, small_output, "m")
    assert small <= calculator.worst_case(small_input + more, small_output, "m")
    assert small <= calculator.worst_case(small_input, small_output + more, "m")

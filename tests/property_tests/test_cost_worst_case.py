"""Whatever a call within its bounds turns out to be, its hold was large enough."""

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

cards = st.builds(
    RateCard,
    input=RATES,
    output=RATES,
    cache_write=MAYBE,
    cache_write_1h=MAYBE,
    audio_output=MAYBE,
    per_request=st.integers(0, 10**9),
)


def with_cheap_reads(card):
    """Nobody sells a cached token dearer than a fresh one."""
    return card.map(lambda made: made.model_copy(update={"cache_read": made.input // 2}))


rate_cards = with_cheap_reads(cards)
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


@given(
    model=st.sampled_from(
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
    ),
    data=st.data(),
)
def test_the_worst_case_covers_every_usage_at_real_prices(model, data):
    most_input, most_output = data.draw(COUNTS), data.draw(COUNTS)
    calculator = CostCalculator(default_catalog())
    usage = data.draw(usages(most_input, most_output))
    if calculator_has_no_audio(model):
        usage = usage.model_copy(update={"audio_output": 0})
    assert calculator.cost(usage, model) <= calculator.worst_case(most_input, most_output, model)


def calculator_has_no_audio(model):
    return default_catalog().get(model).rates.audio_output is None


@given(info=models(), data=st.data())
def test_a_larger_bound_never_costs_less(info, data):
    small_input, small_output, more = data.draw(COUNTS), data.draw(COUNTS), data.draw(COUNTS)
    calculator = CostCalculator(OneModel(info))
    small = calculator.worst_case(small_input, small_output, "m")
    assert small <= calculator.worst_case(small_input + more, small_output, "m")
    assert small <= calculator.worst_case(small_input, small_output + more, "m")

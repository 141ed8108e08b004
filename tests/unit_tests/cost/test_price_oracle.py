"""Our prices beside an independent implementation's, on usages of real calls.

The recorded prices are older than our list. Where a price has changed since, ours must equal what that implementation
computes from today's list.
"""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import genai_prices

from langchain_runtime.contracts.errors import UnpricedModelError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import CostCalculator

UNITS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "audio_input": "input_audio_tokens",
    "audio_output": "output_audio_tokens",
}
EQUAL = "equal"
REPRICED = "equal by today's list"
IMAGES = "images written: at least as dear, since usage does not tell them apart"
UNPRICED = "a unit without a price: fails closed"
NOT_EQUAL = {
    "cerebras:qwen-3-coder-480b": UNPRICED,  # the list has no price for it
    "google:gemini-2.5-flash-image": IMAGES,
    "google:gemini-3-pro-image-preview": IMAGES,
    "openai:gpt-4o-audio-preview-2024-12-17": UNPRICED,  # the list has no price for its audio
    "openai:text-embedding-3-small": UNPRICED,  # writes nothing, so nothing has a price for it
}
SEARCHES = ("web_searches",)
"""Units of hosted tools: a call with one is refused under a budget (adapters.providers.hidden_input)."""


def rows(data):
    with gzip.open(data / "prices" / "usage_prices.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def nano(amount):
    return Fraction(Decimal(amount)) * 10**9


def today(row, provider):
    """What the other implementation computes from today's list: the dearest of the day, as ours."""
    usage = genai_prices.Usage(**{unit: count for unit, count in row["usage"].items() if unit not in SEARCHES})
    day = datetime.now(tz=UTC)
    return max(
        nano(
            genai_prices.calc_price(
                usage, row["model"], provider_id=provider, genai_request_timestamp=day.replace(hour=hour, minute=59)
            ).total_price
        )
        for hour in range(24)
    )


def explanation(row, calculator):
    """Why our price is what it is; None when nothing explains it."""
    provider = row["provider"]
    usage = TokenUsage(**{ours: int(row["usage"].get(theirs) or 0) for ours, theirs in UNITS.items()})
    try:
        ours = calculator.cost(usage, f"{provider}:{row['model']}").nano
    except UnpricedModelError:
        return UNPRICED
    if 0 <= ours - nano(row["input_price"]) - nano(row["output_price"]) < 1:
        return EQUAL
    excess = ours - today(row, provider)
    if 0 <= excess < 1:
        return REPRICED
    return IMAGES if excess > 0 and row["usage"].get("output_image_tokens") else None


def test_every_price_equals_the_oracles_or_has_an_explanation(shared_data):
    calculator, tally, other = CostCalculator(), Counter(), {}
    for row in rows(shared_data):
        reason = explanation(row, calculator)
        assert reason is not None, row
        tally[reason] += 1
        if reason not in {EQUAL, REPRICED}:
            other[f"{row['provider']}:{row['model']}"] = reason
    print("\n".join(f"{count:4} {reason}" for reason, count in tally.most_common()))
    assert tally.total() == 649
    assert other == NOT_EQUAL

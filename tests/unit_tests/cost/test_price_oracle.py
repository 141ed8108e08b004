"""Our prices beside an independent implementation's, on usages of real calls.

The recorded prices are older than our list. Where they differ from ours, the cause is worked out from the row and from
what the other implementation computes with today's list; a row without a cause is a defect.
"""

import functools
import gzip
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import genai_prices
import pytest
from anthropic.types.beta import BetaMessage
from langchain_anthropic import ChatAnthropic

from langchain_runtime.adapters.usage import usage_of_result
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
NEVER_FREE = {
    "input": "input_mtok",
    "output": "output_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
}
"""The list's name of each rate without which nothing can be held; other units are charged as input or output."""

SEARCHES = ("web_searches",)
"""Units of hosted tools: a call with one is refused under a budget (adapters.providers.hidden_input)."""

EQUAL = "equal"
REPRICED = "the list has changed since: equal by today's, which no longer gives the recorded price"
DEAREST_HOUR = "the price depends on the hour: equal to the dearest of today's"
IMAGES = "images written: every output token at the image rate, since usage does not tell them apart"
NO_PRICE = "the list has no price: fails closed for want of "

CAUSES = {
    IMAGES: 3,
    f"{NO_PRICE}input, output": 2,  # cerebras:qwen-3-coder-480b
    f"{NO_PRICE}output": 1,  # openai:text-embedding-3-small, which writes nothing
    f"{NO_PRICE}audio_input": 1,  # openai:gpt-4o-audio-preview-2024-12-17
}
"""What does not depend on the day; the other rows are equal or repriced."""

ROWS = 649
WITH_PASSES = {
    "anthropic_messages_test_compaction_0_1d3ae1": (33_445, 33_445),
    "anthropic_messages_test_compaction_1_ff6527": (0, 83_694),
    "anthropic_messages_test_anthropic_advisor_tool_0_a41570": (2_511, 5_051),
    "anthropic_messages_test_anthropic_advisor_tool_redacted_0_fbcad7": (2_648, 5_311),
}
"""Recorded replies with server-side passes: tokens by the top-level figures, and billed."""


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def nano(amount):
    return Fraction(Decimal(amount)) * 10**9


def listed(usage, model, provider, hour=12):
    """What the other implementation makes of today's list."""
    moment = datetime.now(tz=UTC).replace(hour=hour, minute=59)
    priced = genai_prices.Usage(**{unit: count for unit, count in usage.items() if unit not in SEARCHES})
    return genai_prices.calc_price(priced, model, provider_id=provider, genai_request_timestamp=moment)


def by_hour(usage, row):
    """Nano-USD at each hour of today."""
    return {nano(listed(usage, row["model"], row["provider"], hour).total_price) for hour in range(24)}


def same(ours, theirs):
    """Ours is rounded up to a whole nano-USD, once."""
    return 0 <= ours - theirs < 1


def unlisted(row):
    """Rates that the call needs and today's list does not have."""
    rates = listed(row["usage"], row["model"], row["provider"]).model_price
    needed = ["input", "output", *(unit for unit in ("audio_input", "audio_output") if row["usage"].get(UNITS[unit]))]
    return [unit for unit in needed if getattr(rates, NEVER_FREE[unit]) is None]


def cause(row, calculator):
    """Why our price is what it is; None when nothing explains it."""
    usage = TokenUsage(**{ours: int(row["usage"].get(theirs) or 0) for ours, theirs in UNITS.items()})
    missing = unlisted(row)
    try:
        ours = calculator.cost(usage, f"{row['provider']}:{row['model']}").nano
    except UnpricedModelError:
        return NO_PRICE + ", ".join(missing) if missing else None
    if missing:
        return None  # should have failed closed
    recorded = nano(row["input_price"]) + nano(row["output_price"])
    if same(ours, recorded):
        return EQUAL
    today = by_hour(row["usage"], row)
    if same(ours, max(today)):
        return DEAREST_HOUR if recorded in today else REPRICED
    if not row["usage"].get("output_image_tokens"):
        return None
    all_images = {**row["usage"], "output_image_tokens": row["usage"]["output_tokens"]}
    return IMAGES if same(ours, max(by_hour(all_images, row))) else None


def test_every_price_equals_the_oracles_or_has_a_cause(shared_data):
    calculator, tally, unexplained = CostCalculator(), Counter(), []
    for row in lines(shared_data / "prices" / "usage_prices.jsonl.gz"):
        reason = cause(row, calculator)
        tally[reason] += 1
        if reason is None:
            unexplained.append(row)
    print("\n".join(f"{count:4} {reason}" for reason, count in tally.most_common()))
    assert unexplained == []
    assert tally.total() == ROWS
    follows_the_list = {EQUAL, REPRICED, DEAREST_HOUR}
    assert {reason: count for reason, count in tally.items() if reason not in follows_the_list} == CAUSES
    assert tally[EQUAL] > ROWS / 2, "most of the list has changed: the oracle says little any more"


@functools.cache
def recorded_replies(path):
    return {call["id"]: call for call in lines(path) if call["id"] in WITH_PASSES}


@pytest.mark.parametrize("name", WITH_PASSES)
def test_server_side_passes_of_a_recorded_reply_are_charged_as_billed(name, shared_data):
    call = recorded_replies(shared_data / "traffic" / "recordings.jsonl.gz")[name]
    client = ChatAnthropic(model=call["model"], api_key="none")
    result = client._format_output(BetaMessage.model_validate(call["response"]))
    reported = usage_of_result(result)
    on_top = result.generations[0].message.usage_metadata["total_tokens"]
    assert (on_top, reported.usage.total) == WITH_PASSES[name]

    calculator, default = CostCalculator(), f"anthropic:{call['model']}"
    ours = sum(calculator.cost(usage, model or default).nano for model, usage in reported.parts)
    passes = call["usage_raw"]["iterations"]
    billed = sum(
        nano(listed({unit: part[unit] for unit in ("input_tokens", "output_tokens")}, model, "anthropic").total_price)
        for part in passes
        for model in [part.get("model") or call["model"]]
    )
    assert 0 <= ours - billed < len(passes)
    assert all(not part["cache_read_input_tokens"] + part["cache_creation_input_tokens"] for part in passes)

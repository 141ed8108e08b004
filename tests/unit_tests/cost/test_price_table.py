"""The compiler of genai-prices' table, on entries of a shape that today's table may not have."""

from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal

import pytest
from genai_prices import types
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from langchain_runtime.cost.price_table import all_names, find_price

FUTURE = types.StartDateConstraint(start_date=date(2999, 1, 1))
NIGHT = types.TimeOfDateConstraint(start_time=time(0), end_time=time(6))


def price(**rates):
    return types.ModelPrice(**{name: Decimal(rate) for name, rate in rates.items()})


BASE = {"input_mtok": "1", "output_mtok": "10"}


@pytest.fixture
def listed() -> Iterator:
    """Makes a table of one model."""

    def make(prices, variants=None):
        model = types.ModelInfo(
            id="m", match=types.ClauseEquals(equals="m"), prices=prices, price_variants=variants or []
        )
        provider = types.Provider(id="acme", name="Acme", api_pattern="acme", models=[model])
        set_custom_snapshot(DataSnapshot(providers=[provider], from_auto_update=False))
        return find_price("m", "acme")

    yield make
    set_custom_snapshot(None)


def test_a_table_lists_its_models(listed):
    assert listed(price(**BASE)).id == "acme:m"
    assert list(all_names()) == ["acme:m"]
    assert find_price("n", "acme") is None
    assert find_price("m", "nobody") is None


def test_an_entry_that_does_not_match_its_own_id_is_found_by_it(listed):
    assert listed(price(**BASE)).id == "acme:m"
    get_snapshot().providers[0].models[0].match = types.ClauseEquals(equals="another name")
    assert find_price("m", "acme").id == "acme:m"


def test_a_price_that_has_not_begun_is_better_than_none(listed):
    info = listed([types.ConditionalPrice(FUTURE, prices=price(**BASE))])
    assert info.rates.input == 10**9
    assert info.dated is None


def test_the_dearest_hour_counts_for_each_rate_by_itself(listed):
    by_day = types.ConditionalPrice(prices=price(input_mtok="1", output_mtok="10"))
    by_night = types.ConditionalPrice(NIGHT, prices=price(input_mtok="2", output_mtok="5", cache_read_mtok="0.5"))
    rates = listed([by_day, by_night]).rates
    assert (rates.input, rates.output, rates.cache_read) == (2 * 10**9, 10 * 10**9, 5 * 10**8)


def test_a_later_price_replaces_the_hours_of_an_earlier_one(listed):
    night = types.ConditionalPrice(NIGHT, prices=price(input_mtok="9", output_mtok="90"))
    now = types.ConditionalPrice(prices=price(**BASE))
    assert listed([night, now]).rates.input == 10**9


def test_the_tables_own_entries_stay_as_they_are(listed):
    by_day, by_night = price(**BASE), price(input_mtok="2", output_mtok="20")
    listed([types.ConditionalPrice(prices=by_day), types.ConditionalPrice(NIGHT, prices=by_night)])
    assert by_day == price(**BASE)


def test_variants_by_service_tier_batch_and_speed_are_service_tiers(listed):
    variants = [
        types.PriceVariant({"service_tier": "flex"}, price(input_mtok="0.5")),
        types.PriceVariant({"processing": "batch"}, price(input_mtok="0.25")),
        types.PriceVariant({"speed": "fast"}, price(input_mtok="6")),
        types.PriceVariant({"route": "eu"}, price(input_mtok="7")),
        types.PriceVariant({"processing": "batch", "route": "eu"}, price(input_mtok="8")),
    ]
    tiers = listed(price(**BASE), variants).service_tiers
    assert {name: card.input / 10**9 for name, card in tiers.items()} == {"flex": 0.5, "batch": 0.25, "fast": 6}
    assert all(card.output == 10 * 10**9 for card in tiers.values())


def test_a_model_without_token_prices_has_no_rates_in_any_tier(listed):
    info = listed(price(audio_hours="1"), [types.PriceVariant({"service_tier": "flex"}, price(audio_hours="0.5"))])
    assert (info.rates, info.tiers, info.service_tiers) == (None, (), {})


def test_thresholds_of_rates_that_nobody_can_be_charged_make_no_tier(listed):
    tiered = types.TieredPrices(base=Decimal(1), tiers=[types.Tier(start=100, price=Decimal(2))])
    assert listed(types.ModelPrice(input_mtok=tiered)).tiers == ()


def test_a_rate_finer_than_a_nano_unit_is_rounded_up(listed):
    assert listed(price(input_mtok="0.0000000001", output_mtok="1")).rates.input == 1


@pytest.mark.parametrize("name", ["gemini-3.8-flash-cyber", "gemini-2.5-flash-image-video", "gemini-2.5-pro-realtime"])
def test_a_relative_of_another_kind_is_not_priced_as_the_model_it_is_named_after(name):
    assert find_price(name, "google") is None


def test_dates_and_stages_in_a_name_are_no_other_kind():
    assert find_price("gpt-5-mini-2025-08-07", "openai").id == "openai:gpt-5-mini"
    assert find_price("gemini-3.1-flash-lite-preview", "google") is not None

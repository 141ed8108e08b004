from datetime import UTC, date, datetime

import pytest

from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError
from langchain_runtime.cost import CostCalculator, ModelCatalog
from langchain_runtime.cost.price_overlay import load_overlay

ACME = {"input": "0.27", "output": "1.10"}


def test_no_overlay_changes_nothing():
    assert load_overlay(None).models == {}


def test_an_overlay_adds_models_I8(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(
        "models:\n"
        '  acme/m1: {input: "0.27", output: "1.10", cache_read: "0.07", from: 2026-01-01, max_output_tokens: 8192}\n'
    )
    info = ModelCatalog(path).get("acme/m1")
    assert (info.rates.input, info.rates.output, info.rates.cache_read) == (270_000_000, 1_100_000_000, 70_000_000)
    assert (info.dated, info.max_output_tokens, info.source) == (date(2026, 1, 1), 8192, str(path))


def test_an_overlay_wins_over_the_price_list():
    assert ModelCatalog({"models": {"openai:gpt-5-mini": ACME}}).get("openai:gpt-5-mini").rates.input == 270_000_000


def test_an_entry_by_its_bare_name_holds_for_every_provider():
    catalog = ModelCatalog({"models": {"gpt-5-mini": ACME}})
    assert catalog.get("openai:gpt-5-mini").rates == catalog.get("azure_openai:gpt-5-mini").rates
    assert catalog.get("openai:gpt-5-mini").rates.input == 270_000_000


def test_an_entry_by_the_lists_name_of_a_provider_holds_for_langchains_name_too():
    catalog = ModelCatalog({"models": {"google:gemini-2.5-flash": ACME}})
    assert catalog.get("google_genai:gemini-2.5-flash").rates.input == 270_000_000


def test_an_entry_by_langchains_name_of_a_provider_comes_first():
    both = {"google:gemini-2.5-flash": {"input": "1", "output": "1"}, "google_genai:gemini-2.5-flash": ACME}
    assert ModelCatalog({"models": both}).get("google_genai:gemini-2.5-flash").rates.input == 270_000_000


def test_an_entry_holds_from_its_first_day():
    def rate(first_day):
        entry = {**ACME, "from": first_day}
        return ModelCatalog({"models": {"openai:gpt-5-mini": entry}}).get("openai:gpt-5-mini").rates.input

    listed = ModelCatalog().get("openai:gpt-5-mini").rates.input
    assert (rate(date(2026, 1, 1)), rate(datetime.now(tz=UTC).date())) == (270_000_000, 270_000_000)
    assert rate(date(2999, 1, 1)) == listed != 270_000_000


def test_an_entry_without_a_price_leaves_the_price_and_its_source_alone():
    listed = ModelCatalog().get("openai:gpt-5.4")
    corrected = ModelCatalog({"models": {"openai:gpt-5.4": {"max_output_tokens": 4096}}}).get("openai:gpt-5.4")
    assert corrected == listed.model_copy(update={"max_output_tokens": 4096})


def test_an_entry_without_a_price_for_an_unlisted_model_makes_it_known_and_unpriced():
    info = ModelCatalog({"models": {"acme/m1": {"context_window": 1000}}}).get("acme/m1")
    assert (info.rates, info.context_window) == (None, 1000)


def test_an_overlay_may_be_in_another_currency_H10():
    catalog = ModelCatalog({"models": {"acme/m1": {"input": "10", "output": "20", "currency": "EUR"}}})
    cost = CostCalculator(catalog).worst_case(500_000, 500_000, "acme/m1")
    assert str(cost) == "15.00 EUR"
    with pytest.raises(UnknownModelError):
        catalog.get("acme/m2")


def test_tiers_are_put_in_order():
    tiers = [{"above": 200, **ACME}, {"above": 100, **ACME}]
    info = ModelCatalog({"models": {"acme/m1": {**ACME, "tiers": tiers}}}).get("acme/m1")
    assert [tier.above_input_tokens for tier in info.tiers] == [100, 200]


def test_a_rate_may_be_left_empty():
    info = ModelCatalog({"models": {"acme/m1": {**ACME, "cache_read": None}}}).get("acme/m1")
    assert info.rates.cache_read is None


def test_an_empty_file_is_an_empty_overlay(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("")
    assert load_overlay(path).models == {}


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        pytest.param({"input": "-1", "output": "1"}, "acme/m1: a price must not be negative, got -1", id="negative"),
        pytest.param({"input": "NaN", "output": "1"}, "acme/m1: .*finite", id="nan"),
        pytest.param({"input": "inf", "output": "1"}, "acme/m1: .*finite", id="infinite"),
        pytest.param({"input": 0.27, "output": "1"}, "acme/m1: .*float", id="float"),
        pytest.param({"input": "cheap", "output": "1"}, "acme/m1: .*decimal", id="word"),
        pytest.param({"input": "0.0000000001", "output": "1"}, "acme/m1: .*9 decimal places", id="too fine"),
        pytest.param({"input": "1"}, "acme/m1: a price needs both", id="half"),
        pytest.param({"output": "1"}, "acme/m1: a price needs both", id="other half"),
        pytest.param({**ACME, "currency": "usd"}, "acme/m1: unknown currency", id="currency"),
        pytest.param({"inptu": "1"}, "acme/m1: inptu: ", id="typo"),
        pytest.param({**ACME, "tiers": [{"above": -1, **ACME}]}, "acme/m1: tiers: 0: above: ", id="threshold"),
        pytest.param({**ACME, "max_output_tokens": 0}, "acme/m1: max_output_tokens: ", id="limit"),
        pytest.param("free", "acme/m1: ", id="no mapping"),
    ],
)
def test_a_bad_entry_is_refused_by_its_model(entry, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        load_overlay({"models": {"acme/m1": entry}})


def test_a_misspelt_section_is_refused():
    with pytest.raises(InvalidInputError, match="modles"):
        load_overlay({"modles": {}})


@pytest.mark.parametrize("text", ["models: [", "\x00", "- a list"], ids=["not yaml", "binary", "list"])
def test_a_file_that_is_no_overlay_is_refused_by_its_path(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"prices\.yaml"):
        load_overlay(path)


def test_a_missing_file_is_refused_by_its_path(tmp_path):
    with pytest.raises(InvalidInputError, match=r"nothing\.yaml"):
        load_overlay(tmp_path / "nothing.yaml")

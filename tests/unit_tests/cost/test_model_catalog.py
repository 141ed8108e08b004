"""Rows I of the reference, by today's price list: I5, I8 and I10 speak of a fixed list, which genai-prices replaces.

I9, the mean of both rates, is the defect of H12.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from langchain_runtime.contracts.errors import UnknownModelError
from langchain_runtime.contracts.protocols import ModelCatalog as ModelCatalogProtocol
from langchain_runtime.cost import ModelCatalog, default_catalog, model_catalog, price_table


def test_it_is_a_model_catalog():
    assert isinstance(ModelCatalog(), ModelCatalogProtocol)


def test_there_is_one_default_catalogue():
    assert default_catalog() is default_catalog()


@pytest.mark.parametrize("name", ["claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-3-haiku-20240307"])
def test_a_known_model_is_found_with_its_provider_or_without_I1(name):
    catalog = ModelCatalog()
    assert catalog.get(name).rates == catalog.get(f"anthropic:{name}").rates is not None


def test_an_unknown_model_is_refused_with_its_neighbours_I2():
    with pytest.raises(UnknownModelError, match="gpt-5-minni") as caught:
        ModelCatalog().get("openai:gpt-5-minni")
    assert caught.value.model == "openai:gpt-5-minni"
    assert "openai:gpt-5-mini" in caught.value.hint


def test_a_model_without_neighbours_is_refused_with_the_way_out_I2():
    with pytest.raises(UnknownModelError) as caught:
        ModelCatalog().get("zzzzzzzzzzzzzzzz")
    assert "overlay" in caught.value.hint


@pytest.mark.parametrize(("role", "part"), [("flagship", "opus"), ("balanced", "sonnet"), ("fast", "haiku")])
def test_each_role_is_played_by_a_model_I3(role, part):
    catalog = ModelCatalog()
    assert part in catalog.by_role(role).id
    assert catalog.get(role) == catalog.by_role(role)


def test_an_unknown_role_is_refused_with_the_known_ones_I4_H9():
    with pytest.raises(UnknownModelError, match="tiny") as caught:
        ModelCatalog().by_role("tiny")
    assert caught.value.hint == "roles: balanced, fast, flagship"


def test_every_model_is_listed_under_a_name_that_finds_it_I5():
    catalog = ModelCatalog({"models": {"acme/m1": {"input": "1", "output": "2"}}})
    names = catalog.names()
    assert names == sorted(set(names))
    assert {"acme/m1", "extractive", "openai:gpt-5-mini"} <= set(names)
    assert all(catalog.get(name).id for name in names)


def test_a_role_can_be_given_to_another_model_I6():
    catalog = ModelCatalog()
    catalog.get("flagship")
    catalog.set_role("flagship", "anthropic:claude-haiku-4-5")
    assert catalog.get("flagship").id == "anthropic:claude-haiku-4-5"
    assert ModelCatalog().get("flagship").id != "anthropic:claude-haiku-4-5"


def test_a_role_keeps_its_model_when_the_new_one_is_unknown_I7():
    catalog = ModelCatalog()
    before = catalog.by_role("fast")
    with pytest.raises(UnknownModelError):
        catalog.set_role("fast", "acme/nothing")
    assert catalog.by_role("fast") == before


@pytest.mark.parametrize(
    ("langchain", "listed"),
    [
        ("google_genai:gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("google_vertexai:gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("mistralai:mistral-large-latest", "mistral:mistral-large-latest"),
        ("azure_openai:gpt-4o", "azure:gpt-4o"),
        ("xai:grok-4", "x-ai:grok-4"),
        ("bedrock_converse:anthropic.claude-sonnet-4-5-20250929-v1:0", "aws:anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ],
)
def test_langchains_names_of_providers_are_understood(langchain, listed):
    catalog = ModelCatalog()
    assert catalog.get(langchain).rates == catalog.get(listed).rates is not None


def test_every_provider_that_is_renamed_is_on_the_list():
    assert set(model_catalog.PROVIDERS.values()) <= {name.partition(":")[0] for name in ModelCatalog().names()}


@pytest.mark.parametrize("provider", ["my-openai-proxy", "openai-codex", "notgoogle", "ollama", "huggingface"])
def test_a_provider_that_is_only_called_like_a_known_one_has_no_price(provider):
    with pytest.raises(UnknownModelError):
        ModelCatalog().get(f"{provider}:gpt-5-mini")


def test_a_price_says_where_it_comes_from():
    info = ModelCatalog().get("google_genai:gemini-3.6-flash")
    assert info.source.startswith("genai-prices ")


def test_opus_costs_what_the_price_list_says_H12():
    rates = ModelCatalog().get("anthropic:claude-opus-4-5-20251101").rates
    assert (rates.input, rates.output) == (5_000_000_000, 25_000_000_000)


def test_the_local_model_is_free():
    info = ModelCatalog().get("extractive")
    assert (info.rates.input, info.rates.output) == (0, 0)
    assert "this machine" in info.source


def test_a_listed_model_without_a_price_has_none_and_is_not_free():
    assert ModelCatalog().get("cerebras:qwen-3-coder-480b").rates is None


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("openai:o3", True),
        ("openai:gpt-5-mini", True),
        ("openrouter:openai/gpt-5-mini", True),
        ("openai:gpt-5-chat-latest", False),
        ("openai:gpt-4o", False),
        ("groq:openai/gpt-oss-120b", True),
        ("google_genai:gemini-2.5-flash", True),
        ("google_genai:gemini-2.0-flash", False),
        ("xai:grok-4-fast-reasoning", True),
        ("xai:grok-4-fast-non-reasoning", False),
        ("deepseek:deepseek-reasoner", True),
        ("anthropic:claude-sonnet-4-5", False),
    ],
)
def test_models_that_reason_unasked_are_known(model, reasons):
    assert ModelCatalog().get(model).reasoning is reasons


def test_longer_inputs_have_prices_of_their_own_in_each_service_tier():
    info = ModelCatalog().get("openai:gpt-5.4")
    (long,) = info.tiers
    assert long.rates.input == 2 * info.rates.input
    assert long.service_tiers["flex"].input == 2 * info.service_tiers["flex"].input
    assert info.service_tiers["batch"].output * 2 == info.rates.output


# --- prices that change -----------------------------------------------------------------------------------------------


@pytest.fixture
def at(monkeypatch):
    """Sets the clock of the catalogue."""

    def set_clock(moment):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromisoformat(moment).replace(tzinfo=tz)

        seconds = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
        monkeypatch.setattr(model_catalog, "time", SimpleNamespace(time=lambda: seconds))
        monkeypatch.setattr(price_table, "datetime", Clock)

    return set_clock


def test_a_catalogue_that_lives_over_a_price_change_follows_it(at):
    catalog = ModelCatalog()
    at("2026-12-31T23:59")
    before = catalog.get("google_genai:gemini-3.6-flash")
    at("2027-01-01T00:00")
    after = catalog.get("google_genai:gemini-3.6-flash")
    assert after.rates.input == 2 * before.rates.input
    assert after.dated == date(2027, 1, 1)


@pytest.mark.parametrize("hour", ["00:00", "02:00", "12:00"])
def test_a_price_that_depends_on_the_hour_is_the_dearest_of_the_day(at, hour):
    at(f"2026-11-20T{hour}")
    rates = ModelCatalog().get("deepseek:deepseek-v4-flash").rates
    assert (rates.input, rates.output, rates.cache_read) == (300_000_000, 1_200_000_000, 6_000_000)


def test_a_price_list_that_has_not_begun_uses_its_first_entry(at):
    at("2020-01-01T00:00")
    assert ModelCatalog().get("google_genai:gemini-3.6-flash").rates.input == 750_000_000


def test_images_written_are_charged_at_their_own_rate_since_usage_does_not_tell_them_apart():
    assert ModelCatalog().get("google_genai:gemini-2.5-flash-image").rates.output == 30_000_000_000


def test_a_resold_claude_has_the_one_hour_cache_price_that_its_entry_leaves_out():
    rates = ModelCatalog().get("bedrock:global.anthropic.claude-sonnet-4-20250514-v1:0").rates
    assert rates.cache_write_1h == 2 * rates.input


def test_a_model_is_looked_up_once_a_day(at):
    catalog = ModelCatalog()
    at("2026-11-20T00:00")
    first = catalog.get("openai:gpt-5-mini")
    at("2026-11-20T23:59")
    assert catalog.get("openai:gpt-5-mini") is first
    at("2026-11-21T00:00")
    assert catalog.get("openai:gpt-5-mini") is not first


def test_many_threads_get_the_same_models():
    catalog = ModelCatalog()
    names = ["openai:gpt-5-mini", "fast", "extractive", "google_genai:gemini-2.5-pro"] * 25
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(catalog.get, names))
    assert found == [catalog.get(name) for name in names]

"""The rules by which providers count images, against the examples on their pages and what users measured."""

import pytest

from langchain_runtime.cost.image_tokens import UNKNOWN, image_rule

TILED = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-5.1-chat-latest", "o1", "o3", "computer-use-preview"]
PATCHED = ["gpt-4.1-mini", "gpt-4.1-nano", "o4-mini", "gpt-5-mini", "gpt-5-nano", "gpt-5-codex", "gpt-5.2", "gpt-5.4"]
PATCHED += ["gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.5", "gpt-5.6-sol", "gpt-6-astra"]
CLAUDES = ["claude-3-5-haiku-latest", "claude-sonnet-4-5", "claude-opus-4-8", "claude-opus-5"]
KNOWN = [*TILED, *PATCHED, *CLAUDES, "gemini-3-pro-preview"]


@pytest.mark.parametrize(
    ("model", "detail", "size", "tokens"),
    [
        # OpenAI, "Images and vision", worked examples.
        ("gpt-4o", "high", (1_024, 1_024), 765),
        ("gpt-4o", "high", (2_048, 4_096), 1_105),
        ("gpt-4o", "low", (4_096, 8_192), 85),
        ("gpt-4o-mini", "", (512, 512), 2_833 + 5_667),
        ("gpt-6-astra", "high", (2_048, 2_048), 3_000),
        ("gpt-5.5", "low", (4_000, 4_000), 308),
        ("gpt-5.6-sol", "", (2_048, 2_048), 4_916),
        # GPT-5 mini as billed (community.openai.com, "GPT-5-mini image input token calculation", June 2026).
        ("gpt-5-mini", "", (256, 256), 77),
        ("gpt-5-mini", "", (768, 1_024), 922),
        ("gpt-5-mini", "", (1_280, 720), 1_104),
        ("gpt-5-mini", "", (2_048, 768), 1_844),
        # Anthropic, "Vision", table of sizes.
        ("claude-sonnet-4-5", "", (200, 200), 64),
        ("claude-sonnet-4-5", "", (1_000, 1_000), 1_296),
        ("claude-sonnet-4-5", "", (1_092, 1_092), 1_521),
        ("claude-sonnet-4-5", "", (8_000, 8_000), 1_568),
        ("claude-opus-4-7", "", (1_920, 1_080), 2_691),
        ("claude-opus-4-7", "", (3_840, 2_160), 4_784),
        # Google, "Media resolution".
        ("gemini-3-pro-preview", "", (3_840, 2_160), 1_120),
    ],
)
def test_published_examples_come_out(model, detail, size, tokens):
    assert image_rule(model).expected(detail, size) == tokens


@pytest.mark.parametrize("model", KNOWN)
@pytest.mark.parametrize("detail", ["", "auto", "low", "high", "original"])
def test_no_size_costs_more_than_the_bound(model, detail):
    rule = image_rule(model)
    sides = (1, 31, 512, 513, 769, 1_568, 2_049, 6_001, 20_000, 65_535)
    assert max(rule.expected(detail, (width, height)) for width in sides for height in sides) <= rule.most(detail)
    assert rule.expected(detail, None) <= rule.most(detail)


@pytest.mark.parametrize("model", [*TILED, *PATCHED, *CLAUDES])
def test_an_image_of_unknown_size_is_taken_for_a_large_one(model):
    rule = image_rule(model)
    assert rule.expected("", None) >= rule.expected("", (1_920, 1_080))


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4o", 85 + 8 * 170),
        ("gpt-4o-mini", 2_833 + 8 * 5_667),
        ("gpt-5.5", 12_000),
        ("gpt-5.6-luna", 36_000),
        ("claude-opus-4-6", 1_568),
        ("claude-opus-5-5", 4_784),
        ("gemini-3.5-flash", 2_240),
    ],
)
def test_the_bound_is_the_published_maximum_and_little_more(model, most):
    assert most <= image_rule(model).most("") <= most + 100


def test_a_lower_detail_lowers_the_bound_only_where_every_source_agrees():
    assert image_rule("gpt-4o").most("low") < 150
    assert image_rule("gpt-5.6-sol").most("low") < image_rule("gpt-5.6-sol").most("high") < 3_100
    assert image_rule("gpt-5-mini").most("low") == image_rule("gpt-5-mini").most("high")
    assert image_rule("claude-opus-5").most("low") == image_rule("claude-opus-5").most("high")


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("openai:gpt-4o-2024-11-20", "gpt-4o"),
        ("openai:chatgpt-4o-latest", "gpt-4o"),
        ("openai:ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini"),
        ("openai:gpt-4-vision-preview", "gpt-4o"),
        ("openai:gpt-4-turbo-2024-04-09", "gpt-4o"),
        ("openai:gpt-5-2025-08-07", "gpt-5"),
        ("openai:gpt-5.1", "gpt-5"),
        ("openai:gpt-5-1-codex-mini", "gpt-5-codex"),
        ("openai:gpt-5-2", "gpt-5.2"),
        ("openai:gpt-5.3-codex", "gpt-5.2"),
        ("openai:gpt-5.4-2026-03-05", "gpt-5.4"),
        ("openai-codex:gpt-5.5", "gpt-5.5"),
        ("bedrock:openai.gpt-5.6-luna", "gpt-5.6-sol"),
        ("openrouter:openai/gpt-5.6-sol", "gpt-5.6-sol"),
        ("openai:o1-pro", "o1"),
        ("anthropic:claude-3-haiku-20240307", "claude-sonnet-4-5"),
        ("openrouter:anthropic/claude-3.7-sonnet:thinking", "claude-sonnet-4-5"),
        ("anthropic:claude-opus-4-20250514", "claude-sonnet-4-5"),
        ("anthropic:claude-4-sonnet-20250514", "claude-sonnet-4-5"),
        ("google_vertexai:claude-sonnet-4@20250514", "claude-sonnet-4-5"),
        ("amazon_bedrock:eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic:claude-sonnet-4-6", "claude-sonnet-4-5"),
        ("anthropic:claude-opus-4-7", "claude-opus-5"),
        ("openrouter:anthropic/claude-opus-4.8-fast", "claude-opus-5"),
        ("anthropic:claude-sonnet-5", "claude-opus-5"),
        ("anthropic:claude-fable-5-1-v1", "claude-opus-5"),
    ],
)
def test_a_model_is_known_under_its_other_names(name, same_as):
    assert image_rule(name) is image_rule(same_as) is not None


@pytest.mark.parametrize(
    "name",
    [
        None,
        "groq:meta-llama/llama-4-scout-17b-16e-instruct",
        "mistral:mistral-medium-latest",
        "google:gemini-2.5-pro",
        "google:gemini-4-argon",
        "google:gemini-3-pro-image-preview",
        "groq:openai/gpt-oss-120b",
        "openai:gpt-4",
        "openai:gpt-3.5-turbo",
        "openai:gpt-4o-audio-preview",
        "openai:o3-mini",
        "openai:gpt-5.5-mini",
        "openai:gpt-6",
        "openai:gpt-7",
        "anthropic:claude-2.1",
        "anthropic:claude-instant-1.2",
        "anthropic:claude-opus-6",
        "anthropic:claude-opus-latest",
        "mine:my-gpt-4o",
    ],
)
def test_a_model_that_no_page_tells_of_has_no_rule(name):
    assert image_rule(name) is None


def test_the_guess_for_unknown_models_is_near_what_was_billed():
    # Mistral billed about 170 tokens for 400 x 301 pixels (recorded: mistral-medium, 273 tokens with the rest).
    assert UNKNOWN.expected("", (400, 301)) == 15 * 11

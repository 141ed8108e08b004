"""Images in requests: bounded by rule where a provider publishes one, refused elsewhere, never counted by bytes."""

import base64
import struct

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.cost.image_tokens import image_rule

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x00" * 3_000_000
DATA = base64.b64encode(PNG).decode()

FORMS = {
    "standard, base64": {"type": "image", "base64": DATA, "mime_type": "image/png"},
    "standard, address": {"type": "image", "url": "https://example.com/a.png", "mime_type": "image/png"},
    "standard, file": {"type": "image", "file_id": "file_1", "mime_type": "image/png"},
    "older": {"type": "image", "source_type": "base64", "data": DATA, "mime_type": "image/png"},
    "anthropic, base64": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
    "anthropic, address": {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    "anthropic, file": {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    "openai, base64": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
    "openai, address": {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    "responses, base64": {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}", "detail": "auto"},
    "responses, file": {"type": "input_image", "file_id": "file_1"},
}
MODELS = ["openai:gpt-4o", "openai:gpt-5-mini", "openai:gpt-5.6-sol", "anthropic:claude-sonnet-4-5"]


def image_bound(message, model, empty):
    estimator = TokenEstimator()
    return estimator.upper_bound([message], model=model) - estimator.upper_bound([empty], model=model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_any_form_is_bounded_by_its_rule_and_not_by_its_bytes(form, model):
    assert image_bound(HumanMessage([FORMS[form]]), model, HumanMessage([])) == image_rule(model).most("auto")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["tool_result", "function_call_output", "search_result"])
def test_an_image_inside_a_result_is_bounded_likewise(kind, form):
    key = "output" if kind == "function_call_output" else "content"
    text, model = {"type": "text", "text": "look"}, "anthropic:claude-opus-5"
    with_image, without = (HumanMessage([{"type": kind, key: inner}]) for inner in ([text, FORMS[form]], [text]))
    assert image_bound(with_image, model, without) == image_rule(model).most("auto")
    result, empty = ToolMessage([text, FORMS[form]], tool_call_id="1"), ToolMessage([text], tool_call_id="1")
    assert image_bound(result, model, empty) == image_rule(model).most("auto")


@pytest.mark.parametrize("make", [HumanMessage, AIMessage, SystemMessage])
def test_every_image_counts_whoever_sent_it(make):
    model, block = "openai:gpt-4o", FORMS["openai, base64"]
    assert image_bound(make([block] * 3), model, make([])) == 3 * image_rule(model).most("auto")


def test_a_detail_that_is_passed_on_lowers_the_bound():
    low = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    assert image_bound(HumanMessage([low]), "openai:gpt-4o", HumanMessage([])) < 150
    lost = {"type": "image", "url": "https://example.com/a.png", "detail": "low"}
    assert image_bound(HumanMessage([lost]), "openai:gpt-4o", HumanMessage([])) > 1_400


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", [None, "mistral:mistral-medium-latest", "groq:meta-llama/llama-4-scout", "mine:m"])
def test_an_image_for_a_model_without_a_rule_is_refused(model, form):
    with pytest.raises(EstimationError, match=f"'{FORMS[form]['type']}'") as caught:
        TokenEstimator().upper_bound([HumanMessage([FORMS[form]])], model=model)
    assert "whose image prices are known" in caught.value.hint


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,aGVsbG8="}},
        {"type": "image", "base64": "aGVsbG8=", "mime_type": "video/mp4"},
        {"type": "file", "base64": "aGVsbG8=", "mime_type": "application/pdf"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGVsbG8="}},
        {"type": "audio", "base64": "aGVsbG8=", "mime_type": "audio/wav"},
        {"type": "input_audio", "input_audio": {"data": "aGVsbG8="}},
        {"type": "video", "url": "https://example.com/a.mp4"},
        {"type": "media", "mime_type": "image/png", "data": "aGVsbG8="},
    ],
    ids=lambda block: block["type"],
)
def test_files_sounds_and_videos_are_refused_even_where_images_are_not(block, model):
    for message in (HumanMessage([block]), HumanMessage([{"type": "tool_result", "content": [block]}])):
        with pytest.raises(EstimationError, match=f"'{block['type']}'"):
            TokenEstimator().upper_bound([message], model=model)


def test_gemini_wants_to_be_told_that_it_is_an_image():
    model = "google_genai:gemini-3-pro-preview"
    with pytest.raises(EstimationError, match="'image_url'") as caught:
        TokenEstimator().upper_bound([HumanMessage([FORMS["openai, address"]])], model=model)
    assert "mime_type" in caught.value.hint
    assert image_bound(HumanMessage([FORMS["openai, base64"]]), model, HumanMessage([])) == 2_240 + 16


@pytest.mark.parametrize(
    ("model", "tokens"), [("anthropic:claude-sonnet-4-5", 23 * 18), ("openai:gpt-4o", 85 + 2 * 170)]
)
def test_a_plan_knows_the_size_of_an_image_that_is_sent_along(model, tokens):
    estimator = TokenEstimator()
    plain = estimator.expected([HumanMessage([])], model=model)
    for form, block in FORMS.items():
        if form.endswith("base64") or form == "older":
            assert estimator.expected([HumanMessage([block])], model=model) == plain + tokens


def test_a_plan_takes_an_image_elsewhere_for_a_large_one():
    estimator, model = TokenEstimator(), "openai:gpt-4o"
    plain = estimator.expected([HumanMessage([])], model=model)
    assert estimator.expected([HumanMessage([FORMS["openai, address"]])], model=model) == plain + 85 + 8 * 170


def test_a_plan_can_be_made_for_models_without_a_rule():
    estimator, model = TokenEstimator(), "mistral:mistral-medium-latest"
    plain = estimator.expected([HumanMessage([])], model=model)
    assert estimator.expected([HumanMessage([FORMS["openai, base64"]])], model=model) == plain + 23 * 18


NO_RULE = {"groq", "huggingface", "mistral", "z-ai"}
"""Providers of recorded calls with images whose models no page bounds."""


def test_the_bound_covers_every_recorded_image(shared_data, recorded_requests):
    estimator, bounded, refused = TokenEstimator(), 0, []
    for call in recorded_requests.image_recordings(shared_data):
        try:
            most = estimator.upper_bound(call.messages, model=call.model, tools=call.tools)
        except EstimationError:
            refused.append(call.provider)
            continue
        bounded += 1
        assert most >= call.billed, call.id
    assert bounded == 11
    assert set(refused) == NO_RULE


def test_recorded_images_that_were_sent_along_are_expected_about_as_billed(shared_data, recorded_requests):
    measured = 0
    for call in recorded_requests.image_recordings(shared_data):
        text = str([message.content for message in call.messages])
        if len(text) > 5_000:  # the image itself
            measured += 1
            guess = TokenEstimator().expected(call.messages, model=call.model, tools=call.tools)
            assert guess == pytest.approx(call.billed, rel=0.16), call.id
    assert measured == 8

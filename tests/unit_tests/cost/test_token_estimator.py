"""Rows G of the reference: G1 is the type checker's; G10 is decided (a ratio of 0 is refused instead of replaced).

What is learnt from calls stands in ``test_token_learning.py``, what images cost in ``test_token_images.py``.
"""

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_runtime.contracts.errors import EstimationError, InvalidInputError
from langchain_runtime.contracts.protocols import TokenEstimator as TokenEstimatorProtocol
from langchain_runtime.cost import TokenEstimator, token_requests

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["place"],
        },
    },
}


def bound(*messages, **options):
    return TokenEstimator().upper_bound(messages, **options)


def expected(*messages, **options):
    return TokenEstimator().expected(messages, **options)


def calling(**args):
    return {"name": "f", "args": args, "id": "call_1", "type": "tool_call"}


def test_it_is_a_token_estimator():
    assert isinstance(TokenEstimator(), TokenEstimatorProtocol)


# --- without a tokeniser ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_tokeniser(monkeypatch):
    monkeypatch.setattr(token_requests, "load_encoding", lambda _name: None)


@pytest.mark.usefixtures("without_tokeniser")
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("", 0, id="G2"),
        pytest.param("Hi", 1, id="G3"),
        pytest.param("X", 1, id="G4"),
        pytest.param("Hello, world!", 3, id="G5"),
        pytest.param("a" * 16, 4, id="G8"),
        pytest.param("abc", 1, id="G13-3"),
        pytest.param("abcd", 1, id="G13-4"),
        pytest.param("abcdefg", 1, id="G13-7"),
        pytest.param("abcdefgh", 2, id="G13-8"),
    ],
)
def test_without_a_tokeniser_four_bytes_are_a_token(text, tokens):
    assert expected(HumanMessage(text)) == tokens


@pytest.mark.usefixtures("without_tokeniser")
def test_without_a_tokeniser_bytes_are_added_up_before_they_are_divided_G6():
    assert expected(HumanMessage("a" * 5), HumanMessage("b" * 6), HumanMessage("c" * 6)) == 4


@pytest.mark.usefixtures("without_tokeniser")
def test_without_a_tokeniser_messages_and_tools_are_divided_together_G7():
    messages = [HumanMessage("a" * 4), HumanMessage("b" * 4), HumanMessage("c" * 8)]
    assert expected(*messages, tools=["d" * 10]) == 6


@pytest.mark.usefixtures("without_tokeniser")
def test_the_size_of_a_token_can_be_chosen_G9():
    assert TokenEstimator(bytes_per_token=2).expected([HumanMessage("Hello!")]) == 3


@pytest.mark.parametrize("ratio", [0, -1])
def test_a_token_without_size_is_refused_G10(ratio):
    with pytest.raises(InvalidInputError, match=str(ratio)):
        TokenEstimator(bytes_per_token=ratio)


# --- with one --------------------------------------------------------------------------------------------------------


def test_a_script_counts_by_its_tokens_and_not_by_its_bytes_G11():
    latin, cyrillic = "the quick brown fox " * 2, "съешь ещё этих мягких французских булок"
    bytes_ratio = len(cyrillic.encode()) / len(latin.encode())
    tokens_ratio = expected(HumanMessage(cyrillic)) / expected(HumanMessage(latin))
    assert tokens_ratio < bytes_ratio


def test_the_chat_format_is_counted():
    # OpenAI billed 8 input tokens for this request (recorded: max_completion_tokens, gpt-4o-mini).
    assert expected(HumanMessage("hello"), model="openai:gpt-4o-mini") == 8


def test_tools_are_counted():
    assert expected(HumanMessage("hello"), tools=[TOOL]) > expected(HumanMessage("hello")) + 10


def test_a_schema_counts_less_where_it_is_read_as_a_declaration():
    openai = expected(HumanMessage("x"), model="openai:gpt-5", tools=[TOOL])
    assert openai < expected(HumanMessage("x"), model="mistral:mistral-small", tools=[TOOL])


class Weather(BaseModel):
    """The weather at a place, in words."""

    place: str


def test_a_pydantic_class_counts_as_its_schema():
    for model in ("openai:gpt-5", "mistral:small"):
        assert expected(tools=[Weather], model=model) == expected(tools=[Weather.model_json_schema()], model=model)
        asked = {"name": "response_format", "value": Weather}
        given = {"name": "response_format", "value": Weather.model_json_schema()}
        for _ in range(2):  # counted, then remembered
            assert expected(tools=[asked], model=model) == expected(tools=[given], model=model)
            assert bound(tools=[asked], model=model) == bound(tools=[given], model=model)


@pytest.mark.parametrize("value", [{"effort": "low"}, {"format": {"type": "text"}}, ["text"]])
def test_a_setting_of_the_request_is_not_read(value):
    setting = {"name": "output_config", "value": value}
    for model in ("openai:gpt-5", "anthropic:claude-opus-4-6"):
        assert expected(HumanMessage("x"), model=model, tools=[setting]) == expected(HumanMessage("x"), model=model)
        assert bound(HumanMessage("x"), tools=[setting]) > bound(HumanMessage("x"))


def test_a_prompt_beside_the_messages_is_read():
    prompts = ["You are terse.", [{"type": "text", "text": "You are terse."}]]
    for value in prompts:
        assert expected(HumanMessage("x"), tools=[{"name": "system", "value": value}]) > expected(HumanMessage("x")) + 4


def test_a_reply_format_is_read():
    reply_format = {"name": "text", "value": {"format": {"type": "json_schema", "schema": {"properties": {"a": {}}}}}}
    assert expected(HumanMessage("x"), tools=[reply_format]) > expected(HumanMessage("x")) + 8


THOUGHT = "weighing one thing against another " * 100


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": THOUGHT, "signature": "s" * 500}],
        [{"type": "reasoning", "reasoning": THOUGHT}],
        [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": THOUGHT}]}],
        [{"type": "reasoning", "summary": [], "encrypted_content": "s" * 3_000}],
        [{"type": "reasoning", "id": "rs_1", "extras": {"encrypted_content": "s" * 3_000}}],
        [{"type": "redacted_thinking", "data": "s" * 3_000}],
        f"<think>{THOUGHT}</think>4",
    ],
    ids=["thinking", "reasoning", "open", "encrypted", "extras", "redacted", "inline"],
)
def test_thoughts_are_read_in_their_own_turn_only(content):
    thoughtful = AIMessage(content, tool_calls=[calling()])
    asked, result = HumanMessage("2 + 2?"), ToolMessage("4", tool_call_id="call_1")
    while_thinking = expected(asked, thoughtful, result)
    assert while_thinking > expected(asked, AIMessage("4", tool_calls=[calling()]), result) + 300
    assert expected(asked, thoughtful, result, HumanMessage("and 3?")) < while_thinking - 300


def test_a_user_that_quotes_a_thought_is_read_whole():
    assert expected(HumanMessage(f"<think>{THOUGHT}</think>"), HumanMessage("and?")) > 400


def test_a_pydantic_value_counts_as_its_json():
    class Point(BaseModel):
        x: int

    assert bound(tools=[Point(x=1)]) == bound(tools=[{"x": 1}])


def test_something_that_json_does_not_know_counts_by_its_repr():
    assert bound(tools=[{"value": 1j}]) == bound(tools=[{"value": "1j"}])


class Reply(TypedDict):
    text: str


class Tool(BaseModel):
    args_schema: str


@pytest.mark.parametrize("tool", [print, Reply, Tool(args_schema="x")], ids=["function", "class", "tool"])
def test_a_tool_whose_schema_is_not_known_here_has_no_bound(tool):
    for tools in ([tool], [{"name": "response_format", "value": tool}]):
        with pytest.raises(EstimationError, match="schema of"):
            bound(tools=tools)
        assert expected(tools=tools) > 0


def test_a_provider_that_prompts_its_models_for_tools_counts_that():
    extra = {
        model: expected(HumanMessage("x"), model=model, tools=[TOOL]) - expected(HumanMessage("x"), model=model)
        for model in ("anthropic:claude-sonnet-4-5", "mistral:mistral-small")
    }
    assert extra["anthropic:claude-sonnet-4-5"] >= extra["mistral:mistral-small"] + 400


def test_a_tool_call_that_also_stands_in_the_content_is_expected_once():
    args = {"text": "word " * 200}
    block = {"type": "tool_use", "id": "call_1", "name": "f", "input": args}
    once = expected(AIMessage("", tool_calls=[calling(**args)]))
    assert expected(AIMessage([block], tool_calls=[calling(**args)])) < 1.2 * once


def test_an_image_does_not_keep_a_plan_from_being_made():
    assert expected(HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])) > 0


def test_names_count():
    assert expected(HumanMessage("hi", name="the user of the house")) > expected(HumanMessage("hi"))


def test_the_old_encoding_counts_for_old_models():
    text = "съешь ещё этих мягких французских булок " * 20
    assert expected(HumanMessage(text), model="openai:gpt-4") > expected(HumanMessage(text), model="openai:gpt-4o")


def test_a_text_is_encoded_once(monkeypatch):
    encoded = []
    encoding = token_requests.load_encoding("o200k_base")

    class Spy:
        name = "spy"

        def encode_ordinary(self, text):
            encoded.append(text)
            return encoding.encode_ordinary(text)

    monkeypatch.setattr(token_requests, "load_encoding", lambda _name: Spy())
    estimator, history = TokenEstimator(), []
    for turn in range(20):
        history.append(HumanMessage(f"turn {turn} of a conversation that only this test has"))
        estimator.expected(history)
    assert len(encoded) == len(set(encoded)) == 20


# --- the bound -------------------------------------------------------------------------------------------------------


def test_the_bound_needs_no_tokeniser(monkeypatch):
    monkeypatch.setattr(token_requests, "load_encoding", lambda name: pytest.fail(f"{name} was loaded"))
    assert bound(HumanMessage("hello"), tools=[TOOL]) > 0


@pytest.mark.parametrize(
    "text", ["word " * 50, "日本語のテキスト" * 20, "🙂" * 50, "\ud800"], ids=["en", "ja", "emoji", "half"]
)
def test_every_byte_of_a_text_is_bounded(text):
    assert bound(HumanMessage(text)) - bound(HumanMessage("")) == len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "message",
    [
        AIMessage([{"type": "thinking", "thinking": "x", "signature": "s" * 8_000}]),
        AIMessage([{"type": "redacted_thinking", "data": "s" * 8_000}]),
        AIMessage([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "s" * 8_000}]),
        AIMessage([{"type": "reasoning", "id": "rs_1", "extras": {"encrypted_content": "s" * 8_000}}]),
        AIMessage([{"type": "reasoning", "reasoning": "s" * 8_000}]),
        AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "s" * 8_000}}),
        AIMessage("", additional_kwargs={"reasoning_content": "s" * 8_000}),
        AIMessage("", additional_kwargs={"tool_calls": [{"id": "1", "function": {"arguments": "s" * 8_000}}]}),
        AIMessage("", tool_calls=[calling(text="s" * 8_000)]),
        AIMessage("", invalid_tool_calls=[{"name": "f", "args": "s" * 8_000, "id": "1", "error": None}]),
        ToolMessage("s" * 8_000, tool_call_id="1"),
        ToolMessage("", tool_call_id="s" * 8_000),
        ToolMessage([{"type": "search_result", "content": [{"type": "text", "text": "s" * 8_000}]}], tool_call_id="1"),
        HumanMessage([{"type": "tool_result", "content": [{"type": "text", "text": "s" * 8_000}]}]),
        HumanMessage([{"type": "tool_result", "content": "s" * 8_000}]),
        HumanMessage([{"type": "tool_result", "content": ["s" * 8_000]}]),
        HumanMessage(["s" * 8_000]),
        HumanMessage("", name="s" * 8_000),
        ChatMessage("", role="s" * 8_000),
        SystemMessage([{"type": "text", "text": "s" * 8_000, "cache_control": {"type": "ephemeral"}}]),
    ],
    ids=lambda message: f"{message.type}-{next(iter(message.additional_kwargs), '')}-{str(message.content)[:30]}",
)
def test_whatever_a_message_sends_is_bounded(message):
    assert bound(message) - bound(HumanMessage("")) >= 8_000


LIGATURE = "\ufdfa"
"""Three bytes, and thirty-three once NFKC has spelled it out."""


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage(LIGATURE * 100),
        HumanMessage([{"type": "text", "text": LIGATURE * 100}]),
        AIMessage("", tool_calls=[calling(text=LIGATURE * 100)]),
    ],
    ids=["text", "block", "arguments"],
)
def test_a_text_is_bounded_as_a_tokeniser_may_spell_it_out(message):
    assert bound(message) >= 33 * 100


def test_schemas_are_bounded_as_a_tokeniser_may_spell_them_out():
    assert bound(tools=[{"description": LIGATURE * 100}]) >= 33 * 100


def test_arguments_are_bounded_as_ascii_since_some_integrations_send_them_so():
    text = "日本語" * 100
    assert bound(AIMessage("", tool_calls=[calling(text=text)])) >= 6 * len(text)


@pytest.mark.parametrize(
    "kind", ["image", "image_url", "audio", "input_audio", "file", "document", "video", "something"]
)
def test_what_cannot_be_bounded_is_refused_by_name(kind):
    with pytest.raises(EstimationError, match=f"'{kind}'"):
        bound(HumanMessage([{"type": "text", "text": "look:"}, {"type": kind, "url": "https://example.com/a"}]))


@pytest.mark.parametrize("kind", ["tool_result", "function_call_output", "search_result"])
def test_an_image_inside_a_tools_result_is_refused_where_no_rule_is_known(kind):
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    key = "output" if kind == "function_call_output" else "content"
    with pytest.raises(EstimationError, match="'image'"):
        bound(HumanMessage([{"type": kind, key: [image]}]))


def test_a_screenshot_given_as_text_is_refused():
    # LangChain sends it as the address of an image.
    call = {"type": "computer_call_output"}
    with pytest.raises(EstimationError, match="'computer_call_output'"):
        bound(ToolMessage("https://example.com/a.png", tool_call_id="1", additional_kwargs=call), model="openai:gpt-5")


def test_arguments_that_look_like_an_image_are_data():
    block = {"type": "tool_use", "id": "1", "name": "draw", "input": {"content": {"type": "image"}}}
    assert bound(AIMessage([block])) > 0


def test_spoken_replies_are_refused():
    with pytest.raises(EstimationError, match="'audio'"):
        bound(AIMessage("", additional_kwargs={"audio": {"id": "audio_1"}}))


def test_reasoning_that_only_the_provider_has_is_refused_where_its_length_is_unknown():
    with pytest.raises(EstimationError, match="only the provider has") as caught:
        bound(AIMessage([{"type": "reasoning", "id": "rs_1", "summary": []}]))
    assert "encrypted_content" in caught.value.hint


def test_reasoning_that_only_the_provider_has_is_bounded_by_the_reply_that_held_it():
    usage = {"input_tokens": 1, "output_tokens": 5_000, "total_tokens": 5_001}
    kept = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert bound(AIMessage([kept], usage_metadata=usage)) >= 5_000


@pytest.mark.parametrize(
    "model", ["groq:compound-beta", "openai:gpt-4o-search-preview", "openai:gpt-5-search-api", "perplexity:sonar-pro"]
)
def test_a_model_that_reads_more_than_it_is_sent_is_refused(model):
    with pytest.raises(EstimationError, match="provider's side"):
        bound(HumanMessage("hello"), model=model)


def test_a_message_that_cannot_be_remembered_is_bounded_all_the_same():
    class Text(str):
        __slots__ = ()

    call = {"name": "f", "args": {"text": Text("s" * 8_000)}, "id": "call_1", "type": "tool_call"}
    message = AIMessage("")
    message.tool_calls = [call]
    assert bound(message) >= 8_000
    assert expected(message) >= 500


def test_a_claude_elsewhere_is_prompted_for_tools_as_at_anthropic():
    at_home = bound(tools=[TOOL], model="anthropic:claude-sonnet-4-5")
    assert bound(tools=[TOOL], model="amazon_bedrock:eu.anthropic.claude-sonnet-4-5") == at_home
    assert bound(tools=[TOOL], model="openrouter:anthropic/claude-sonnet-4.5") == at_home


def test_the_bound_covers_every_recorded_call_with_visible_input(shared_data, recorded_requests):
    estimator, bounded, short, refused = TokenEstimator(), 0, [], []
    for call in recorded_requests.visible_recordings(shared_data):
        try:
            most = estimator.upper_bound(call.messages, model=call.model, tools=call.tools)
        except EstimationError:
            refused.append(call.id)
            continue
        bounded += 1
        if most < call.billed:
            short.append((call.id, most, call.billed))
    assert not short
    assert bounded >= 200
    assert len(refused) <= 12

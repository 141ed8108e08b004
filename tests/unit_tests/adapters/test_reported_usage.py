import math

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openai import ContentFilterFinishReasonError, LengthFinishReasonError
from openai.types.chat import ChatCompletion

from langchain_runtime.adapters.usage import usage_of_error, usage_of_messages, usage_of_result
from langchain_runtime.contracts.usage import TokenUsage


def said(usage, /, **metadata):
    return AIMessage("ok", usage_metadata=usage, response_metadata=metadata)


def counts(read, written, read_details=None, written_details=None):
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    if read_details:
        usage["input_token_details"] = read_details
    if written_details:
        usage["output_token_details"] = written_details
    return usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (counts(10, 2), TokenUsage(input=10, output=2)),
        (
            counts(10, 5, {"cache_read": 4, "audio": 1}, {"reasoning": 3, "audio": 1}),
            TokenUsage(input=10, output=5, cache_read=4, audio_input=1, reasoning=3, audio_output=1),
        ),
        (
            counts(10, 5, {"flex": 6, "flex_cache_read": 4}, {"flex": 2, "flex_reasoning": 3}),
            TokenUsage(input=10, output=5, cache_read=4, reasoning=3),
        ),
        (counts(10, 5, {"priority_cache_creation": 7}), TokenUsage(input=10, output=5, cache_write=7)),
        (
            counts(
                100,
                5,
                {"cache_creation": 0, "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
            ),
            TokenUsage(input=100, output=5, cache_write=50, cache_write_1h=20),
        ),
        (
            counts(100, 5, {"cache_creation": 50, "ephemeral_5m_input_tokens": 50}),
            TokenUsage(input=100, output=5, cache_write=50),
        ),
        (counts(10, 2, {"cache_read": None}), TokenUsage(input=10, output=2)),
    ],
    ids=["plain", "details", "flex", "priority", "anthropic lifetimes", "written is not counted twice", "null"],
)
def test_usage_of_any_provider_has_one_form(usage, expected):
    assert (
        usage_of_messages([AIMessage.model_construct(content="", usage_metadata=usage, response_metadata={})]).usage
        == expected
    )


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (None, "did not report usage"),
        (counts(0, 5), "no input tokens"),
        (counts(0, 0), "no input tokens"),
        (counts(-1, 5), "input_tokens = -1"),
        (counts(10**12, 5), "input_tokens = 1000000000000"),
        (counts(True, 5), "input_tokens = True"),
        (counts(1.5, 5), "input_tokens = 1.5"),
        (counts(math.nan, 5), "input_tokens = nan"),
        (counts(10, math.inf), "output_tokens = inf"),
        (counts(10, 5.0), "output_tokens = 5.0"),
        (counts(10, -5), "output_tokens = -5"),
        (counts(10, 10**12), "output_tokens = 1000000000000"),
        (counts("10", "5"), "input_tokens = '10'"),
        ({"input_tokens": None, "output_tokens": None, "total_tokens": None}, "no input tokens"),
        ({"total_tokens": 15}, "no input tokens"),
        (counts(10, 5, {"cache_read": -1}), "cache_read = -1"),
        (counts(10, 5, {"priority_cache_read": "4"}), "priority_cache_read = '4'"),
        (counts(10, 5, {"ephemeral_1h_input_tokens": 1.5}), "ephemeral_1h_input_tokens = 1.5"),
        (counts(10, 5, {"cache_read": 6, "cache_creation": 5}), "more cached or audio tokens than input"),
        (counts(10, 5, None, {"reasoning": math.nan}), "reasoning = nan"),
        (counts(10, 5, {"cache_read": 11}), "more cached or audio tokens than input"),
        (counts(10, 5, {"audio": 11}), "more cached or audio tokens than input"),
        (counts(10, 5, None, {"reasoning": 6}), "more reasoning or audio tokens than output"),
    ],
)
def test_usage_that_cannot_be_true_is_unknown(usage, why):
    message = AIMessage.model_construct(content="", usage_metadata=usage, response_metadata={})
    reported = usage_of_messages([message])
    assert reported.usage is None
    assert why in reported.missing


@pytest.mark.parametrize(
    ("usage", "raw"),
    [
        ("15 tokens", None),
        ([10, 5], None),
        ({"input_tokens": 10, "output_tokens": 5, "input_token_details": ["cache_read"]}, None),
        ({"input_tokens": 10, "output_tokens": 5, "output_token_details": "reasoning"}, None),
        (counts(10, 5), {"iterations": 2}),
        (counts(10, 5), {"iterations": [{"input_tokens": 10, "output_tokens": 5, "cache_creation": "1h"}]}),
    ],
)
def test_what_has_not_the_form_of_usage_is_unknown(usage, raw):
    message = AIMessage.model_construct(content="", usage_metadata=usage, response_metadata={"usage": raw})
    assert usage_of_messages([message]).usage is None


def test_no_reply_and_no_ai_message_report_nothing():
    assert usage_of_messages([]).usage is None
    assert usage_of_messages([HumanMessage("hi")]).usage is None


def test_server_side_passes_of_anthropic_are_counted_with_their_models():
    iterations = [
        {"type": "message", "input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 5},
        {
            "type": "advisor_message",
            "model": "claude-opus-4-8",
            "input_tokens": 200,
            "output_tokens": 20,
            "cache_creation_input_tokens": 9,
            "cache_creation": {"ephemeral_1h_input_tokens": 9, "ephemeral_5m_input_tokens": 0},
        },
    ]
    reported = usage_of_messages([said(counts(105, 10), usage={"iterations": iterations})])
    assert reported.usage == TokenUsage(input=314, output=30, cache_read=5, cache_write=9, cache_write_1h=9)
    assert [model for model, _ in reported.parts] == [None, "anthropic:claude-opus-4-8"]


def test_passes_that_cannot_be_read_make_usage_unknown():
    assert usage_of_messages([said(counts(1, 1), usage={"iterations": ["?"]})]).usage is None


def test_passes_are_found_where_langchain_has_not_merged_them_yet():
    iterations = [{"type": "compaction", "input_tokens": 83_555, "output_tokens": 139}]
    result = ChatResult(
        generations=[ChatGeneration(message=said(counts(0, 0)))], llm_output={"usage": {"iterations": iterations}}
    )
    assert usage_of_result(result).usage == TokenUsage(input=83_555, output=139)


def test_several_choices_with_a_shared_total_are_counted_once():
    choices = [ChatGeneration(message=said(counts(10, 6))) for _ in range(3)]
    shared = ChatResult(generations=choices, llm_output={"token_usage": {"total_tokens": 16}})
    assert usage_of_result(shared).usage == TokenUsage(input=10, output=6)
    apart = ChatResult(generations=choices)
    assert usage_of_result(apart).usage == TokenUsage(input=30, output=18)


@pytest.mark.parametrize(
    ("message", "tier"),
    [
        (said(counts(1, 1), service_tier="priority"), "priority"),
        (said(counts(1, 1), usage={"service_tier": "standard"}), "standard"),
        (said(counts(2, 1, {"flex": 1})), "flex"),
        (said(counts(1, 1)), None),
        (HumanMessage("hi"), None),
    ],
)
def test_the_service_tier_is_read_from_wherever_it_stands(message, tier):
    assert usage_of_messages([message]).service_tier == tier


def completion(usage, **fields):
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [], "usage": usage, **fields}
    return ChatCompletion.construct(**body)


USED = {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16}


@pytest.mark.parametrize("error", [LengthFinishReasonError, ContentFilterFinishReasonError])
def test_an_error_in_place_of_a_reply_brings_its_usage(error):
    details = {
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 2},
    }
    reported = usage_of_error(error(completion=completion({**USED, **details}, service_tier="flex")))
    assert reported.usage == TokenUsage(
        input=10, output=6, cache_read=4, cache_write=2, audio_input=1, reasoning=3, audio_output=2
    )
    assert (reported.parts, reported.service_tier) == (((None, reported.usage),), "flex")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        ContentFilterFinishReasonError(),
        LengthFinishReasonError(completion=completion(None)),  # of a stream
        LengthFinishReasonError(completion=completion({**USED, "completion_tokens": 0})),
        LengthFinishReasonError(completion=completion({**USED, "prompt_tokens": "many"})),
        LengthFinishReasonError(completion=completion({**USED, "prompt_tokens_details": {"cached_tokens": 11}})),
    ],
    ids=["any other", "no completion", "no usage", "nothing written", "words", "more cached than read"],
)
def test_an_error_without_usage_that_can_be_believed_has_none(error):
    reported = usage_of_error(error)
    assert (reported.usage, reported.parts) == (None, ())
    assert reported.missing

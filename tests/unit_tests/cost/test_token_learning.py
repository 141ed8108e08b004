"""What an estimator learns from the calls it is told of: conversations it has seen, and models it misjudges."""

import copy
import pickle
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import TokenEstimator, token_requests

MODEL = "anthropic:claude-sonnet-4-5"
TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}}}
CALL = {"name": "get_weather", "args": {"place": "Paris"}, "id": "call_1", "type": "tool_call"}


def asked():
    return [SystemMessage("You are terse."), HumanMessage("What is the weather in Paris?")]


def answered():
    return [*asked(), AIMessage("", tool_calls=[CALL]), ToolMessage("sunny", tool_call_id="call_1")]


def told(messages, *, read=5_000, written=24, reasoning=0, **options):
    """An estimator that was told of one call."""
    estimator = TokenEstimator()
    usage = TokenUsage(input=read, output=written, reasoning=reasoning)
    estimator.observe(messages, usage, **{"model": MODEL, "tools": [TOOL], **options})
    return estimator


def expected(estimator, messages, **options):
    return estimator.expected(messages, **{"model": MODEL, "tools": [TOOL], **options})


# --- conversations ---------------------------------------------------------------------------------------------------


def test_an_observed_request_takes_what_it_took():
    assert expected(told(asked()), asked()) == 5_000


def test_a_longer_conversation_takes_what_was_read_and_written_and_its_new_part():
    new = expected(TokenEstimator(), answered()) - expected(TokenEstimator(), answered()[:3])
    grown = expected(told(asked()), answered())
    assert 5_000 + 24 + new <= grown <= 5_000 + 24 + new + 8


def test_the_longest_observed_start_counts():
    estimator = told(asked())
    estimator.observe(answered(), TokenUsage(input=6_000, output=3), model=MODEL, tools=[TOOL])
    assert expected(estimator, [*answered(), AIMessage("Sunny.")]) == pytest.approx(6_003, abs=8)


def test_without_a_reply_the_new_part_is_estimated():
    grown = expected(told(asked()), [*asked(), HumanMessage("And in Rome?")])
    assert 5_000 + 4 <= grown <= 5_000 + 20


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([SystemMessage("You are wordy."), *answered()[1:]], id="edited"),
        pytest.param(answered()[1:], id="dropped"),
        pytest.param([HumanMessage("Earlier: a summary."), *answered()[2:]], id="compacted"),
        pytest.param([answered()[1], answered()[0], *answered()[2:]], id="reordered"),
        pytest.param([SystemMessage("You are terse.", name="a"), *answered()[1:]], id="named"),
        pytest.param([HumanMessage("You are terse."), *answered()[1:]], id="other role"),
    ],
)
def test_a_conversation_whose_past_was_changed_is_estimated_afresh(changed):
    usage = {"input_tokens": 5_000, "output_tokens": 24, "total_tokens": 5_024}
    changed = [*changed, AIMessage("It is sunny.", usage_metadata=usage), HumanMessage("And in Rome?")]
    estimator = told(answered())
    assert expected(estimator, changed) < 1_500


@pytest.mark.parametrize("other", [{"model": "anthropic:claude-opus-4-6"}, {"tools": []}, {"tools": [TOOL, TOOL]}])
def test_another_model_or_other_tools_are_estimated_afresh(other):
    assert expected(told(asked()), asked(), **other) < 1_500


def test_content_counts_and_not_the_objects_that_hold_it():
    estimator = told(asked(), tools=[dict(TOOL)])
    stored = [message.model_copy(update={"id": "1", "response_metadata": {"a": 1}}) for message in asked()]
    assert expected(estimator, stored) == 5_000


def test_a_list_that_grows_after_the_call_does_not_change_what_was_observed():
    messages, tools = asked(), [TOOL]
    estimator = told(messages, tools=tools)
    messages += answered()[2:]
    tools.append({"name": "other"})
    assert expected(estimator, asked()) == 5_000
    assert expected(estimator, messages) > 5_000


def test_a_reply_that_was_shortened_is_not_taken_for_the_one_that_was_written():
    stub = [*asked(), AIMessage("[recall:1]"), HumanMessage("Go on.")]
    assert expected(told(asked(), written=4_000), stub) < 5_100


def test_a_reply_of_unknown_length_is_estimated():
    reply = [*asked(), AIMessage("one two three four five")]
    assert expected(told(asked(), written=0), reply) >= 5_000 + 4 + 5


def test_thoughts_count_while_they_are_sent_back():
    thought = AIMessage(
        [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "s" * 3_000}], tool_calls=[CALL]
    )
    result, again = ToolMessage("sunny", tool_call_id="call_1"), HumanMessage("And in Rome?")
    estimator = told(asked(), written=424, reasoning=400)
    thinking = expected(estimator, [*asked(), thought, result])
    assert thinking == pytest.approx(5_430, abs=10)
    assert expected(estimator, [*asked(), thought, result, again]) == pytest.approx(thinking - 400 + 8, abs=4)
    assert expected(estimator, [*asked(), AIMessage("", tool_calls=[CALL]), result]) == pytest.approx(5_030, abs=10)


def test_a_call_without_reported_input_teaches_nothing():
    assert expected(told(asked(), read=0), asked()) == expected(TokenEstimator(), asked())


def test_a_message_that_cannot_be_told_from_others_is_no_anchor():
    odd = [AIMessage("", tool_calls=[{**CALL, "args": {"x": object()}}])]
    assert expected(told(odd), odd) < 1_500


def test_bytes_are_anchored_too(monkeypatch):
    monkeypatch.setattr(token_requests, "load_encoding", lambda _name: None)
    estimator = told(asked())
    assert expected(estimator, asked()) == 5_000
    assert expected(estimator, [*asked(), AIMessage("12345678" * 10), HumanMessage("1234")]) == 5_000 + 4 + 24 + 1


def test_a_call_without_messages_teaches_no_conversation():
    assert expected(told([]), asked()) < 1_500


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda estimator: pickle.loads(pickle.dumps(estimator))])
def test_a_copy_has_learnt_nothing_yet(copied, monkeypatch):
    monkeypatch.setattr(token_requests, "load_encoding", lambda _name: None)
    estimator = TokenEstimator(bytes_per_token=2)
    estimator.observe([HumanMessage("12345678")], TokenUsage(input=7_000))
    assert copied(estimator).expected([HumanMessage("12345678")]) == 4
    assert estimator.expected([HumanMessage("12345678")]) == 7_000


# --- models ----------------------------------------------------------------------------------------------------------


def requests(count, words):
    return [[HumanMessage(f"request {number}: " + "some words to count " * words)] for number in range(count)]


def test_a_model_whose_tokens_are_smaller_is_found_out():
    estimator, plain = TokenEstimator(), TokenEstimator()
    for messages in requests(5, 100):
        usage = TokenUsage(input=round(1.3 * plain.expected(messages, model="mistral:m")), output=1)
        estimator.observe(messages, usage, model="mistral:m")
    new = [HumanMessage("quite another text " * 200)]
    ratio = estimator.expected(new, model="mistral:m") / plain.expected(new, model="mistral:m")
    assert ratio == pytest.approx(1.3, abs=0.01)
    assert estimator.expected(new, model="mistral:other") == plain.expected(new, model="mistral:other")


def test_the_new_part_of_an_observed_conversation_is_corrected_by_the_factor_alone():
    estimator, plain = TokenEstimator(), TokenEstimator()
    for messages in requests(5, 1):
        estimator.observe(messages, TokenUsage(input=plain.expected(messages) + 60, output=1))
    for messages in requests(5, 100):
        estimator.observe(messages, TokenUsage(input=round(1.2 * plain.expected(messages)), output=1))
    new = HumanMessage("quite another text " * 100)
    first = requests(1, 1)[0]
    added = estimator.expected([*first, new]) - estimator.expected(first)
    assert added == pytest.approx(1.2 * plain.expected([new]), rel=0.02)


def test_what_was_learnt_leaves_the_upper_bound_alone():
    estimator, messages = TokenEstimator(), asked()
    before = estimator.upper_bound(messages, model=MODEL, tools=[TOOL])
    for read in (1, 1_000_000):
        for _ in range(40):
            estimator.observe(messages, TokenUsage(input=read, output=1), model=MODEL, tools=[TOOL])
            estimator.expected(messages, model=MODEL, tools=[TOOL])
        assert estimator.upper_bound(messages, model=MODEL, tools=[TOOL]) == before


# --- many calls ------------------------------------------------------------------------------------------------------


def test_the_latest_calls_wait_for_the_next_estimate_and_older_ones_are_let_go():
    estimator, calls = TokenEstimator(), requests(100, 1)
    for messages in calls:
        estimator.observe(messages, TokenUsage(input=7_000, output=1))
    assert len(estimator._unread) == 32
    assert estimator.expected(calls[-1]) == 7_000
    assert estimator.expected(calls[0]) < 200
    assert not estimator._unread


def test_many_threads_may_observe_and_estimate_at_once():
    estimator, start = TokenEstimator(), threading.Barrier(8)

    def talk(number):
        messages = [HumanMessage(f"conversation {number}")]
        start.wait(10)
        for turn in range(20):
            read = 10_000 * (number + 1) + turn
            estimator.observe(messages, TokenUsage(input=read, output=2))
            assert estimator.expected(messages) == read
            messages = [*messages, HumanMessage(f"turn {turn} of {number}")]
        return len(messages)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(talk, range(8))) == [21] * 8


def test_recorded_conversations_are_foretold_better_once_they_were_observed(shared_data, recorded_requests):
    calls = list(recorded_requests.visible_recordings(shared_data))
    plain, anchored = [], []
    for call, earlier in recorded_requests.continued(calls):
        estimator = TokenEstimator()
        plain.append(abs(expected(estimator, call.messages, model=call.model, tools=call.tools) / call.billed - 1))
        for other in earlier:
            estimator.observe(other.messages, other.usage, model=other.model, tools=other.tools)
        anchored.append(abs(expected(estimator, call.messages, model=call.model, tools=call.tools) / call.billed - 1))
    assert len(anchored) >= 20
    assert statistics.median(anchored) < 0.05
    assert statistics.median(anchored) < statistics.median(plain) / 4


def test_recorded_models_are_judged_no_worse_for_having_learnt(shared_data, recorded_requests):
    learner, learnt, plain = TokenEstimator(), [], []
    for call in recorded_requests.visible_recordings(shared_data):
        try:
            learner.upper_bound(call.messages, model=call.model, tools=call.tools)
        except EstimationError:
            continue
        for estimator, errors in ((learner, learnt), (TokenEstimator(), plain)):
            guess = estimator.expected(call.messages, model=call.model, tools=call.tools)
            errors.append(abs(guess / call.billed - 1))
        learner.observe(call.messages, call.usage, model=call.model, tools=call.tools)
    assert statistics.median(learnt) < statistics.median(plain)

"""Byte-level tokenisers never make more tokens than a text has bytes: the bound's foundation, on any text."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from langchain_runtime.cost import TokenEstimator
from langchain_runtime.cost.encodings import load_encoding

TEXTS = st.text(max_size=300) | st.text(alphabet="🙂👩‍👩‍👧日本語ąß\u202e", max_size=100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
ESTIMATOR = TokenEstimator()


@given(text=TEXTS, name=st.sampled_from(["o200k_base", "cl100k_base"]))
def test_no_text_has_more_tokens_than_bytes(text, name):
    assert len(load_encoding(name).encode_ordinary(text)) <= len(text.encode())


@given(texts=st.lists(TEXTS, max_size=6), tools=st.lists(st.dictionaries(TEXTS, JSON, max_size=4), max_size=3))
def test_the_bound_is_never_below_the_expectation(texts, tools):
    messages = [HumanMessage(text) for text in texts]
    for model in ("openai:gpt-5", "anthropic:claude-sonnet-4-5", "groq:llama-4-scout", None):
        most = ESTIMATOR.upper_bound(messages, model=model, tools=tools)
        assert ESTIMATOR.expected(messages, model=model, tools=tools) <= most


@given(args=st.dictionaries(TEXTS, JSON, max_size=4))
def test_tool_calls_are_bounded_however_they_are_written(args):
    call = {"name": "f", "args": args, "id": "call_1", "type": "tool_call"}
    message = AIMessage("", tool_calls=[call])
    assert ESTIMATOR.expected([message]) <= ESTIMATOR.upper_bound([message])


@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_longer_conversation_is_never_bounded_lower(texts):
    messages = [HumanMessage(text) for text in texts]
    assert ESTIMATOR.upper_bound(messages[:-1]) < ESTIMATOR.upper_bound(messages)

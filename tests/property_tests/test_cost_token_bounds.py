"""Byte-level tokenisers never make more tokens than a text has bytes: the bound's foundation, on any text.

And what was observed of a conversation counts for that conversation only, whatever is done to it.
"""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.usage import TokenUsage
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


CALLS = st.builds(
    lambda args: [{"name": "f", "args": args, "id": "call_1", "type": "tool_call"}], st.dictionaries(TEXTS, JSON)
)
BLOCKS = st.lists(TEXTS | st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=3)
MESSAGES = (
    st.builds(HumanMessage, TEXTS | BLOCKS)
    | st.builds(SystemMessage, TEXTS)
    | st.builds(AIMessage, TEXTS | BLOCKS)
    | st.builds(lambda text, calls: AIMessage(text, tool_calls=calls), TEXTS, CALLS)
    | st.builds(lambda text: ToolMessage(text, tool_call_id="call_1"), TEXTS)
)
CONVERSATIONS = st.lists(MESSAGES, min_size=1, max_size=8)
MARK = 10_000_000
"""Far more than any of these conversations takes."""


@given(conversation=CONVERSATIONS, data=st.data())
def test_an_observation_counts_where_its_messages_start_the_conversation_and_nowhere_else(conversation, data):
    observed = data.draw(st.integers(1, len(conversation)))
    estimator = TokenEstimator()
    estimator.observe(conversation[:observed], TokenUsage(input=MARK, output=1), model="openai:gpt-5")
    changed = data.draw(
        st.permutations(conversation) | CONVERSATIONS | st.just(conversation[1:]) | st.just(conversation)
    )
    starts = repr(changed[:observed]) == repr(conversation[:observed])  # 1 and True are not the same text
    assert (estimator.expected(changed, model="openai:gpt-5") >= MARK) == starts
    assert estimator.expected(changed, model="openai:gpt-4o") < MARK
    assert estimator.expected(changed, model="openai:gpt-5", tools=[{"name": "f"}]) < MARK


@given(conversation=CONVERSATIONS, usages=st.lists(st.integers(0, MARK), max_size=5))
def test_no_observation_moves_the_bound(conversation, usages):
    estimator = TokenEstimator()
    for read in usages:
        estimator.observe(conversation, TokenUsage(input=read, output=read), model="openai:gpt-5")
    estimator.expected(conversation, model="openai:gpt-5")
    plain = TokenEstimator().upper_bound(conversation, model="openai:gpt-5")
    assert estimator.upper_bound(conversation, model="openai:gpt-5") == plain

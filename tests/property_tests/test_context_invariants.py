"""The invariants of context compaction over generated conversations, and over recorded ones where they are at hand."""

import copy
import gzip
import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import (
    ContextBuilder,
    ContextCompactor,
    ContextRouter,
    Archive,
    find_handles,
    group_messages,
)
from langchain_runtime.context.marks import is_note
from langchain_runtime.contracts.context import ContextBundle, ContextPolicy
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.task_spec import TaskSpec

CI = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def weight(message):
    content = message.content if isinstance(message.content, str) else json.dumps(message.content)
    calls = json.dumps(getattr(message, "tool_calls", None) or [])
    return len(content.encode()) + len(calls)


def per_message(messages):
    return sum(4 + weight(message) // 4 for message in messages)


def of_the_whole(messages):
    """Not additive: rounds once, and the reply costs three tokens."""
    return 3 + sum(8 + weight(message) for message in messages) // 3


COUNTERS = st.sampled_from([per_message, of_the_whole])
WORDS = st.builds(
    lambda word, times: word * times, st.text("abcé日 \n[]{}", min_size=1, max_size=12), st.integers(0, 60)
)
BLOCKS = st.lists(
    st.one_of(
        WORDS.map(lambda text: {"type": "text", "text": text}),
        WORDS,
        st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
        st.just({"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"}),
    ),
    min_size=1,
    max_size=4,
)
CONTENT = st.one_of(WORDS, WORDS, BLOCKS)
METADATA = st.sampled_from([{}, {}, {"model": "m", "finish_reason": "stop", "nested": {"a": [1, None]}}])


@st.composite
def conversations(draw, *, orphans=False):
    kinds = ["human", "human", "ai", "tools", "tools", "dep", *(["orphan"] if orphans else [])]
    messages = []
    if draw(st.booleans()):
        messages.append(SystemMessage(draw(WORDS), id="s"))
    for number in range(draw(st.integers(0, 14))):
        kind, name = draw(st.sampled_from(kinds)), f"m{number}"
        if kind == "human":
            messages.append(HumanMessage(draw(CONTENT), id=name))
        elif kind == "dep":
            messages.append(HumanMessage(draw(WORDS), id=f"dep:{name}"))
        elif kind == "ai":
            messages.append(AIMessage(draw(CONTENT), id=name, response_metadata=draw(METADATA)))
        elif kind == "orphan":
            messages.append(ToolMessage(draw(WORDS), tool_call_id=f"nobody{number}", id=name))
        else:
            messages += draw(tool_turns(name))
    return messages


@st.composite
def tool_turns(draw, name):
    # Ids repeat between turns now and then, as with providers that number calls per turn.
    base = draw(st.sampled_from([name, name, "call"]))
    ids = [f"{base}_{k}" for k in range(draw(st.integers(1, 3)))]
    calls = [{"name": "look", "args": {"q": draw(WORDS)}, "id": call, "type": "tool_call"} for call in ids]
    answered = draw(st.permutations(ids))[: draw(st.integers(0, 3))]
    return [
        AIMessage(draw(WORDS), id=name, tool_calls=calls),
        *(
            ToolMessage(draw(CONTENT), tool_call_id=call, id=f"{name}-{call}", artifact=draw(METADATA))
            for call in answered
        ),
    ]


@st.composite
def cases(draw, *, orphans=False, strategies=("truncate", "keep_last", "offload")):
    """A conversation, a policy under which some of it has to go (mostly), and a counter."""
    messages, counter = draw(conversations(orphans=orphans)), draw(COUNTERS)
    reserve = draw(st.sampled_from([0, 0, 5, 40]))
    policy = ContextPolicy(
        strategy=tuple(draw(st.lists(st.sampled_from(strategies), min_size=1, max_size=3, unique=True))),
        max_tokens=reserve + max(10, int(counter(messages) * draw(st.floats(0.3, 1.1)))),
        keep_last_n=draw(st.none() | st.integers(1, 4)),
        truncate_to=draw(st.none() | st.integers(16, 200)),
        trigger=draw(st.floats(0.2, 1)),
        target=draw(st.floats(0.1, 1)),
        reserve_output=reserve,
        pin=tuple(draw(st.lists(st.sampled_from(["m1", "m2", "m5", "dep:m3"]), max_size=2))),
    )
    return messages, policy, counter


def fit(messages, policy, counter):
    return ContextCompactor(counter).compact(ContextBundle(messages=messages), policy)


def attempt(messages, policy, counter):
    """The compaction, or the error it raised."""
    try:
        return fit(messages, policy, counter)
    except ContextOverflowError as error:
        return error


def room_of(policy):
    return max(policy.max_tokens - policy.reserve_output, 0)


def always_kept(messages, policy):
    """What no strategy may evict, worked out anew: pinned, newest human and last groups, each with its group."""
    groups = [[messages[position] for position in group] for group in group_messages(messages).groups]
    talk = [group for group in groups if not isinstance(group[0], SystemMessage)]
    humans = [m for m in messages if isinstance(m, HumanMessage) and not m.id.startswith("dep:")]
    pinned = {id(m) for m in messages if isinstance(m, SystemMessage) or m.id in policy.pin} | {
        id(m) for m in humans[-1:]
    }
    last = {id(group[0]) for group in talk[-(policy.keep_last_n or 1) :]}
    return [m for g in groups if id(g[0]) in last or any(id(m) in pinned for m in g) for m in g]


def untouchable(messages, policy):
    """Messages that are in every view as they are: system, pinned, newest human."""
    humans = [m for m in messages if isinstance(m, HumanMessage) and not m.id.startswith("dep:")]
    return [m for m in messages if isinstance(m, SystemMessage) or m.id in policy.pin or m in humans[-1:]]


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


def assert_valid_tool_pairs(before, view):
    """I2: every result follows its call, and a call in view has every result that it had."""
    grouping = group_messages(view)
    assert not grouping.orphans
    sizes = {before[group[0]].id: len(group) for group in group_messages(before).groups}
    for group in grouping.groups:
        if not is_note(view[group[0]]):
            assert len(group) == sizes[view[group[0]].id]


def assert_lossless(before, compaction):
    """I5, through a store: what is not in view comes back equal."""
    store = Archive(InMemoryStore(), ("test", "session"))
    store.put(compaction.evicted)
    recalled = [message for handle in compaction.evicted for message in store.recall(handle)]
    for message in before:
        assert message in compaction.bundle.messages or message in recalled


def assert_handles_resolve(compaction):
    """Every handle that the compactor wrote leads somewhere."""
    for message in compaction.bundle.messages:
        mark = message.response_metadata.get("langchain_runtime", {})
        if is_note(message) or mark.get("clipped"):
            handles = find_handles(str(message.content))
            assert handles
            assert set(handles) <= compaction.evicted.keys()


def assert_invariants(messages, policy, counter, result):
    view = result.bundle.messages
    assert counter(view) == result.tokens_after <= room_of(policy)  # I1
    assert_valid_tool_pairs(messages, view)
    assert is_subsequence(untouchable(messages, policy), view)  # I3
    kept = {m.id for m in always_kept(messages, policy)}
    assert kept <= {m.id for m in view}  # I4
    assert_lossless(messages, result)
    own = [m.id for m in view if not is_note(m)]
    assert is_subsequence(own, [m.id for m in messages])  # I6
    if any(not isinstance(m, SystemMessage) for m in messages):
        assert any(not isinstance(m, SystemMessage) and not is_note(m) for m in view)
    assert_handles_resolve(result)


@CI
@given(cases())
def test_a_view_fits_and_stays_a_valid_lossless_conversation_or_overflow_is_raised_I1_I2_I3_I4_I5_I6(case):
    messages, policy, counter = case
    result = attempt(messages, policy, counter)
    if isinstance(result, ContextOverflowError):
        assert result.needed > result.limit == room_of(policy)
        assert counter(always_kept(messages, policy)) > room_of(policy)  # raised only where it had to be
    else:
        assert_invariants(messages, policy, counter, result)


@CI
@given(cases(orphans=True))
def test_tool_results_without_a_call_leave_the_view_and_are_kept_I2_I5(case):
    messages, policy, counter = case
    orphans = [messages[position] for position in group_messages(messages).orphans]
    result = attempt(messages, policy, counter)
    assume(not isinstance(result, ContextOverflowError))
    assert not group_messages(result.bundle.messages).orphans
    assert not any(orphan in result.bundle.messages for orphan in orphans)
    assert ("orphans" in result.strategy) == bool(orphans)
    assert_lossless(messages, result)


@CI
@given(cases(orphans=True))
def test_compaction_is_pure_and_deterministic_N12_I7(case):
    messages, policy, counter = case
    before, other = copy.deepcopy(messages), copy.deepcopy(messages)
    result, again = attempt(messages, policy, counter), attempt(other, policy, counter)
    assert str(again) == str(result)
    assert type(again) is type(result)
    assert messages == before


@CI
@given(cases(orphans=True))
def test_a_view_given_back_is_left_alone_I8(case):
    messages, policy, counter = case
    first = attempt(messages, policy, counter)
    assume(not isinstance(first, ContextOverflowError))
    second = fit(first.bundle.messages, policy, counter)
    assert second.bundle == first.bundle
    assert second.evicted == {}
    assert second.strategy == ()


@CI
@given(cases(strategies=("truncate", "offload")))
def test_a_view_under_the_trigger_is_the_conversation_itself_I8(case):
    messages, policy, counter = case
    policy = policy.model_copy(
        update={"max_tokens": int(counter(messages) / policy.trigger) + 2 + policy.reserve_output}
    )
    result = fit(messages, policy, counter)
    assert result.bundle.messages == messages
    assert (result.evicted, result.strategy, result.clipped) == ({}, (), 0)


@CI
@given(cases(strategies=("keep_last", "offload")))
def test_an_event_lands_at_the_target_or_on_what_must_stay_I10(case):
    messages, policy, counter = case
    result = attempt(messages, policy, counter)
    assume(not isinstance(result, ContextOverflowError))
    if counter(messages) > policy.trigger * room_of(policy):
        floor = {m.id for m in always_kept(messages, policy)}
        left = {m.id for m in result.bundle.messages if not is_note(m)}
        assert result.tokens_after <= policy.target * room_of(policy) or left == floor


@CI
@given(st.lists(st.tuples(st.sampled_from(["a", "b.c", "d-e"]), WORDS), max_size=4), st.integers(20, 600), COUNTERS)
def test_of_a_prompt_only_what_dependencies_wrote_is_clipped_and_it_can_be_recalled_I3_I5(pieces, room, counter):
    template = "Say {x}: " + " & ".join(f"{{{name}}}" for name, _ in pieces)
    outcomes = {name: TaskOutcome(task=name, state=TaskState.COMPLETED, output=text) for name, text in pieces}
    task = TaskSpec(id="t", prompt=template, deps=tuple(outcomes))
    routed = ContextRouter().route(task, outcomes)
    bundle = ContextBuilder().build(task, inputs={"x": "hi"}, routed=routed, memory={}, tools={})
    try:
        result = ContextCompactor(counter).compact(bundle, ContextPolicy(max_tokens=room))
    except ContextOverflowError:
        return
    assert result.tokens_after <= room
    prompt = result.bundle.messages[-1].content
    assert prompt.startswith("Say hi: ")
    assert_lossless(bundle.messages, result)
    values = {f"dep:{name}": text for name, text in routed.items()}
    for handle in find_handles(prompt):
        (whole,) = result.evicted[handle]
        assert whole.content.partition("\n")[2] == values[whole.id]


def recorded(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [list(as_messages(json.loads(line)["messages"])) for line in lines]


def as_messages(messages):
    for number, message in enumerate(messages):
        text, name = message.get("content") or "", f"n{number}"
        if message["role"] == "system":
            yield SystemMessage(text, id=name)
        elif message["role"] == "user":
            yield HumanMessage(text, id=name)
        elif message["role"] == "tool":
            yield ToolMessage(text, tool_call_id=message["tool_call_id"], id=name)
        else:
            calls = [
                {"name": call["function"]["name"], "args": json.loads(call["function"]["arguments"]), "id": call["id"]}
                for call in message.get("tool_calls") or []
            ]
            yield AIMessage(text, tool_calls=calls, id=name)


@pytest.mark.parametrize("strategy", ["offload", "truncate", ("truncate", "keep_last")])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("name", ["tau_bench_airline.jsonl.gz", "swe_agent.jsonl.gz", "bfcl_memory_prereq.jsonl.gz"])
def test_recorded_conversations_fit_without_orphans_or_loss(shared_data, name, share, strategy):
    fitted = 0
    for messages in recorded(shared_data / "transcripts" / name):
        system = per_message([m for m in messages if isinstance(m, SystemMessage)])
        policy = ContextPolicy(max_tokens=system + int((per_message(messages) - system) * share), strategy=strategy)
        result = attempt(messages, policy, per_message)
        if isinstance(result, ContextOverflowError):
            assert per_message(always_kept(messages, policy)) > policy.max_tokens
        else:
            fitted += 1
            assert_invariants(messages, policy, per_message, result)
    assert fitted

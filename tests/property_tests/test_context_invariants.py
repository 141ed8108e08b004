"""The invariants of context compaction over generated conversations, and over recorded ones where they are at hand."""

import copy
import gzip
import json

import pytest
from conversation_checks import (
    Fitted,
    assert_fits,
    assert_handles_lead_somewhere,
    assert_kept,
    assert_lossless,
    assert_ordered,
    assert_untouched,
    assert_valid,
    must_stay,
)
from conversations import CI, COUNTERS, FEWER, PATIENT, Case, cases, per_message
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.context import ContextBuilder, ContextCompactor, ContextRouter, find_handles, group_messages
from langchain_runtime.context.marks import mark_of
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.task_spec import TaskSpec
from langchain_runtime.cost import TokenEstimator

pytestmark = PATIENT


def assert_invariants(each):
    assert_fits(each)
    if each.view is not None:
        found = each.origins
        assert_valid(each, found)
        assert_untouched(each, found)
        assert_kept(each, found)
        assert_lossless(each, each.archive)
        assert_handles_lead_somewhere(each, each.archive)
        assert_ordered(each, found)


@CI
@given(cases())
def test_a_view_fits_and_stays_a_valid_lossless_conversation_or_overflow_is_raised_I1_I2_I3_I4_I5_I6(case):
    assert_invariants(Fitted(case))


@FEWER
@given(cases(counter=TokenEstimator()))
def test_so_it_does_by_the_default_counter_I1_I2_I3_I4_I5_I6(case):
    assert_invariants(Fitted(case))


@CI
@given(cases())
def test_tool_results_without_a_call_leave_the_view_and_are_kept_I2_I5(case):
    case.messages.insert(case.rng.randint(0, len(case.messages)), ToolMessage("42", tool_call_id="lost", id="lost"))
    each = Fitted(case)
    if each.view is not None:
        shown = {id(message) for message in each.result.bundle.messages}
        assert not group_messages(each.result.bundle.messages).orphans
        assert not any(id(each.messages[position]) in shown for position in group_messages(each.messages).orphans)
        assert "orphans" in each.result.strategy
        assert_lossless(each, each.archive)


@CI
@given(cases())
def test_compaction_is_pure_and_deterministic_N12_I7(case):
    before = copy.deepcopy(case.messages)
    one = Fitted(case)
    assert case.messages == before
    case.messages = before
    other = Fitted(case)
    assert str(one.error) == str(other.error)
    assert one.result == other.result


@CI
@given(cases())
def test_a_view_given_back_is_left_alone_I8(case):
    each = Fitted(case)
    if each.view is not None:
        again = each.fit(each.result.bundle.messages)
        assert (again.bundle, again.evicted, again.strategy) == (each.result.bundle, {}, ())


@CI
@given(cases())
def test_a_view_under_the_trigger_is_the_conversation_itself_I8(case):
    roomy = int(case.size(case.messages) / case.policy.trigger) + 2 + case.policy.reserve_output
    case.policy, case.window = case.policy.model_copy(update={"max_tokens": roomy}), None
    orphans = group_messages(case.messages).orphans
    each = Fitted(case)
    assert each.view.messages == [message for p, message in enumerate(case.messages) if p not in orphans]
    assert each.result.clipped == 0
    assert {*each.result.strategy} <= {"orphans"}


@CI
@given(cases(strategies=("keep_last", "offload")))
def test_an_event_lands_at_the_target_or_on_what_must_stay_I10(case):
    each = Fitted(case)
    goal = int(min(case.policy.target, case.policy.trigger) * case.room)
    if each.view is not None and {*each.result.strategy} - {"orphans"} and each.result.tokens_after > goal:
        assert {*each.origins} - {None} <= must_stay(each.messages, case.policy)


@CI
@given(cases())
def test_the_figures_of_a_compaction_are_true_I12(case):
    each = Fitted(case)
    if each.view is not None:
        result, known = each.result, {id(message) for message in each.messages}
        assert result.tokens_before == case.size(each.messages)
        assert result.tokens_after == case.size(each.view.messages)
        assert result.orphans == len(group_messages(each.messages).orphans)
        assert result.clipped == sum(mark_of(m).clipped and id(m) not in known for m in each.view.messages)
        changed = [*map(id, each.view.messages)] != [*map(id, each.messages)]
        assert bool(result.strategy) == bool(result.evicted) == changed


WORDS = st.builds(
    lambda word, times: word * times, st.text("abcé日 \n[]{}", min_size=1, max_size=12), st.integers(0, 60)
)


@CI
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.c", "d-e"]), WORDS), max_size=4),
    st.integers(20, 600),
    st.sampled_from(COUNTERS),
)
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
    kept = [message for messages in result.evicted.values() for message in messages]
    assert all(message in result.bundle.messages or message in kept for message in bundle.messages)
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


class Recorded(Case):
    """A conversation that was recorded, to be fitted to a share of its tokens."""

    def __init__(self, messages, share, strategy):
        self.messages, self.counter, self.system, self.tools, self.window = messages, per_message, None, [], None
        system = per_message([message for message in messages if isinstance(message, SystemMessage)])
        room = system + int((per_message(messages) - system) * share)
        self.policy = ContextPolicy(max_tokens=room, strategy=strategy)


@pytest.mark.parametrize("strategy", ["offload", "truncate", ("truncate", "keep_last")])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("name", ["tau_bench_airline.jsonl.gz", "swe_agent.jsonl.gz", "bfcl_memory_prereq.jsonl.gz"])
def test_recorded_conversations_fit_without_orphans_or_loss(shared_data, name, share, strategy):
    fitted = 0
    for messages in recorded(shared_data / "transcripts" / name):
        each = Fitted(Recorded(messages, share, strategy))
        assert_invariants(each)
        fitted += each.view is not None
    assert fitted

"""Atomic groups: what must stay together for a conversation to remain valid."""

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.context import group_messages


def calling(*ids, broken=()):
    return AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {}, "id": call} for call in ids],
        invalid_tool_calls=[{"name": "f", "args": "{", "id": call, "error": "no JSON"} for call in broken],
    )


def result(call):
    return ToolMessage("r", tool_call_id=call)


def test_an_empty_conversation_has_no_groups():
    assert group_messages([]) == ((), ())


def test_a_message_without_calls_is_a_group_of_its_own():
    assert group_messages([SystemMessage("s"), HumanMessage("h"), AIMessage("a")]).groups == ((0,), (1,), (2,))


def test_an_assistant_message_stays_with_all_results_of_its_parallel_calls():
    messages = [HumanMessage("h"), calling("a", "b"), result("b"), result("a"), AIMessage("done")]
    assert group_messages(messages).groups == ((0,), (1, 2, 3), (4,))


def test_a_result_belongs_to_its_call_across_other_messages():
    messages = [calling("a", "b"), result("a"), HumanMessage("wait"), result("b")]
    assert group_messages(messages).groups == ((0, 1, 3), (2,))


def test_a_second_answer_to_a_call_stays_with_it():
    assert group_messages([calling("a"), result("a"), result("a")]).groups == ((0, 1, 2),)


def test_a_reused_call_id_means_the_latest_call():
    assert group_messages([calling("0"), result("0"), calling("0"), result("0")]).groups == ((0, 1), (2, 3))


def test_an_unanswered_call_is_a_group():
    assert group_messages([calling("a"), HumanMessage("h")]) == (((0,), (1,)), ())


def test_the_answer_to_a_call_with_broken_arguments_is_no_orphan():
    assert group_messages([calling(broken=["a"]), result("a")]) == (((0, 1),), ())


def test_a_call_without_an_id_takes_no_results():
    message = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": None}])
    assert group_messages([message, result("")]) == (((0,),), (1,))


def test_results_without_a_call_or_before_it_are_reported_as_orphans():
    assert group_messages([result("a"), calling("a"), result("a"), result("z")]) == (((1, 2),), (0, 3))

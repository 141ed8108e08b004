"""The builder assembles what a model sees (rows M of the reference scenarios)."""

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_runtime.context import ContextBuilder
from langchain_runtime.context.marks import Inlined, mark_of
from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.task_spec import TaskSpec


def build(prompt=None, *, system=None, inputs=None, routed=None, memory=None, tools=None):
    return ContextBuilder(system=system).build(
        TaskSpec(id="t", prompt=prompt),
        inputs=inputs or {},
        routed=routed or {},
        memory=memory or {},
        tools=tools or {},
    )


def dependency_texts(bundle):
    return [message.text for message in bundle.messages if (message.id or "").startswith("dep:")]


def test_the_builder_is_a_context_builder_M1():
    assert isinstance(ContextBuilder(), protocols.ContextBuilder)


def test_outputs_memory_and_tools_are_in_the_bundle_M2():
    bundle = build("Go", routed={"t1": "task1 output"}, memory={"key1": "value1"})
    assert dependency_texts(bundle) == ["t1:\ntask1 output"]
    assert bundle.memory == {"key1": "value1"}
    assert bundle.tools == {}


def test_the_order_is_system_memory_dependencies_prompt():
    bundle = build("Do {x}.", system="Be brief.", inputs={"x": "it"}, routed={"b": "B", "a": "A"}, memory={"k": [1]})
    assert bundle.messages == [
        SystemMessage("Be brief."),
        HumanMessage("Memory of this run:\n- k: [1]", id="memory"),
        HumanMessage("b:\nB", id="dep:b"),
        HumanMessage("a:\nA", id="dep:a"),
        HumanMessage("Do it.", id="prompt"),
    ]


def test_ten_outputs_are_ten_messages_in_order_M3_M14():
    routed = {f"t{number}": f"output {number}" for number in range(10)}
    assert dependency_texts(build("Go", routed=routed)) == [f"{name}:\n{text}" for name, text in routed.items()]


def test_without_memory_there_is_an_empty_map_and_no_message_M4_M5():
    bundle = build("Go")
    assert bundle.memory == {}
    assert bundle.messages == [HumanMessage("Go", id="prompt")]


def test_memory_without_dependencies_is_still_shown_M6_M12():
    bundle = build("Go", memory={"a": "1", "b": {"c": 2}, "d": None})
    assert bundle.memory == {"a": "1", "b": {"c": 2}, "d": None}
    assert bundle.messages[0] == HumanMessage('Memory of this run:\n- a: 1\n- b: {"c":2}\n- d: null', id="memory")


@pytest.mark.parametrize("empty", ["", "  \n", None], ids=repr)
def test_an_empty_output_is_left_out_M7_M8_M15(empty):
    assert dependency_texts(build("Go", routed={"a": "A", "b": empty})) == ["a:\nA"]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (False, "false"), ([], "[]"), ({}, "{}")], ids=repr)
def test_an_empty_list_or_zero_is_an_answer(value, text):
    assert dependency_texts(build("Go", routed={"a": value})) == [f"a:\n{text}"]


def test_changing_the_bundle_changes_nothing_it_was_made_of_M13():
    memory, tools = {"k": {"deep": [1]}}, {"f": {"parameters": {}}}
    bundle = build("Go", memory=memory, tools=tools)
    bundle.memory["k"]["deep"].append(2)
    bundle.tools["f"]["parameters"]["x"] = 1
    assert memory == {"k": {"deep": [1]}}
    assert tools == {"f": {"parameters": {}}}


def test_an_output_that_the_prompt_names_stands_in_the_prompt_only():
    bundle = build("Use {a}, twice {a}.", routed={"a": "A", "b": "B"})
    assert dependency_texts(bundle) == ["b:\nB"]
    assert bundle.messages[-1].text == "Use A, twice A."


def test_the_prompt_remembers_where_outputs_stand_and_what_the_author_wrote():
    prompt = build("{q}: {a} + {b.c}!", inputs={"q": "sum"}, routed={"a": "one", "b.c": [2]}).messages[-1]
    places = mark_of(prompt).inlined
    assert places == (Inlined(alias="a", start=5, end=8), Inlined(alias="b.c", start=11, end=14))
    assert [prompt.text[place.start : place.end] for place in places] == ["one", "[2]"]


def test_without_a_prompt_there_is_context_only():
    assert build(routed={"a": "A"}).messages == [HumanMessage("a:\nA", id="dep:a")]


def test_a_variable_that_nothing_supplies_is_refused():
    with pytest.raises(InvalidInputError, match=r"\{outlin\}") as error:
        build("{outlin}", inputs={"topic": "x"}, routed={"outline": "y"})
    assert error.value.hint == "did you mean 'outline'? available: topic, outline"

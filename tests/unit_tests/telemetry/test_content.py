"""Prompts and outputs leave the process only if that is switched on."""

import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.graph import RunGraph
from langchain_runtime.telemetry import content
from langchain_runtime.telemetry.switches import CONTENT_VARIABLE
from langchain_runtime.testing import ScriptedChatModel


def a_graph():
    graph = RunGraph(model=ScriptedChatModel(script=["a secret reply"]))
    graph.add_task("ask", prompt="a secret question of {who}")
    return graph.add_task("use", lambda inputs: {"got": inputs["ask"]}, deps=["ask"]).compile()


async def test_by_default_no_prompt_no_input_and_no_output_is_told(traced):
    await a_graph().ainvoke({"inputs": {"who": "Bob"}})
    assert len(traced.spans) == 3
    told = "".join(span.to_json() for span in traced.spans)
    assert "secret" not in told
    assert "Bob" not in told


@pytest.mark.parametrize("value", ["false", "", "NO_CONTENT", "EVENT_ONLY"])
async def test_other_values_of_the_variable_do_not_switch_it_on(traced, monkeypatch, value):
    monkeypatch.setenv(CONTENT_VARIABLE, value)
    await a_graph().ainvoke({"inputs": {"who": "Bob"}})
    assert "secret" not in "".join(span.to_json() for span in traced.spans)


@pytest.mark.parametrize("value", ["true", "True", "SPAN_ONLY", "span_and_event"])
async def test_switched_on_tasks_carry_messages_arguments_and_results(traced, monkeypatch, value):
    monkeypatch.setenv(CONTENT_VARIABLE, value)
    await a_graph().ainvoke({"inputs": {"who": "Bob"}})
    ask, use = traced.one("execute_tool ask").attributes, traced.one("execute_tool use").attributes
    asked = json.loads(ask["gen_ai.input.messages"])
    assert asked[-1] == {"role": "user", "parts": [{"type": "text", "content": "a secret question of Bob"}]}
    assert json.loads(ask["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "a secret reply"}], "finish_reason": "stop"}
    ]
    assert json.loads(use["gen_ai.tool.call.arguments"])["ask"] == "a secret reply"
    assert json.loads(use["gen_ai.tool.call.result"]) == {"got": "a secret reply"}


async def test_switched_on_an_error_says_what_it_said(traced, monkeypatch):
    monkeypatch.setenv(CONTENT_VARIABLE, "true")

    def body(_inputs):
        raise ValueError("a secret " + "x" * 5_000)

    with pytest.raises(RunFailedError):
        await RunGraph().add_task("a", body).compile().ainvoke({"inputs": {}})
    description = traced.one("execute_tool a").status.description
    assert description.startswith("ValueError: a secret xxx")
    assert len(description) < 1_100


def test_messages_have_the_form_of_the_conventions():
    call = {"name": "search", "args": {"q": "dogs"}, "id": "c1", "type": "tool_call"}
    history = [
        SystemMessage("Be brief."),
        HumanMessage(
            [{"type": "text", "text": "What is this?"}, {"type": "image", "url": "https://example.com/x.png"}]
        ),
        AIMessage("Let me look.", tool_calls=[call]),
        ToolMessage("They bark.", tool_call_id="c1"),
    ]
    assert json.loads(content.chat_history(history)) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is this?"}, {"type": "image"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "Let me look."},
                {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "dogs"}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "They bark."}]},
    ]


def test_long_texts_are_cut_and_the_json_stays_whole():
    (message,) = json.loads(content.chat_history([HumanMessage("y" * 10_000)]))
    assert message["parts"][0]["content"].endswith("y… [2000 more characters]")
    call = {"name": "write", "args": {"text": "z" * 10_000}, "id": "c1", "type": "tool_call"}
    (message,) = json.loads(content.chat_history([AIMessage("", tool_calls=[call])]))
    assert len(message["parts"][0]["arguments"]) < 8_100


def test_a_long_history_is_cut_as_a_whole():
    assert len(content.chat_history([HumanMessage("y" * 10_000)] * 100)) < 80_000


def test_what_is_no_json_is_told_as_text():
    assert json.loads(content.as_json({"at": 1 + 2j})) == {"at": "(1+2j)"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ValueError: Bob said so", "ValueError"),
        ("RateLimitError", "RateLimitError"),
        ("Bob: said so", None),
        ("the model said Error: 1", None),
        (None, None),
    ],
)
def test_of_an_error_only_its_class_is_told(said, told):
    assert content.error_class(said) == told

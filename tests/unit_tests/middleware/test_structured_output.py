"""Agents with ``response_format``: they end as well as others, and never with half an answer."""

import json

import pytest
from langchain.agents.middleware import after_model
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

THREAD = {"configurable": {"thread_id": "t"}}


class Weather(BaseModel):
    place: str
    sunny: bool


VIENNA = {"place": "Vienna", "sunny": True}
FORMATS = {"tool": ToolStrategy(Weather), "provider": ProviderStrategy(Weather), "auto": Weather}


def answer(kind, args=VIENNA, **fields):
    """The reply of a model that answers in the format."""
    if kind == "provider":
        return AIMessage(json.dumps(args), **fields)
    return AIMessage("", tool_calls=[{"name": "Weather", "args": args, "id": "call_w"}], **fields)


@pytest.fixture(params=["tool", "provider", "auto"])
def kind(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["with tools", "without tools"])
def tools(request, office):
    return [office.look] if request.param else []


@after_model
def first_hook(state, runtime):
    return None


@after_model
def second_hook(state, runtime):
    return None


async def test_it_answers_while_there_is_money_and_ends_without_an_answer_when_there_is_none(office, call, kind, tools):
    agent = office.agent(
        office.model(answer(kind)),
        tools=tools,
        response_format=FORMATS[kind],
        before=[first_hook, second_hook],
        checkpointer=InMemorySaver(),
    )
    result = await call(agent, config=THREAD)
    assert result["structured_response"] == Weather(**VIENNA)
    office.use_up()
    result = await call(agent, "and tomorrow?", THREAD)
    assert result["structured_response"] is None
    assert result["messages"][-1].text.startswith("Budget reached: ")
    office.top_up()
    result = await call(agent, {"messages": []}, THREAD)
    assert result["structured_response"] == Weather(**VIENNA)


CUT = {
    "response_metadata": {"finish_reason": "length"},
    "usage_metadata": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
}


def half_an_answer(kind):
    return (
        AIMessage('{"place": "Vien', **CUT)
        if kind == "provider"
        else answer(kind, {"place": "Vien", "sunny": True}, **CUT)
    )


def uncapped(office, *script):
    return office.model(*script, max_tokens=None)


async def test_half_an_answer_is_asked_for_again(office, call, kind, tools):
    model = uncapped(office, half_an_answer(kind), answer(kind))
    result = await call(office.agent(model, tools=tools, response_format=FORMATS[kind]))
    assert result["structured_response"] == Weather(**VIENNA)
    assert len(model.calls) == 2
    assert "Your reply was cut after 7 output tokens" in model.calls[1].messages[-1].text
    assert isinstance(result["messages"][0], HumanMessage)
    assert not any("was cut" in message.text for message in result["messages"]), "what the model was told is not kept"


async def test_half_an_answer_twice_ends_the_agent_without_one(office, call, kind, tools):
    model = uncapped(office, half_an_answer(kind))
    agent = office.agent(model, tools=tools, response_format=FORMATS[kind], before=[first_hook, second_hook])
    result = await call(agent)
    assert len(model.calls) == 2
    assert result["structured_response"] is None
    notice = result["messages"][-1]
    assert notice.text.startswith("Budget reached: the reply was cut after 7 output tokens")
    assert notice.response_metadata["lcr_budget_end"] == {"type": "reply_cut", "waiting": ["agent"]}
    assert notice.usage_metadata["output_tokens"] == 7


async def test_with_error_what_cannot_be_read_is_an_error_as_without_a_budget(office, call):
    model = uncapped(office, half_an_answer("provider"))
    agent = office.agent(model, response_format=FORMATS["provider"], on_exceeded="error")
    with pytest.raises(StructuredOutputError):
        await call(agent)
    assert len(model.calls) == 2


async def test_what_cannot_be_read_for_another_reason_is_none_of_our_business(office, call):
    model = office.model("no JSON")
    with pytest.raises(StructuredOutputError):
        await call(office.agent(model, response_format=FORMATS["provider"]))
    assert len(model.calls) == 1


async def test_half_a_tool_call_twice_ends_the_agent_and_asks_nobody(office, call):
    model = uncapped(office, AIMessage("", tool_calls=[{"name": "look", "args": {"where": "h"}, "id": "1"}], **CUT))
    result = await call(office.agent(model, on_exceeded="ask"))
    assert office.looks == []
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert "__interrupt__" not in result


async def test_text_that_our_cap_cut_reaches_the_caller(office, call):
    model = uncapped(office, AIMessage("so far so", **CUT))
    result = await call(office.agent(model))
    assert result["messages"][-1].text == "so far so"
    assert result["messages"][-1].response_metadata["lcr_capped"] is True
    assert len(model.calls) == 1


async def test_a_call_that_the_users_own_cap_cut_is_left_to_langchain(office, call):
    reply = AIMessage("", tool_calls=[{"name": "look", "args": {"where": "h"}, "id": "1"}], **CUT)
    await call(office.agent(office.model(reply, "done")))
    assert office.looks == ["h"]


async def test_a_second_try_that_does_not_fit_asks(office, call):
    model = office.model(script=lambda _: _use_up_and_cut(office), max_tokens=None)
    result = await call(office.agent(model, on_exceeded="ask", checkpointer=InMemorySaver()), config=THREAD)
    assert result["__interrupt__"][0].value["type"] == "budget_exceeded"
    assert len(model.calls) == 1


def _use_up_and_cut(office):
    office.use_up()
    return AIMessage("", tool_calls=[{"name": "look", "args": {"where": "h"}, "id": "1"}], **CUT)

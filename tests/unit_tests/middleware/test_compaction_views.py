"""What an agent's model is sent: a view that fits, begins as the one before, and leaves the state alone."""

import json
import subprocess
import sys

import pytest
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, Field
from talking_agents import (
    SMALL,
    check_requests,
    check_valid,
    events_between,
    follow,
    look,
    says,
    talk,
    talker,
    talking_agent,
    thread,
    tokens,
    tool_names,
)

from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.middleware import CompactionMiddleware


def policy(**fields):
    return ContextPolicy(**{**SMALL.model_dump(), **fields})


@pytest.fixture
def model():
    return talker()


async def test_each_request_fits_and_is_a_valid_conversation(model, call):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver(), system_prompt="Be brief.")
    for turn in range(24):
        await call(agent, says(f"look place{turn} other{turn}"), thread())
    check_requests(model.calls, 1_000)
    assert max(map(tokens, model.calls)) > 700
    assert {request.messages[0].text for request in model.calls} == {"Be brief."}


async def test_the_state_keeps_every_message_and_the_boundary_is_all_that_is_added(model, call):
    compacted = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    plain = talking_agent([], checkpointer=InMemorySaver())
    for turn in range(20):
        given = says(f"look place{turn}", id=f"q{turn}")
        await call(compacted, given, thread())
        result = await call(plain, given, thread())
    values = compacted.get_state(thread()).values
    assert [(m.type, m.text) for m in values["messages"]] == [(m.type, m.text) for m in result["messages"]]
    assert values.keys() == {"messages", "lcr_boundary"}
    assert Boundary.model_validate(values["lcr_boundary"]).events > 1
    assert len(json.dumps(values["lcr_boundary"])) < 8_000


async def test_nothing_is_added_to_input_and_output(model, call):
    agent = talking_agent(CompactionMiddleware(SMALL), model)
    result = await call(agent, {"messages": [HumanMessage("rain " * 300), *says("look there")["messages"]]})
    assert result.keys() == {"messages"}
    assert agent.get_input_jsonschema()["properties"].keys() == {"messages"}


def test_a_short_conversation_is_sent_as_it_is(model):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    result = agent.invoke(says("look here"), thread())
    assert list(model.calls[-1].messages) == result["messages"][:-1]
    assert agent.get_state(thread()).values.keys() == {"messages"}


def test_between_events_requests_begin_as_the_one_before(model):
    middleware = CompactionMiddleware(SMALL)
    agent = talking_agent(middleware, model, checkpointer=InMemorySaver(), system_prompt="Be brief.")
    talk(agent, 30, thread())
    assert len(model.calls) == 60
    assert events_between(model.calls) == middleware.report().events
    assert 2 <= middleware.report().events <= 8


def test_recall_is_offered_when_something_has_left_the_view(model):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    talk(agent, 20, thread())
    offered = ["recall" in tool_names(request) for request in model.calls]
    first = next(n for n, request in enumerate(model.calls) if "[recall:" in request.messages[0].text)
    assert first > 1
    assert offered == [n >= first for n in range(len(model.calls))]


def test_a_policy_without_recall_never_offers_it(model):
    agent = talking_agent(CompactionMiddleware(policy(recall=False)), model, checkpointer=InMemorySaver())
    talk(agent, 20, thread())
    assert {tuple(tool_names(request)) for request in model.calls} == {("look",)}


async def test_the_model_reads_back_what_has_left_its_view(model, call):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    await call(agent, says("remember the code 4711-X"), thread())
    for turn in range(20):
        await call(agent, says(f"look place{turn}"), thread())
    assert not any("4711-X" in message.text for message in model.calls[-1].messages)
    result = await call(agent, says("search 4711-X code"), thread())
    assert "4711-X" in result["messages"][-2].text
    assert result["messages"][-2].name == "recall"
    check_requests(model.calls, 1_000)


def test_an_answer_of_recall_has_at_most_what_the_policy_allows(model):
    agent = talking_agent(CompactionMiddleware(policy(recall_tokens=64)), model, checkpointer=InMemorySaver())
    agent.invoke(says("note " + "sunshine " * 300), thread())
    talk(agent, 15, thread())
    result = agent.invoke(says("search sunshine"), thread())
    answer = result["messages"][-2].text
    assert "sunshine" in answer
    assert len(answer) < 64 * 8


def test_tools_and_system_message_count(model):
    @tool
    def wordy(argument: str) -> str:
        """Wordy."""
        return argument

    wordy.description = "A tool that needs a lot of words to say what it is good for. " * 20
    agent = talking_agent(
        CompactionMiddleware(SMALL),
        model,
        tools=[look, wordy],
        system_prompt="Be very brief. " * 40,
        checkpointer=InMemorySaver(),
    )
    talk(agent, 20, thread())
    check_requests(model.calls, 1_000)


class Weather(BaseModel):
    """The weather, in a form that takes a lot of words to describe, so that its schema takes a lot of room."""

    rain: str = Field(description="how much rain there is, in words that everybody understands " * 15)
    wind: str = Field(description="how strong the wind is, in words that everybody understands " * 15)


@pytest.mark.parametrize(
    ("response_format", "limit"), [(ToolStrategy(Weather), 1_000), (Weather, 1_000), (ProviderStrategy(Weather), 700)]
)
def test_schemas_for_structured_output_count(response_format, limit):
    answer = {"rain": "some", "wind": "none"}

    def script(messages):
        reply = follow(messages)
        if reply.tool_calls:
            return reply
        if isinstance(response_format, ProviderStrategy):
            return json.dumps(answer)
        call = {"name": "Weather", "args": answer, "id": f"w{len(model.calls)}"}
        return reply.model_copy(update={"content": "", "tool_calls": [call]})

    model = talker(script)
    middleware = CompactionMiddleware(SMALL)
    agent = talking_agent(middleware, model, response_format=response_format, checkpointer=InMemorySaver())
    for turn in range(16):
        result = agent.invoke(says(f"look place{turn}"), thread())
        assert result["structured_response"] == Weather(**answer)
    assert middleware.report().events > 1
    check_requests(model.calls, limit)


def test_the_output_reserve_is_kept_free(model):
    agent = talking_agent(CompactionMiddleware(policy(reserve_output=300)), model, checkpointer=InMemorySaver())
    talk(agent, 20, thread())
    check_requests(model.calls, 700)


@pytest.mark.parametrize("stated", ["profile", "catalog"])
def test_the_models_own_window_is_the_limit_where_the_policy_gives_none(stated):
    model = talker(profile={"max_input_tokens": 900} if stated == "profile" else None)
    rates = {"input": "1", "output": "1", "context_window": 900}
    catalog = ModelCatalog({"models": {"scripted:scripted-1": rates}} if stated == "catalog" else None)
    agent = talking_agent(CompactionMiddleware(catalog=catalog), model, checkpointer=InMemorySaver())
    talk(agent, 20, thread())
    check_requests(model.calls, 720)


def test_without_a_window_the_error_says_what_to_give(model):
    agent = talking_agent(CompactionMiddleware(), model)
    with pytest.raises(InvalidInputError, match="window of 'scripted:scripted-1'") as raised:
        agent.invoke(says("hello"))
    assert "max_tokens" in raised.value.hint


async def test_what_cannot_be_made_to_fit_is_an_error_and_nothing_is_sent(model, call):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    with pytest.raises(ContextOverflowError):
        await call(agent, says("too much " * 1_000), thread())
    assert model.calls == []


def test_a_counter_of_ones_own_decides(model):
    agent = talking_agent(
        CompactionMiddleware(ContextPolicy(max_tokens=12), token_counter=len), model, checkpointer=InMemorySaver()
    )
    talk(agent, 20, thread())
    assert max(len(request.messages) for request in model.calls) <= 12
    for request in model.calls:
        check_valid(request.messages)


def test_the_report_says_what_was_done_for_the_latest_call(model):
    middleware = CompactionMiddleware(SMALL)
    assert middleware.report() is None
    agent = talking_agent(middleware, model, checkpointer=InMemorySaver())
    agent.invoke(says("look here"), thread("a"))
    talk(agent, 20, thread("b"))
    assert middleware.report("a").events == 0
    assert middleware.report("a").tokens_before == middleware.report("a").tokens_after
    assert middleware.report("b").events > 0
    assert middleware.report() == middleware.report("b")
    assert middleware.report("c") is None


def test_messages_in_the_state_that_are_system_messages_stay(model):
    agent = talking_agent(CompactionMiddleware(SMALL), model, checkpointer=InMemorySaver())
    agent.invoke({"messages": [SystemMessage("Rule one.", id="rule")]}, thread())
    talk(agent, 20, thread())
    assert all("Rule one." in [message.text for message in request.messages] for request in model.calls)


def test_a_stream_of_messages_has_the_agents_replies_only(model):
    store = InMemoryStore()
    summaries = talker(["in short: rain"])
    middleware = CompactionMiddleware(policy(strategy="summarize"), store=store, summarizer=summaries)
    agent = talking_agent(middleware, model, checkpointer=InMemorySaver())
    streamed = ""
    for turn in range(20):
        for chunk, _ in agent.stream(says(f"look place{turn}"), thread(), stream_mode="messages"):
            streamed += chunk.text
    assert len(summaries.calls) > 0
    assert "done: seen in place19" in streamed
    assert "in short" not in streamed
    check_requests(model.calls, 1_000)


def test_a_tool_of_the_users_that_is_called_recall_is_refused(model):
    mine = StructuredTool.from_function(lambda item: item, name="recall", description="Call an item back to the shop.")
    agent = talking_agent(CompactionMiddleware(SMALL), model, tools=[look, mine])
    with pytest.raises(InvalidInputError, match="recall"):
        agent.invoke(says("hello"))


def test_a_summarizer_that_the_policy_does_not_ask_for_is_refused(model):
    with pytest.raises(InvalidInputError, match="offload"):
        CompactionMiddleware(SMALL, summarizer=model)


def test_without_langchain_the_error_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['langchain'] = None\n"
        "import langchain_runtime.middleware as package\n"
        "try:\n    package.CompactionMiddleware\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 'pip install "langchain-runtime-layer[agents]"' in done.stdout

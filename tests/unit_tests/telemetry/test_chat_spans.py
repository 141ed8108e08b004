"""Spans of model calls, where they are switched on."""

import asyncio
import json

import pytest
from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from langchain_runtime import telemetry
from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.graph import RunGraph
from langchain_runtime.telemetry.chat import ChatSpans
from langchain_runtime.telemetry.switches import CHAT_SPANS_VARIABLE, CONTENT_VARIABLE
from langchain_runtime.testing import ScriptedChatModel

every_way = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
every_mode = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])


@pytest.fixture
def switched_on():
    telemetry.chat_spans(True)
    yield
    telemetry.chat_spans(None)


def an_ask(**options):
    return RunGraph(model=ScriptedChatModel(script=["two words"], **options)).add_task("ask", prompt="a question")


async def test_by_default_there_are_none(traced):
    await an_ask().compile().ainvoke({"inputs": {}})
    assert traced.names == ["execute_tool ask", "invoke_workflow"]


@every_mode
@every_way
@pytest.mark.usefixtures("switched_on")
async def test_a_prompts_call_is_below_its_task(traced, call, mode, sync):
    await call(an_ask(max_tokens=50).compile(mode=mode), sync, {"inputs": {}})
    span = traced.one("chat scripted-1")
    assert traced.parent_of(span) == "execute_tool ask"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted-1",
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.model": "scripted-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
    }


async def test_the_environment_switches_them_on_and_the_program_has_the_last_word(traced, monkeypatch):
    monkeypatch.setenv(CHAT_SPANS_VARIABLE, "true")
    await an_ask().compile().ainvoke({"inputs": {}})
    assert len(traced.all("chat scripted-1")) == 1
    telemetry.chat_spans(False)
    try:
        await an_ask().compile().ainvoke({"inputs": {}})
    finally:
        telemetry.chat_spans(None)
    assert len(traced.all("chat scripted-1")) == 1


@every_way
@pytest.mark.usefixtures("switched_on")
async def test_every_call_of_an_agent_is_a_span(traced, call, sync):
    @tool
    def search(q: str) -> str:
        """Search."""
        return "found"

    model = ScriptedChatModel(script=[{"q": "dogs"}, "They bark."])
    app = RunGraph(model=model).add_task("ask", prompt="dogs?", tools=[search]).compile()
    await call(app, sync, {"inputs": {}})
    spans = traced.all("chat scripted-1")
    assert len(spans) == 2
    assert {traced.parent_of(span) for span in spans} == {"execute_tool ask"}


@pytest.mark.usefixtures("switched_on")
async def test_a_call_is_below_the_span_that_the_body_has_opened_and_streams_count(traced):
    async def body(_inputs):
        with trace.get_tracer("the user's").start_as_current_span("inside"):
            return "".join([chunk.content async for chunk in ScriptedChatModel(script=["a b c"]).astream("go")])

    await RunGraph().add_task("a", body).compile().ainvoke({"inputs": {}})
    span = traced.one("chat scripted-1")
    assert traced.parent_of(span) == "inside"
    assert span.attributes["gen_ai.usage.output_tokens"] == 3


@pytest.mark.usefixtures("switched_on")
async def test_a_call_that_failed_is_an_error_and_keeps_its_text_to_itself(traced, monkeypatch):
    def graph():
        return RunGraph(model=ScriptedChatModel(script=[ConnectionError("a secret")])).add_task("a", prompt="go")

    with pytest.raises(RunFailedError):
        await graph().compile().ainvoke({"inputs": {}})
    monkeypatch.setenv(CONTENT_VARIABLE, "true")
    with pytest.raises(RunFailedError):
        await graph().compile().ainvoke({"inputs": {}})
    quiet, open_one = traced.all("chat scripted-1")
    assert {span.status.status_code for span in (quiet, open_one)} == {StatusCode.ERROR}
    assert {span.attributes["error.type"] for span in (quiet, open_one)} == {"ConnectionError"}
    assert (quiet.status.description, open_one.status.description) == (None, "a secret")


@pytest.mark.usefixtures("switched_on")
async def test_a_call_that_was_cancelled_has_an_end_with_its_task(traced):
    begun = asyncio.Event()

    async def hook(_call, _chunk):
        begun.set()
        await asyncio.Event().wait()

    app = RunGraph(model=ScriptedChatModel(hook=hook)).add_task("ask", prompt="go").compile(raise_on_failure=False)
    running = asyncio.create_task(app.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))
    await begun.wait()
    app.abort("r")
    await asyncio.gather(running, return_exceptions=True)
    assert traced.one("chat scripted-1").attributes["error.type"] == "cancelled"
    assert not ChatSpans._under_way


@pytest.mark.usefixtures("switched_on")
async def test_a_call_in_a_run_in_a_body_is_one_span(traced):
    inner = an_ask().compile()

    async def body(_inputs):
        return (await inner.ainvoke({"inputs": {}}))["results"]["ask"].output

    await RunGraph(name="outer").add_task("calls", body).compile().ainvoke({"inputs": {}})
    assert traced.parent_of(traced.one("chat scripted-1")) == "execute_tool ask"


@pytest.mark.usefixtures("switched_on")
async def test_messages_are_told_only_where_content_may_leave(traced, monkeypatch):
    await an_ask().compile().ainvoke({"inputs": {}})
    monkeypatch.setenv(CONTENT_VARIABLE, "true")
    await an_ask().compile().ainvoke({"inputs": {}})
    quiet, open_one = traced.all("chat scripted-1")
    assert "gen_ai.input.messages" not in quiet.attributes
    (asked,) = json.loads(open_one.attributes["gen_ai.input.messages"])
    assert asked["parts"] == [{"type": "text", "content": "a question"}]
    assert "two words" in open_one.attributes["gen_ai.output.messages"]

"""Agents on real clients against a server on loopback: the formats of two providers, and calls cut for real."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI

from langchain_runtime.cost import ModelCatalog

MODELS = {
    "openai:o": {"input": "0.1", "output": "0.5"},
    "anthropic:a": {"input": "1", "output": "5"},
}


class Provider(ThreadingHTTPServer):
    """Gives its ``replies`` out in order, lists as streams, and keeps the bodies of its ``requests``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reply = self.server.replies.pop(0)
        if isinstance(reply, list):
            kind = "text/event-stream"
            events = [f"event: {part.get('type', 'message')}\ndata: {json.dumps(part)}\n\n" for part in reply]
            body = "".join([*events, "data: [DONE]\n\n" if "type" not in reply[0] else ""]).encode()
        else:
            kind, body = "application/json", json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def office(office):
    office.catalog = ModelCatalog({"models": MODELS})
    return office


def gpt(provider: Provider) -> ChatOpenAI:
    return ChatOpenAI(model="o", api_key="k", base_url=f"{provider.url}/v1")


def claude(provider: Provider) -> ChatAnthropic:
    return ChatAnthropic(model="a", api_key="k", base_url=provider.url, max_tokens=2_000)


def of_openai(message: dict[str, Any], finish: str) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "o",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }


def streamed(reply: dict[str, Any]) -> list[dict[str, Any]]:
    (choice,) = reply["choices"]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(delta["tool_calls"])]
    envelope = {**reply, "object": "chat.completion.chunk", "usage": None}
    return [
        {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**envelope, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
        {**envelope, "choices": [], "usage": reply["usage"]},
    ]


def of_anthropic(content: list[dict[str, Any]], stop: str) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "a",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 20},
    }


def gpt_looks(arguments: str, finish: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return of_openai({"content": None, "tool_calls": [call]}, finish)


LOOKS = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "here"}}


async def test_an_agent_steps_down_to_another_provider_in_the_middle_of_its_work(office, provider, call):
    provider.replies = [of_anthropic([LOOKS], "tool_use"), of_openai({"content": "done"}, "stop")]

    def leave_little() -> None:
        office.ledger.set_limit("office", office.books.spent_nano + 4_000_000)  # for 800 tokens of Claude's

    office.when_looking = leave_little
    agent = office.agent(claude(provider), on_exceeded="downgrade", ladder=[gpt(provider)])
    result = await call(agent)
    assert result["messages"][-1].text == "done"
    assert result["messages"][-1].response_metadata["model_name"] == "o"
    first, second = provider.requests
    assert first["tools"][0]["input_schema"]["properties"].keys() == {"where"}
    assert second["tools"][0]["function"]["parameters"]["properties"].keys() == {"where"}
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]


async def test_models_of_a_ladder_may_be_named(office, provider, call, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    provider.replies = [of_openai({"content": "done"}, "stop")]
    office.use_up()
    office.top_up(4_000_000)
    agent = office.agent(claude(provider), on_exceeded="downgrade", ladder=["openai:o"])
    assert (await call(agent))["messages"][-1].response_metadata["model_name"] == "o"


def cut_short(office):
    """The budget allows a reply of 1,500 tokens, or somewhat less."""
    office.use_up()
    office.top_up(1_500 * 500 + 60_000)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_a_tool_call_that_the_cap_cut_in_two_is_not_run_but_tried_again(office, provider, whole):
    cut, complete = gpt_looks('{"where": "her', "length"), of_openai({"content": "done"}, "stop")
    provider.replies = [cut, complete] if whole else [streamed(cut), streamed(complete)]
    cut_short(office)
    agent = office.agent(gpt(provider))
    if whole:
        messages = agent.invoke({"messages": ["go"]})["messages"]
    else:
        *_, last = agent.stream({"messages": ["go"]}, stream_mode=["messages", "values"])
        messages = last[1]["messages"]
    assert office.looks == []
    assert [message.text for message in messages] == ["go", "done"]
    first, second = provider.requests
    assert 1_024 <= first["max_completion_tokens"] < 1_500
    assert "cut after 20 output tokens" in second["messages"][-1]["content"]
    assert office.books.spent_nano == 2 * (10 * 100 + 20 * 500), "both are paid for"


def test_langchain_would_run_such_a_call(office, provider):
    """The reason for all this; should it fail one day, the middleware can let cut calls pass."""
    provider.replies = [
        streamed(gpt_looks('{"where": "her', "length")),
        streamed(of_openai({"content": "done"}, "stop")),
    ]
    from langchain.agents import create_agent

    for _ in create_agent(gpt(provider), [office.look]).stream({"messages": ["go"]}, stream_mode="messages"):
        pass
    assert office.looks == ["her"]


async def test_anthropic_says_in_its_own_words_that_a_call_was_cut(office, provider, call):
    half = {**LOOKS, "input": {"where": "h"}}
    provider.replies = [
        of_anthropic([half], "max_tokens"),
        of_anthropic([LOOKS], "tool_use"),
        of_anthropic([{"type": "text", "text": "done"}], "end_turn"),
    ]
    office.use_up()
    office.top_up(9_000_000)
    result = await call(office.agent(claude(provider)))
    assert office.looks == ["here"]
    assert result["messages"][-1].text == "done"
    assert sum(isinstance(message, AIMessage) for message in result["messages"]) == 2

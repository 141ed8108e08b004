"""Real clients of OpenAI and Anthropic against a server on loopback: what is sent is what was priced."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, EstimationError, InvalidInputError
from langchain_runtime.cost import CostCalculator
from langchain_runtime.ledgers import InMemoryLedger

OPENAI, ANTHROPIC = "gpt-5-mini", "claude-haiku-4-5"

CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 0,
    "model": OPENAI,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 0,
    "model": OPENAI,
    "status": "completed",
    "output": [
        {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "ok", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 8,
        "output_tokens": 2,
        "total_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": ANTHROPIC,
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 8, "output_tokens": 2},
}


def _chat_stream(body: dict[str, Any]) -> list[dict[str, Any]]:
    envelope = {"id": "c1", "object": "chat.completion.chunk", "created": 0, "model": OPENAI}
    chunks = [
        {**envelope, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "o"}, "finish_reason": None}]},
        {**envelope, "choices": [{"index": 0, "delta": {"content": "k"}, "finish_reason": None}]},
        {**envelope, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**envelope, "choices": [], "usage": CHAT["usage"]})
    return chunks


def _message_stream(_: dict[str, Any]) -> list[dict[str, Any]]:
    start = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 8, "output_tokens": 1}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 8, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


class Provider(ThreadingHTTPServer):
    """Answers every provider's requests, fails as told, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.faults: list[Any] = []
        """For the next requests: a status, ``reset``, ``cut`` (a stream breaks off), or a list of raw events."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self._send({"error": {"message": "injected", "type": "error"}}, fault)
        elif fault == "reset":
            self.close_connection = True
        elif body.get("stream"):
            self._stream(body, cut=fault == "cut")
        else:
            self._send(MESSAGE if "messages" in self.path and "chat" not in self.path else self._openai(body))

    def _openai(self, body: dict[str, Any]) -> dict[str, Any]:
        return RESPONSE if self.path.endswith("/responses") else CHAT

    def _send(self, data: dict[str, Any], status: int = 200) -> None:
        payload = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.send_header("retry-after", "0.001")
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, body: dict[str, Any], *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", "100000" if cut else "")
        self.end_headers()
        chat = "chat" in self.path
        events = _chat_stream(body) if chat else _message_stream(body)
        for event in events[:2] if cut else events:
            name = "" if chat else f"event: {event['type']}\n"
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        if chat and not cut:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def send_header(self, keyword: str, value: str) -> None:
        if value:
            super().send_header(keyword, value)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Be quiet."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ledger() -> InMemoryLedger:
    return InMemoryLedger()


def _openai(provider: Provider, ledger: InMemoryLedger, limit: str = "1", **fields: Any) -> Any:
    model = ChatOpenAI(**{"model": OPENAI, "api_key": "x", "base_url": f"{provider.url}/v1", **fields})
    return with_budget(model, Budget.usd(limit, scope="s", on_exceed="raise"), ledger=ledger)


def _azure(provider: Provider, ledger: InMemoryLedger, **fields: Any) -> Any:
    model = AzureChatOpenAI(
        azure_endpoint=provider.url,
        azure_deployment=OPENAI,
        model=OPENAI,
        api_key="x",
        api_version="2024-10-21",
        **fields,
    )
    return with_budget(model, Budget.usd("1", scope="s"), ledger=ledger)


def _anthropic(provider: Provider, ledger: InMemoryLedger, limit: str = "1", **fields: Any) -> Any:
    model = ChatAnthropic(**{"model": ANTHROPIC, "api_key": "x", "base_url": provider.url, **fields})
    return with_budget(model, Budget.usd(limit, scope="s", on_exceed="raise"), ledger=ledger)


def _charged(ledger: InMemoryLedger) -> int:
    books = ledger.balance("s")
    assert books.held_nano == 0
    return books.spent_nano


def _price(model: str, read: int, written: int) -> int:
    return CostCalculator().worst_case(read, written, model).nano


PRICE = {
    "openai": _price(f"openai:{OPENAI}", 8, 2),
    "anthropic": 8 * 1_000 + 2 * 5_000,  # 1 and 5 USD per million tokens
}
CAP_ON_THE_WIRE = {
    "chat": "max_completion_tokens",
    "responses": "max_output_tokens",
    "anthropic": "max_tokens",
}


@pytest.mark.parametrize(
    ("api", "fields", "kwargs", "cap"),
    [
        ("chat", {}, {}, 16_384),
        ("chat", {"max_tokens": 4_000}, {}, 4_000),
        ("chat", {"max_tokens": 4_000}, {"max_tokens": 100}, 100),
        ("chat", {"max_tokens": 4_000}, {"max_completion_tokens": 100}, 100),
        pytest.param(
            "chat",
            {"model_kwargs": {"max_completion_tokens": 900}},
            {},
            900,
            marks=pytest.mark.filterwarnings("ignore:Parameters .* should be specified explicitly"),
        ),
        ("responses", {}, {}, 16_384),
        ("responses", {"max_tokens": 4_000}, {}, 4_000),
        ("responses", {"max_tokens": 4_000}, {"max_tokens": 100}, 100),
        ("responses", {"max_tokens": 4_000}, {"max_output_tokens": 100}, 100),
        ("responses", {"reasoning": {"effort": "low"}}, {"max_completion_tokens": 100}, 100),
        ("anthropic", {}, {}, 16_384),
        ("anthropic", {"max_tokens": 4_000}, {}, 4_000),
        ("anthropic", {"max_tokens": 4_000}, {"max_tokens": 100}, 100),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 2_000}}, {}, 18_384),
    ],
)
def test_the_cap_on_the_wire_is_the_cap_that_was_priced(provider, ledger, api, fields, kwargs, cap):
    make = _anthropic if api == "anthropic" else _openai
    model = make(provider, ledger, **({"use_responses_api": api == "responses"} if make is _openai else {}), **fields)
    reservations: list[Any] = []
    reserve = ledger.reserve
    ledger.reserve = lambda hold: reservations.append(hold) or reserve(hold)  # type: ignore[method-assign]
    model.invoke("hi", **kwargs)
    sent = {name: provider.bodies[0][name] for name in provider.bodies[0] if "tokens" in name}
    assert sent == {CAP_ON_THE_WIRE[api]: cap}
    bounded_input = reservations[0].tokens - cap
    assert reservations[0].nano == _price(reservations[0].model, bounded_input, cap)
    assert _charged(ledger) == PRICE["anthropic" if api == "anthropic" else "openai"]


def test_a_call_is_never_capped_at_or_below_its_thinking(provider, ledger):
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    model = with_budget(
        ChatAnthropic(model=ANTHROPIC, api_key="x", base_url=provider.url, thinking=thinking),
        Budget.usd("0.014", scope="s"),
        ledger=ledger,
    )
    with pytest.raises(BudgetExceededError):
        model.invoke("hi " * 1_000)
    assert provider.bodies == []
    model.invoke("hi", thinking={"type": "enabled", "budget_tokens": 1_024})
    assert provider.bodies[0]["max_tokens"] > 1_024


def test_azure_is_capped_too(provider, ledger):
    _azure(provider, ledger, max_tokens=300).invoke("hi")
    assert provider.bodies[0]["max_completion_tokens"] == 300
    assert _charged(ledger) > 0


@pytest.mark.parametrize("options", [{}, {"stream_usage": False}, {"stream_options": {"include_usage": False}}])
def test_streams_of_a_custom_base_url_report_their_usage(provider, ledger, options):
    chunks = list(_openai(provider, ledger).stream("hi", **options))
    assert "".join(chunk.text for chunk in chunks) == "ok"
    assert provider.bodies[0]["stream_options"] == {"include_usage": True}
    assert _charged(ledger) == PRICE["openai"]


async def test_async_streams_are_charged_by_their_usage(provider, ledger):
    for make, name in ((_openai, "openai"), (_anthropic, "anthropic")):
        books = InMemoryLedger()
        chunks = [chunk async for chunk in make(provider, books).astream("hi")]
        assert "".join(chunk.text for chunk in chunks) == "ok"
        assert _charged(books) == PRICE[name]


def test_streams_of_anthropic_are_charged_by_their_usage(provider, ledger):
    list(_anthropic(provider, ledger).stream("hi"))
    assert _charged(ledger) == PRICE["anthropic"]


@pytest.mark.parametrize("make", [_openai, _anthropic], ids=["openai", "anthropic"])
class TestFailures:
    """A hold per request: what a status refuses is free, what may be billed is not."""

    def test_a_refused_request_is_free_and_not_tried_again(self, provider, ledger, make):
        provider.faults = [400]
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
            make(provider, ledger).invoke("hi")
        assert len(provider.bodies) == 1
        assert _charged(ledger) == 0

    def test_a_busy_provider_is_tried_again_for_free(self, provider, ledger, make):
        provider.faults = [429, 500]
        assert make(provider, ledger).invoke("hi").text == "ok"
        assert len(provider.bodies) == 3
        assert _charged(ledger) == PRICE["anthropic" if make is _anthropic else "openai"]

    async def test_async_calls_are_tried_again_too(self, provider, ledger, make):
        provider.faults = [429, 500]
        assert (await make(provider, ledger).ainvoke("hi")).text == "ok"
        assert len(provider.bodies) == 3

    def test_it_gives_up_after_max_retries(self, provider, ledger, make):
        provider.faults = [503, 503]
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            make(provider, ledger, max_retries=1).invoke("hi")
        assert len(provider.bodies) == 2
        assert _charged(ledger) == 0

    def test_no_retries_means_one_request(self, provider, ledger, make):
        provider.faults = [503]
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            make(provider, ledger, max_retries=0).invoke("hi")
        assert len(provider.bodies) == 1

    def test_a_reset_connection_costs_a_hold_for_each_try(self, provider, ledger, make):
        provider.faults = ["reset"]
        model = make(provider, ledger, max_tokens=1_000, max_retries=1)
        assert model.invoke("hi").text == "ok"
        assert len(provider.bodies) == 2
        one_hold = (
            _price(f"openai:{OPENAI}", 118, 1_000) if make is _openai else _price(f"anthropic:{ANTHROPIC}", 118, 1_000)
        )
        assert _charged(ledger) == one_hold + PRICE["anthropic" if make is _anthropic else "openai"]

    def test_a_retry_that_does_not_fit_any_more_is_refused(self, provider, ledger, make):
        provider.faults = ["reset", "reset", "reset"]
        limit = "0.0021" if make is _openai else "0.0055"
        with pytest.raises(BudgetExceededError):
            make(provider, ledger, limit, max_tokens=1_000).invoke("hi")
        assert len(provider.bodies) == 1

    def test_a_stream_that_is_cut_is_charged_at_its_hold(self, provider, ledger, make):
        provider.faults = ["cut"]
        model = make(provider, ledger, max_tokens=1_000)
        with pytest.raises(Exception, match=r"(?i)incomplete|peer closed|connection error"):
            list(model.stream("hi"))
        assert len(provider.bodies) == 1
        name = f"openai:{OPENAI}" if make is _openai else f"anthropic:{ANTHROPIC}"
        assert _charged(ledger) == _price(name, 118, 1_000)

    def test_a_stream_that_is_refused_is_tried_again(self, provider, ledger, make):
        provider.faults = [429]
        assert "".join(chunk.text for chunk in make(provider, ledger).stream("hi")) == "ok"
        assert len(provider.bodies) == 2
        assert _charged(ledger) == PRICE["anthropic" if make is _anthropic else "openai"]

    def test_a_time_out_costs_the_full_hold(self, provider, ledger, make, monkeypatch):
        stuck = threading.Event()
        monkeypatch.setattr(_Handler, "_send", lambda *_: stuck.wait(10))
        model = make(provider, ledger, max_tokens=1_000, max_retries=0, timeout=0.2)
        with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
            model.invoke("hi")
        stuck.set()
        name = f"openai:{OPENAI}" if make is _openai else f"anthropic:{ANTHROPIC}"
        assert _charged(ledger) == _price(name, 118, 1_000)


class Person(BaseModel):
    """A person."""

    name: str


@pytest.mark.parametrize(
    ("fields", "kwargs"),
    [
        ({}, {"tools": [{"type": "web_search"}]}),
        ({}, {"previous_response_id": "resp_1"}),
        ({"use_previous_response_id": True}, {}),
        ({}, {"prediction": {"type": "content", "content": "x"}}),
    ],
    ids=["hosted tool", "previous response", "previous response of the model", "prediction"],
)
def test_input_that_the_request_does_not_show_fails_closed(provider, ledger, fields, kwargs):
    with pytest.raises(EstimationError):
        _openai(provider, ledger, **fields).invoke("hi", **kwargs)
    assert provider.bodies == []


def test_mcp_servers_fail_closed(provider, ledger):
    servers = [{"type": "url", "url": "https://example.org", "name": "x"}]
    with pytest.raises(EstimationError, match="mcp_servers"):
        _anthropic(provider, ledger, mcp_servers=servers).invoke("hi")
    assert provider.bodies == []


def test_a_cap_in_extra_body_is_refused(provider, ledger):
    with pytest.raises(InvalidInputError, match="extra_body"):
        _openai(provider, ledger, extra_body={"max_completion_tokens": 9}).invoke("hi")
    assert provider.bodies == []


def test_several_choices_are_priced_and_charged_once(provider, ledger):
    held: list[Any] = []
    reserve = ledger.reserve
    ledger.reserve = lambda hold: held.append(hold) or reserve(hold)  # type: ignore[method-assign]
    _openai(provider, ledger, n=4, max_tokens=100).invoke([HumanMessage("hi")])
    assert provider.bodies[0]["n"] == 4
    assert held[0].tokens == 118 + 400
    assert _charged(ledger) == PRICE["openai"]


def test_tools_and_schemas_are_part_of_the_bound(provider, ledger):
    tokens: list[int] = []
    reserve = ledger.reserve
    ledger.reserve = lambda hold: tokens.append(hold.tokens) or reserve(hold)  # type: ignore[method-assign]
    model = _openai(provider, ledger, max_tokens=100)
    model.invoke("hi")
    model.bind_tools([Person]).invoke("hi")
    model.bind(response_format=Person.model_json_schema()).invoke("hi")
    assert tokens[1] > tokens[0] + 100
    assert tokens[2] > tokens[0] + 100


async def test_concurrent_calls_of_a_real_client_never_overspend(provider, ledger):
    one_hold = _price(f"openai:{OPENAI}", 118, 100)
    limit = f"{one_hold * 5 / 1e9:.9f}"
    model = _openai(provider, ledger, limit, max_tokens=100)
    replies = await asyncio.gather(*(model.ainvoke("hi") for _ in range(20)), return_exceptions=True)
    served = sum(not isinstance(reply, BaseException) for reply in replies)
    assert all(isinstance(reply, BudgetExceededError) for reply in replies if isinstance(reply, BaseException))
    assert len(provider.bodies) == served >= 5
    assert _charged(ledger) == served * PRICE["openai"]

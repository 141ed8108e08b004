"""Budget failures that users of gateways and agent frameworks have reported, run for real: what a call costs.

The clients of OpenAI and Anthropic, against a server on loopback that reports the usage it is told to. Each test names
its source, an issue or pull request on GitHub; figures marked so are the ones reported there.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from loopback_provider import trust_one

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import CostCalculator
from langchain_runtime.ledgers import InMemoryLedger

HI = 100 + 16 + len("hi")
"""Upper bound of the input tokens of "hi"."""

CHAT_USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
MESSAGE_USAGE = {"input_tokens": 8, "output_tokens": 2}


class Provider(ThreadingHTTPServer):
    """Answers "ok" in the format that it is asked in.

    Attributes:
        usage: What it reports instead of 8 tokens read and 2 written.
        on_every_chunk: Report the usage so far with each chunk of a chat stream, as vLLM can be told to.
        extra: Fields to add to a chat reply.
        fault: What to do instead: ``cut`` a stream off in the middle, or ``hang``.
        look: Called when a request has arrived, before the answer.
        bodies: What it was sent.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.usage: dict[str, Any] | None = None
        self.on_every_chunk = False
        self.extra: dict[str, Any] = {}
        self.fault: str | None = None
        self.look: Callable[[], object] = lambda: None
        self.bodies: list[dict[str, Any]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self.server.look()
        if self.server.fault == "hang":
            self.server.closing.wait(30)
            return
        chat = "chat" in self.path
        if body.get("stream"):
            self._send_events(list(self._chunks(body) if chat else self._events(body)))
        else:
            self._send_json(self._completion(body) if chat else self._message(body))

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "ok"}
        return {
            **self._chat(body, "chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self.server.usage or CHAT_USAGE,
        }

    def _chunks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        usage = self.server.usage or CHAT_USAGE
        so_far = {"usage": usage} if self.server.on_every_chunk else {}
        envelope = {**self._chat(body, "chat.completion.chunk"), **so_far}
        for delta, reason in (({"role": "assistant", "content": "o"}, None), ({"content": "k"}, None), ({}, "stop")):
            yield {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**envelope, "choices": [], "usage": usage}

    def _chat(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": "c1", "object": kind, "created": 0, "model": body["model"], **self.server.extra}

    def _message(self, body: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": "ok"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": self.server.usage or MESSAGE_USAGE,
            **fields,
        }

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        usage = self.server.usage or MESSAGE_USAGE
        # The end of a message has the totals, but not how long what was written to the cache is kept.
        total = {name: value for name, value in usage.items() if name != "cache_creation"}
        yield {"type": "message_start", "message": self._message(body, content=[], usage={**usage, "output_tokens": 1})}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}}
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": total}
        yield {"type": "message_stop"}

    def _send_json(self, data: dict[str, Any]) -> None:
        self._send("application/json", json.dumps(data).encode())

    def _send_events(self, events: list[dict[str, Any]]) -> None:
        lines = [
            (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
            for event in events
        ]
        if self.server.fault == "cut":
            self._send("text/event-stream", "".join(lines[:2]).encode(), missing=100)
        else:
            self._send("text/event-stream", "".join(lines).encode())

    def _send(self, kind: str, payload: bytes, *, missing: int = 0) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(payload) + missing))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    trust_one()
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ledger() -> InMemoryLedger:
    return InMemoryLedger()


def openai_model(provider: Provider, ledger: InMemoryLedger, limit: str = "100", **fields: Any) -> ChatOpenAI:
    given = {"model": "gpt-5-mini", "max_tokens": 1_000, "max_retries": 0, **fields}
    model = ChatOpenAI(base_url=f"{provider.url}/v1", api_key="x", **given)
    return with_budget(model, Budget.usd(limit, scope="key", on_exceed="raise"), ledger=ledger)


def anthropic_model(provider: Provider, ledger: InMemoryLedger, model: str, **fields: Any) -> ChatAnthropic:
    client = ChatAnthropic(base_url=provider.url, api_key="x", model=model, max_tokens=4_000, max_retries=0, **fields)
    return with_budget(client, Budget.usd("100", scope="key", on_exceed="raise"), ledger=ledger)


def ask(model: Any, stream: bool, prompt: Any = "hi") -> str:
    return "".join(chunk.text for chunk in model.stream(prompt)) if stream else str(model.invoke(prompt).text)


def spent(ledger: InMemoryLedger) -> Cost:
    assert ledger.balance("key").held_nano == 0
    return ledger.balance("key").spent


def worst_case(model: str, output: int, *, tier: str | None = None) -> Cost:
    return CostCalculator().worst_case(HI, output, model, service_tier=tier)


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

# --- prices ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.filterwarnings("ignore:The model .* is deprecated")  # the models of the reports
@pytest.mark.parametrize(
    ("model", "read", "written", "cached", "output", "billed"),
    [
        # Anthropic's console said 0.05439 USD, the gateway 0.091311.
        ("claude-3-7-sonnet-20250219", 3, 12_304, 0, 550, "0.054399"),
        # The bill was 0.000292 USD; the gateway said 0.002059 of a stream.
        ("claude-3-5-haiku-20241022", 4, 0, 2_455, 23, "0.0002916"),
    ],
    ids=["written", "read"],
)
def test_cached_tokens_are_counted_once(provider, ledger, model, read, written, cached, output, billed, stream):
    """Tokens of the prompt cache were charged as input and as cached, or all as input, or so in streams only.

    BerriAI/litellm#9812, BerriAI/litellm#11789 (the figures), BerriAI/litellm#40016, langfuse/langfuse#12306
    """
    provider.usage = {
        "input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }
    ask(anthropic_model(provider, ledger, model), stream)
    assert spent(ledger) == Cost.usd(billed)


@both
def test_tokens_that_the_cache_keeps_for_an_hour_cost_twice_the_input(provider, ledger, stream):
    """Writes for an hour were charged at the rate of those for five minutes, or not at all through LangChain.

    The end of a stream does not say how long written tokens are kept, and langchain-anthropic drops the start, which
    does: where the request asks for an hour anywhere, all of them are charged at its rate.

    earendil-works/pi#5738 (the figures), srtab/daiv#1159, UKGovernmentBEIS/inspect_ai#4705
    """
    provider.usage = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 1_000_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 600_000, "ephemeral_1h_input_tokens": 400_000},
        "output_tokens": 4,
    }
    kept = {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ask(anthropic_model(provider, ledger, "claude-opus-4-8"), stream, [SystemMessage([kept]), HumanMessage("hi")])
    assert spent(ledger) == Cost.usd("10.0001" if stream else "7.7501")  # 0.0001 for the output


def test_a_stream_that_asks_for_no_hour_is_charged_at_the_rate_of_five_minutes(provider, ledger):
    provider.usage = {"input_tokens": 0, "cache_creation_input_tokens": 1_000_000, "output_tokens": 4}
    kept = {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}
    ask(anthropic_model(provider, ledger, "claude-opus-4-8"), True, [SystemMessage([kept]), HumanMessage("hi")])
    assert spent(ledger) == Cost.usd("6.2501")


@both
def test_a_long_prompt_is_held_and_charged_at_the_dearer_tier(provider, ledger, stream):
    """Reservations of long prompts were priced at the rate of short ones: 0.60 USD went through a limit of 0.45.

    BerriAI/litellm#40002
    """
    read, written = 300_000, 1_000
    provider.usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    prompt = "~" * read  # at most a token for each byte
    # gpt-5.5 costs 10 and 45 USD per million tokens above 272,000 tokens of input, and 5 and 30 below.
    billed, at_the_rate_of_short_ones = 3_045_000_000, (HI + read) * 5_000 + written * 30_000
    limit = Cost.from_nano((billed + at_the_rate_of_short_ones) // 2)
    with pytest.raises(BudgetExceededError) as refused:
        ask(openai_model(provider, ledger, str(limit.amount), model="gpt-5.5"), stream, prompt)
    assert refused.value.needed.nano >= billed
    assert provider.bodies == []
    ample = InMemoryLedger()
    ask(openai_model(provider, ample, model="gpt-5.5"), stream, prompt)
    assert spent(ample).nano == billed


@both
@pytest.mark.parametrize(("served", "rates"), [("priority", (450, 3_600)), ("default", (250, 2_000))])
def test_the_tier_that_served_a_call_is_the_one_that_is_charged(provider, ledger, served, rates, stream):
    """Priority was charged as the standard tier; and where the standard tier had served, as priority.

    BerriAI/litellm#37046, BerriAI/litellm#31837
    """
    provider.extra = {"service_tier": served}
    held: list[Cost] = []
    provider.look = lambda: held.append(ledger.balance("key").held)
    ask(openai_model(provider, ledger, service_tier="priority"), stream)
    assert held == [worst_case("openai:gpt-5-mini", 1_000, tier="priority")]
    assert spent(ledger) == Cost.from_nano(8 * rates[0] + 2 * rates[1])


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"stream_usage": False}], ids=["default", "switched off"])
def test_a_stream_through_a_gateway_reports_its_usage(provider, ledger, fields):
    """Streams counted 0 tokens and cost nothing: with a base URL of one's own, nobody asked for their usage.

    langchain-ai/langchain#30390, langchain-ai/langchain#16182, ferro-labs/ai-gateway#281
    """
    ask(openai_model(provider, ledger, **fields), True)
    assert provider.bodies[0]["stream_options"] == {"include_usage": True}
    assert spent(ledger) == Cost.from_nano(8 * 250 + 2 * 2_000)


def test_usage_that_every_chunk_repeats_is_counted_once(provider, ledger):
    """Servers that report the usage so far with each chunk were charged their input as often as there were chunks.

    langchain-ai/langchain#30429, langchain-ai/langchainjs#10159
    """
    provider.on_every_chunk = True
    ask(openai_model(provider, ledger), True)
    counted, unknown = Cost.from_nano(8 * 250 + 2 * 2_000), worst_case("openai:gpt-5-mini", 1_000)
    assert spent(ledger) in {counted, unknown}


def test_a_stream_that_its_reader_leaves_is_paid_for(provider, ledger):
    """Readers who hung up in the middle paid nothing, though the provider billed what it had written.

    BerriAI/litellm#33736, BerriAI/litellm#30630, PostHog/posthog-js#4664
    """
    stream = openai_model(provider, ledger).stream("hi")
    next(stream)
    stream.close()
    assert spent(ledger) == worst_case("openai:gpt-5-mini", 1_000)


@pytest.mark.parametrize("make", [openai_model, anthropic_model])
def test_a_stream_that_breaks_off_is_paid_for(provider, ledger, make):
    """Streams that were cut in the middle were logged with a spend of 0.

    BerriAI/litellm#37734
    """
    provider.fault = "cut"
    name = "gpt-5-mini" if make is openai_model else "claude-haiku-4-5"
    with pytest.raises(Exception, match=r"(?i)incomplete|peer closed|connection error"):
        ask(make(provider, ledger, model=name), True)
    cap = 1_000 if make is openai_model else 4_000
    assert spent(ledger) == worst_case(f"{'openai' if make is openai_model else 'anthropic'}:{name}", cap)


def test_a_call_that_times_out_is_paid_for(provider, ledger):
    """A caller who did not wait for the reply was charged for the input at most; the provider billed the reply.

    BerriAI/litellm#13245
    """
    provider.fault = "hang"
    with pytest.raises(openai.APITimeoutError):
        openai_model(provider, ledger, timeout=0.2).invoke("hi")
    assert spent(ledger) == worst_case("openai:gpt-5-mini", 1_000)


@both
def test_more_cached_tokens_than_input_do_not_make_a_call_free(provider, ledger, stream):
    """Usage that contradicted itself gave a negative cost, which counted as none: the limit never came.

    headroomlabs-ai/headroom#2757, PostHog/posthog-python#369
    """
    cached = {"prompt_tokens_details": {"cached_tokens": 80_000}}
    provider.usage = {"prompt_tokens": 20_000, "completion_tokens": 10, "total_tokens": 20_010, **cached}
    assert ask(openai_model(provider, ledger), stream) == "ok"
    assert spent(ledger) == worst_case("openai:gpt-5-mini", 1_000)

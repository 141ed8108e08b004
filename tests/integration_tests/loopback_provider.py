"""A provider on loopback for real clients: OpenAI's chat completions, deterministic answers, a bill of its own.

``with serving(tmp_path / "provider.jsonl") as provider:`` and point a client at ``provider.base_url``. The log has a
JSON line for each request, written before the reply leaves: a provider bills what it generated, whether or not anybody
reads it, so the log tells the truth also about clients that were killed.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

INPUT_NANO_PER_TOKEN = 150
OUTPUT_NANO_PER_TOKEN = 600
"""List price of gpt-4o-mini in nano-USD: 0.15 and 0.60 USD per million tokens."""

_START_SECONDS = 10


@dataclass
class LoopbackProvider:
    """A running server and its books.

    Attributes:
        base_url: What ``OPENAI_BASE_URL`` is set to.
        log_path: The request log.
        latency: Seconds between a request and its reply.
        faults: Status codes to answer the first requests with, in order, instead of a reply.
    """

    base_url: str
    log_path: Path
    latency: float = 0.0
    faults: list[int] = field(default_factory=list)

    @property
    def served(self) -> list[dict[str, Any]]:
        """Requests that were answered with a reply, in order: ``prompt``, ``input``, ``output``, ``nano``."""
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]

    @property
    def bill(self) -> Decimal:
        """USD for everything that was served."""
        return Decimal(sum(row["nano"] for row in self.served)).scaleb(-9)

    def wait_for(self, requests: int, *, alive: Any, seconds: float = 60) -> None:
        """Block until that many requests were served; fails when ``alive()`` turns false or time is up."""
        deadline = time.monotonic() + seconds
        while len(self.served) < requests:
            assert time.monotonic() < deadline, f"only {len(self.served)} of {requests} requests after {seconds} s"
            assert alive(), f"the client ended after {len(self.served)} of {requests} requests"
            time.sleep(0.005)

    async def complete(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        body = await request.json()
        if self.faults:
            status = self.faults.pop(0)
            return JSONResponse({"error": {"message": f"injected {status}", "type": "server_error"}}, status)
        await asyncio.sleep(self.latency)
        answer, finish_reason = _answer(body)
        usage = _usage(body, answer)
        self._log(body, usage)
        if body.get("stream"):
            return StreamingResponse(_chunks(body, answer, finish_reason, usage), media_type="text/event-stream")
        return JSONResponse(
            _envelope(body, "chat.completion")
            | {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": answer},
                        "finish_reason": finish_reason,
                    }
                ],
                "usage": usage,
            }
        )

    def _log(self, body: dict[str, Any], usage: dict[str, Any]) -> None:
        tokens = (usage["prompt_tokens"], usage["completion_tokens"])
        row = {
            "prompt": _text(body["messages"]),
            "input": tokens[0],
            "output": tokens[1],
            "nano": tokens[0] * INPUT_NANO_PER_TOKEN + tokens[1] * OUTPUT_NANO_PER_TOKEN,
        }
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _text(messages: list[dict[str, Any]]) -> str:
    return "\n".join(f"{message['role']}: {json.dumps(message['content'])}" for message in messages)


def _tokens(text: str) -> int:
    """This provider's own count: four bytes are a token."""
    return -(-len(text.encode()) // 4)


def _answer(body: dict[str, Any]) -> tuple[str, str]:
    """A reply that depends on every byte of the prompt, cut at the request's own cap."""
    digest = hashlib.sha256(_text(body["messages"]).encode()).hexdigest()
    answer = f"Reply {digest[:16]} to {len(body['messages'])} message(s)."
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if cap is None or _tokens(answer) <= cap:
        return answer, "stop"
    return answer.encode()[: 4 * cap].decode(), "length"


def _usage(body: dict[str, Any], answer: str) -> dict[str, Any]:
    prompt = sum(4 + _tokens(json.dumps(message["content"])) for message in body["messages"])
    reply = _tokens(answer)
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-loopback", "object": kind, "created": 0, "model": body["model"]}


async def _chunks(body: dict[str, Any], answer: str, finish_reason: str, usage: dict[str, Any]) -> Any:
    envelope = _envelope(body, "chat.completion.chunk")
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": answer[:10]}, None),
        ({"content": answer[10:]}, None),
        ({}, finish_reason),
    ]
    for delta, finish in deltas:
        yield _sse(envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _sse(envelope | {"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


@contextlib.contextmanager
def serving(log_path: Path, *, latency: float = 0.0, faults: list[int] | None = None) -> Iterator[LoopbackProvider]:
    """Serve on a free port of 127.0.0.1 from a thread of this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    provider = LoopbackProvider(f"http://127.0.0.1:{port}/v1", log_path, latency, faults or [])
    app = Starlette(routes=[Route("/v1/chat/completions", provider.complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
        listener.close()

"""A provider on loopback for real clients of OpenAI and Anthropic: deterministic answers, faults, a bill of its own.

``with serving(tmp_path / "provider.jsonl") as provider:`` and point a client at ``provider.base_url`` (Anthropic's at
``provider.url``). The log has a JSON line for each request, written before the reply leaves: a provider bills what it
generated, whether or not anybody reads it, so the log tells the truth also about clients that were killed.

All providers of a process stand on one server, each with a path of its own: to start and to end a server takes longer
than most tests.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import certifi
import loopback_requests
import uvicorn
from loopback_answers import PRICES, Reply, Usage, Writer
from loopback_replies import error, error_event, events, reports_usage, usage_of, whole, written_in
from loopback_requests import Asked, RefusedError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

Fault = int | str
"""What goes wrong with a request: a status, or one of these names; all but ``reset`` are billed. Statuses are not, but
for those in ``GAVE_UP``.

``reset``: the connection breaks before anything is generated. ``lost``: it breaks when the reply is ready. ``cut``: it
breaks in the middle of the reply. ``cut late``: it breaks after the usage. ``hang``: nothing comes until the client
goes. ``stall``: half the reply comes, then nothing. ``error event``: a stream turns into an error in its middle.
``no usage``: the reply does not say what it used. The names in ``FALSE_USAGE``: it says something impossible.
"""

GAVE_UP = (408, 504, 524)
"""Statuses of gateways that did not wait for the reply, which was written all the same (RFC 9110; Cloudflare's 524)."""

FALSE_USAGE: dict[str, Callable[[str, Any], Any]] = {
    "usage without input": lambda name, value: 0 if name in {"prompt_tokens", "input_tokens"} else value,
    "usage without output": lambda name, value: 0 if name in {"completion_tokens", "output_tokens"} else value,
    "usage of null": lambda name, value: None if name.endswith("_tokens") else value,
    "usage below zero": lambda name, value: -value if name.endswith("_tokens") else value,
    "usage beyond reason": lambda name, value: 10**12 if name.endswith("_tokens") else value,
    "usage in words": lambda name, value: "many" if name.endswith("_tokens") else value,
}

_LONGEST_END = 10
_LONGEST_HANG = 20
_POLL = 0.002


@dataclass
class LoopbackProvider:
    """A running server and its books.

    Attributes:
        base_url: What ``OPENAI_BASE_URL`` is set to.
        log_path: The request log.
        latency: Seconds between a request and its reply.
        faults: What goes wrong with the first requests, in order; a status is answered instead of a reply.
        weather: Asked for the fault of each request after those; None for none.
        retry_after: Header of refusals, in seconds; None for none.
        pace: Seconds between the events of a stream.
        writer: Who answers.
    """

    base_url: str
    log_path: Path
    latency: float = 0.0
    faults: list[Any] = field(default_factory=list)
    weather: Callable[[], Fault | None] = lambda: None
    retry_after: float | None = None
    pace: float = 0.0
    writer: Writer = field(default_factory=Writer)
    _closing: bool = False
    _open: int = 0
    _ended: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """What ``ANTHROPIC_BASE_URL`` is set to."""
        return self.base_url.removesuffix("/v1")

    @property
    def requests(self) -> list[dict[str, Any]]:
        """All requests in order: ``api model prompt cap choices fault input output nano``; refused ones cost 0."""
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]

    @property
    def served(self) -> list[dict[str, Any]]:
        """Those for which a reply was generated, whether or not it arrived."""
        return [row for row in self.requests if row["nano"]]

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

    def close(self) -> None:
        """Let go of clients that are kept waiting, and wait until every request has ended."""
        self._closing = True
        with self._ended:
            assert self._ended.wait_for(lambda: not self._open, _LONGEST_END), f"{self._open} requests do not end"

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """A request, from its arrival to the last byte of its reply."""
        with self._ended:
            self._open += 1
        try:
            yield
        finally:
            with self._ended:
                self._open -= 1
                self._ended.notify_all()

    async def handle(self, request: Request) -> Response:
        """``POST`` of any of the three APIs."""
        api = {"completions": "chat"}.get(name := request.url.path.rpartition("/")[2], name)
        body = await request.json()
        fault = self.faults.pop(0) if self.faults else self.weather()
        try:
            asked: Asked = getattr(loopback_requests, api)(body)
            if asked.model not in PRICES:
                raise RefusedError(f"the model {asked.model!r} does not exist")
        except RefusedError as refusal:
            return JSONResponse(error(api, 400, str(refusal)), 400)
        if fault in GAVE_UP:
            self._log(asked, fault, self.writer.answer(asked).usage)
            return self._refusal(api, fault)
        if isinstance(fault, int) or fault == "reset":
            self._log(asked, fault, Usage(0, 0))
            return await self._reset(request) if fault == "reset" else self._refusal(api, fault)
        await asyncio.sleep(self.latency)
        reply = self.writer.answer(asked)
        if asked.stream and self.writer.disobedient:
            return _Streaming(self._endless(asked, reply), media_type="text/event-stream")
        self._log(asked, fault, reply.usage)
        return await self._send(request, asked, reply, fault)

    def _refusal(self, api: str, status: int) -> Response:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return JSONResponse(error(api, status, f"injected {status}"), status, headers=headers)

    async def _send(self, request: Request, asked: Asked, reply: Reply, fault: Fault | None) -> Response:
        if fault == "lost":
            return await self._reset(request)
        if fault == "hang":
            await self._wait_until_gone(request)
            return Response()
        usage = _reported(usage_of(asked.api, reply.usage), fault)
        if asked.stream:
            lines = self._stream(request, asked, events(asked, reply, usage), fault)
            return _Streaming(lines, media_type="text/event-stream")
        content = json.dumps(whole(asked, reply, usage))
        if fault in {"cut", "cut late", "stall", "error event"}:
            return _Streaming(self._part(request, content, fault), media_type="application/json")
        return Response(content, media_type="application/json")

    async def _stream(
        self, request: Request, asked: Asked, lines: list[str], fault: Fault | None
    ) -> AsyncIterator[str]:
        told = max((at for at, line in enumerate(lines) if reports_usage(line)), default=len(lines) - 2) + 1
        for line in lines[: told // 2] if fault in {"cut", "stall", "error event"} else lines[:told]:
            yield line
            if self.pace:
                await asyncio.sleep(self.pace)
        if fault == "error event":
            yield error_event(asked.api)
        else:
            await self._break_off(request, fault)
            for line in lines[told:]:
                yield line

    async def _part(self, request: Request, content: str, fault: Fault) -> AsyncIterator[str]:
        yield content[:-1] if fault == "cut late" else content[: len(content) // 2]
        await self._break_off(request, "cut" if fault == "error event" else fault)

    async def _break_off(self, request: Request, fault: Fault | None) -> None:
        if fault == "stall":
            await self._wait_until_gone(request)
        if fault in {"cut", "cut late", "stall"}:
            raise ConnectionResetError(f"injected {fault}")

    async def _endless(self, asked: Asked, reply: Reply) -> AsyncIterator[str]:
        """A stream that its cap does not end; it is billed for what it has sent when the client goes."""
        written = 0
        try:
            for line in events(asked, reply, usage_of(asked.api, reply.usage)):
                if self._closing:
                    break
                text = written_in(line)
                written += len(text.encode())
                yield line
                if text:
                    await asyncio.sleep(self.pace)
        finally:
            tokens = -(-written // self.writer.bytes_per_token) + reply.usage.reasoning
            self._log(asked, "disobeyed", Usage(reply.usage.input, tokens))

    async def _wait_until_gone(self, request: Request) -> None:
        deadline = time.monotonic() + _LONGEST_HANG
        while not (self._closing or await request.is_disconnected()) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)

    async def _reset(self, request: Request) -> Response:
        """Send a TCP reset instead of a reply."""
        transport: asyncio.Transport = request.scope["state"]["transport"]
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await asyncio.sleep(0)
        return Response()

    def _log(self, asked: Asked, fault: Fault | None, usage: Usage) -> None:
        row = {
            "api": asked.api,
            "model": asked.model,
            "prompt": asked.prompt,
            "cap": asked.cap,
            "choices": asked.choices,
            "stream": asked.stream,
            "with_usage": asked.with_usage,
            "fault": fault,
            "input": usage.input,
            "output": usage.output,
            "nano": usage.nano(PRICES[asked.model]),
        }
        with self.log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _reported(usage: dict[str, Any], fault: Fault | None) -> dict[str, Any] | None:
    if fault == "no usage":
        return None
    alter = FALSE_USAGE.get(str(fault))
    return usage if alter is None else {name: alter(name, value) for name, value in usage.items()}


class _Streaming(StreamingResponse):
    """Ends its body when it ends, and not when the garbage collector finds it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


class _Protocol(H11Protocol):
    """Hands its connection to the application, which breaks it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server:
    """Listens on a free port of 127.0.0.1, in a thread, as long as the process lives."""

    def __init__(self) -> None:
        # Named as TCP, without which asyncio leaves Nagle's algorithm on: 40 ms a reply.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self._address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._numbers = count(1)
        self._providers: dict[str, LoopbackProvider] = {}
        azure = "/openai/deployments/{name}/chat/completions"
        paths = ("/v1/chat/completions", azure, "/v1/responses", "/v1/messages")
        self._routes = Starlette(routes=[Route("/{root}" + path, self._handle, methods=["POST"]) for path in paths])
        options = {"interface": "asgi3", "log_level": "critical", "lifespan": "off", "ws": "none", "http": _Protocol}
        config = uvicorn.Config(self._serve, **options)
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()

    @contextlib.contextmanager
    def hosting(self, log_path: Path, **fields: Any) -> Iterator[LoopbackProvider]:
        """A provider under a path that nobody had before: clients share connections by address."""
        root = str(next(self._numbers))
        provider = self._providers[root] = LoopbackProvider(f"{self._address}/{root}/v1", log_path, **fields)
        try:
            yield provider
        finally:
            del self._providers[root]
            provider.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        provider = self._providers.get(scope["path"].split("/")[1])
        if provider is None:
            await Response(status_code=410)(scope, receive, send)
            return
        with provider.under_way():
            await self._routes({**scope, "provider": provider}, receive, send)

    async def _handle(self, request: Request) -> Response:
        provider: LoopbackProvider = request.scope["provider"]
        return await provider.handle(request)


@cache
def _server() -> _Server:
    trust_one()
    return _Server()


@cache
def trust_one() -> Any:
    """Let the clients of this process read one certificate, and not all there are: to no use here, and 15 ms each."""
    file = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115 - as long as the process lives
    file.write(certifi.contents().partition("-----END")[0].encode() + b"-----END CERTIFICATE-----\n")
    file.flush()
    os.environ["SSL_CERT_FILE"] = file.name
    return file


@contextlib.contextmanager
def serving(
    log_path: Path, *, latency: float = 0.0, faults: list[Any] | None = None, writer: Writer | None = None
) -> Iterator[LoopbackProvider]:
    """A provider for the block; all requests are in the log when it ends."""
    fields = {"latency": latency, "faults": faults or [], "writer": writer or Writer()}
    with _server().hosting(log_path, **fields) as provider:
        yield provider

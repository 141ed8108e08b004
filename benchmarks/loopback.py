"""A provider on loopback for the benchmarks: OpenAI's chat completions, replies as long as they may be, and a bill.

It counts what it generated, whoever reads it, so that its bill is the same measure for every client.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "gpt-4o-mini"
INPUT, OUTPUT = 150, 600
"""Its list price in nano-USD per token (OpenAI, "Pricing", 2026)."""

LONGEST = 16_384
"""Tokens of a reply without a cap: what the model can write at most (OpenAI, "Models: GPT-4o mini", 2026)."""

PATIENCE = 30
"""Seconds after which it answers although callers are missing."""

POLL = 0.02
"""Seconds within which it notices that it shall end."""


class Provider:
    """Answers nobody until ``together`` callers have asked, or have said that they will not.

    Args:
        together: How many; 1 to answer at once.
        reports_usage: Whether replies say what they used.
    """

    def __init__(self, together: int, *, reports_usage: bool = True) -> None:
        self.base_url = ""
        self._nano = 0
        self._missing = together
        self._reports_usage = reports_usage
        self._decided = threading.Condition()

    @property
    def bill(self) -> Decimal:
        """USD for everything that was asked."""
        return Decimal(self._nano).scaleb(-9)

    def refused(self) -> None:
        """A caller will not ask."""
        with self._decided:
            self._missing -= 1
            self._decided.notify_all()

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request, once it may be given."""
        read = sum(4 + len(message["content"].encode()) // 4 for message in request["messages"])
        written = request.get("max_completion_tokens") or request.get("max_tokens") or LONGEST
        with self._decided:
            self._missing -= 1
            self._nano += read * INPUT + written * OUTPUT
            self._decided.notify_all()
            self._decided.wait_for(lambda: self._missing <= 0, PATIENCE)
        message = {"role": "assistant", "content": "word " * written}
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            **({"usage": usage} if self._reports_usage else {}),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # clients keep their connections open
    block_on_close = False
    request_queue_size = 128  # all callers connect at the same moment


@contextmanager
def serving(together: int, *, reports_usage: bool = True) -> Iterator[Provider]:
    """A provider on a free port of 127.0.0.1."""
    provider = Provider(together, reports_usage=reports_usage)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = json.dumps(provider.complete(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        provider.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, args=(POLL,), daemon=True).start()
        try:
            yield provider
        finally:
            server.shutdown()

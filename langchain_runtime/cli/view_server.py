"""The server behind ``lcr view``: one page and one stream, for this machine's user alone.

It reads what the process that drives the run writes: the journal, the outcomes and the account in the ledger.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from langchain_runtime.cli.drive import read_balance
from langchain_runtime.cli.launch import Launch
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.report import RunReport
from langchain_runtime.report.live_page import CONTENT_SECURITY_POLICY, live_fragment, live_page
from langchain_runtime.report.markup import Markup
from langchain_runtime.report.under_way import under_way

if TYPE_CHECKING:
    from langchain_runtime.cli.home import Home, Persistence
    from langchain_runtime.cli.run_index import RunRecord
    from langchain_runtime.graph import CompiledRunGraph

_LOOPBACK: Final = "127.0.0.1"
_LOOK_SECONDS: Final = 0.4
"""Between two looks at the journal: a page that follows feels live, and a run does not notice."""

_PATIENCE_SECONDS: Final = 1
"""For open streams when the page ends."""

_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def listen(port: int) -> socket.socket:
    """A socket that only this machine reaches.

    Raises:
        InvalidInputError: The port is taken.
    """
    try:
        return socket.create_server((_LOOPBACK, port))
    except OSError as error:
        raise InvalidInputError(
            f"cannot listen on port {port}: {error.strerror or error}", hint="leave --port out for a free one"
        ) from None


def serve(home: Home, record: RunRecord, listening: socket.socket) -> None:
    """Serve the page of a run until Ctrl-C."""
    app = view_app(home, record, port=listening.getsockname()[1])
    settings = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=_PATIENCE_SECONDS)
    uvicorn.Server(settings).run(sockets=[listening])


def view_app(home: Home, record: RunRecord, *, port: int) -> ASGIApp:
    """The application.

    Args:
        home: Where the run is kept.
        record: The run.
        port: Where it is served: other hosts than this machine's own names with this port are refused.
    """
    followed: list[_Followed] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with home.persistence() as kept:
            launch = Launch(home, record, resumed=True)
            graph = launch.compile(checkpointer=kept.checkpointer, store=kept.store, ledger=kept.ledger)
            followed.append(_Followed(launch, graph, kept))
            yield

    async def page(_: Request) -> Response:
        fragment, _seen = await followed[0].look()
        return HTMLResponse(live_page(record.run_id, fragment), headers=_HEADERS)

    async def news(_: Request) -> Response:
        return StreamingResponse(followed[0].follow(), media_type="text/event-stream", headers=_HEADERS)

    app = Starlette(routes=[Route("/", page), Route("/news", news)], lifespan=lifespan)
    return _OwnMachineOnly(app, port)


@dataclass
class _Followed:
    """A run that is looked at."""

    launch: Launch
    graph: CompiledRunGraph
    kept: Persistence

    async def look(self) -> tuple[Markup, int]:
        """The run as it is now, and how far its journal was read."""
        run_id = self.launch.record.run_id
        journal = await self.kept.ledger.aevents(run_id)
        events = [event for _, event in journal]
        run = under_way(await self.graph.aget_run(self.launch.config), events)
        report = RunReport(run, balance=await read_balance(run_id, self.kept), events=events)
        last: datetime | None = events[-1].at if events else None
        return live_fragment(report.figures, last_event=last), journal[-1][0] if journal else 0

    async def follow(self) -> AsyncIterator[str]:
        """Server-sent events with what the page shows, one now and one whenever the journal has grown."""
        fragment, seen = await self.look()
        yield _message(fragment)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if await self.kept.ledger.aevents(self.launch.record.run_id, after=seen):
                fragment, seen = await self.look()
                yield _message(fragment)


def _message(fragment: Markup) -> str:
    return f"data: {json.dumps(fragment)}\n\n"


class _OwnMachineOnly:
    """Refuses what other pages and other machines ask for: a name of theirs may lead to this address, too."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))):
            await refusal(scope, receive, send)
        elif scope["type"] in {"http", "lifespan"}:
            await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        headers: Any = request.headers
        if headers.get("host") not in self._hosts:
            return PlainTextResponse("this page is for the machine that it runs on", 400)
        if (origin := headers.get("origin")) is not None and origin not in self._origins:
            return PlainTextResponse("another page must not read this one", 403)
        return None

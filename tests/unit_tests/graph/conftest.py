"""Threads of LangGraph's, in every way in which one can be kept and called."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

CONFIG = {"configurable": {"thread_id": "1"}}


@dataclass
class Way:
    """A checkpointer, a ledger, and whether graphs are called by their sync or their async methods."""

    sync: bool
    saver: BaseCheckpointSaver[Any]
    ledger: Ledger
    left: list[tuple[Any, asyncio.Task[Any]]] = field(default_factory=list)

    def compile(self, graph, **options):
        return graph.compile(checkpointer=self.saver, ledger=self.ledger, **options)

    async def invoke(self, graph, given, config=CONFIG, **options):
        return await self._call(graph, "invoke", given, config, **options)

    async def state(self, graph, config=CONFIG, **options):
        return await self._call(graph, "get_state", config, **options)

    async def run(self, graph, config=CONFIG):
        return await self._call(graph, "get_run", config)

    async def update(self, graph, values, config=CONFIG, **options):
        return await self._call(graph, "update_state", config, values, **options)

    async def rerun(self, graph, *task_ids, config=CONFIG):
        return await self._call(graph, "rerun_from", config, *task_ids)

    async def migrate(self, graph, config=CONFIG):
        return await self._call(graph, "migrate", config)

    async def history(self, graph, config=CONFIG, **options):
        if self.sync:
            return await asyncio.to_thread(lambda: list(graph.get_state_history(config, **options)))
        return [snapshot async for snapshot in graph.aget_state_history(config, **options)]

    async def left_by_another_process(self, graph, body, **options):
        """The graph of a process that finds a run whose own process has died in the body."""
        theirs = self.compile(graph, **options)
        run = asyncio.create_task(self.invoke(theirs, {"inputs": {}}))
        self.left.append((theirs, run))
        assert await asyncio.to_thread(body.begun.wait, 20)
        body.deadly = False
        return self.compile(graph, **options)

    async def close(self):
        """Let what was left behind end."""
        for graph, run in self.left:
            for run_id in list(graph._execution.drivers):
                graph.abort(run_id)
            await asyncio.gather(run, return_exceptions=True)

    async def _call(self, graph, name, *args, **options):
        if self.sync:
            return await asyncio.to_thread(getattr(graph, name), *args, **options)
        return await getattr(graph, f"a{name}")(*args, **options)


class FullSaver(InMemorySaver):
    """A checkpointer that can keep what nodes have written, but no more checkpoints, once it is full."""

    full = False

    def put(self, *args):
        if self.full:
            raise OSError("the disk is full")
        return super().put(*args)

    async def aput(self, *args):
        return self.put(*args)


class Deadly:
    """A body in which a process dies; in the next process it works."""

    def __init__(self, result="survived"):
        self.result, self.deadly, self.begun = result, True, threading.Event()

    async def __call__(self, inputs):
        if self.deadly:
            self.begun.set()
            await asyncio.Event().wait()
        return self.result


async def _opened(kind, tmp_path, stack):
    store, _, calls = kind.partition("-")
    sync = calls == "sync"
    if store == "memory":
        way = Way(sync, InMemorySaver(), InMemoryLedger())
        stack.push_async_callback(way.close)
        return way
    path = str(tmp_path / "runs.db")
    if sync:
        saver = stack.enter_context(SqliteSaver.from_conn_string(path))
    else:
        saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
    ledger = SqliteLedger(tmp_path / "ledger.db")
    stack.callback(ledger.close)
    way = Way(sync, saver, ledger)
    stack.push_async_callback(way.close)
    return way


@pytest.fixture(params=["memory-sync", "memory-async", "sqlite-sync", "sqlite-async"])
async def way(request, tmp_path) -> AsyncIterator[Way]:
    async with AsyncExitStack() as stack:
        yield await _opened(request.param, tmp_path, stack)


@pytest.fixture
def deadly():
    return Deadly()


@pytest.fixture
def full_saver():
    return FullSaver()

"""What a budget costs per call: requests to a model that answers at once, with and without ``with_budget``.

Both are measured in turns, in CPU time of the calling thread, since nothing here waits: a busy machine then tells the
same as an idle one. The figure is the turn with the median ratio. A ledger on disk does wait, and is measured in wall
time.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Figure
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_runtime import budget_scope
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger

CALLS = 250
BOUND = 1.45
"""The guard adds at most 0.45 of a no-op ``invoke``."""

USAGE = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
IN_MEMORY = "ledger in memory, CPU time"
BARE = "the same model bare"

Run = Callable[[Any], float]
"""Measures a model: microseconds per call."""


class NoOpModel(BaseChatModel):
    """Answers at once."""

    model: str = "gpt-5-mini"
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "no-op"

    def _get_ls_params(self, stop=None, **kwargs):
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "openai"}

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):  # noqa: ARG002 - LangChain's signature
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="ok", usage_metadata=USAGE))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):  # noqa: ARG002 - as above
        return self._generate(messages)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):  # noqa: ARG002 - as above
        yield ChatGenerationChunk(message=AIMessageChunk(content="o"))
        yield ChatGenerationChunk(message=AIMessageChunk(content="k", usage_metadata=USAGE))


def invoking(model: Runnable, requests: Iterator[Any], clock: Callable[[], float] = time.thread_time) -> float:
    started = clock()
    for request in itertools.islice(requests, CALLS):
        model.invoke(request)
    return (clock() - started) / CALLS * 1e6


def awaiting(model: Runnable) -> float:
    async def calls() -> float:
        started = time.thread_time()
        for _ in range(CALLS):
            await model.ainvoke("hello")
        return (time.thread_time() - started) / CALLS * 1e6

    return asyncio.run(calls())


def streaming(model: Runnable) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        for _ in model.stream("hello"):
            pass
    return (time.thread_time() - started) / CALLS * 1e6


def hello(model: Runnable) -> float:
    return invoking(model, itertools.repeat("hello"))


def with_tools(model: BaseChatModel) -> float:
    return invoking(model.bind_tools(TOOLS), itertools.repeat("hello"))


def in_conversation(model: Runnable) -> float:
    return invoking(model, ([*HISTORY, HumanMessage(f"And step {number}, please?")] for number in itertools.count()))


def in_scopes(model: Runnable) -> float:
    with (
        budget_scope(Budget.usd("1000", scope="user"), ledger=LEDGER),
        budget_scope(Budget.usd("1000", scope="job"), ledger=LEDGER),
    ):
        return hello(model)


def on_the_clock(model: Runnable) -> float:
    return invoking(model, itertools.repeat("hello"), time.perf_counter)


LEDGER = InMemoryLedger()

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"search_{source}",
            "description": f"Searches {source} and returns the passages that answer the question, the best one first.",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What to look for, in a few words."},
                    "limit": {"type": "integer", "description": "How many passages at most.", "default": 5},
                    "since": {"type": "string", "description": "Leave out what is older (ISO 8601)."},
                },
                "required": ["query"],
            },
        },
    }
    for source in ("wiki", "mail", "tickets", "code", "logs", "docs", "forum", "calendar", "contacts", "invoices")
]

HISTORY = [
    kind(f"Turn {number}: {'something was said about the matter at hand, and then some more. ' * 3}")
    for number, kind in zip(range(49), itertools.cycle((HumanMessage, AIMessage)), strict=False)
]


def measure(quick: bool) -> Iterator[Figure]:
    turns = 11 if quick else 61
    for claim, run in (
        ("a no-op invoke under a budget", hello),
        ("a no-op ainvoke under a budget", awaiting),
        ("a no-op stream of 2 chunks under a budget", streaming),
        ("a no-op invoke with 10 tools under a budget", with_tools),
        ("a no-op invoke with 50 messages, the last one new, under a budget", in_conversation),
        ("a no-op invoke under three nested budgets", in_scopes),
    ):
        bound = BOUND if run is hello else None
        yield compared(f"{claim}, {IN_MEMORY}", run, LEDGER, turns, bound)
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder) / "ledger.db")
        yield compared("a no-op invoke under a budget, SQLite FULL, wall time", on_the_clock, ledger, min(turns, 11))


def compared(claim: str, run: Run, ledger: Ledger, turns: int, bound: float | None = None) -> Figure:
    plain = NoOpModel()
    guarded = with_budget(plain, Budget.usd("1000", scope="benchmark"), ledger=ledger)
    for model in (plain, guarded):
        run(model)  # what happens once is not measured
    measured = [(run(plain), run(guarded)) for _ in range(turns)]
    without, with_guard = sorted(measured, key=lambda turn: turn[1] / turn[0])[len(measured) // 2]
    return Figure(
        claim=claim,
        ours=with_guard,
        unit="us",
        peer=without,
        against=BARE,
        bound=bound,
        must_hold="Guarding costs at most 0.45 of a no-op invoke" if bound else "",
    )

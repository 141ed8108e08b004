"""What a budget costs per call: a no-op ``invoke`` with and without ``with_budget``, ledger in memory.

Both are measured in turns, in CPU time of the calling thread, since nothing here waits: a busy machine then tells the
same as an idle one. The figure is the turn with the median ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from harness import Figure
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.ledgers import InMemoryLedger

CALLS = 250
BOUND = 1.45
"""The guard adds at most 0.45 of a no-op ``invoke``."""


class NoOpModel(BaseChatModel):
    """Answers at once."""

    model: str = "gpt-5-mini"
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "no-op"

    def _get_ls_params(self, stop=None, **kwargs):
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "openai"}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):  # noqa: ARG002 - LangChain's signature
        usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="ok", usage_metadata=usage))])


def microseconds_per_call(call: Callable[[], object]) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - started) / CALLS * 1e6


def measure(quick: bool) -> Iterator[Figure]:
    plain = NoOpModel()
    guarded = with_budget(plain, Budget.usd("1000", scope="benchmark"), ledger=InMemoryLedger())
    for model in (plain, guarded):
        microseconds_per_call(lambda model=model: model.invoke("hello"))
    turns = [
        (
            microseconds_per_call(lambda: plain.invoke("hello")),
            microseconds_per_call(lambda: guarded.invoke("hello")),
        )
        for _ in range(11 if quick else 61)
    ]
    without, with_guard = sorted(turns, key=lambda turn: turn[1] / turn[0])[len(turns) // 2]
    yield Figure(
        claim="a no-op invoke under a budget, ledger in memory, CPU time",
        ours=with_guard,
        unit="us",
        peer=without,
        against="the same model bare",
        bound=BOUND,
        must_hold="Guarding costs at most 0.45 of a no-op invoke",
    )

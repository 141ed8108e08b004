"""What a budget costs per call: a no-op ``invoke`` with and without ``with_budget``, ledger in memory.

Claim: the guard adds at most 0.45 of a no-op ``invoke`` (the whole is at most 1.45 of it).
Both are measured in turns, in CPU time of the calling thread, since nothing here waits: a busy machine then tells the
same as an idle one. The median of the turns' ratios is the figure.
Run: python benchmarks/guard_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.ledgers import InMemoryLedger

TURNS, CALLS = 40, 250
GOAL = 1.45


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


def seconds_per_call(call: Callable[[], object]) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - started) / CALLS


def main() -> None:
    plain = NoOpModel()
    guarded = with_budget(plain, Budget.usd("1000", scope="benchmark"), ledger=InMemoryLedger())
    for model in (plain, guarded):
        seconds_per_call(lambda model=model: model.invoke("hello"))
    pairs = [
        (seconds_per_call(lambda: plain.invoke("hello")), seconds_per_call(lambda: guarded.invoke("hello")))
        for _ in range(TURNS)
    ]
    without = statistics.median(pair[0] for pair in pairs)
    with_guard = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(f"plain invoke     {without * 1e6:7.1f} us  (peer)")
    print(f"guarded invoke   {with_guard * 1e6:7.1f} us  (ours)")
    print(f"ratio            {ratio:7.2f}     goal <= {GOAL}: {'held' if ratio <= GOAL else 'not held'}")


if __name__ == "__main__":
    main()

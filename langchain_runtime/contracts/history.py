"""What earlier runs took: figures of finished tasks, without a word of what they read or wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage

NO_TOKENS: Final = TokenUsage()


@dataclass(frozen=True, slots=True)
class TaskSample:
    """One task that completed.

    Attributes:
        task: Its id; ``map#`` for every child of the ``for_each`` task ``map``, ``map`` for that task itself.
        body: What it did: a digest of its prompt, or the name of its function or class.
        model: Prompts: who answered; None for other bodies.
        seconds: From its first start to its end, further attempts included.
        tokens: All its calls together.
        cost: Of all its calls; None when unknown.
        received: Characters of its prompt, filled in, and of what came with it; 0 for other bodies.
        read: Prompts: characters of what came from each dependency, and of a list's item, by the name in the prompt.
        written: Characters of its output.
        items: ``for_each`` tasks: how many children it had; None for others.
        run: The execution of a run in which it completed; empty where that does not matter.
    """

    task: str
    body: str
    model: str | None
    seconds: float
    tokens: TokenUsage = NO_TOKENS
    cost: Cost | None = None
    received: int = 0
    read: Mapping[str, int] = field(default_factory=dict)
    written: int = 0
    items: int | None = None
    run: str = ""

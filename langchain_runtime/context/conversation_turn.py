"""One turn of a conversation: what is asked for, and what came of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_runtime.context.context_compactor import ContextCompactor
from langchain_runtime.context.conversation_fold import ConversationFold
from langchain_runtime.context.marks import is_our_own, mark_of
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import ContextReport
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.contracts.protocols import Summarizer
from langchain_runtime.contracts.usage import Usage


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What goes with the view.

    Attributes:
        compactor: Counts it.
        system: The system message, if there is one.
        tools: As given.
        schemas: Of the tools, by name.
        fixed: Tokens of both.
        window: Of the model; None where nobody knows.
        limits: What the whole must meet; None for nothing.
    """

    compactor: ContextCompactor
    system: tuple[SystemMessage, ...]
    tools: tuple[Any, ...]
    schemas: dict[str, dict[str, Any]]
    fixed: int
    window: int | None
    limits: Limits | None

    @classmethod
    def of(
        cls,
        compactor: ContextCompactor,
        system: SystemMessage | None,
        tools: Sequence[Any],
        window: int | None,
        limits: Limits | None,
    ) -> TurnRequest:
        """The request with these beside its view."""
        before = () if system is None else (system,)
        schemas = dict(_schema(tool, number) for number, tool in enumerate(tools))
        # Not every counter can do with nothing at all.
        fixed = compactor.count(before, schemas) if before or schemas else 0
        return cls(compactor, before, tuple(tools), schemas, fixed, window, limits)

    def is_for(self, system: SystemMessage | None, tools: Sequence[Any], window: int | None) -> bool:
        """Whether it was made of these; by identity, because it is asked at each turn."""
        if (self.system[0] if self.system else None) is not system or self.window != window:
            return False
        return len(tools) == len(self.tools) and all(map(operator.is_, tools, self.tools))

    def size(self, view: Sequence[BaseMessage]) -> int:
        """Tokens of everything."""
        return self.compactor.count([*self.system, *view], self.schemas)


@dataclass(slots=True)
class Turn:
    """What is asked for at one turn, and what was done for it.

    Attributes:
        request: What goes with the view.
        summarizer: Writes summaries; None for notes without.
        reminders: That stand in the view already, by the position before which they do.
        overflow: Why the view does not fit, if it does not.
        strategy: Strategies that changed something.
        orphans: Tool results without a call.
        summary: What summaries took.
    """

    request: TurnRequest
    summarizer: Summarizer | None
    reminders: dict[int, BaseMessage] = field(default_factory=dict)
    overflow: ContextOverflowError | None = None
    strategy: list[str] = field(default_factory=list)
    orphans: int = 0
    summary: Usage = Usage()  # noqa: RUF009 - immutable


class ContextView:
    """What a model sees of a conversation at one turn.

    Attributes:
        messages: The view, without the system message that was given beside the conversation.
        boundary: Where it begins; to be kept when it ``moved``.
        moved: Whether the boundary is another one than before the turn.
    """

    def __init__(self, fold: ConversationFold, *, moved: bool, before: list[BaseMessage], turn: Turn) -> None:
        self.messages = list(fold.view)
        self.boundary = fold.boundary
        self.moved = moved
        self._before = before
        self._turn = turn

    @cached_property
    def report(self) -> ContextReport:
        """What was done; counted when it is asked for."""
        before = {id(message) for message in self._before}
        after = {id(message) for message in self.messages}
        gone = sum(id(message) not in after and not is_our_own(message) for message in self._before)
        clipped = sum(id(message) not in before and mark_of(message).clipped for message in self.messages)
        return ContextReport(
            tokens_before=self._turn.request.size(self._before),
            tokens_after=self._turn.request.size(self.messages),
            evicted=gone - clipped,
            clipped=clipped,
            orphans=self._turn.orphans,
            strategy=tuple(dict.fromkeys(self._turn.strategy)),
            events=self.boundary.events,
            summary=self._turn.summary,
        )


def _schema(tool: Any, number: int) -> tuple[str, dict[str, Any]]:
    """The tool as a request carries it, under its name."""
    schema: dict[str, Any] = tool if isinstance(tool, dict) else convert_to_openai_tool(tool)
    name = schema.get("function", schema).get("name")
    return (name or f"tool {number}", schema)

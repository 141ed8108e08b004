"""Tells replies of LangChain's response cache from those that were paid for.

LangChain marks the former with a ``total_cost`` of 0 (``BaseChatModel._convert_cached_generations``, langchain-core
1.7.2). With a cache in memory the mark lands on the very object that the call which pays may be about to report: two
equal prompts of one ``generate``, or of two tasks, and the bill is gone. So a mark alone is not believed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import LC_ID_PREFIX, AIMessage, BaseMessage
from langchain_core.outputs import LLMResult

_MOST: Final = 10_000
"""Prompts and replies that are remembered; twins are microseconds apart."""


class CachedReplies:
    """What the process has asked and been answered of late; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: OrderedDict[int, UUID | None] = OrderedDict()  # None: by several calls
        self._answered: OrderedDict[tuple[int, str], UUID] = OrderedDict()  # not every server's ids are unique

    def ask(self, run_id: UUID, model_id: str, messages: Sequence[BaseMessage]) -> int:
        """Remember that a call asks this; returns a key that equal prompts share."""
        prompt = hash((model_id, len(messages), str(messages[-1].content) if messages else ""))
        with self._lock:
            if self._asked.setdefault(prompt, run_id) != run_id:
                self._asked[prompt] = None
            _limit(self._asked)
        return prompt

    def answers(self, run_id: UUID, prompt: int, response: LLMResult) -> bool:
        """Whether the cache gave this reply, and nothing was sent. The answer to one call is always the same."""
        messages = [getattr(generation, "message", None) for replies in response.generations for generation in replies]
        if not messages:
            return False
        marked = not response.llm_output and all(_is_marked(message) for message in messages)
        reply_id = getattr(messages[0], "id", None) or ""
        if reply_id.startswith(LC_ID_PREFIX):  # made up by LangChain, of the run that pays
            return marked and str(run_id) not in reply_id
        with self._lock:
            first = self._answered.setdefault((prompt, reply_id), run_id) == run_id
            _limit(self._answered)
            has_twin = self._asked.get(prompt) is None
        return marked and not (first and has_twin)


def _is_marked(message: Any) -> bool:
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    return usage is not None and usage.get("total_cost") == 0


def _limit(entries: OrderedDict[Any, Any]) -> None:
    if len(entries) > _MOST:
        entries.popitem(last=False)


cached_replies: Final = CachedReplies()
"""The process's: a cache in memory is shared by all its models, too."""

"""What models used that no budget wraps."""

from __future__ import annotations

from uuid import UUID

from langchain_core.messages import BaseMessage

from langchain_runtime.adapters.announced_calls import AnnouncedCall
from langchain_runtime.callbacks.usage import UsageCallbackHandler


class UnwrappedUsage(UsageCallbackHandler):
    """Counts the calls of models that are not under ``with_budget``; those that are charge every scope themselves."""

    def _begin(self, announced: AnnouncedCall, messages: list[BaseMessage], run_id: UUID) -> None:
        if announced.charged is None:
            super()._begin(announced, messages, run_id)

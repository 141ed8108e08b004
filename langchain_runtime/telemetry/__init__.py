"""OpenTelemetry spans of runs and tasks, by the GenAI semantic conventions; nothing where nobody traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.telemetry.spans import trace_of
    from langchain_runtime.telemetry.switches import chat_spans
    from langchain_runtime.telemetry.untraced import AttemptTrace, RunTrace

__all__ = ["AttemptTrace", "RunTrace", "chat_spans", "trace_of"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AttemptTrace": "untraced",
        "RunTrace": "untraced",
        "chat_spans": "switches",
        "trace_of": "spans",
    },
)

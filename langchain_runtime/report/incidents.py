"""What went otherwise than planned: failures, skips, retries, refusals by the budget, compactions, cut replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from langchain_runtime.contracts.events import BudgetRefused, ContextCompacted, LifecycleEvent, TaskRetried
from langchain_runtime.contracts.run import Run, Task, TaskState
from langchain_runtime.contracts.usage import Usage

_CUT: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Finish reasons of a reply that ran into its output limit: OpenAI and Gemini, Anthropic, OpenAI Responses, Mistral."""

_CAPPED: Final = "lcr_capped"
"""Set in the metadata of replies that the cap of a budget cut."""

_REFUSED: Final = {
    "raise": "refused",
    "cap": "shrunk to fit",
    "wait": "made to wait",
    "interrupt": "stopped for a top-up",
    "warn": "above the limit, only noted",
    "downgrade": "moved to a cheaper model",
}


@dataclass(frozen=True, slots=True)
class Incident:
    """The same thing that happened to one or more tasks, in the order it happened."""

    what: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompactionFigures:
    """The compactions of one task's views, added up; tokens as the compactor counts them.

    Attributes:
        task: Its id.
        times: How often one of its views was made to fit.
        strategy: Everything that was done for it.
        tokens_before: Of its views before.
        tokens_after: And after.
        evicted: Messages that left them.
        clipped: Messages that were shortened.
        recalls: How often its model asked for what had left them.
        summary: What summaries took; part of what the task used.
    """

    task: str
    times: int
    strategy: tuple[str, ...]
    tokens_before: int
    tokens_after: int
    evicted: int
    clipped: int
    recalls: int = 0
    summary: Usage = Usage()  # noqa: RUF009 - immutable


@dataclass(frozen=True, slots=True)
class Incidents:
    """What went otherwise than planned, each kind grouped by cause.

    Attributes:
        errors: Failed tasks by code and message.
        skips: Skipped tasks by reason.
        retries: Tasks tried again, by the error of the attempt before; without a journal only that they were.
        warnings: Cut replies, refusals by the budget, and what tasks warned of.
        compactions: By task.
    """

    errors: tuple[Incident, ...]
    skips: tuple[Incident, ...]
    retries: tuple[Incident, ...]
    warnings: tuple[Incident, ...]
    compactions: tuple[CompactionFigures, ...]


def incidents_of(run: Run, events: Sequence[LifecycleEvent]) -> Incidents:
    """Collect and group the incidents of ``run``."""
    errors, skips, retries, warnings = _Groups(), _Groups(), _Groups(), _Groups()
    retried = {event.task for event in events if isinstance(event, TaskRetried)}
    for task in run.tasks.values():
        if task.error is not None:
            errors.add(f"[{task.error.code}] {task.error.message}", task.id)
        if task.state is TaskState.SKIPPED:
            skips.add(task.skipped_because or "no reason was recorded", task.id)
        if task.attempts > 1 and task.id not in retried:
            retries.add("tried again", task.id, times=task.attempts - 1)
        for warning in _warnings_of(task):
            warnings.add(warning, task.id)
    for event in events:
        if isinstance(event, TaskRetried):
            retries.add(f"[{event.error.code}] {event.error.message}", event.task)
        elif isinstance(event, BudgetRefused):
            warnings.add(f"a call was {_REFUSED[event.action]} by budget {event.scope}", event.task or "no task")
    return Incidents(errors.all(), skips.all(), retries.all(), warnings.all(), _compactions(events))


class _Groups:
    def __init__(self) -> None:
        self._tasks: dict[str, Counter[str]] = {}

    def add(self, what: str, task: str, *, times: int = 1) -> None:
        self._tasks.setdefault(what, Counter())[task] += times

    def all(self) -> tuple[Incident, ...]:
        return tuple(
            Incident(what, tuple(task if times == 1 else f"{task} ({times} times)" for task, times in tasks.items()))
            for what, tasks in self._tasks.items()
        )


def _warnings_of(task: Task) -> list[str]:
    metadata: Mapping[str, JsonValue] = task.outputs.metadata if task.outputs is not None else {}
    given = metadata.get("warnings", [])
    warnings = [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str)]
    if metadata.get(_CAPPED):
        warnings.append("the reply was cut by the cap that its budget allowed")
    finish = metadata.get("finish_reason") or metadata.get("stop_reason")
    if not warnings and isinstance(finish, str) and finish.lower() in _CUT:
        warnings.append("the reply was cut at its output limit")
    return warnings


def _compactions(events: Sequence[LifecycleEvent]) -> tuple[CompactionFigures, ...]:
    by_task: dict[str, list[ContextCompacted]] = {}
    for event in events:
        if isinstance(event, ContextCompacted):
            by_task.setdefault(event.task, []).append(event)
    return tuple(
        CompactionFigures(
            task=task,
            times=sum(bool(event.strategy) for event in compacted),
            strategy=tuple(dict.fromkeys(name for event in compacted for name in event.strategy)),
            tokens_before=sum(event.tokens_before for event in compacted),
            tokens_after=sum(event.tokens_after for event in compacted),
            evicted=sum(event.evicted for event in compacted),
            clipped=sum(event.clipped for event in compacted),
            recalls=sum(event.recalls for event in compacted),
            summary=sum((event.summary for event in compacted), Usage()),
        )
        for task, compacted in by_task.items()
    )

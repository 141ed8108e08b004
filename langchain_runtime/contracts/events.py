"""What happened in a run, as frozen records in the order it happened.

The graph streams them (``stream_mode="custom"``) and the ledger keeps them as the run's journal: live views and reports
read the same data. ``kind`` tells them apart in JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from langchain_runtime.contracts.identifiers import ModelID, RunID, TaskID
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import RunState, TaskError, TaskOutcome, TaskState, now
from langchain_runtime.contracts.usage import TokenUsage, Usage


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunID
    at: datetime = Field(default_factory=now)


class RunStarted(_Event):
    """A driver took the run up; ``finished`` tasks were read back from the journal."""

    kind: Literal["run_started"] = "run_started"
    name: str | None = None
    tasks: int
    finished: int = 0
    limit: Cost | None = None


class RunEnded(_Event):
    """The driver let go of the run."""

    kind: Literal["run_ended"] = "run_ended"
    state: RunState
    reason: str | None = None
    usage: Usage


class TasksAdded(_Event):
    """Tasks joined the run: children of ``parent``'s ``for_each``, or tasks that its body enqueued."""

    kind: Literal["tasks_added"] = "tasks_added"
    parent: TaskID
    tasks: tuple[TaskID, ...]


class TaskReady(_Event):
    """All dependencies are done; the task waits for a slot or for money."""

    kind: Literal["task_ready"] = "task_ready"
    task: TaskID


class TaskStarted(_Event):
    """The body was started."""

    kind: Literal["task_started"] = "task_started"
    task: TaskID
    attempt: int
    model: ModelID | None = None


class TaskRetried(_Event):
    """An attempt failed and another one will follow."""

    kind: Literal["task_retried"] = "task_retried"
    task: TaskID
    attempt: int
    error: TaskError


class TaskSuspended(_Event):
    """The body asked a human (``interrupt()``); the task is started again with the answer."""

    kind: Literal["task_suspended"] = "task_suspended"
    task: TaskID


class TaskFinished(_Event):
    """The task reached its final state: completed, failed or skipped."""

    kind: Literal["task_finished"] = "task_finished"
    task: TaskID
    state: TaskState
    attempts: int = 0
    usage: Usage = Usage()
    error: TaskError | None = None
    skipped_because: str | None = None


class CallReserved(_Event):
    """The worst case of a model call was reserved; ``worst_case`` is None where nobody has a price."""

    kind: Literal["call_reserved"] = "call_reserved"
    task: TaskID | None
    reservation_id: str
    worst_case: Cost | None
    model: ModelID | None = None


class CallSettled(_Event):
    """A model call ended.

    ``cost`` is None where nobody has a price, ``usage`` where the provider did not report it.
    """

    kind: Literal["call_settled"] = "call_settled"
    task: TaskID | None
    reservation_id: str
    cost: Cost | None
    usage: TokenUsage | None = None
    model: ModelID | None = None


class BudgetRefused(_Event):
    """A call did not fit: it was refused, shrunk, made to wait, moved to a cheaper model, or (``warn``) only noted."""

    kind: Literal["budget_refused"] = "budget_refused"
    task: TaskID | None
    scope: str
    action: Literal["raise", "cap", "wait", "interrupt", "warn", "downgrade"]
    needed: Cost


class ContextCompacted(_Event):
    """A view was made to fit, or a task ended that had asked for what its view lacked: then ``strategy`` is empty."""

    kind: Literal["context_compacted"] = "context_compacted"
    task: TaskID
    strategy: tuple[str, ...]
    tokens_before: int
    tokens_after: int
    evicted: int = Field(description="messages that left the view and can be recalled")
    clipped: int = Field(description="messages that were shortened")
    recalls: int = Field(default=0, description="how often the model asked for what had left its view")
    summary: Usage = Field(default=Usage(), description="what summaries took; part of what the task used")


LifecycleEvent = Annotated[
    RunStarted
    | RunEnded
    | TasksAdded
    | TaskReady
    | TaskStarted
    | TaskRetried
    | TaskSuspended
    | TaskFinished
    | CallReserved
    | CallSettled
    | BudgetRefused
    | ContextCompacted,
    Field(discriminator="kind"),
]


# Three of them for every task, of values that are valid already: validation would be a tenth of what a task costs.


def task_ready(run_id: str, task: str) -> TaskReady:
    """``TaskReady`` of known values, now."""
    return trusted(TaskReady, {"run_id": run_id, "at": now(), "kind": "task_ready", "task": task})


def task_started(run_id: str, task: str, *, attempt: int, model: str | None) -> TaskStarted:
    """``TaskStarted`` of known values, now."""
    facts = {"run_id": run_id, "at": now(), "kind": "task_started", "task": task, "attempt": attempt, "model": model}
    return trusted(TaskStarted, facts)


def task_finished(run_id: str, outcome: TaskOutcome) -> TaskFinished:
    """``TaskFinished`` of a task's final outcome, now."""
    return trusted(
        TaskFinished,
        {
            "run_id": run_id,
            "at": now(),
            "kind": "task_finished",
            "task": outcome.task,
            "state": outcome.state,
            "attempts": outcome.attempts,
            "usage": outcome.usage,
            "error": outcome.error,
            "skipped_because": outcome.skipped_because,
        },
    )


_ADAPTER: TypeAdapter[LifecycleEvent] = TypeAdapter(LifecycleEvent)


def parse_event(data: str | bytes | dict[str, object]) -> LifecycleEvent:
    """Read an event back from its JSON."""
    return _ADAPTER.validate_python(data) if isinstance(data, dict) else _ADAPTER.validate_json(data)

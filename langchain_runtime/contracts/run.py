"""Runs, tasks and the DAG they form: the records that cross between processes and come back from storage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from langchain_runtime.contracts.budget import OnExceed
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.identifiers import ModelID, RunID, TaskID
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.usage import Usage

Milliseconds = Annotated[int, Field(gt=0, le=100_000_000_000)]
"""A time limit, up to three years: clocks and timers cannot hold arbitrary numbers."""


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(tz=UTC)


class RunState(StrEnum):
    """Where a run stands; all but ``completed`` can be resumed."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    """Waits for dependencies."""
    READY = "ready"
    """Waits for a slot or for money."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Will not run: a dependency failed or was skipped, or its condition was false."""

    @property
    def ended(self) -> bool:
        """Whether the task will not change its state any more in this run."""
        return self in {TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskInput(_Record):
    """What a task is asked to do.

    Attributes:
        prompt: f-string template for a model, or None for a task with a body of its own.
        inputs: Values by name: the run's inputs and one key for each dependency or its alias.
        metadata: The user's own notes; never interpreted.
    """

    prompt: str | None = None
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class TaskResult(_Record):
    """What a task produced.

    Attributes:
        output: The text, or any JSON value.
        outputs: Named JSON values, for dependents that ask for ``task.name``.
        usage: Tokens and cost, failed attempts included.
        model: Prompts: who answered, which is a cheaper model than the task's own where a budget moved it; None for
            other bodies.
        metadata: Facts about the execution: warnings, finish reason, what was compacted.
    """

    output: JsonValue = None
    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    usage: Usage = Usage()
    model: ModelID | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class TaskError(_Record):
    """Why a task failed: a stable ``code`` (see ``contracts.errors``), a sentence, whether trying again can help."""

    code: str
    message: str
    retryable: bool = False


class EnqueuedTask(_Record):
    """A task that a body added to its run: a prompt, or the body of another task with inputs of its own.

    It is part of the outcome of the task that added it, so it is durable with it and the same on every resume.

    Attributes:
        id: Unique in the run.
        prompt: f-string template for a model; None with ``like``.
        like: Task of the graph whose body, model and settings it takes over; None with ``prompt``.
        deps: Alias -> ``task`` or ``task.output``; the task that added it is waited for in any case.
        inputs: Values by name, for this task alone, over the run's inputs.
        model: Overrides the graph's, or that of ``like``.
        priority: Larger starts earlier among the tasks that the same body added.
        max_output_tokens: Cap on the reply of a prompt.
        timeout_ms: For one attempt; None for the policy's.
    """

    id: TaskID
    prompt: str | None = None
    like: TaskID | None = None
    deps: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    model: ModelID | None = None
    priority: int = 0
    max_output_tokens: int | None = Field(default=None, ge=1)
    timeout_ms: Milliseconds | None = None


class TaskOutcome(_Record):
    """How a task ended: the JSON envelope that comes back from a body, wherever it ran.

    It is what the journal keeps, what the graph's state holds under ``results``, and all that a dependent reads.
    A failure is an outcome like a success: bodies never raise across a process.
    """

    task: TaskID
    state: TaskState
    output: JsonValue = None
    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    usage: Usage = Usage()
    estimated_use: Usage | None = None
    model: ModelID | None = None
    error: TaskError | None = None
    attempts: int = Field(default=0, ge=0)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    skipped_because: str | None = None
    enqueued: list[EnqueuedTask] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def cost(self) -> Cost | None:
        """What the task cost; None when unknown or nothing was priced."""
        return self.usage.cost

    def result(self) -> TaskResult:
        """The part that a caller asked for."""
        return trusted(
            TaskResult,
            {
                "output": self.output,
                "outputs": self.outputs,
                "usage": self.usage,
                "model": self.model,
                "metadata": self.metadata,
            },
        )


class Task(_Record):
    """One task of a run, as it stands now.

    Attributes:
        id: Unique in the run.
        state: Where it stands.
        inputs: What it is asked to do.
        deps: Ids of the tasks it waits for, in the order their outputs are handed over.
        outputs: What it produced; None until completed.
        error: Why it failed; None unless failed.
        model: The model that runs the prompt, or ran it; None for a body of its own.
        estimated_use: Worst case that was reserved; None when nothing was.
        actual_use: What was used so far; None before it started.
        priority: Larger starts earlier among equals on the critical path.
        expected_seconds: Expected duration, for the critical path; None when unknown.
        attempts: How often the body was started.
        started_at: First start.
        ended_at: When it reached its final state.
        skipped_because: Why it was skipped; None unless skipped.
        added_by: The task that it comes from, whose child it is or whose body enqueued it; None for the graph's own.
    """

    id: TaskID
    state: TaskState = TaskState.PENDING
    inputs: TaskInput = Field(default_factory=TaskInput)
    deps: list[TaskID] = Field(default_factory=list)
    outputs: TaskResult | None = None
    error: TaskError | None = None
    model: ModelID | None = None
    estimated_use: Usage | None = None
    actual_use: Usage | None = None
    priority: int = 0
    expected_seconds: float | None = Field(default=None, ge=0)
    attempts: int = Field(default=0, ge=0)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    skipped_because: str | None = None
    added_by: TaskID | None = None


class DAGNode(_Record):
    """One task in the graph: ``deps`` before it, ``next`` after it, ``pending`` dependencies not yet completed."""

    id: TaskID
    deps: list[TaskID] = Field(default_factory=list)
    next: list[TaskID] = Field(default_factory=list)
    pending: int = Field(default=0, ge=0)


class DAG(_Record):
    """The graph of a run: nodes by id, and for each id the ids that depend on it (an entry for every node)."""

    nodes: dict[TaskID, DAGNode] = Field(default_factory=dict)
    edges: dict[TaskID, list[TaskID]] = Field(default_factory=dict)


class RetrySpec(BaseModel):
    """How often a task is tried, and how long to wait between tries (exponential, with jitter)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: int = Field(default=1, ge=1, le=100)
    initial_interval_ms: int = Field(default=500, ge=0)
    backoff_factor: float = Field(default=2.0, ge=1)
    max_interval_ms: int = Field(default=60_000, ge=0)


class CacheSpec(BaseModel):
    """Takes the result of an equal task instead of doing the work again, and of one that is under way.

    Tasks are equal when they have the same body, model and settings, and get the same inputs.

    Attributes:
        ttl_seconds: How long a result may be taken; None for as long as the graph's cache keeps it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl_seconds: int | None = Field(default=None, ge=1)


class ModelLimits(BaseModel):
    """Ceilings for one model in a run; None for no ceiling.

    Attributes:
        parallelism: Tasks at a time.
        rpm: Requests per minute.
        tpm: Tokens per minute, input + output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parallelism: int | None = Field(default=None, ge=1)
    rpm: int | None = Field(default=None, ge=1)
    tpm: int | None = Field(default=None, ge=1)


class RunPolicy(BaseModel):
    """How a run is carried out.

    Attributes:
        max_parallelism: Tasks at a time.
        timeout_ms: The run's deadline from its start or resume; None for none.
        task_timeout_ms: Each task's, unless it has its own.
        budget_limit: Most that the run may spend at list price; None for no limit.
        token_limit: Most tokens that the run may use; None for no limit.
        on_exceed: As for ``Budget``. A task that would fail or be moved waits first, as long as other tasks of the run
            hold the money that it lacks.
        ladder: Models to move prompts to under ``downgrade``, dearest first: from its own on, a prompt takes the first
            one whose whole worst case fits. Empty for none.
        wait_timeout_ms: How long a task waits for money that others hold, in milliseconds; None for as long as they do.
        min_output_tokens: As for ``Budget``.
        on_task_failure: ``continue`` runs everything that is not downstream of the failure; ``fail_fast`` cancels.
        context: View of every task that has no policy of its own; None fits the model's window.
        retry: For every task that has none of its own.
        per_model: Ceilings by model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_parallelism: int = Field(default=8, ge=1)
    timeout_ms: Milliseconds | None = None
    task_timeout_ms: Milliseconds | None = None
    budget_limit: Cost | None = None
    token_limit: int | None = Field(default=None, gt=0)
    on_exceed: OnExceed = "cap"
    ladder: tuple[ModelID, ...] = ()
    wait_timeout_ms: int | None = Field(default=None, ge=0)
    min_output_tokens: int | None = Field(default=None, ge=1)
    on_task_failure: Literal["continue", "fail_fast"] = "continue"
    context: ContextPolicy | None = None
    retry: RetrySpec = RetrySpec()
    per_model: dict[ModelID, ModelLimits] = Field(default_factory=dict)

    @field_validator("budget_limit")
    @classmethod
    def _budget_is_positive(cls, value: Cost | None) -> Cost | None:
        if value is not None and value.nano <= 0:
            raise InvalidInputError(
                f"a budget must be positive, got {value}", hint="leave budget_limit out to run without a limit"
            )
        return value


class RunHeader(_Record):
    """What the graph's state keeps of a run under ``run``; the rest follows from the spec and the results.

    Attributes:
        run_id: The run.
        state: Where it stands.
        spec_hash: Of the graph that it was started with.
        task_hashes: Of each of its tasks, to tell what has changed when the whole differs.
        reason: Why it was aborted, or why it stands still: ``abort``, ``deadline``, ``stopped``, ``paused``.
        paused_at: Tasks that wait for the next resume, because the caller asked to stop before them.
        released: Tasks that the caller has already been stopped before.
        usage: Everything it used so far.
        created_at: When it was first started.
        updated_at: When its state last changed.
    """

    run_id: RunID
    state: RunState = RunState.PENDING
    spec_hash: str
    task_hashes: dict[TaskID, str] = Field(default_factory=dict)
    reason: str | None = None
    paused_at: list[TaskID] = Field(default_factory=list)
    released: list[TaskID] = Field(default_factory=list)
    usage: Usage = Usage()
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class Run(_Record):
    """A run and all its tasks.

    Attributes:
        id: Unique in its store; also the name of its budget's scope, ``run:<id>``.
        state: Where it stands.
        policy: How it is carried out.
        dag: The graph.
        tasks: Every task by id.
        usage: Everything its calls used, failed attempts included, from the ledger.
        created_at: When it was first started.
        updated_at: When its state last changed.
    """

    id: RunID
    state: RunState = RunState.PENDING
    policy: RunPolicy = RunPolicy()
    dag: DAG = Field(default_factory=DAG)
    tasks: dict[TaskID, Task] = Field(default_factory=dict)
    usage: Usage = Usage()
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """What tells it apart: a run of a thousand tasks is nothing to read, and takes long to write."""
        yield "id", self.id
        yield "state", self.state
        yield "tasks", len(self.tasks)
        yield "usage", self.usage

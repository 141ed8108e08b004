"""One Protocol for each component, so that each can be replaced and tested alone.

Sync and async: a method ``name`` that may do I/O has an async twin ``aname`` with the same meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from langchain_core.messages import BaseMessage
from pydantic import JsonValue

from langchain_runtime.contracts.budget import Budget, Hold, Reservation
from langchain_runtime.contracts.context import Compaction, ContextBundle, ContextPolicy, Summary
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.pricing import ModelInfo
from langchain_runtime.contracts.run import DAG, Task, TaskOutcome
from langchain_runtime.contracts.task_spec import TaskSpec
from langchain_runtime.contracts.usage import TokenUsage, Usage

# --- cost ------------------------------------------------------------------------------------------------------------


@runtime_checkable
class TokenEstimator(Protocol):
    """Counts tokens before a call: one number to plan with, one to hold money with."""

    def expected(self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()) -> int:
        """Best estimate of the input tokens, chat format and tool schemas included."""
        ...

    def upper_bound(
        self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> int:
        """Never below what the provider bills as input tokens.

        Raises:
            EstimationError: Part of the input cannot be bounded (images, audio, files without a rule).
        """
        ...

    def observe(
        self, messages: Sequence[BaseMessage], usage: TokenUsage, *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> None:
        """Learn from a call what its input really took; later estimates of the conversation and the model profit."""
        ...


@runtime_checkable
class ModelCatalog(Protocol):
    """Knows models, their windows and their prices."""

    def get(self, model: str) -> ModelInfo:
        """The model behind ``provider:name``, a bare name or a role.

        Raises:
            UnknownModelError: There is none.
        """
        ...


@runtime_checkable
class CostCalculator(Protocol):
    """Turns tokens into money at list price, rounded up once per call."""

    def cost(self, usage: TokenUsage, model: str, *, service_tier: str | None = None) -> Cost:
        """What a call with this usage costs.

        Raises:
            UnpricedModelError: The model, or a unit it used, has no price.
        """
        ...

    def worst_case(self, input_tokens: int, output_tokens: int, model: str, *, service_tier: str | None = None) -> Cost:
        """The most that a call of this size can cost: the dearest input rate that can apply, plus output."""
        ...


@runtime_checkable
class UsageTracker(Protocol):
    """Adds up settled calls by run, task and model."""

    def add(self, reservation: Reservation) -> None:
        """Count an ended reservation; a second time with the same id is ignored."""
        ...

    def total(self, *, run_id: str | None = None, task_id: str | None = None, model: str | None = None) -> Usage:
        """Everything counted that matches."""
        ...


@runtime_checkable
class BudgetEnforcer(Protocol):
    """Decides what happens when a call does not fit, by the budgets' ``on_exceed``."""

    def admit(
        self, hold: Hold, budgets: Sequence[Budget], *, shrink: Callable[[int | None, int | None], Hold | None]
    ) -> Reservation:
        """Reserve ``hold``, or a smaller one that ``shrink(free_nano, free_tokens)`` makes.

        Raises:
            BudgetExceededError: It does not fit.
            LedgerUnavailableError: The books cannot be reached; nothing may be spent.
        """
        ...

    async def aadmit(
        self, hold: Hold, budgets: Sequence[Budget], *, shrink: Callable[[int | None, int | None], Hold | None]
    ) -> Reservation:
        """Async twin of ``admit``."""
        ...


@runtime_checkable
class ModelLadder(Protocol):
    """Cheaper models to fall back on, for ``on_exceed="downgrade"``."""

    def below(self, model: str) -> str | None:
        """The next cheaper model; None at the bottom."""
        ...


# --- context ---------------------------------------------------------------------------------------------------------


@runtime_checkable
class ContextRouter(Protocol):
    """Hands the outputs of direct dependencies over."""

    def route(self, task: TaskSpec, outcomes: Mapping[str, TaskOutcome]) -> dict[str, JsonValue]:
        """Outputs of completed dependencies under their aliases, in the order of ``task.deps``."""
        ...


@runtime_checkable
class ContextBuilder(Protocol):
    """Assembles what a task's model sees."""

    def build(
        self,
        task: TaskSpec,
        *,
        inputs: Mapping[str, JsonValue],
        routed: Mapping[str, JsonValue],
        memory: Mapping[str, JsonValue],
        tools: Mapping[str, dict[str, Any]],
    ) -> ContextBundle:
        """System, memory, dependency outputs that the prompt does not name, then the prompt.

        Raises:
            InvalidInputError: The prompt has a variable that nothing supplies.
        """
        ...


@runtime_checkable
class ContextCompactor(Protocol):
    """Makes a view fit: valid, bounded, lossless."""

    def compact(self, bundle: ContextBundle, policy: ContextPolicy, *, max_tokens: int | None = None) -> Compaction:
        """Fit ``bundle`` into the policy's ``max_tokens`` (or ``max_tokens``, the model's window) less its reserve.

        Raises:
            ContextOverflowError: What must stay does not fit.
        """
        ...


@runtime_checkable
class Summarizer(Protocol):
    """Says in short what messages say."""

    def summarize(self, messages: Sequence[BaseMessage], *, max_tokens: int) -> Summary:
        """A summary of about ``max_tokens`` at most; whoever asks checks it, and goes on without one if this raises."""
        ...

    async def asummarize(self, messages: Sequence[BaseMessage], *, max_tokens: int) -> Summary: ...


@runtime_checkable
class MemoryManager(Protocol):
    """Key-value memory of a run that its tasks read and write; each ``namespace`` of a run is a memory of its own."""

    def get(self, run_id: str, key: str, *, namespace: str | None = None) -> JsonValue: ...
    def put(
        self, run_id: str, key: str, value: JsonValue, *, namespace: str | None = None, ttl_minutes: float | None = None
    ) -> None: ...
    def put_many(
        self,
        run_id: str,
        values: Mapping[str, JsonValue],
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
    ) -> None: ...
    def delete(self, run_id: str, key: str, *, namespace: str | None = None) -> None: ...
    def search(
        self, run_id: str, query: str | None = None, *, limit: int = 10, namespace: str | None = None
    ) -> Sequence[tuple[str, JsonValue, float | None]]:
        """Keys, values and scores of what fits the query by its meaning, best first.

        Raises:
            InvalidInputError: There is a query, and nothing that could tell what it means.
        """
        ...

    def snapshot(self, run_id: str, *, namespace: str | None = None) -> dict[str, JsonValue]:
        """Every key and value, in the order they were first written."""
        ...

    async def aget(self, run_id: str, key: str, *, namespace: str | None = None) -> JsonValue: ...
    async def aput(
        self, run_id: str, key: str, value: JsonValue, *, namespace: str | None = None, ttl_minutes: float | None = None
    ) -> None: ...
    async def aput_many(
        self,
        run_id: str,
        values: Mapping[str, JsonValue],
        *,
        namespace: str | None = None,
        ttl_minutes: float | None = None,
    ) -> None: ...
    async def adelete(self, run_id: str, key: str, *, namespace: str | None = None) -> None: ...
    async def asearch(
        self, run_id: str, query: str | None = None, *, limit: int = 10, namespace: str | None = None
    ) -> Sequence[tuple[str, JsonValue, float | None]]: ...
    async def asnapshot(self, run_id: str, *, namespace: str | None = None) -> dict[str, JsonValue]: ...


# --- orchestration ---------------------------------------------------------------------------------------------------


@runtime_checkable
class DependencyResolver(Protocol):
    """Turns a list of tasks into a validated DAG."""

    def build(self, tasks: Sequence[Task]) -> DAG:
        """Nodes and edges.

        Raises:
            InvalidDAGError: An id occurs twice.
            DependencyNotFoundError: A dependency does not exist.
        """
        ...

    def validate(self, dag: DAG) -> None:
        """Check that the graph is consistent and has no cycle.

        Raises:
            CyclicDependencyError: With the cycle.
            InvalidDAGError: ``deps``, ``next`` and ``pending`` disagree.
        """
        ...


@runtime_checkable
class QueueManager(Protocol):
    """Holds ready tasks and gives out the most urgent one."""

    def enqueue(self, task_id: str, urgency: tuple[float, ...] = ()) -> None: ...
    def dequeue(self) -> str | None: ...
    def __len__(self) -> int: ...


@runtime_checkable
class Scheduler(Protocol):
    """Knows which tasks are ready, most urgent first."""

    def next_ready(self) -> list[str]:
        """All ready tasks, most urgent first; they stay ready until started."""
        ...

    def mark_started(self, task_id: str) -> None: ...

    def mark_complete(self, task_id: str) -> list[str]:
        """Record a success; returns the tasks that became ready."""
        ...

    def mark_failed(self, task_id: str) -> list[str]:
        """Record a failure; returns the tasks that can never run, in topological order."""
        ...


@runtime_checkable
class ParallelExecutor(Protocol):
    """Decides what to start, cancel and ask; does no I/O itself, so that any driver can carry it out."""

    def next(self, event: Any) -> list[Any]:
        """Feed one event, get the actions to carry out now, in order."""
        ...


@runtime_checkable
class RunObserver(Protocol):
    """Hears what happens in runs: every callback handler with this method in the config of a run does."""

    def on_run_event(self, event: LifecycleEvent) -> None:
        """Take note of an event; called on the run's event loop, which it must not keep waiting."""
        ...


@runtime_checkable
class TaskBackend(Protocol):
    """Where a task's body runs; JSON in, JSON out."""

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Execute a ``TaskJob`` and return its ``TaskOutcome``; never raises for what the body did."""
        ...

"""The whole error tree.

::

    LangChainRuntimeError (RuntimeError)          code, hint, structured fields
    ├─ InputError                                 what was handed in is wrong; nothing was started
    │  ├─ InvalidInputError                       invalid_input
    │  ├─ InvalidDAGError                         invalid_dag
    │  │  ├─ CyclicDependencyError                cyclic_dependency      .cycle
    │  │  └─ DependencyNotFoundError              dependency_not_found   .task_id .dependency
    │  ├─ UnknownModelError                       unknown_model          .model
    │  ├─ UnpricedModelError                      unpriced_model         .model .unit
    │  └─ CurrencyMismatchError                   currency_mismatch      .expected .actual
    ├─ BudgetError
    │  ├─ BudgetExceededError (core ModelError)   budget_exceeded        .scope .limit .spent .held .needed ...
    │  ├─ BudgetNotSetError                       budget_not_set         .scope
    │  ├─ ReservationLostError                    reservation_lost       .reservation_id
    │  └─ LedgerUnavailableError                  ledger_unavailable
    ├─ ContextOverflowError (core's, too)         context_overflow       .needed .limit
    ├─ RunError
    │  ├─ RunNotFoundError                        run_not_found          .run_id
    │  ├─ RunCompletedError                       run_completed          .run_id
    │  ├─ RunAbortedError                         run_aborted            .run .results .reason
    │  ├─ RunFailedError                          run_failed             .run .results
    │  └─ DeadlockError                           deadlock               .waiting
    ├─ TaskExecutionError                                                .task_id
    │  ├─ TaskNotFoundError                       task_not_found
    │  ├─ TaskNotReadyError                       task_not_ready         .state
    │  ├─ TaskFailedError                         task_failed
    │  ├─ TaskTimeoutError                        task_timeout           .timeout_ms
    │  ├─ TaskCancelledError                      task_cancelled
    │  └─ TaskResultNotSerializableError          result_not_serializable
    ├─ ModelUnavailableError (core ModelAPIError) model_unavailable      .model .retry_after
    └─ EstimationError                            estimation_failed

``code`` is stable: programs may match on it. The message says what happened, with the figures; ``hint`` says what to
do. Every error survives pickling with its fields, since it may cross a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.exceptions import ContextOverflowError as CoreContextOverflowError
from langchain_core.exceptions import ModelAPIError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_runtime.contracts.budget import Decision
    from langchain_runtime.contracts.money import Cost
    from langchain_runtime.contracts.run import Run, TaskResult


def _rebuild(cls: type[LangChainRuntimeError], args: tuple[Any, ...], fields: dict[str, Any]) -> LangChainRuntimeError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class LangChainRuntimeError(RuntimeError):
    """Root of every error this package raises on purpose.

    Args:
        message: What happened, with the figures.
        hint: What to do about it; None when there is nothing better to say than the message.

    Attributes:
        code: Stable identifier for programs, in ``snake_case``.
        hint: As given.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields: the default calls ``cls(*args)`` and fails on keyword-only fields."""
        return (_rebuild, (type(self), self.args, self.__dict__))


class InputError(LangChainRuntimeError):
    """What was handed in is wrong; nothing was started."""


class InvalidInputError(InputError):
    """A value is out of range, malformed or contradicts another one."""

    code = "invalid_input"


class InvalidDAGError(InputError):
    """The tasks do not form a valid DAG, or the DAG does not match the run it is used with."""

    code = "invalid_dag"


class CyclicDependencyError(InvalidDAGError):
    """Tasks wait for one another; ``cycle`` lists them in order, the first repeated at the end."""

    code = "cyclic_dependency"

    def __init__(self, message: str, *, cycle: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cycle = tuple(cycle)


class DependencyNotFoundError(InvalidDAGError):
    """A task depends on a task that does not exist."""

    code = "dependency_not_found"

    def __init__(self, message: str, *, task_id: str, dependency: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.task_id = task_id
        self.dependency = dependency


class UnknownModelError(InputError):
    """No such model, provider or role."""

    code = "unknown_model"

    def __init__(self, message: str, *, model: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.model = model


class UnpricedModelError(InputError):
    """A budget needs a price that nobody has: the model's, or that of one of its units (audio, images, ...)."""

    code = "unpriced_model"

    def __init__(self, message: str, *, model: str, unit: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.unit = unit


class CurrencyMismatchError(InputError):
    """Two amounts in different currencies met without an explicit rate."""

    code = "currency_mismatch"

    def __init__(self, message: str, *, expected: str, actual: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.expected = expected
        self.actual = actual


class BudgetError(LangChainRuntimeError):
    """Money could not be reserved, or the books could not be reached."""


class BudgetExceededError(BudgetError, ModelError):
    """The call does not fit the budget; raised before any network access.

    It is also LangChain's ``ModelError`` with ``is_retryable = False``, so that retry middleware lets it pass.

    Attributes:
        scope: The scope that refused.
        limit: Its limit; None where it limits tokens only.
        spent: What it has spent.
        held: What is reserved for calls in flight.
        needed: The worst case of the refused call.
        model: The model that would have been called; None when unknown.
        decision: The ledger's decision, with token figures.
    """

    code = "budget_exceeded"
    is_retryable = False

    def __init__(
        self,
        message: str,
        *,
        scope: str,
        limit: Cost | None,
        spent: Cost,
        held: Cost,
        needed: Cost,
        model: str | None = None,
        decision: Decision | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.scope = scope
        self.limit = limit
        self.spent = spent
        self.held = held
        self.needed = needed
        self.model = model
        self.decision = decision


class BudgetNotSetError(BudgetError):
    """A scope was used that nobody opened with a budget."""

    code = "budget_not_set"

    def __init__(self, message: str, *, scope: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.scope = scope


class ReservationLostError(BudgetError):
    """The lease of a reservation ended before its request was sent; the hold is gone and must be made anew."""

    code = "reservation_lost"

    def __init__(self, message: str, *, reservation_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reservation_id = reservation_id


class LedgerUnavailableError(BudgetError):
    """The ledger is locked, read-only, full, corrupt or out of reach: no call is made (fail closed)."""

    code = "ledger_unavailable"


class ModelUnavailableError(LangChainRuntimeError, ModelAPIError):
    """A circuit breaker holds calls of the model back: it failed too often just now. Nothing was sent.

    It is also LangChain's ``ModelAPIError`` with ``is_retryable = True``: a later call may succeed.

    Attributes:
        model: The model.
        retry_after: Seconds until the breaker lets a call through again.
    """

    code = "model_unavailable"
    is_retryable = True

    def __init__(self, message: str, *, model: str, retry_after: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.retry_after = retry_after


class ContextOverflowError(LangChainRuntimeError, CoreContextOverflowError):
    """What must be in the model's view does not fit it.

    Attributes:
        needed: Tokens of the smallest valid view.
        limit: Tokens that were allowed.
    """

    code = "context_overflow"

    def __init__(self, message: str, *, needed: int, limit: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.limit = limit


class RunError(LangChainRuntimeError):
    """A run cannot be found, continued or completed."""


class RunNotFoundError(RunError):
    """There is no run with this id (or no checkpoint to resume from)."""

    code = "run_not_found"

    def __init__(self, message: str, *, run_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id


class RunCompletedError(RunError):
    """The run has ended; there is nothing to resume or abort."""

    code = "run_completed"

    def __init__(self, message: str, *, run_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id


class RunFailedError(RunError):
    """At least one task failed. Finished tasks keep result and spend: see ``results``; resume with None.

    Attributes:
        run: The whole run.
        results: Results of the tasks that completed, by task id.
    """

    code = "run_failed"

    def __init__(self, message: str, *, run: Run, results: Mapping[str, TaskResult], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.run = run
        self.results = dict(results)


class RunAbortedError(RunError):
    """The run was aborted or met its deadline. It can be resumed with None.

    Attributes:
        run: The whole run.
        results: Results of the tasks that completed, by task id.
        reason: ``abort`` or ``deadline``.
    """

    code = "run_aborted"

    def __init__(
        self,
        message: str,
        *,
        run: Run,
        results: Mapping[str, TaskResult],
        reason: str,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.run = run
        self.results = dict(results)
        self.reason = reason


class DeadlockError(RunError):
    """Nothing runs, nothing is ready, and tasks are still waiting."""

    code = "deadlock"

    def __init__(self, message: str, *, waiting: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.waiting = tuple(waiting)


class TaskExecutionError(LangChainRuntimeError):
    """Something about one task, named by ``task_id``."""

    def __init__(self, message: str, *, task_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.task_id = task_id


class TaskNotFoundError(TaskExecutionError):
    """The run has no task with this id."""

    code = "task_not_found"


class TaskNotReadyError(TaskExecutionError):
    """The task's state does not allow what was asked."""

    code = "task_not_ready"

    def __init__(self, message: str, *, task_id: str, state: str, hint: str | None = None) -> None:
        super().__init__(message, task_id=task_id, hint=hint)
        self.state = state


class TaskFailedError(TaskExecutionError):
    """The task's body raised; the original text is in the message."""

    code = "task_failed"


class TaskTimeoutError(TaskExecutionError):
    """The task's body did not return in time."""

    code = "task_timeout"

    def __init__(self, message: str, *, task_id: str, timeout_ms: int, hint: str | None = None) -> None:
        super().__init__(message, task_id=task_id, hint=hint)
        self.timeout_ms = timeout_ms


class TaskCancelledError(TaskExecutionError):
    """The task was cancelled: the run failed fast, was aborted or met its deadline."""

    code = "task_cancelled"


class TaskResultNotSerializableError(TaskExecutionError):
    """The task's body returned something that JSON cannot carry."""

    code = "result_not_serializable"


class EstimationError(LangChainRuntimeError):
    """The input cannot be bounded: an image, audio, a file or hidden server-side state."""

    code = "estimation_failed"

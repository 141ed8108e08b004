"""What a driver and the planner tell each other: events go in, actions come out.

Times are seconds on the driver's monotonic clock. Records are frozen, so a driver may keep or log them.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_runtime.contracts.run import RunState, TaskState

# --- events: driver to planner ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The first event, once; the run's deadline counts from here."""

    now: float


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt ended.

    Attributes:
        task_id: The task that was started.
        now: When it ended.
        state: ``completed``, ``failed``, or ``skipped`` if its condition was false.
        retryable: Whether another attempt may help; only read for ``failed``.
        body_alive: The body still occupies its slot (a thread that cannot be killed); ``BodyStopped`` frees it.
        because: Cause that skipped dependents name; None for this task's own id.
    """

    task_id: str
    now: float
    state: TaskState
    retryable: bool = False
    body_alive: bool = False
    because: str | None = None


@dataclass(frozen=True, slots=True)
class BodyStopped:
    """A body that outlived its attempt has ended; its slot is free."""

    task_id: str
    now: float


@dataclass(frozen=True, slots=True)
class Deferred:
    """A started task could not begin for lack of money; this was no attempt.

    Attributes:
        task_id: The task that was started.
        now: When it was turned away.
        ask: Only a human can help; False when money may come back by itself.
        model: The model to go on with, in whose line the task now stands; None keeps its own and waits for money.
    """

    task_id: str
    now: float
    ask: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True)
class ModelPaused:
    """No task of ``model`` may start before ``until``, for example because the provider answered 429."""

    model: str
    now: float
    until: float


@dataclass(frozen=True, slots=True)
class ToppedUp:
    """A human answered an ``Ask``: deferred tasks may be tried again."""

    now: float


@dataclass(frozen=True, slots=True)
class Abort:
    """End the run now, cancelling what runs."""

    now: float
    reason: str = "abort"


@dataclass(frozen=True, slots=True)
class Drain:
    """Start nothing more and let what runs finish, for example before a shutdown."""

    now: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""

    now: float


Event = Begin | Ended | BodyStopped | Deferred | ModelPaused | ToppedUp | Abort | Drain | Tick

# --- actions: planner to driver --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Run the task's body; its slot is taken. ``attempt`` counts from 1."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the body, and report ``Ended`` once it has stopped or was given up.

    Attributes:
        task_id: A running task; named at most once.
        reason: ``fail_fast``, ``deadline``, or the reason of the ``Abort``.
    """

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The task will never run; ``because`` is the root cause: the task that failed or whose condition was false."""

    task_id: str
    because: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Nothing runs and only a human can help; ``waiting`` are the ready tasks, most urgent first."""

    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Send ``Tick`` at ``until`` if no other event came first.

    At most one in an answer, always in the future, and it replaces the one before; an answer without it needs no Tick.
    """

    until: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The last action: the run has ended.

    Attributes:
        state: ``completed``, ``failed``, ``aborted``; ``running`` when it was drained with work left.
        reason: ``deadline``, ``drain`` or the reason of the ``Abort``; None otherwise.
    """

    state: RunState
    reason: str | None = None


Action = Start | Cancel | Skip | Ask | Sleep | Finish

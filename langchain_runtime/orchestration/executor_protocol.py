"""What a driver and the planner tell each other: events go in, actions come out.

Times are seconds on the driver's monotonic clock. Records are frozen, so a driver may keep or log them.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_runtime.contracts.run import RetrySpec, RunState, TaskState


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that joins a run which is under way.

    Attributes:
        task_id: Not in the run yet.
        deps: Tasks of the run, or of the same event.
        state: Pending; or how it ended before the run was resumed: completed, failed or skipped.
        model: For the model's slots and pauses.
        retry: None for the policy's.
    """

    task_id: str
    deps: tuple[str, ...] = ()
    state: TaskState = TaskState.PENDING
    model: str | None = None
    retry: RetrySpec | None = None


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
class Throttled:
    """A started task could not begin because its model takes no calls before ``until``; this was no attempt.

    The model is paused until then, and the task stands in its line again.
    """

    task_id: str
    now: float
    until: float


@dataclass(frozen=True, slots=True)
class Suspended:
    """A started task asks a human from within its body; this was no attempt.

    It is pending and does not run again in this execution: a new one, with the answer, starts it anew. Everything that
    does not depend on it goes on.
    """

    task_id: str
    now: float


@dataclass(frozen=True, slots=True)
class Grew:
    """Tasks joined the run.

    The only event that may come before ``Begin``: tasks that joined in an earlier execution join again, and a parent
    that waits for them need not run for that.

    Attributes:
        now: When.
        tasks: They become ready when their dependencies are completed; ahead of less urgent tasks than ``parent``, in
            the order given. Those that depend on a failed or skipped task are skipped.
        parent: The task that they come from; it was started in this execution or an earlier one.
        parent_waits: The parent, which runs, waits for all of them and is then started again; what it did so far was no
            attempt, and its slot is free. If one of them fails or is skipped, so is the parent. In a run that is being
            ended nothing joins, and the parent ends as a cancelled task does. Otherwise the parent goes on running.
    """

    now: float
    tasks: tuple[NewTask, ...]
    parent: str
    parent_waits: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """Held tasks may start, now or as soon as they are ready; tasks that are not held stay as they are."""

    now: float
    task_ids: tuple[str, ...]


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


Event = (
    Begin
    | Ended
    | BodyStopped
    | Deferred
    | Throttled
    | Suspended
    | Grew
    | Released
    | ModelPaused
    | ToppedUp
    | Abort
    | Drain
    | Tick
)

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
    """Nothing runs and only a human can help; ``waiting`` are the ready tasks, except held ones, most urgent first."""

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
        state: ``completed``, ``failed``, ``aborted``; ``running`` when it stands still with work left.
        reason: ``deadline`` or the reason of the ``Abort``. For a run that stands still: ``drain``; ``suspended`` when
            tasks ask a human; ``paused`` when only held tasks could start. None otherwise.
    """

    state: RunState
    reason: str | None = None


Action = Start | Cancel | Skip | Ask | Sleep | Finish

"""The planner: decides what starts, waits, is cancelled or skipped. It does no I/O and reads no clock.

A driver carries the actions out and reports what happened::

    answer = planner.next(Begin(now))
    while not isinstance(answer[-1], Finish):
        ... carry the answer out; wait for an event, or until the Sleep is over and send a Tick ...
        answer = planner.next(event)

so that a threaded, an asynchronous and a simulated run follow the same plan.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import random as _uniform
from types import MappingProxyType
from typing import Final

from langchain_runtime.contracts.errors import DeadlockError, InvalidInputError, TaskNotReadyError
from langchain_runtime.contracts.run import DAG, RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration.executor_protocol import (
    Abort,
    Action,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Deferred,
    Drain,
    Ended,
    Event,
    Finish,
    ModelPaused,
    Skip,
    Sleep,
    Start,
    ToppedUp,
)
from langchain_runtime.orchestration.scheduler import Scheduler
from langchain_runtime.orchestration.slots import Slots

DEFERRED_POLL_SECONDS: Final = 0.5
"""How often tasks that wait for money are tried again while nothing runs whose end could free some."""


class ParallelExecutor:
    """Runs a DAG within slots, deadline and failure policy: events in, actions out.

    A task that fails for good skips everything downstream of it. ``continue`` runs the rest; ``fail_fast`` cancels
    what runs and leaves the rest pending. Cancelled tasks count as failed, but their dependents stay pending: a
    resumed run may still reach them. A task that waits for another attempt gives its slot back; a body that outlives
    its attempt keeps it, and the next attempt may start beside it if there is a slot.

    Args:
        dag: A validated graph.
        policy: Slots, deadline, failure policy and default retries; the rest of it is the driver's business.
        models: Model by task, for the model's slots and pauses; None or no entry for none.
        retries: By task, where not the policy's.
        expected_seconds: As for ``Scheduler``.
        priorities: As for ``Scheduler``.
        completed: Tasks that completed earlier; they are not started again.
        failed: Tasks that failed earlier and are not to be tried again.
        skipped: Tasks that were skipped earlier.
        random: Uniform in [0, 1), for the jitter of retries.

    Raises:
        InvalidInputError: As for ``Scheduler``.
        CyclicDependencyError: The graph has a cycle.
        TaskNotFoundError: An earlier task is not in the graph.
    """

    def __init__(
        self,
        dag: DAG,
        *,
        policy: RunPolicy,
        models: Mapping[str, str | None] | None = None,
        retries: Mapping[str, RetrySpec] | None = None,
        expected_seconds: Mapping[str, float] | None = None,
        priorities: Mapping[str, int] | None = None,
        completed: Iterable[str] = (),
        failed: Iterable[str] = (),
        skipped: Iterable[str] = (),
        random: Callable[[], float] = _uniform,
    ) -> None:
        self._scheduler = Scheduler(dag, expected_seconds=expected_seconds, priorities=priorities, completed=completed)
        self._policy = policy
        self._retries = retries or {}
        self._random = random
        self._slots = Slots(
            policy.max_parallelism,
            limits={model: limits.parallelism for model, limits in policy.per_model.items()},
            models=models or {},
            urgency=self._scheduler.urgency,
        )
        self._now = -math.inf
        self._begun = self._over = False
        self._deadline = math.inf
        self._poll_at = math.inf
        self._running: dict[str, None] = {}  # an ordered set: tasks are cancelled in the order of their starts
        self._attempts: Counter[str] = Counter()
        self._zombies: Counter[str] = Counter()
        self._deferred: list[str] = []
        self._backing_off: dict[str, float] = {}
        self._alarms: list[tuple[float, str]] = []  # heap of the same
        self._draining = False
        self._asking = self._asked = False
        self._verdict: Finish | None = None
        self._unannounced = self._seed(list(failed), list(skipped))
        self._failed = TaskState.FAILED in self.states.values()

    @property
    def states(self) -> Mapping[str, TaskState]:
        """A live, read-only view of every task's state."""
        return self._scheduler.states

    @property
    def running(self) -> frozenset[str]:
        """Tasks that were started and have not ended."""
        return frozenset(self._running)

    @property
    def attempts(self) -> Mapping[str, int]:
        """How often each task was started; 0 for the others."""
        return MappingProxyType(self._attempts)

    @property
    def backing_off(self) -> Mapping[str, float]:
        """When each task that waits for another attempt may start again."""
        return MappingProxyType(self._backing_off)

    @property
    def zombies(self) -> int:
        """Bodies that outlived their attempts and still occupy slots."""
        return self._zombies.total()

    def next(self, event: Event) -> list[Action]:
        """Take one event in and return what to do now, in this order.

        Empty after ``Finish``, whatever comes late.

        Raises:
            InvalidInputError: ``Begin`` was not first, or came twice; or ``Ended`` with a state that is no end.
            TaskNotFoundError: The event names a task that is not in the graph.
            TaskNotReadyError: The event names a task that does not run (or whose body does not).
            DeadlockError: Nothing runs, nothing can start, and tasks are left: the graph was not a valid one.
        """
        if isinstance(event, Begin) is self._begun:
            raise InvalidInputError(f"Begin comes first and only once, got {event}")
        self._begun = True
        self._now = max(self._now, event.now)
        actions = self._apply(event)
        if self._over:
            return []
        if self._now >= self._deadline and self._scheduler.unfinished:
            actions += self._halt(Finish(RunState.ABORTED, "deadline"), "deadline")
        self._wake()
        actions += self._dispatch()
        actions += self._close()
        return actions

    # --- events ------------------------------------------------------------------------------------------------------

    def _apply(self, event: Event) -> list[Action]:
        match event:
            case Begin():
                return self._begin()
            case Ended():
                return self._ended(event)
            case Abort():
                return self._halt(Finish(RunState.ABORTED, event.reason), event.reason)
            case BodyStopped():
                self._body_stopped(event.task_id)
            case Deferred():
                self._put_off(event)
            case ModelPaused():
                self._slots.pause(event.model, event.until)
            case ToppedUp():
                self._topped_up()
            case Drain():
                self._draining = True
        return []  # a Tick changes nothing by itself

    def _seed(self, failed: list[str], skipped: list[str]) -> list[Action]:
        """Take up earlier ends; returns the skips that nobody knows of yet."""
        announced = {*failed, *skipped}
        skips: list[Action] = []
        for task_ids, mark in ((failed, self._scheduler.mark_failed), (skipped, self._scheduler.mark_skipped)):
            for task_id in task_ids:
                if not self._scheduler.state(task_id).ended:
                    skips += [Skip(other, task_id) for other in mark(task_id) if other not in announced]
        return skips

    def _begin(self) -> list[Action]:
        self._restart_deadline()
        for task_id in self._scheduler.next_ready():
            self._slots.enqueue(task_id)
        return [*self._unannounced, *self._fail_fast()]

    def _ended(self, event: Ended) -> list[Action]:
        if not event.state.ended:
            raise InvalidInputError(f"task {event.task_id!r} cannot end as {event.state}")
        self._leave(event.task_id, body_alive=event.body_alive)
        self._retry_deferred()
        cause = event.because or event.task_id
        match event.state:
            case TaskState.COMPLETED:
                for task_id in self._scheduler.mark_complete(event.task_id):
                    self._slots.enqueue(task_id)
                return []
            case TaskState.SKIPPED:
                return [Skip(task_id, cause) for task_id in self._scheduler.mark_skipped(event.task_id)]
            case _:
                return self._attempt_failed(event, cause)

    def _attempt_failed(self, event: Ended, cause: str) -> list[Action]:
        if self._verdict is None and event.retryable and self._back_off(event.task_id):
            return []
        self._failed = True
        if self._verdict is not None:
            self._scheduler.mark_cancelled(event.task_id)
            return []
        skips = [Skip(task_id, cause) for task_id in self._scheduler.mark_failed(event.task_id)]
        return [*self._fail_fast(), *skips]

    def _back_off(self, task_id: str) -> bool:
        """Let the task wait for its next attempt; False if it has none left."""
        retry = self._retries.get(task_id, self._policy.retry)
        if self._attempts[task_id] >= retry.max_attempts:
            return False
        self._scheduler.requeue(task_id)
        at = self._now + _pause_seconds(retry, failures=self._attempts[task_id], random=self._random)
        self._backing_off[task_id] = at
        heapq.heappush(self._alarms, (at, task_id))
        return True

    def _body_stopped(self, task_id: str) -> None:
        self._require(task_id, self._zombies[task_id] > 0, "has no body that outlived its attempt")
        self._zombies[task_id] -= 1
        self._slots.give_back(task_id, oldest=True)

    def _put_off(self, event: Deferred) -> None:
        self._leave(event.task_id, body_alive=False)
        self._attempts[event.task_id] -= 1
        self._scheduler.requeue(event.task_id)
        if event.model is None:
            self._deferred.append(event.task_id)
        else:
            self._slots.move(event.task_id, event.model)
            self._slots.enqueue(event.task_id)
        self._asking = self._asking or event.ask

    def _topped_up(self) -> None:
        if self._asked:
            self._restart_deadline()
        self._asking = self._asked = False
        self._retry_deferred()

    # --- what follows from an event ----------------------------------------------------------------------------------

    @property
    def _may_start(self) -> bool:
        return self._verdict is None and not self._draining and not self._asking

    def _restart_deadline(self) -> None:
        if self._policy.timeout_ms is not None:
            self._deadline = self._now + self._policy.timeout_ms / 1000

    def _leave(self, task_id: str, *, body_alive: bool) -> None:
        """Take the task from the running ones; its slot stays taken while the body lives."""
        self._require(task_id, task_id in self._running, "does not run")
        del self._running[task_id]
        if body_alive:
            self._zombies[task_id] += 1
        else:
            self._slots.give_back(task_id)

    def _require(self, task_id: str, holds: bool, otherwise: str) -> None:
        state = self._scheduler.state(task_id)
        if not holds:
            raise TaskNotReadyError(f"task {task_id!r} is {state} and {otherwise}", task_id=task_id, state=state)

    def _fail_fast(self) -> list[Action]:
        if self._failed and self._policy.on_task_failure == "fail_fast":
            return self._halt(Finish(RunState.FAILED), "fail_fast")
        return []

    def _halt(self, verdict: Finish, cancel_reason: str) -> list[Action]:
        """Start nothing more and cancel what runs, once; the first verdict stands."""
        if self._verdict is not None:
            return []
        self._verdict = verdict
        return [Cancel(task_id, cancel_reason) for task_id in self._running]

    def _retry_deferred(self) -> None:
        for task_id in self._deferred:
            self._slots.enqueue(task_id)
        self._deferred.clear()
        self._poll_at = math.inf

    def _wake(self) -> None:
        """Let everything back into the line whose time has come."""
        self._slots.reopen(self._now)
        while self._alarms and self._alarms[0][0] <= self._now:
            _, task_id = heapq.heappop(self._alarms)
            del self._backing_off[task_id]
            self._slots.enqueue(task_id)
        if self._poll_at <= self._now:
            self._retry_deferred()

    def _dispatch(self) -> list[Action]:
        starts: list[Action] = []
        while self._may_start and (task_id := self._slots.take()) is not None:
            self._scheduler.mark_started(task_id)
            self._running[task_id] = None
            self._attempts[task_id] += 1
            starts.append(Start(task_id, self._attempts[task_id]))
        return starts

    def _close(self) -> list[Action]:
        """What ends an answer: the end of the run, a question, or how long to sleep."""
        if self._running:
            self._poll_at = math.inf
            return self._sleep()
        if not self._scheduler.unfinished or self._verdict is not None or self._draining:
            self._over = True
            self._scheduler.stand_down()
            return [self._outcome()]
        if self._asking:
            return self._ask()
        if self._deferred:
            self._poll_at = min(self._poll_at, self._now + DEFERRED_POLL_SECONDS)
        elif not (self._alarms or self.zombies or math.isfinite(self._slots.reopens_at())):
            waiting = self._scheduler.waiting()
            raise DeadlockError(
                f"nothing runs and nothing can start, but {len(waiting)} tasks are left, {waiting[0]!r} among them",
                waiting=waiting,
                hint="validate the DAG before the run",
            )
        return self._sleep()

    def _ask(self) -> list[Action]:
        if self._asked:
            return []
        self._asked = True
        self._deadline = math.inf  # the run does not pay for a human's time
        return [Ask(tuple(self._scheduler.next_ready()))]

    def _sleep(self) -> list[Action]:
        """Until the first time at which a Tick would change something."""
        if self._verdict is not None:
            return []
        times = [self._deadline]
        if self._may_start:
            times += [self._poll_at, self._slots.reopens_at(), *(at for at, _ in self._alarms[:1])]
        until = min(times)
        return [Sleep(until)] if math.isfinite(until) else []

    def _outcome(self) -> Finish:
        if not self._scheduler.unfinished and not self._failed:
            return Finish(RunState.COMPLETED)
        if self._verdict is not None:
            return self._verdict
        return Finish(RunState.RUNNING, "drain") if self._scheduler.unfinished else Finish(RunState.FAILED)


def _pause_seconds(retry: RetrySpec, *, failures: int, random: Callable[[], float]) -> float:
    """How long to wait after ``failures`` failed attempts.

    Exponential up to the ceiling, half of it fixed and half of it random, so that tasks that failed together do not
    come back together ("equal jitter": M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
    """
    pause = float(retry.initial_interval_ms)
    for _ in range(failures - 1):
        pause = min(pause * retry.backoff_factor, retry.max_interval_ms)
    return min(pause, retry.max_interval_ms) * (1 + random()) / 2 / 1000

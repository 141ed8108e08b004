"""The planner: decides what starts, waits, is cancelled or skipped. It does no I/O and reads no clock.

A driver carries the actions out and reports what happened::

    answer = planner.next(Begin(now))
    while not isinstance(answer[-1], Finish):
        ... carry the answer out; wait for an event, or until the Sleep is over and send a Tick ...
        answer = planner.next(event)

so that a threaded, an asynchronous and a simulated run follow the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from random import random as _uniform

from langchain_runtime.contracts.errors import DeadlockError, InvalidInputError
from langchain_runtime.contracts.run import DAG, RetrySpec, RunPolicy, RunState, TaskState
from langchain_runtime.orchestration.course import Course
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
    Grew,
    ModelPaused,
    NewTask,
    Released,
    Skip,
    Sleep,
    Start,
    Suspended,
    Throttled,
    Tick,
    ToppedUp,
)
from langchain_runtime.orchestration.retries import Retries
from langchain_runtime.orchestration.running import Running
from langchain_runtime.orchestration.scheduler import Scheduler
from langchain_runtime.orchestration.slots import Slots
from langchain_runtime.orchestration.waiting_rooms import Gate, ShortOfMoney


class ParallelExecutor:
    """Runs a DAG within slots, deadline and failure policy: events in, actions out.

    A task that fails for good skips everything downstream of it. ``continue`` runs the rest; ``fail_fast`` cancels
    what runs and leaves the rest pending. Cancelled tasks count as failed, but their dependents stay pending: a
    resumed run may still reach them. A task that waits for another attempt gives its slot back; a body that outlives
    its attempt keeps it, and the next attempt may start beside it if there is a slot.

    Tasks may join (``Grew``), be held until they are ``Released``, and be ``Suspended`` until a later execution. A run
    in which nothing else is left to do stands still: ``Finish`` with ``running`` and the reason.

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
        held: Tasks that do not start until they are released.
        gated: Whether somebody releases held tasks while the planner waits for it; if not, the run stands still once
            only they could start.
        random: Uniform in [0, 1), for the jitter of retries.

    Raises:
        InvalidInputError: As for ``Scheduler``.
        CyclicDependencyError: The graph has a cycle.
        TaskNotFoundError: An earlier or held task is not in the graph.
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
        held: Iterable[str] = (),
        gated: bool = False,
        random: Callable[[], float] = _uniform,
    ) -> None:
        self._scheduler = Scheduler(dag, expected_seconds=expected_seconds, priorities=priorities, completed=completed)
        self._course = Course(policy)
        self._retries = Retries(policy.retry, retries or {}, random)
        self._slots = Slots(
            policy.max_parallelism,
            limits={model: limits.parallelism for model, limits in policy.per_model.items()},
            models=models or {},
            urgency=self._scheduler.urgency,
        )
        self._now = -math.inf
        self._begun = self._over = False
        self._running = Running(self._slots, self._scheduler.state)
        self._short_of_money = ShortOfMoney()
        self._gate = Gate(self._known(held))
        self._gated = gated
        self._suspended: set[str] = set()
        self._unannounced = self._seed(list(failed), list(skipped))
        self._course.failed = TaskState.FAILED in self.states.values()

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
        return self._retries.attempts

    @property
    def backing_off(self) -> Mapping[str, float]:
        """When each task that waits for another attempt may start again."""
        return self._retries.until

    @property
    def held_ready(self) -> list[str]:
        """Held tasks that nothing but their release is missing for, most urgent first; also after ``Finish``."""
        return self._scheduler.most_urgent_first(self._gate.waiting)

    @property
    def suspended(self) -> frozenset[str]:
        """Tasks that ask a human, and do not run again in this execution."""
        return frozenset(self._suspended)

    @property
    def zombies(self) -> int:
        """Bodies that outlived their attempts and still occupy slots."""
        return self._running.zombies

    def next(self, event: Event) -> list[Action]:
        """Take one event in and return what to do now, in this order.

        Empty after ``Finish``, whatever comes late.

        Raises:
            InvalidInputError: ``Begin`` was not first (only ``Grew`` may come before it), or came twice; ``Ended`` with
                a state that is no end; ``Throttled`` for a task without a model; or as for ``Scheduler.add``.
            InvalidDAGError: As for ``Scheduler.add``.
            TaskNotFoundError: The event names a task that is not in the graph.
            TaskNotReadyError: The event names a task that does not run (or whose body does not).
            DeadlockError: Nothing runs, nothing can start, and tasks are left: the graph was not a valid one.
        """
        if isinstance(event, Grew) and not self._begun:
            self._unannounced += self._grow(event)
            return []
        if isinstance(event, Begin) is self._begun:
            raise InvalidInputError(f"Begin comes first and only once, got {event}")
        self._begun = True
        self._now = max(self._now, event.now)
        actions = self._apply(event)
        if self._over:
            return []
        if self._now >= self._course.deadline and self._scheduler.unfinished:
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
            case Grew():
                return self._grow(event)
            case Abort():
                return self._halt(Finish(RunState.ABORTED, event.reason), event.reason)
            case Deferred() | Throttled() | Suspended() | BodyStopped():
                self._left(event)
            case _:
                self._let(event)
        return []

    def _left(self, event: Deferred | Throttled | Suspended | BodyStopped) -> None:
        """A task, or its body, left without an end."""
        match event:
            case Deferred():
                self._put_off(event)
            case Throttled():
                self._throttle(event)
            case Suspended():
                self._suspend(event.task_id)
            case _:
                self._running.body_stopped(event.task_id)

    def _let(self, event: Released | ModelPaused | ToppedUp | Drain | Tick) -> None:
        """What may start has changed."""
        match event:
            case Released():
                self._release(event.task_ids)
            case ModelPaused():
                self._slots.pause(event.model, event.until)
            case ToppedUp():
                self._course.answered(self._now)
                self._retry_deferred()
            case Drain():
                self._course.draining = True

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
        self._course.restart_deadline(self._now)
        self._line_up(self._scheduler.next_ready())
        return [*self._unannounced, *self._fail_fast()]

    def _ended(self, event: Ended) -> list[Action]:
        if not event.state.ended:
            raise InvalidInputError(f"task {event.task_id!r} cannot end as {event.state}")
        self._running.leave(event.task_id, body_alive=event.body_alive)
        self._retry_deferred()
        cause = event.because or event.task_id
        match event.state:
            case TaskState.COMPLETED:
                self._line_up(self._scheduler.mark_complete(event.task_id))
                return []
            case TaskState.SKIPPED:
                return self._skips(self._scheduler.mark_skipped(event.task_id, because=cause))
            case _:
                return self._attempt_failed(event, cause)

    def _attempt_failed(self, event: Ended, cause: str) -> list[Action]:
        if not self._course.stopping and event.retryable and self._retries.back_off(event.task_id, self._now):
            self._scheduler.requeue(event.task_id)
            return []
        self._course.failed = True
        if self._course.stopping:
            self._scheduler.mark_cancelled(event.task_id)
            return []
        skipped = self._scheduler.mark_failed(event.task_id, because=cause)
        return [*self._fail_fast(), *self._skips(skipped)]

    def _grow(self, event: Grew) -> list[Action]:
        if self._over:
            return []
        leaves = event.parent_waits and self._begun
        if leaves:
            self._running.require(event.parent)
            if self._course.stopping:  # it would wait for ever, so it ends as a cancelled task does
                return self._ended(Ended(event.parent, event.now, TaskState.FAILED))
        skipped = self._scheduler.add(event.tasks, parent=event.parent, parent_waits=event.parent_waits)
        concerned = [task.task_id for task in event.tasks]
        for task in event.tasks:
            self._take_in(task)
        if leaves:
            self._leave_unattempted(event.parent)
            self._retry_deferred()
            concerned.append(event.parent)
        if self._begun:
            self._line_up(task_id for task_id in concerned if self._scheduler.state(task_id) is TaskState.READY)
        return [*self._fail_fast(), *self._skips(skipped)]

    def _take_in(self, task: NewTask) -> None:
        self._course.failed |= task.state is TaskState.FAILED
        if task.model is not None:
            self._slots.move(task.task_id, task.model)
        if task.retry is not None:
            self._retries.allow(task.task_id, task.retry)

    def _put_off(self, event: Deferred) -> None:
        self._leave_unattempted(event.task_id)
        self._scheduler.requeue(event.task_id)
        if event.model is None:
            self._short_of_money.add(event.task_id)
        else:
            self._slots.move(event.task_id, event.model)
            self._slots.enqueue(event.task_id)
        self._course.asking |= event.ask

    def _throttle(self, event: Throttled) -> None:
        self._running.require(event.task_id)
        model = self._slots.model(event.task_id)
        if model is None:
            raise InvalidInputError(
                f"task {event.task_id!r} was throttled and has no model that could be paused",
                hint="give the planner its model, or report Deferred",
            )
        self._leave_unattempted(event.task_id)
        self._scheduler.requeue(event.task_id)
        self._slots.pause(model, event.until)
        self._slots.enqueue(event.task_id)

    def _suspend(self, task_id: str) -> None:
        self._leave_unattempted(task_id)
        self._scheduler.set_aside(task_id)
        self._suspended.add(task_id)
        self._retry_deferred()

    def _release(self, task_ids: Iterable[str]) -> None:
        for task_id in self._known(task_ids):
            if self._gate.release(task_id):
                self._slots.enqueue(task_id)

    # --- what follows from an event ----------------------------------------------------------------------------------

    def _line_up(self, ready: Iterable[str]) -> None:
        """Let tasks that became ready wait for slots, unless they are held."""
        for task_id in ready:
            if self._gate.lets_pass(task_id):
                self._slots.enqueue(task_id)

    def _leave_unattempted(self, task_id: str) -> None:
        """Take the task from the running ones; its start was no attempt."""
        self._running.leave(task_id)
        self._retries.discount(task_id)

    def _known(self, task_ids: Iterable[str]) -> tuple[str, ...]:
        known = tuple(task_ids)
        for task_id in known:
            self._scheduler.state(task_id)  # raises for one that is not
        return known

    def _skips(self, task_ids: Iterable[str]) -> list[Action]:
        return [Skip(task_id, self._scheduler.cause(task_id)) for task_id in task_ids]

    def _fail_fast(self) -> list[Action]:
        return self._halt(Finish(RunState.FAILED), "fail_fast") if self._course.fails_fast else []

    def _halt(self, verdict: Finish, cancel_reason: str) -> list[Action]:
        """Start nothing more and cancel what runs, once."""
        if not self._course.stop(verdict):
            return []
        return [Cancel(task_id, cancel_reason) for task_id in self._running]

    def _retry_deferred(self) -> None:
        for task_id in self._short_of_money.leave():
            self._slots.enqueue(task_id)

    def _wake(self) -> None:
        """Let everything back into the line whose time has come."""
        self._slots.reopen(self._now)
        for task_id in self._retries.leave(self._now):
            self._slots.enqueue(task_id)
        if self._short_of_money.poll_at <= self._now:
            self._retry_deferred()

    def _dispatch(self) -> list[Action]:
        starts: list[Action] = []
        while self._course.may_start and (task_id := self._slots.take()) is not None:
            self._scheduler.mark_started(task_id)
            self._running.add(task_id)
            starts.append(Start(task_id, self._retries.count(task_id)))
        return starts

    def _close(self) -> list[Action]:
        """What ends an answer: the end of the run, a question, or how long to sleep."""
        if self._running:
            self._short_of_money.stop_polling()
            return self._sleep()
        if not self._scheduler.unfinished or self._course.stopping or self._course.draining:
            return self._finish("drain")
        if self._course.asking:
            return self._ask()
        if self._short_of_money:
            self._short_of_money.start_polling(self._now)
        elif not (self._retries.until or self._slots.wanted):
            return self._stand_still()
        return self._sleep()

    def _stand_still(self) -> list[Action]:
        """Nothing runs and nothing that is left can start."""
        if self._suspended:
            return self._finish("suspended")
        if not self._gate.waiting:
            waiting = self._scheduler.waiting()
            raise DeadlockError(
                f"nothing runs and nothing can start, but {len(waiting)} tasks are left, {waiting[0]!r} among them",
                waiting=waiting,
                hint="validate the DAG before the run",
            )
        return self._sleep() if self._gated else self._finish("paused")

    def _ask(self) -> list[Action]:
        if not self._course.ask():
            return []
        return [Ask(tuple(task_id for task_id in self._scheduler.next_ready() if task_id not in self._gate.waiting))]

    def _sleep(self) -> list[Action]:
        """Until the first time at which a Tick would change something."""
        if self._course.stopping:
            return []
        until = self._course.deadline
        if self._course.may_start:
            until = min(until, self._short_of_money.poll_at, self._slots.reopens_at(), self._retries.next_at)
        return [Sleep(until)] if math.isfinite(until) else []

    def _finish(self, standstill: str) -> list[Action]:
        """End the run; ``standstill`` is the reason if work is left without a verdict."""
        self._over = True
        self._scheduler.stand_down()
        return [self._course.outcome(unfinished=self._scheduler.unfinished > 0, standstill=standstill)]

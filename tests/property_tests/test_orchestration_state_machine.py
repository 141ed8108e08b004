"""The planner against a driver that does anything a real one may do, in any order."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from langchain_runtime.contracts.errors import CyclicDependencyError
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunPolicy, RunState, Task, TaskState
from langchain_runtime.orchestration import (
    Abort,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Deferred,
    DependencyResolver,
    Drain,
    Ended,
    Finish,
    Grew,
    ModelPaused,
    NewTask,
    ParallelExecutor,
    Released,
    Skip,
    Sleep,
    Start,
    Suspended,
    Throttled,
    Tick,
    ToppedUp,
)

MODELS = ("m", "n", None)
JOINS_AS = [TaskState.PENDING] * 4 + [TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED]
MOST_TASKS = 20


class AnyDriver(RuleBasedStateMachine):
    """Feeds events and holds every answer against its own, simpler books."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.running: dict[str, None] = {}
        self.bodies: Counter[str] = Counter()
        self.ended: dict[str, TaskState] = {}
        self.failures: Counter[str] = Counter()
        self.failed_for_good: set[str] = set()
        self.ended_before: set[str] = set()
        self.cancelled: set[str] = set()
        self.deferred: set[str] = set()
        self.suspended: set[str] = set()
        self.paused: dict[str, float] = {}
        self.wake_at: float | None = None
        self.asked = self.stopping = self.draining = self.no_starts = False
        self.finish: Finish | None = None
        self.sound = False

    @initialize(
        deps=st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10),
        slots=st.integers(1, 3),
        model_slots=st.integers(1, 2),
        attempts=st.integers(1, 3),
        policy=st.sampled_from(["continue", "fail_fast"]),
        timeout_ms=st.sampled_from([None, None, 20_000]),
        gated=st.booleans(),
        data=st.data(),
    )
    def begin(self, *, deps, slots, model_slots, attempts, policy, timeout_ms, gated, data):
        self.deps = {f"t{i}": sorted({f"t{d % i}" for d in some}) if i else [] for i, some in enumerate(deps)}
        self.models = {task_id: data.draw(st.sampled_from(MODELS)) for task_id in self.deps}
        self.slots, self.model_slots, self.usual_attempts = slots, model_slots, attempts
        self.attempts = dict.fromkeys(self.deps, attempts)
        self.held = {task_id for task_id in self.deps if data.draw(st.integers(0, 4)) == 0}
        self.gated = gated
        self.order = self.by_urgency()
        dag = DependencyResolver().build([Task(id=task_id, deps=deps) for task_id, deps in self.deps.items()])
        self.planner = ParallelExecutor(
            dag,
            policy=RunPolicy(
                max_parallelism=slots,
                per_model={"m": ModelLimits(parallelism=model_slots)},
                on_task_failure=policy,
                timeout_ms=timeout_ms,
                retry=RetrySpec(max_attempts=attempts, initial_interval_ms=1000),
            ),
            models=self.models,
            held=self.held,
            gated=gated,
            random=lambda: 0.5,
        )
        self.feed(Begin(self.now))

    def by_urgency(self) -> list[str]:
        @cache
        def remaining(task_id):
            return 1 + max((remaining(other) for other, deps in self.deps.items() if task_id in deps), default=0)

        return sorted(self.deps, key=lambda task_id: (-remaining(task_id), int(task_id[1:])))

    # --- carrying answers out ----------------------------------------------------------------------------------------

    def feed(self, event):
        over = self.finish is not None
        self.wake_at = None
        self.sound = False
        answer = self.planner.next(event)
        assert not (over and answer), "nothing follows Finish"
        for position, action in enumerate(answer):
            last = position == len(answer) - 1
            match action:
                case Start(task_id, attempt):
                    self.check_start(task_id, attempt)
                    self.running[task_id] = None
                    self.bodies[task_id] += 1
                case Cancel(task_id):
                    assert task_id in self.running
                    assert task_id not in self.cancelled, "cancelled once"
                    self.cancelled.add(task_id)
                    self.stopping = True
                case Skip(task_id, because):
                    assert task_id not in self.ended
                    assert task_id not in self.running
                    assert self.ended[because] in {TaskState.FAILED, TaskState.SKIPPED}
                    assert any(self.is_blocked_for_ever_by(dep) for dep in self.deps[task_id]), "in topological order"
                    self.ended[task_id] = TaskState.SKIPPED
                case Sleep(until):
                    assert last
                    assert until > self.now
                    self.wake_at = until
                case Ask(waiting):
                    assert last
                    assert waiting
                    assert not self.running
                    self.asked = True
                case Finish():
                    assert last
                    assert not self.running
                    self.finish = action
        self.sound = True

    def is_blocked_for_ever_by(self, task_id):
        return self.ended.get(task_id) is TaskState.SKIPPED or task_id in self.failed_for_good

    def is_ready(self, task_id):
        return (
            task_id not in self.ended
            and task_id not in self.running
            and task_id not in self.suspended
            and all(self.ended.get(dep) is TaskState.COMPLETED for dep in self.deps[task_id])
        )

    def stands_in_line(self, task_id):
        """Whether it certainly waits for nothing but a slot: a deferred task may wait for money."""
        elsewhere = self.held | self.deferred | self.planner.backing_off.keys()
        return self.is_ready(task_id) and task_id not in elsewhere

    def check_start(self, task_id, attempt):
        assert not self.stopping
        assert not self.no_starts
        assert task_id not in self.running, "never twice at once"
        assert self.is_ready(task_id)
        assert task_id not in self.held
        assert attempt == self.failures[task_id] + 1 <= self.attempts[task_id]
        assert self.has_slot(task_id)
        more_urgent = self.order[: self.order.index(task_id)]
        assert not any(self.has_slot(other) for other in more_urgent if self.stands_in_line(other))
        self.deferred.discard(task_id)

    def has_slot(self, task_id):
        model = self.models[task_id]
        busy = sum(bodies for other, bodies in self.bodies.items() if self.models[other] == model)
        return (
            self.bodies.total() < self.slots
            and not (model == "m" and busy >= self.model_slots)
            and self.paused.get(model, self.now) <= self.now
        )

    # --- what may happen ---------------------------------------------------------------------------------------------

    def is_running(self):
        return bool(self.running)

    def is_under_way(self):
        return self.finish is None

    def may_grow(self):
        return self.running and len(self.deps) < MOST_TASKS

    def has_zombies(self):
        return any(self.bodies[task_id] > (task_id in self.running) for task_id in self.bodies)

    @precondition(is_running)
    @rule(
        data=st.data(),
        state=st.sampled_from([TaskState.COMPLETED, TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED]),
        retryable=st.booleans(),
        body_alive=st.booleans(),
    )
    def end(self, data, state, retryable, body_alive):
        task_id = data.draw(st.sampled_from(list(self.running)))
        del self.running[task_id]
        self.failures[task_id] += state is TaskState.FAILED
        again = retryable and self.failures[task_id] < self.attempts[task_id] and not self.stopping
        if state is not TaskState.FAILED or not again:
            self.ended[task_id] = state
            if state is TaskState.FAILED and not self.stopping:
                self.failed_for_good.add(task_id)
        if not body_alive:
            self.bodies[task_id] -= 1
        self.feed(Ended(task_id, self.now, state, retryable, body_alive))

    @precondition(is_running)
    @rule(most=st.integers(1, 3))
    def complete(self, most):
        for task_id in list(self.running)[:most]:
            del self.running[task_id]
            self.bodies[task_id] -= 1
            self.ended[task_id] = TaskState.COMPLETED
            self.feed(Ended(task_id, self.now, TaskState.COMPLETED))

    @precondition(has_zombies)
    @rule(data=st.data())
    def body_stops(self, data):
        zombies = [task_id for task_id in self.bodies if self.bodies[task_id] > (task_id in self.running)]
        task_id = data.draw(st.sampled_from(zombies))
        self.bodies[task_id] -= 1
        self.feed(BodyStopped(task_id, self.now))

    @precondition(is_running)
    @rule(data=st.data(), ask=st.booleans())
    def lack_money(self, data, ask):
        task_id = data.draw(st.sampled_from(list(self.running)))
        del self.running[task_id]
        self.bodies[task_id] -= 1
        self.no_starts = self.no_starts or ask
        self.deferred.add(task_id)
        self.feed(Deferred(task_id, self.now, ask))

    @precondition(is_running)
    @rule(data=st.data())
    def ask_from_within(self, data):
        task_id = data.draw(st.sampled_from(list(self.running)))
        del self.running[task_id]
        self.bodies[task_id] -= 1
        self.suspended.add(task_id)
        self.feed(Suspended(task_id, self.now))

    @precondition(lambda self: any(self.models[task_id] for task_id in self.running))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def throttle(self, data, seconds):
        task_id = data.draw(st.sampled_from([task_id for task_id in self.running if self.models[task_id]]))
        del self.running[task_id]
        self.bodies[task_id] -= 1
        model = self.models[task_id]
        self.paused[model] = max(self.paused.get(model, 0.0), self.now + seconds)
        self.feed(Throttled(task_id, self.now, self.now + seconds))

    @precondition(may_grow)
    @rule(data=st.data())
    def add_tasks(self, data):
        self.grow(data, list(self.deps), parent_waits=False)

    @precondition(may_grow)
    @rule(data=st.data())
    def wait_for_new_tasks(self, data):
        self.grow(data, list(self.running), parent_waits=True)

    def grow(self, data, parents, *, parent_waits):
        parent = data.draw(st.sampled_from(parents))
        tasks: list[NewTask] = []
        for state in data.draw(st.lists(st.sampled_from(JOINS_AS), max_size=3)):
            known = [*self.deps, *(task.task_id for task in tasks)]
            deps = data.draw(st.lists(st.sampled_from(known), max_size=2))
            model = data.draw(st.sampled_from(MODELS))
            retry = data.draw(st.sampled_from([None, RetrySpec(max_attempts=3, initial_interval_ms=1000)]))
            tasks.append(NewTask(f"t{len(known)}", tuple(deps), state, model, retry))
        event = Grew(self.now, tuple(tasks), parent, parent_waits)
        if parent_waits and self.stopping:
            del self.running[parent]
            self.bodies[parent] -= 1
            self.failures[parent] += 1
            self.ended[parent] = TaskState.FAILED
        elif parent_waits and self.wait_for(parent) & {dep for task in tasks for dep in task.deps}:
            with pytest.raises(CyclicDependencyError):
                self.planner.next(event)
            return
        elif self.finish is None:
            self.join(event)
        self.feed(event)

    def wait_for(self, task_id) -> set[str]:
        """The task and all that cannot end before it has."""
        waiting = {task_id}
        while more := {
            other
            for other, deps in self.deps.items()
            if waiting & set(deps) and other not in self.ended and other not in waiting
        }:
            waiting |= more
        return waiting

    def join(self, event):
        for task in event.tasks:
            self.deps[task.task_id] = list(task.deps)
            self.models[task.task_id] = task.model
            self.attempts[task.task_id] = task.retry.max_attempts if task.retry else self.usual_attempts
            self.order.insert(self.order.index(event.parent), task.task_id)
            if task.state.ended:
                self.ended_before.add(task.task_id)
                self.ended[task.task_id] = task.state
            if task.state is TaskState.FAILED:
                self.failed_for_good.add(task.task_id)
        if event.parent_waits:
            del self.running[event.parent]
            self.bodies[event.parent] -= 1
            self.deps[event.parent] += [task.task_id for task in event.tasks]

    @precondition(lambda self: self.held and self.is_under_way())
    @rule(data=st.data())
    def release(self, data):
        released = data.draw(st.lists(st.sampled_from(list(self.deps)), max_size=3))
        self.held.difference_update(released)
        self.feed(Released(self.now, tuple(released)))

    @precondition(is_under_way)
    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0, 30.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.feed(Tick(self.now))

    @precondition(lambda self: self.wake_at is not None)
    @rule()
    def sleep_ends(self):
        self.now = self.wake_at
        self.feed(Tick(self.now))

    @precondition(is_under_way)
    @rule(model=st.sampled_from(["m", "n"]), seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def provider_asks_for_patience(self, model, seconds):
        self.paused[model] = max(self.paused.get(model, 0.0), self.now + seconds)
        self.feed(ModelPaused(model, self.now, self.now + seconds))

    @precondition(is_under_way)
    @rule()
    def money_arrives(self):
        if not self.draining:
            self.no_starts = False
        self.asked = False
        self.feed(ToppedUp(self.now))

    @precondition(is_under_way)
    @rule(dice=st.integers(0, 19))
    def shut_down(self, dice):
        if dice == 0:
            self.draining = self.no_starts = True
            self.feed(Drain(self.now))

    @precondition(is_under_way)
    @rule(dice=st.integers(0, 19))
    def abort(self, dice):
        if dice == 0:
            self.stopping = True
            self.feed(Abort(self.now))

    @precondition(lambda self: not self.is_under_way())
    @rule(data=st.data())
    def come_too_late(self, data):
        task_id = data.draw(st.sampled_from(list(self.deps)))
        late = [
            Tick(self.now),
            ToppedUp(self.now),
            Drain(self.now),
            Abort(self.now),
            ModelPaused("m", self.now, self.now + 1),
            Grew(self.now, (NewTask("late", (task_id,)),), task_id),
        ]
        self.feed(data.draw(st.sampled_from(late)))

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def books_agree(self):
        assert self.planner.running == set(self.running)
        assert self.planner.zombies == self.bodies.total() - len(self.running)
        assert self.planner.states.keys() == self.deps.keys()
        assert self.planner.suspended == self.suspended
        for task_id, state in self.planner.states.items():
            assert state is self.state_of(task_id)
            assert self.planner.attempts[task_id] == self.failures[task_id] + (
                task_id in self.running or self.has_succeeded(task_id) or self.was_false(task_id)
            )

    def state_of(self, task_id):
        if task_id in self.ended:
            return self.ended[task_id]
        if task_id in self.running:
            return TaskState.RUNNING
        return TaskState.READY if self.is_ready(task_id) and self.finish is None else TaskState.PENDING

    def has_succeeded(self, task_id):
        """Whether it completed in this execution."""
        return self.ended.get(task_id) is TaskState.COMPLETED and task_id not in self.ended_before

    def was_false(self, task_id):
        """Whether the task ran and found its condition false."""
        return self.ended.get(task_id) is TaskState.SKIPPED and self.planner.attempts[task_id] > self.failures[task_id]

    @invariant()
    def nothing_waits_for_what_can_never_come(self):
        blocked = {task_id for task_id, deps in self.deps.items() if any(map(self.is_blocked_for_ever_by, deps))}
        assert blocked <= self.ended.keys()

    @invariant()
    def held_tasks_are_known(self):
        held_ready = [task_id for task_id in self.order if task_id in self.held and self.is_ready(task_id)]
        assert self.planner.held_ready == held_ready

    @invariant()
    def something_can_still_happen(self):
        released = self.gated and self.planner.held_ready
        waiting = self.asked or released or self.wake_at is not None or self.planner.zombies
        assert self.running or self.finish or waiting

    @invariant()
    def no_slot_stays_empty_beside_a_task_that_could_use_it(self):
        if not (self.finish or self.stopping or self.no_starts):
            assert not any(self.has_slot(task_id) for task_id in self.deps if self.stands_in_line(task_id))

    @invariant()
    def the_end_fits_the_tasks(self):
        if self.finish is None:
            return
        states = set(self.planner.states.values())
        assert TaskState.READY not in states
        if self.finish.state is RunState.COMPLETED:
            assert states <= {TaskState.COMPLETED, TaskState.SKIPPED}
        if self.finish.state is RunState.RUNNING:
            assert TaskState.PENDING in states
            assert not self.stopping
            if self.finish.reason != "drain":
                assert all(task_id in self.held for task_id in self.deps if self.is_ready(task_id)), "nothing is lost"
            assert self.draining == (self.finish.reason == "drain")
            assert self.finish.reason != "suspended" or self.suspended
            assert self.finish.reason != "paused" or (self.held and not self.suspended and not self.gated)

    def teardown(self):
        """From wherever it is, a run whose tasks all succeed from now on comes to its end."""
        if not self.sound:  # it never began, or an answer was wrong: that is the error to show
            return
        for _ in range(500):
            if self.finish is not None:
                return
            if self.running:
                task_id = next(iter(self.running))
                del self.running[task_id]
                self.bodies[task_id] -= 1
                self.ended[task_id] = TaskState.COMPLETED
                self.feed(Ended(task_id, self.now, TaskState.COMPLETED))
            elif self.asked:
                self.money_arrives()
            elif self.wake_at is not None:
                self.sleep_ends()
            elif self.gated and self.planner.held_ready:
                self.held.clear()
                self.feed(Released(self.now, tuple(self.deps)))
            else:
                task_id = next(task_id for task_id, bodies in self.bodies.items() if bodies)
                self.bodies[task_id] -= 1
                self.feed(BodyStopped(task_id, self.now))
        raise AssertionError("the run does not end")


TestAnyDriver = AnyDriver.TestCase
TestAnyDriver.settings = settings(max_examples=200)

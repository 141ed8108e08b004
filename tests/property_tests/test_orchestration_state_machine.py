"""The planner against a driver that does anything a real one may do, in any order."""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
    ModelPaused,
    ParallelExecutor,
    Skip,
    Sleep,
    Start,
    Tick,
    ToppedUp,
)

MODELS = ("m", "n", None)


class AnyDriver(RuleBasedStateMachine):
    """Feeds events and holds every answer against its own, simpler books."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.running: dict[str, None] = {}
        self.bodies: Counter[str] = Counter()
        self.ended: dict[str, TaskState] = {}
        self.failures: Counter[str] = Counter()
        self.cancelled: set[str] = set()
        self.deferred: set[str] = set()
        self.paused: dict[str, float] = {}
        self.wake_at: float | None = None
        self.asked = self.stopping = self.draining = self.no_starts = False
        self.finish: Finish | None = None
        self.sound = False

    @initialize(
        deps=st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=10),
        slots=st.integers(1, 3),
        model_slots=st.integers(1, 2),
        attempts=st.integers(1, 3),
        policy=st.sampled_from(["continue", "fail_fast"]),
        timeout_ms=st.sampled_from([None, None, 20_000]),
        data=st.data(),
    )
    def begin(self, *, deps, slots, model_slots, attempts, policy, timeout_ms, data):
        self.deps = {f"t{i}": sorted({f"t{d % i}" for d in some}) if i else [] for i, some in enumerate(deps)}
        self.models = {task_id: data.draw(st.sampled_from(MODELS)) for task_id in self.deps}
        self.slots, self.model_slots, self.attempts = slots, model_slots, attempts
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
            random=lambda: 0.5,
        )
        self.feed(Begin(self.now))

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
                    assert self.ended[because] in {TaskState.FAILED, TaskState.SKIPPED}
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

    def check_start(self, task_id, attempt):
        assert not self.stopping
        assert not self.no_starts
        assert task_id not in self.running, "never twice at once"
        assert task_id not in self.ended
        assert all(self.ended.get(dep) is TaskState.COMPLETED for dep in self.deps[task_id])
        assert attempt == self.failures[task_id] + 1 <= self.attempts
        assert self.has_slot(task_id)
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
        again = retryable and self.failures[task_id] < self.attempts and not self.stopping
        if state is not TaskState.FAILED or not again:
            self.ended[task_id] = state
        if not body_alive:
            self.bodies[task_id] -= 1
        self.feed(Ended(task_id, self.now, state, retryable, body_alive))

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

    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0, 30.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.feed(Tick(self.now))

    @precondition(lambda self: self.wake_at is not None)
    @rule()
    def sleep_ends(self):
        self.now = self.wake_at
        self.feed(Tick(self.now))

    @rule(model=st.sampled_from(["m", "n"]), seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def provider_asks_for_patience(self, model, seconds):
        self.paused[model] = max(self.paused.get(model, 0.0), self.now + seconds)
        self.feed(ModelPaused(model, self.now, self.now + seconds))

    @rule()
    def money_arrives(self):
        if not self.draining:
            self.no_starts = False
        self.asked = False
        self.feed(ToppedUp(self.now))

    @precondition(lambda self: self.finish is None)
    @rule(dice=st.integers(0, 9))
    def shut_down(self, dice):
        if dice == 0:
            self.draining = self.no_starts = True
            self.feed(Drain(self.now))

    @precondition(lambda self: self.finish is None)
    @rule(dice=st.integers(0, 9))
    def abort(self, dice):
        if dice == 0:
            self.stopping = True
            self.feed(Abort(self.now))

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def books_agree(self):
        assert self.planner.running == set(self.running)
        assert self.planner.zombies == self.bodies.total() - len(self.running)
        for task_id, state in self.planner.states.items():
            assert (state is TaskState.RUNNING) == (task_id in self.running)
            assert state is self.ended.get(task_id, state)
            assert state.ended == (task_id in self.ended)
            assert self.planner.attempts[task_id] == self.failures[task_id] + (
                task_id in self.running or self.ended.get(task_id) is TaskState.COMPLETED or self.was_false(task_id)
            )

    def was_false(self, task_id):
        """Whether the task ran and found its condition false."""
        return self.ended.get(task_id) is TaskState.SKIPPED and self.planner.attempts[task_id] > self.failures[task_id]

    @invariant()
    def something_can_still_happen(self):
        assert self.running or self.finish or self.asked or self.wake_at is not None or self.planner.zombies

    @invariant()
    def no_slot_stays_empty_beside_a_task_that_could_use_it(self):
        if not (self.finish or self.stopping or self.no_starts):
            ready = {task_id for task_id, state in self.planner.states.items() if state is TaskState.READY}
            idle = ready - self.deferred - set(self.planner.backing_off)
            assert not any(self.has_slot(task_id) for task_id in idle)

    @invariant()
    def the_end_fits_the_tasks(self):
        if self.finish is None:
            return
        states = set(self.planner.states.values())
        assert TaskState.READY not in states
        if self.finish.state is RunState.COMPLETED:
            assert states <= {TaskState.COMPLETED, TaskState.SKIPPED}
        if self.finish.state is RunState.RUNNING:
            assert self.draining
            assert TaskState.PENDING in states

    def teardown(self):
        """From wherever it is, a run whose tasks all succeed from now on comes to its end."""
        if not self.sound:  # it never began, or an answer was wrong: that is the error to show
            return
        for _ in range(200):
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
            else:
                task_id = next(task_id for task_id, bodies in self.bodies.items() if bodies)
                self.bodies[task_id] -= 1
                self.feed(BodyStopped(task_id, self.now))
        raise AssertionError("the run does not end")


TestAnyDriver = AnyDriver.TestCase

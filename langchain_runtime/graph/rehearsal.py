"""A run played through in virtual time: the real planner, the models' limits, lists of items, and the budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_runtime.contracts.budget import OnExceed
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.cost import RateLimiter
from langchain_runtime.cost.rate_limiter import Turn
from langchain_runtime.graph.expectations import Expectation
from langchain_runtime.graph.planned_calls import WorstCall
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.orchestration import (
    Attempt,
    Deferred,
    Event,
    Forecast,
    Grew,
    NewTask,
    ParallelExecutor,
    Span,
    Throttled,
    simulate,
)

PickSeconds = Callable[[Expectation], float]
"""Chooses one of the durations that a task may have."""


@dataclass(frozen=True)
class Purse:
    """What a budget has left before the run.

    Attributes:
        scope: Its name.
        currency: Of its money.
        free_nano: Money, in nano units; None for no limit.
        free_tokens: Tokens; None for no limit.
        on_exceed: What it does about a call that does not fit.
    """

    scope: str
    currency: str
    free_nano: int | None
    free_tokens: int | None
    on_exceed: OnExceed


@dataclass(frozen=True)
class Shortfall:
    """A call that would not fit a budget when its turn comes.

    Attributes:
        task: Whose call.
        purse: The budget that is short.
        needed: The call's worst case.
        free_nano: What the budget would have left then.
        shrunk: Whether a smaller output cap would make it fit.
    """

    task: str
    purse: Purse
    needed: WorstCall
    free_nano: int | None
    shrunk: bool


@dataclass(frozen=True)
class Rehearsed:
    """How a rehearsal went.

    Attributes:
        forecast: When what would run.
        shortfalls: In the order in which they come; what does not fit is played as if it had.
    """

    forecast: Forecast
    shortfalls: tuple[Shortfall, ...]


def rehearse(
    spec: GraphSpec,
    policy: RunPolicy,
    expected: Callable[[str], Expectation],
    pick: PickSeconds,
    *,
    priorities_by: Mapping[str, float],
    purses: Sequence[Purse] = (),
) -> Rehearsed:
    """Play a run of ``spec`` through.

    Args:
        spec: The graph.
        policy: Its slots and limits count, not those of the graph's policy.
        expected: What each task is expected to take.
        pick: Chooses each duration.
        priorities_by: Expected durations, for the order of tasks that are ready.
        purses: What the budgets have left.
    """
    stage = _Stage(spec, policy, expected, pick, purses)
    planner = ParallelExecutor(
        spec.dag,
        policy=policy,
        models={task_id: definition.model for task_id, definition in spec.tasks.items()},
        expected_seconds=priorities_by,
        priorities={task_id: definition.spec.priority for task_id, definition in spec.tasks.items()},
    )
    forecast = simulate(planner, stage.attempt, obstacle=stage.obstacle, on_end=stage.ended)
    return Rehearsed(forecast, tuple(stage.shortfalls))


class _Need:
    """What a call takes from every purse."""

    def __init__(self, call: WorstCall | None = None, *, nano: int = 0, tokens: int = 0) -> None:
        self.nano = nano if call is None or call.cost is None else call.cost.nano
        self.tokens = tokens if call is None else call.input + call.output


@dataclass
class _InFlight:
    nano: int = 0
    tokens: int = 0
    turn: Turn | None = None


@dataclass
class _Till:
    """A purse in use."""

    purse: Purse
    spent_nano: int = 0
    spent_tokens: int = 0

    def fits(self, need: _Need) -> bool:
        return _within(need.nano, self.free_nano) and _within(need.tokens, self.free_tokens)

    @property
    def free_nano(self) -> int | None:
        free = self.purse.free_nano
        return None if free is None else free - self.spent_nano

    @property
    def free_tokens(self) -> int | None:
        free = self.purse.free_tokens
        return None if free is None else free - self.spent_tokens

    def take(self, nano: int, tokens: int) -> None:
        self.spent_nano += nano
        self.spent_tokens += tokens


@dataclass
class _Stage:
    spec: GraphSpec
    policy: RunPolicy
    expected: Callable[[str], Expectation]
    pick: PickSeconds
    purses: Sequence[Purse]
    shortfalls: list[Shortfall] = field(default_factory=list)
    _now: float = 0.0
    _grown: set[str] = field(default_factory=set)
    _in_flight: dict[str, _InFlight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tills = [_Till(purse) for purse in self.purses]
        self._limiters = {
            model: RateLimiter(rpm=limits.rpm, tpm=limits.tpm, clock=lambda: self._now)
            for model, limits in self.policy.per_model.items()
            if limits.rpm is not None or limits.tpm is not None
        }

    def attempt(self, task_id: str, _number: int) -> Attempt:
        if task_id in self._grown:  # its children did the work
            return Attempt(0.0)
        return Attempt(self.pick(self._of(task_id)))

    def obstacle(self, task_id: str, now: float) -> Event | None:
        self._now = now
        definition = self.spec.tasks.get(task_id)
        if definition is not None and definition.spec.for_each is not None:
            return self._grow(task_id, now)
        return self._closed(task_id, now) or self._unfunded(task_id, now)

    def ended(self, span: Span) -> None:
        self._now = span.ended
        flight = self._in_flight.pop(span.task_id, None)
        if flight is None:
            return
        expectation = self._of(span.task_id)
        nano = expectation.cost.nano if expectation.cost is not None else flight.nano
        tokens = expectation.tokens.total
        if flight.turn is not None:
            self._limiters[str(self._model_of(span.task_id))].used(flight.turn, tokens)
        for till in self._tills:
            till.take(nano - flight.nano, tokens - flight.tokens)

    # --- what stands in the way --------------------------------------------------------------------------------------

    def _grow(self, task_id: str, now: float) -> Event | None:
        if task_id in self._grown:
            return None
        self._grown.add(task_id)
        model = self.spec.tasks[task_id].model
        children = (f"{task_id}{CHILD_SEPARATOR}{index}" for index in range(self._of(task_id).items))
        return Grew(now, tuple(NewTask(child, model=model) for child in children), task_id, parent_waits=True)

    def _closed(self, task_id: str, now: float) -> Event | None:
        """The model's requests or tokens of the minute are used up."""
        limiter = self._limiters.get(self._model_of(task_id) or "")
        wait = 0.0 if limiter is None else limiter.look(self._of(task_id).tokens.total)
        return Throttled(task_id, now, now + wait) if wait > 0 else None

    def _unfunded(self, task_id: str, now: float) -> Event | None:
        """Money that others hold would let it start; else it starts, in its way, or is noted as one that would not."""
        expectation = self._of(task_id)
        flight = _InFlight()
        if expectation.held is not None:
            need = _Need(expectation.held)
            short = self._short_of(need)
            if short is not None:
                shrunk = self._shrunk(expectation, short)
                if shrunk is None and self._in_flight and short.purse.on_exceed != "warn":
                    return Deferred(task_id, now)
                self._note(task_id, short, expectation.held, shrunk=shrunk is not None)
                need = shrunk or _Need()
            flight = _InFlight(need.nano, need.tokens)
            for till in self._tills:
                till.take(need.nano, need.tokens)
        self._in_flight[task_id] = flight
        limiter = self._limiters.get(self._model_of(task_id) or "")
        if limiter is not None:
            flight.turn = limiter.queue(expectation.tokens.total)
            limiter.take(flight.turn)
        return None

    def _note(self, task_id: str, short: _Till, need: WorstCall, *, shrunk: bool) -> None:
        self.shortfalls.append(Shortfall(task_id, short.purse, need, short.free_nano, shrunk))

    def _shrunk(self, expectation: Expectation, short: _Till) -> _Need | None:
        """The call with the largest output cap that fits; None if it must not be shrunk, or none does."""
        whole, least = expectation.held, expectation.held_at_least
        if short.purse.on_exceed != "cap" or whole is None or least is None or self._short_of(_Need(least)) is not None:
            return None
        largest = _Need(whole)
        return _Need(
            nano=min([largest.nano, *(till.free_nano for till in self._tills if till.free_nano is not None)]),
            tokens=min([largest.tokens, *(till.free_tokens for till in self._tills if till.free_tokens is not None)]),
        )

    def _short_of(self, need: _Need) -> _Till | None:
        return next((till for till in self._tills if not till.fits(need)), None)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _of(self, task_id: str) -> Expectation:
        return self.expected(self._origin(task_id))

    def _model_of(self, task_id: str) -> str | None:
        return self.spec.tasks[self._origin(task_id)].model

    def _origin(self, task_id: str) -> str:
        return task_id.partition(CHILD_SEPARATOR)[0]


def _within(needed: int, free: int | None) -> bool:
    return free is None or needed <= free

"""Holds calls of a model back while it fails, and lets everybody wait when it asks for patience.

::

    closed ──> open        too many failures in a row, or too many among the last calls: calls raise at once
      ^          │ cool-down
      │          v
      └────── half-open    one call is let through; its success closes the breaker, its failure opens it again
"""

from __future__ import annotations

import random as random_module
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Self

from langchain_runtime.contracts.errors import InvalidInputError, ModelUnavailableError

State = Literal["closed", "open", "half_open"]

_FIRST_BACK_OFF: Final = 1.0
"""Seconds after a first 429 that does not say how long; doubled with each further one until a call succeeds."""

_JITTER: Final = 0.25
"""Share of a wait that is added at random, so that those who waited together do not come back together."""

_WAIT_FOR_PROBE: Final = 1.0
"""Seconds until it is worth asking again while a call tries whether the model works."""


class Passage(NamedTuple):
    """A call that was let through; hand it to the method that says how the call ended."""

    model: str
    era: int
    refusals: int


@dataclass(slots=True)
class _Health:
    """What is known of one model.

    ``era`` counts its state changes and ``refusals`` its 429s, so that old calls do not speak for new states, and calls
    that were refused together count as one.
    """

    recent: deque[bool]
    in_a_row: int = 0
    opened_at: float | None = None
    probing: bool = False
    era: int = 0
    patience_until: float = 0.0
    refusals: int = 0
    refused_in_a_row: int = 0
    setbacks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class CircuitBreaker:
    """Watches models; share one among all that call with the same credentials. Safe for threads and asyncio.

    Failures are server errors, time-outs and lost connections. Too many requests (429) do not open the breaker: they
    make every caller of the model wait as long as the provider asks. Errors in a request say nothing about the model.

    Copies are the same breaker; an unpickled one starts afresh.

    Args:
        failures_in_a_row: Open after so many.
        failure_rate: Open when more than this share of the last ``window`` calls failed (0 to 1).
        window: Calls that the rate looks back over; it counts once there were as many.
        open_seconds: Cool-down until a call is let through to try.
        longest_wait: Most seconds that a call waits for a provider's 429; beyond, it raises.
        give_up_after: Setbacks in a row after which nobody should wait for the model any more: calls that tried in vain
            whether it works again, and 429s. The tasks of a run fail then; calls are let through as before.
        clock: Monotonic seconds.
        random: Uniform in [0, 1), for jitter.

    Raises:
        InvalidInputError: A number is out of range.
    """

    def __init__(
        self,
        *,
        failures_in_a_row: int = 5,
        failure_rate: float = 0.5,
        window: int = 20,
        open_seconds: float = 30.0,
        longest_wait: float = 60.0,
        give_up_after: int = 10,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if failures_in_a_row < 1 or window < 1 or give_up_after < 1:
            raise InvalidInputError("failures_in_a_row, window and give_up_after must be 1 or more")
        if not 0 < failure_rate <= 1:
            raise InvalidInputError(f"failure_rate must be above 0 and at most 1, got {failure_rate}")
        if open_seconds <= 0 or longest_wait < 0:
            raise InvalidInputError("open_seconds must be positive and longest_wait not negative")
        self._settings = {
            "failures_in_a_row": failures_in_a_row,
            "failure_rate": failure_rate,
            "window": window,
            "open_seconds": open_seconds,
            "longest_wait": longest_wait,
            "give_up_after": give_up_after,
        }
        self._failures_in_a_row = failures_in_a_row
        self._failure_rate = failure_rate
        self._window = window
        self._open_seconds = open_seconds
        self._longest_wait = longest_wait
        self._give_up_after = give_up_after
        self._clock = clock
        self._random = random
        self._models: dict[str, _Health] = {}

    def state(self, model: str) -> State:
        """How the breaker stands for ``model``."""
        health = self._health(model)
        with health.lock:
            if health.opened_at is None:
                return "closed"
            return "half_open" if self._cooled(health) else "open"

    def look(self, model: str) -> float:
        """Seconds until it is worth asking for a passage; 0 for now. Lets nobody through.

        For whoever can do something else meanwhile. The wait is bounded: a model that is down for good, or that refuses
        every call, is given up after ``give_up_after`` setbacks in a row. It is tried again after each cool-down, and
        the first success is the end of it.

        Raises:
            ModelUnavailableError: Nobody should wait: the model is given up until its cool-down or pause is over, or it
                asked for a longer pause than ``longest_wait``.
        """
        health = self._health(model)
        with health.lock:
            if health.probing:
                return _WAIT_FOR_PROBE
            if health.opened_at is not None and not self._cooled(health):
                wait = self._cool_down(health)
            else:
                wait = self._pause(model, health)
            if wait > 0 and health.setbacks >= self._give_up_after:
                raise ModelUnavailableError(
                    f"{model} did not come back: {health.setbacks} setbacks in a row",
                    model=model,
                    retry_after=wait,
                    hint="resume the run when the model works again, use another one, or raise give_up_after",
                )
            return wait

    def admit(self, model: str) -> Passage | float:
        """Let a call through, or say in how many seconds to ask again.

        Raises:
            ModelUnavailableError: The breaker is open, or the provider asked for a longer pause than ``longest_wait``.
        """
        health = self._health(model)
        with health.lock:
            if health.opened_at is not None:
                if health.probing or not self._cooled(health):
                    raise self._unavailable(model, health)
                health.probing = True
            elif (wait := self._pause(model, health)) > 0:
                return wait * (1 + _JITTER * self._random())
            return Passage(model, health.era, health.refusals)

    def succeeded(self, passage: Passage) -> None:
        """The call got its reply."""
        health = self._health(passage.model)
        with health.lock:
            if passage.era != health.era:
                return
            health.refused_in_a_row = health.in_a_row = health.setbacks = 0
            if health.opened_at is None:
                health.recent.append(True)
            else:
                self._change(health, opened_at=None)

    def failed(self, passage: Passage) -> None:
        """The model did not answer as it should: a server error, a time-out, a lost connection."""
        health = self._health(passage.model)
        with health.lock:
            if passage.era != health.era:
                return
            health.recent.append(False)
            health.in_a_row += 1
            full = len(health.recent) == self._window
            too_many = full and health.recent.count(False) > self._failure_rate * self._window
            if health.opened_at is not None:
                health.setbacks += 1
                self._change(health, opened_at=self._clock())
            elif too_many or health.in_a_row >= self._failures_in_a_row:
                self._change(health, opened_at=self._clock())

    def refused(self, passage: Passage, retry_after: float | None = None) -> None:
        """The provider answered that there were too many requests: all calls of the model wait.

        Args:
            passage: Of the call.
            retry_after: Seconds that the provider asks for; None if it does not say.
        """
        health = self._health(passage.model)
        with health.lock:
            if passage.refusals == health.refusals:  # not one that left together with the last refused one
                health.refusals += 1
                health.refused_in_a_row += 1
                health.setbacks += 1
            if retry_after is None:
                retry_after = min(_FIRST_BACK_OFF * 2.0 ** (health.refused_in_a_row - 1), self._longest_wait)
            health.patience_until = max(health.patience_until, self._clock() + retry_after)
            self._end_probe(passage, health)

    def abandoned(self, passage: Passage) -> None:
        """The call ended in a way that says nothing about the model: cancelled, or wrong in itself."""
        health = self._health(passage.model)
        with health.lock:
            self._end_probe(passage, health)

    def _health(self, model: str) -> _Health:
        return self._models.setdefault(model, _Health(deque(maxlen=self._window)))

    def _cooled(self, health: _Health) -> bool:
        return self._cool_down(health) == 0

    def _cool_down(self, health: _Health) -> float:
        """Seconds until a call may try whether the model works again."""
        assert health.opened_at is not None
        return max(0.0, health.opened_at + self._open_seconds - self._clock())

    def _pause(self, model: str, health: _Health) -> float:
        """Seconds of patience that the provider still asks for."""
        wait = health.patience_until - self._clock()
        if wait > self._longest_wait:
            raise ModelUnavailableError(
                f"{model} asked for a pause of {wait:.0f} s after too many requests",
                model=model,
                retry_after=wait,
                hint="try again later, or raise longest_wait",
            )
        return max(0.0, wait)

    @staticmethod
    def _end_probe(passage: Passage, health: _Health) -> None:
        if passage.era == health.era:
            health.probing = False

    @staticmethod
    def _change(health: _Health, *, opened_at: float | None) -> None:
        health.opened_at = opened_at
        health.probing = False
        health.in_a_row = 0
        health.recent.clear()
        health.era += 1

    def _unavailable(self, model: str, health: _Health) -> ModelUnavailableError:
        left = self._cool_down(health)
        trying = "; one call is trying it now" if health.probing else ""
        return ModelUnavailableError(
            f"{model} failed too often; calls are held back for another {left:.1f} s{trying}",
            model=model,
            retry_after=left,
            hint="try again later, or use another model meanwhile",
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_breaker, (self._settings,))


def _breaker(settings: dict[str, Any]) -> CircuitBreaker:
    return CircuitBreaker(**settings)

"""Keeps calls below a provider's requests and tokens per minute, first come, first served."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Self

from langchain_runtime.contracts.errors import InvalidInputError

_MINUTE: Final = 60.0

_LONGEST_NAP: Final = 1.0
"""Seconds until a waiting call looks again: others may have used less than they took."""

_SHORTEST_NAP: Final = 0.001


class Turn:
    """A call's place in the queue, and what it took when its turn came.

    Attributes:
        tokens: What it may use; after ``take`` succeeded, what it took.
        taken: Whether it was taken ahead of the call.
    """

    __slots__ = ("taken", "tokens")

    def __init__(self, tokens: int, *, taken: bool = False) -> None:
        self.tokens = tokens
        self.taken = taken


class _Bucket:
    """Holds at most a minute's worth and fills steadily."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.capacity = float(per_minute)
        self._per_second = per_minute / _MINUTE
        self._level = self.capacity
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there; 0 if it is."""
        self._level = min(self.capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (amount - self._level) / self._per_second)

    def take(self, amount: float) -> None:
        """Take it out; a negative amount is put back."""
        self._level = min(self.capacity, self._level - amount)


class RateLimiter:
    """Limits of one account at a provider; share it among all models that count towards them.

    A call takes its tokens before it is sent (input as estimated, output at its cap, as providers count) and gives
    back what it did not use. Who can do something else meanwhile need not wait in line: ``look`` says when to come
    back, and ``take_ahead`` takes the turn before the call is made.

    For this process only. Copies are the same limiter; an unpickled one starts afresh.

    Args:
        rpm: Most requests per minute; None for no limit.
        tpm: Most tokens (input + output) per minute; None for no limit. A call that may use more than ``tpm`` goes
            alone, when the minute is unused.
        clock: Monotonic seconds.

    Raises:
        InvalidInputError: A limit is not positive, or there is none.
    """

    def __init__(
        self, *, rpm: int | None = None, tpm: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if rpm is None and tpm is None:
            raise InvalidInputError("a rate limiter needs a limit", hint="give rpm, tpm or both")
        for name, limit in (("rpm", rpm), ("tpm", tpm)):
            if limit is not None and limit < 1:
                raise InvalidInputError(f"{name} must be 1 or more, got {limit}")
        self._settings = {"rpm": rpm, "tpm": tpm}
        self._clock = clock
        self._lock = threading.Lock()
        self._requests = None if rpm is None else _Bucket(rpm, clock())
        self._tokens = None if tpm is None else _Bucket(tpm, clock())
        self._queue: deque[Turn] = deque()
        self._ahead: dict[Hashable, Turn] = {}

    @property
    def counts_tokens(self) -> bool:
        """Whether a call must say how many tokens it may use."""
        return self._tokens is not None

    def look(self, tokens: int = 0) -> float:
        """Seconds until a call that got in line now would have its turn; 0 for at once. Takes nothing."""
        with self._lock:
            return self._look(tokens)

    def take_ahead(self, caller: Hashable, tokens: int = 0) -> float:
        """Take the turn of the call that ``caller`` makes next, if it can be had at once; else ``look``.

        Returns:
            0 when the turn is taken; ``drop`` it if the call is not made.
        """
        with self._lock:
            self._drop(caller)
            wait = self._look(tokens)
            if wait == 0:
                self._move(tokens, requests=1)
                self._ahead[caller] = Turn(tokens, taken=True)
            return wait

    def drop(self, caller: Hashable) -> None:
        """Give back what was taken ahead, if the call has not come for it."""
        with self._lock:
            self._drop(caller)

    def queue(self, tokens: int = 0, *, caller: Hashable = None) -> Turn:
        """Get in line; or have the turn that was taken ahead, if it is large enough.

        Args:
            tokens: What the call may use, input and output.
            caller: For whom a turn may have been taken ahead.
        """
        with self._lock:
            ahead = self._ahead.get(caller)
            if ahead is not None and ahead.tokens >= tokens:
                del self._ahead[caller]
                self._move(tokens - ahead.tokens, requests=0)
                ahead.tokens = tokens
                return ahead
            self._drop(caller)
            turn = Turn(tokens)
            self._queue.append(turn)
            return turn

    def take(self, turn: Turn) -> float:
        """Seconds until it is worth asking again; 0 when the call may go, which is told once."""
        with self._lock:
            if turn.taken:
                return 0.0
            wait = self._wait(turn)
            if wait == 0:
                self._queue.remove(turn)
                self._move(turn.tokens, requests=1)
            return wait

    def used(self, turn: Turn, tokens: int) -> None:
        """What a call that went really used."""
        with self._lock:
            self._move(tokens - turn.tokens, requests=0)

    def leave(self, turn: Turn) -> None:
        """Give everything back: the call was not sent."""
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
            else:
                self._move(-turn.tokens, requests=-1)

    def _wait(self, turn: Turn) -> float:
        queue = list(self._queue)
        wait = self._seconds(turn.tokens, queue[: queue.index(turn)])
        if wait == 0 and turn is queue[0]:  # whoever came first goes first
            return 0.0
        return min(max(wait, _SHORTEST_NAP), _LONGEST_NAP)

    def _look(self, tokens: int) -> float:
        wait = self._seconds(tokens, self._queue)
        return max(wait, _SHORTEST_NAP) if wait else 0.0

    def _seconds(self, tokens: int, ahead: Sequence[Turn]) -> float:
        """Until there is room for a call of so many tokens after those ``ahead`` of it."""
        now = self._clock()
        wait = 0.0
        if self._requests is not None:
            wait = self._requests.wait(1 + len(ahead), now)
        if self._tokens is not None:
            most = self._tokens.capacity
            needed = min(tokens, most) + sum(min(turn.tokens, most) for turn in ahead)
            wait = max(wait, self._tokens.wait(needed, now))
        return wait

    def _drop(self, caller: Hashable) -> None:
        turn = self._ahead.pop(caller, None)
        if turn is not None:
            self._move(-turn.tokens, requests=-1)

    def _move(self, tokens: int, *, requests: int) -> None:
        if self._requests is not None:
            self._requests.take(requests)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_limiter, (self._settings,))


def _limiter(settings: dict[str, Any]) -> RateLimiter:
    return RateLimiter(**settings)

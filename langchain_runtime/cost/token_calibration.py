"""How far estimates for a model are off, learnt from its calls."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

_WINDOW: Final = 32
"""Calls that count, the latest: enough for a steady median, few enough to follow a change of habits within a day."""

_SMALL: Final = 100
"""Estimated tokens below which a call tells of the prompt that the provider adds, and above which of its tokeniser."""

_FACTORS: Final = (2 / 3, 1.5)
"""Tokenisers differ by no more on text (Claude's newest makes 1.3 tokens of one of o200k_base's)."""

_OFFSETS: Final = (-20, 100)
"""Templates add no more where there are no tools: 76 tokens are the most in the recorded traffic (DeepSeek V4)."""

_MODELS: Final = 256
"""Models that are kept; with one more, all are forgotten."""


class Correction(NamedTuple):
    """What to make of an estimate: ``factor * estimate + offset``.

    Attributes:
        factor: For the tokeniser.
        offset: Tokens, once per request.
    """

    factor: float = 1.0
    offset: float = 0.0

    def applied_to(self, estimate: int) -> int:
        """The corrected estimate of a whole request; 0 stays 0."""
        return max(1, round(self.factor * estimate + self.offset)) if estimate else 0


_NONE: Final = Correction()


class TokenCalibration:
    """For each model the median ratio of true to estimated tokens on large calls, and the median rest on small ones.

    Each median starts with one call that was estimated right: the first that was not moves it half-way, and a single
    odd one (a cached reply, a request that a proxy changed) moves it no further than the calls around it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str | None, deque[tuple[int, int]]] = {}
        self._corrections: dict[str | None, Correction] = {}

    def add(self, model: str | None, estimated: int, true: int) -> None:
        """Learn from a call.

        Args:
            model: As it will be asked for.
            estimated: Tokens, not corrected; positive.
            true: Tokens that the provider counted.
        """
        with self._lock:
            if model not in self._calls and len(self._calls) >= _MODELS:
                self._calls.clear()
                self._corrections.clear()
            calls = self._calls.setdefault(model, deque(maxlen=_WINDOW))
            calls.append((estimated, true))
            factor = _median(1, (real / guess for guess, real in calls if guess >= _SMALL), _FACTORS)
            offset = _median(0, (real - factor * guess for guess, real in calls if guess < _SMALL), _OFFSETS)
            self._corrections[model] = Correction(factor, offset)

    def of(self, model: str | None) -> Correction:
        """The correction for ``model``; none for one that was never seen."""
        return self._corrections.get(model, _NONE)


def _median(prior: float, values: Iterable[float], limits: tuple[float, float]) -> float:
    low, high = limits
    return min(high, max(low, statistics.median([prior, *values])))

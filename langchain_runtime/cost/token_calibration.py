"""How far estimates for a model are off, learnt from its calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

_WINDOW: Final = 32
"""Calls that count, the latest: enough for steady quartiles, few enough to follow a change of habits within a day."""

_LEAST: Final = 2
"""Calls that must agree. One may be odd; on the recorded traffic, waiting for more learns later and errs no less."""

_FACTORS: Final = (2 / 3, 1.5)
"""Tokenisers differ by no more on text (Claude's newest makes 1.3 tokens of one of o200k_base's)."""

_MODELS: Final = 256
"""Models that are kept; with one more, all are forgotten."""


class _Kind(NamedTuple):
    """Requests with tools, or without.

    Attributes:
        small: Estimated tokens below which a call tells of the prompt that the provider adds, and above which of its
            tokeniser.
        offsets: Least and most tokens that such a prompt is taken to have.
    """

    small: int
    offsets: tuple[int, int]


_PLAIN: Final = _Kind(100, (-20, 100))
"""Chat templates add up to 76 tokens in the recorded traffic (DeepSeek V4)."""

_WITH_TOOLS: Final = _Kind(400, (-200, 1_000))
"""Prompts for tools have up to 804 tokens (Anthropic, "Tool use", 2026); ours for them may be counted in error."""


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
    """For each model, with tools and without: the ratio of true to estimated tokens, and what small calls take besides.

    Of the quartiles of either, the one nearer to no correction counts, and none where they lie on both sides: estimates
    that are off in one direction are corrected, those that only scatter are left alone, and odd calls do not matter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[tuple[str | None, bool], deque[tuple[int, int]]] = {}
        self._corrections: dict[tuple[str | None, bool], Correction] = {}

    def add(self, model: str | None, estimated: int, true: int, *, tools: bool) -> None:
        """Learn from a call.

        Args:
            model: As it will be asked for.
            estimated: Tokens, not corrected.
            true: Tokens that the provider counted.
            tools: Whether the request had tools.
        """
        key, kind = (model, tools), _WITH_TOOLS if tools else _PLAIN
        with self._lock:
            if key not in self._calls and len(self._calls) >= _MODELS:
                self._calls.clear()
                self._corrections.clear()
            calls = self._calls.setdefault(key, deque(maxlen=_WINDOW))
            calls.append((estimated, true))
            factor = _agreed(1, (real / guess for guess, real in calls if guess >= kind.small), _FACTORS)
            offset = _agreed(0, (real - factor * guess for guess, real in calls if guess < kind.small), kind.offsets)
            self._corrections[key] = Correction(factor, offset)

    def of(self, model: str | None, *, tools: bool) -> Correction:
        """The correction for ``model``; none for one that was never seen."""
        return self._corrections.get((model, tools), _NONE)


def _agreed(neutral: float, values: Iterable[float], limits: tuple[float, float]) -> float:
    """The quartile nearer to ``neutral``, within the limits; ``neutral`` if it lies between them, or values are few."""
    ordered = sorted(values)
    if len(ordered) < _LEAST:
        return neutral
    outer = (len(ordered) - 1) // 4
    low, high = ordered[outer], ordered[-1 - outer]
    nearest = low if low > neutral else min(high, neutral)
    return min(limits[1], max(limits[0], nearest))

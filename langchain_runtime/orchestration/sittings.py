"""What belongs to a run's time: the pauses between its executions do not, short waits within one do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

_PROMPT: Final = 0.05
"""Seconds. A task that starts so soon after it could have waited for nothing else."""

_PROMPT_SHARE: Final = 0.005
"""The same as a share of the run's duration."""

_PAUSE_AT_LEAST: Final = 5.0
"""Seconds. Shorter gaps are back-offs and waits of a run that is alive."""

_PAUSE_SHARE: Final = 0.25
"""Share of the time with tasks running that a gap must reach to be a pause."""


def promptly(duration: float) -> float:
    """Seconds that a start may come late in a run of that duration, in seconds, without having waited."""
    return max(_PROMPT, _PROMPT_SHARE * duration)


def pauses_between(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The gaps in which no task ran, long ones only: a run that is resumed in the morning did not take a night.

    Args:
        spans: Start and end of each task that ran, in seconds, in any order.

    Returns:
        Start and end of each pause, in order.
    """
    busy: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if busy and start <= busy[-1][1]:
            busy[-1] = (busy[-1][0], max(busy[-1][1], end))
        else:
            busy.append((start, max(start, end)))
    least = max(_PAUSE_AT_LEAST, _PAUSE_SHARE * sum(end - start for start, end in busy))
    gaps = [(before[1], after[0]) for before, after in pairwise(busy)]
    return [(start, end) for start, end in gaps if end - start >= least]

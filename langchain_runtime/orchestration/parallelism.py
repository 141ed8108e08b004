"""How many tasks at a time are worth it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from langchain_runtime.orchestration.forecast import Span

WITHIN: Final = 0.05
"""Share by which a run may take longer than the fastest one to count as nearly as fast."""


class Enough(NamedTuple):
    """The fewest slots with which a run is nearly as fast as it can be.

    Attributes:
        slots: Tasks at a time.
        makespan: Seconds it takes with them.
        fastest: Seconds it takes with any number.
    """

    slots: int
    makespan: float
    fastest: float


def peak(spans: Iterable[Span]) -> int:
    """The most tasks that ran at a time; those that took no time do not count."""
    steps = sorted(
        step for span in spans if span.ended > span.started for step in ((span.started, 1), (span.ended, -1))
    )
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def enough_slots(makespan_with: Callable[[int], float], *, fastest: float, work: float, at_most: int) -> Enough:
    """The fewest slots with which a run takes at most ``WITHIN`` longer than the fastest.

    By bisection: fewer slots can in rare cases do better than more, so that a smaller number may do as well.

    Args:
        makespan_with: Seconds that the run takes with so many slots.
        fastest: Seconds it takes with ``at_most`` slots.
        work: Seconds of all its tasks together; no number of slots does more in less.
        at_most: Slots that are known to be enough, 1 or more.
    """
    bound = fastest * (1 + WITHIN)
    low = min(max(1, math.ceil(work / bound)), at_most) if bound else 1
    enough, makespan = at_most, fastest
    while low < enough:
        middle = (low + enough) // 2
        seconds = makespan_with(middle)
        if seconds <= bound:
            enough, makespan = middle, seconds
        else:
            low = middle + 1
    return Enough(enough, makespan, fastest)

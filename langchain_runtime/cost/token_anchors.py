"""Conversations whose input was reported: what a longer one takes is then known but for its new part."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from itertools import count
from typing import Final, NamedTuple

_ROOM: Final = 20_000
"""Messages of conversations that are kept, about 200 bytes each."""


class Observed(NamedTuple):
    """What a call took.

    Attributes:
        input: Tokens read, cached ones included.
        output: Tokens written, reasoning included.
        reasoning: Part of ``output``.
    """

    input: int
    output: int
    reasoning: int


class Anchor(NamedTuple):
    """The start of a conversation that was observed.

    Attributes:
        length: In messages.
        observed: What it took.
    """

    length: int
    observed: Observed


class TokenAnchors:
    """Observations by what was sent: a tree of messages with a root for each model and its tools.

    Messages are given by a number that stands for their content (``Size.serial``): a conversation whose past was
    changed, as by compaction, leaves the tree where it differs, and finds nothing that was observed after that.
    When there is no room left, everything is forgotten; conversations that go on are soon known again.

    Args:
        room: Messages that may be kept.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._numbers = count()
        self._steps: dict[tuple[Hashable, int], int] = {}
        self._observed: dict[Hashable, Observed] = {}

    def add(self, root: Hashable, serials: Sequence[int], observed: Observed) -> None:
        """Remember what a call with these messages took; the last observation counts.

        Args:
            root: Of the model and the tools.
            serials: Of the messages, oldest first.
            observed: What was reported.
        """
        if not 0 < len(serials) <= self._room:
            return
        with self._lock:
            if len(self._steps) + len(serials) > self._room:
                self._steps.clear()
                self._observed.clear()
            place = root
            for serial in serials:
                step = (place, serial)
                number = self._steps.get(step)
                if number is None:
                    number = self._steps[step] = next(self._numbers)
                place = number
            self._observed[place] = observed

    def longest(self, root: Hashable, serials: Sequence[int]) -> Anchor | None:
        """The longest observed start of a conversation; None for none."""
        if not self._steps:
            return None
        found: Anchor | None = None
        place = root
        with self._lock:
            for length, serial in enumerate(serials, 1):
                number = self._steps.get((place, serial))
                if number is None:
                    break
                observed = self._observed.get(number)
                if observed is not None:
                    found = Anchor(length, observed)
                place = number
        return found

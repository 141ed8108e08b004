"""Adds up what calls used: one source, the reservations that ended."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from langchain_runtime.contracts.budget import Reservation, ReservationState
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage

_PAID: Final = frozenset({ReservationState.SETTLED, ReservationState.FORFEITED})

_REMEMBERED: Final = 100_000
"""Ids that are kept to tell a second reservation from a new one; about 20 MB."""


@dataclass(frozen=True, slots=True)
class CallCounts:
    """How many calls there were, and of how many something is not known.

    Attributes:
        made: All calls counted.
        unreported: Calls whose tokens nobody reported; totals lack them.
        unpriced: Calls whose cost nobody knows; totals lack it.
    """

    made: int = 0
    unreported: int = 0
    unpriced: int = 0

    def __add__(self, other: CallCounts) -> CallCounts:
        return CallCounts(self.made + other.made, self.unreported + other.unreported, self.unpriced + other.unpriced)


class _Account(NamedTuple):
    """Calls that are added up together: whose cost can be one number."""

    run_id: str | None
    task_id: str | None
    model: str | None
    currency: str


class _Tally:
    """The sum of an account's calls."""

    __slots__ = ("made", "nano", "tokens", "unpriced", "unreported")

    def __init__(self) -> None:
        self.tokens = TokenUsage()
        self.nano = 0
        self.made = self.unreported = self.unpriced = 0

    def count(self, reservation: Reservation, times: int = 1) -> None:
        """Add a call; ``times=-1`` takes back a forfeit, which has no tokens."""
        self.made += times
        if reservation.usage is None:
            self.unreported += times
        else:
            self.tokens += reservation.usage
        if reservation.hold.priced:
            self.nano += times * (reservation.charged_nano or 0)
        else:
            self.unpriced += times

    def usage(self, currency: str) -> Usage:
        """Tokens and cost; the cost is None where no call had one."""
        priced = self.made > self.unpriced
        return Usage(tokens=self.tokens, cost=Cost.from_nano(self.nano, currency) if priced else None)

    @property
    def counts(self) -> CallCounts:
        return CallCounts(self.made, self.unreported, self.unpriced)


class UsageTracker:
    """Usage by run, task and model; safe to share between threads.

    Adding takes the same time however many calls there were, and memory grows with the number of different runs, tasks
    and models only: calls are added up at once, and the ids of the last 100,000 are remembered, so that none of them
    is counted twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[_Account, _Tally] = {}
        self._known: OrderedDict[str, Reservation | None] = OrderedDict()  # a forfeit may yet be corrected

    def add(self, reservation: Reservation) -> None:
        """Count a reservation that was paid: settled or forfeited.

        Others are ignored, and so is a second one with the same id, unless it is the settlement that corrects a
        forfeit.
        """
        if reservation.state not in _PAID:
            return
        hold = reservation.hold
        forfeited = reservation.state is ReservationState.FORFEITED
        with self._lock:
            known = hold.id in self._known
            corrected = self._known.get(hold.id)
            if known and (corrected is None or forfeited):
                return
            tally = self._tallies.setdefault(_Account(hold.run_id, hold.task_id, hold.model, hold.currency), _Tally())
            if corrected is not None:
                tally.count(corrected, -1)
            tally.count(reservation)
            self._known[hold.id] = reservation if forfeited else None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def total(self, *, run_id: str | None = None, task_id: str | None = None, model: str | None = None) -> Usage:
        """Everything counted that matches all of the given; None matches everything.

        Raises:
            CurrencyMismatchError: Calls in different currencies match.
        """
        with self._lock:
            return _sum(tally.usage(account.currency) for account, tally in self._matching(run_id, task_id, model))

    def calls(self, *, run_id: str | None = None, task_id: str | None = None, model: str | None = None) -> CallCounts:
        """How many calls match, and of how many tokens or cost are unknown; arguments as in ``total``."""
        with self._lock:
            return sum((tally.counts for _, tally in self._matching(run_id, task_id, model)), CallCounts())

    def by_run(self) -> dict[str, Usage]:
        """Usage of each run; calls outside runs are under the empty string, so that the parts make up the total.

        Raises:
            CurrencyMismatchError: Calls of one run are in different currencies.
        """
        return self._by("run_id")

    def by_task(self) -> dict[str, Usage]:
        """Usage of each task, over all runs; as ``by_run``."""
        return self._by("task_id")

    def by_model(self) -> dict[str, Usage]:
        """Usage of each model, over all runs; as ``by_run``."""
        return self._by("model")

    def _by(self, name: str) -> dict[str, Usage]:
        groups: dict[str, list[Usage]] = {}
        with self._lock:
            for account, tally in self._tallies.items():
                groups.setdefault(getattr(account, name) or "", []).append(tally.usage(account.currency))
        return {key: _sum(iter(usages)) for key, usages in groups.items()}

    def _matching(self, *wanted: str | None) -> Iterator[tuple[_Account, _Tally]]:
        for account, tally in self._tallies.items():
            if all(value is None or value == own for value, own in zip(wanted, account[:3], strict=True)):
                yield account, tally


def _sum(usages: Iterator[Usage]) -> Usage:
    return sum(usages, Usage())

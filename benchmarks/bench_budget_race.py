"""Many callers under one budget, ours beside everybody's: how far the provider's own bill exceeds the limit.

All contenders ask the same provider on loopback for the longest reply, at the same list price, with a budget that
holds three calls at worst. *At once*, the provider answers nobody before every caller has asked or was refused; *in
turn*, each caller waits for the one before, and the first refusal ends the run. Libraries that are not installed are
skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from contenders import OURS, PEERS, Contender, Race, RefusedError, worst_case
from harness import Figure, Row, Skipped, installed
from loopback import Provider, serving

CALLS, FITTING = 20, 3
CAP = 1_000
"""Output tokens that a call asks for at most."""

KEPT = "Spent never exceeds the limit, however many calls start at once"


def measure(quick: bool) -> Iterator[Row]:  # noqa: ARG001 - one size
    together, in_turn, uncapped = (
        f"{CALLS} calls {how}, a budget for {FITTING}: billed"
        for how in ("at once", "in turn", "at once without an output cap")
    )
    reserving = tuple(peer for peer in PEERS if peer.reserves)  # the others do not look at the cap
    with asyncio.Runner() as runner:  # one loop for all: LiteLLM's background work does not outlive its loop
        yield from compared(together, PEERS, Course(runner, _at_once, CAP))
        yield from compared(in_turn, PEERS, Course(runner, _in_turn, CAP))
        yield from compared(uncapped, reserving, Course(runner, _at_once, None))


def compared(claim: str, peers: Iterable[Contender], course: Course) -> Iterator[Row]:
    limit = FITTING * worst_case(course.cap)
    ours = course.overspent(OURS, limit)
    yield Figure(claim=claim, ours=ours, unit="x limit", bound=1, must_hold=KEPT)
    for peer in peers:
        if peer.module and not installed(peer.module):
            yield Skipped(claim=f"{claim}, {peer.name}", peer=peer.distribution, must_hold=KEPT)
            continue
        theirs = course.overspent(peer, limit)
        yield Figure(claim=claim, ours=ours, unit="x limit", peer=theirs, against=peer.name, must_hold=KEPT)


@dataclass(frozen=True)
class Course:
    """How a race is run: the callers' order, and the output cap that they ask for (None: none)."""

    runner: asyncio.Runner
    order: Callable[[Contender, Race, Provider], Coroutine[Any, Any, None]]
    cap: int | None

    def overspent(self, contender: Contender, limit: Decimal) -> float:
        """The provider's bill, in limits."""
        with serving(together=CALLS if self.order is _at_once else 1) as provider:
            race = Race(provider.base_url, limit=limit, fitting=FITTING, cap=self.cap, calls=CALLS)
            self.runner.run(self.order(contender, race, provider))
            return float(provider.bill / limit)


async def _at_once(contender: Contender, race: Race, provider: Provider) -> None:
    async with contender.enter(race) as call:

        async def one() -> None:
            try:
                await call()
            except RefusedError:
                provider.refused()

        await asyncio.gather(*(one() for _ in range(race.calls)))


async def _in_turn(contender: Contender, race: Race, provider: Provider) -> None:  # noqa: ARG001 - as `_at_once`
    async with contender.enter(race) as call:
        with contextlib.suppress(RefusedError):
            for _ in range(race.calls):
                await call()

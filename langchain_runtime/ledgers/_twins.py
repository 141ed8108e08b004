"""The async half of every ledger, written once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from langchain_runtime.contracts.budget import Balance, Decision, Hold, Reservation, ReservationState, Scope, Settlement
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import TaskOutcome

T = TypeVar("T")


class AsyncTwins(Ledger):
    """Async twins of the ledger's methods.

    A cancelled twin is not half done: what it asked for still happens, and a hold that nobody received is released.
    """

    @abstractmethod
    async def _off_loop(self, call: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        """Run ``call`` where it may block, to its end even when cancelled; then ``undo`` receives its result."""

    def _release_unreceived(self, hold: Hold, decision: Decision) -> None:
        reservation = decision.reservation
        # Sent by somebody else in the meantime: then the hold was received, by an earlier call with the same id.
        if reservation is not None and (hold.sent or reservation.state is ReservationState.HELD):
            self.release(reservation.hold.id)

    async def aopen_scope(self, scope: Scope) -> Balance:
        """Async twin of ``open_scope``."""
        return await self._off_loop(partial(self.open_scope, scope))

    async def aset_limit(self, name: str, limit_nano: int | None) -> Balance:
        """Async twin of ``set_limit``."""
        return await self._off_loop(partial(self.set_limit, name, limit_nano))

    async def atop_up(self, name: str, nano: int, *, key: str) -> Balance:
        """Async twin of ``top_up``."""
        return await self._off_loop(partial(self.top_up, name, nano, key=key))

    async def abalance(self, name: str) -> Balance:
        """Async twin of ``balance``."""
        return await self._off_loop(partial(self.balance, name))

    async def abalances(self, prefix: str = "") -> list[Balance]:
        """Async twin of ``balances``."""
        return await self._off_loop(partial(self.balances, prefix))

    async def areserve(self, hold: Hold) -> Decision:
        """Async twin of ``reserve``; cancelled, it leaves no hold behind."""
        return await self._off_loop(partial(self.reserve, hold), undo=partial(self._release_unreceived, hold))

    async def amark_sent(self, reservation_id: str, lease: int) -> None:
        """Async twin of ``mark_sent``."""
        await self._off_loop(partial(self.mark_sent, reservation_id, lease))

    async def asettle(
        self, settlement: Settlement, *, outcome: TaskOutcome | None = None, run_id: str | None = None
    ) -> int:
        """Async twin of ``settle``; cancelled, it still settles."""
        return await self._off_loop(partial(self.settle, settlement, outcome=outcome, run_id=run_id))

    async def arelease(self, reservation_id: str) -> None:
        """Async twin of ``release``; cancelled, it still releases."""
        await self._off_loop(partial(self.release, reservation_id))

    async def arenew(self, holder: str, lease_seconds: float) -> int:
        """Async twin of ``renew``."""
        return await self._off_loop(partial(self.renew, holder, lease_seconds))

    async def aabandon(self, run_id: str) -> int:
        """Async twin of ``abandon``."""
        return await self._off_loop(partial(self.abandon, run_id))

    async def areservation(self, reservation_id: str) -> Reservation | None:
        """Async twin of ``reservation``."""
        return await self._off_loop(partial(self.reservation, reservation_id))

    async def areservations(self, run_id: str) -> list[Reservation]:
        """Async twin of ``reservations``."""
        return await self._off_loop(partial(self.reservations, run_id))

    async def areplay(self, reply_key: str) -> bytes | None:
        """Async twin of ``replay``."""
        return await self._off_loop(partial(self.replay, reply_key))

    async def arecord_outcome(self, run_id: str, outcome: TaskOutcome) -> None:
        """Async twin of ``record_outcome``."""
        await self._off_loop(partial(self.record_outcome, run_id, outcome))

    async def aoutcome(self, run_id: str, task_id: str) -> TaskOutcome | None:
        """Async twin of ``outcome``."""
        return await self._off_loop(partial(self.outcome, run_id, task_id))

    async def aoutcomes(self, run_id: str) -> dict[str, TaskOutcome]:
        """Async twin of ``outcomes``."""
        return await self._off_loop(partial(self.outcomes, run_id))

    async def aforget(self, run_id: str, task_ids: Sequence[str]) -> int:
        """Async twin of ``forget``; cancelled, it still forgets."""
        return await self._off_loop(partial(self.forget, run_id, task_ids))

    async def aappend_events(self, events: Sequence[LifecycleEvent]) -> None:
        """Async twin of ``append_events``."""
        await self._off_loop(partial(self.append_events, events))

    async def aevents(self, run_id: str, *, after: int = 0) -> list[tuple[int, LifecycleEvent]]:
        """Async twin of ``events``."""
        return await self._off_loop(partial(self.events, run_id, after=after))

    async def aclose(self) -> None:
        """Async twin of ``close``."""
        await self._off_loop(self.close)

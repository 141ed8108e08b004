"""The books: what every ledger back end does; ``testing.LedgerConformance`` holds them to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from langchain_runtime.contracts.budget import Balance, Decision, Hold, Reservation, Scope, Settlement
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.run import TaskOutcome


class Ledger(Protocol):
    """The books: budgets, reservations, replies, outcomes and events, each step atomic and durable.

    Every method raises ``LedgerUnavailableError`` when the store cannot be reached or trusted, and then nothing was
    changed. Time is the store's clock. Amounts are nano units.
    """

    # budgets
    def open_scope(self, scope: Scope) -> Balance:
        """Create the scope, or check that it is the same as the one that exists.

        Raises:
            InvalidInputError: It exists with another limit, currency or period (both are named).
        """
        ...

    def set_limit(self, name: str, limit_nano: int | None) -> Balance:
        """Change the limit of an open scope; None lifts it.

        Raises:
            BudgetNotSetError: There is no such scope.
        """
        ...

    def top_up(self, name: str, nano: int, *, key: str) -> Balance:
        """Raise the limit by ``nano``; a second call with the same key changes nothing."""
        ...

    def balance(self, name: str) -> Balance:
        """The account now, after abandoned holds were ended.

        Raises:
            BudgetNotSetError: There is no such scope.
        """
        ...

    def balances(self, prefix: str = "") -> list[Balance]:
        """All accounts whose name starts with ``prefix``, by name."""
        ...

    # reservations
    def reserve(self, hold: Hold) -> Decision:
        """Hold the worst case in all scopes or in none; idempotent by ``hold.id`` while held or sent.

        Raises:
            BudgetNotSetError: A scope was not opened.
            CurrencyMismatchError: A scope is in another currency.
        """
        ...

    def mark_sent(self, reservation_id: str, lease: int) -> None:
        """Fence: from here on the provider may bill.

        Raises:
            ReservationLostError: Not held any more, or under another lease.
        """
        ...

    def settle(self, settlement: Settlement, *, outcome: TaskOutcome | None = None, run_id: str | None = None) -> int:
        """End a call at what it cost and return that (nano units); a second settlement changes nothing.

        A forfeited call is corrected. What was spent is recorded even above the limit. With ``outcome`` the task's
        outcome is recorded in the same transaction.
        """
        ...

    def release(self, reservation_id: str) -> None:
        """Give the hold back: never sent, or the provider billed nothing. No-op once ended."""
        ...

    def renew(self, holder: str, lease_seconds: float) -> int:
        """Extend all live leases of ``holder``; returns how many."""
        ...

    def abandon(self, run_id: str) -> int:
        """End all live reservations of a run as if their leases had run out; returns how many.

        For whoever knows that the process that drove the run is dead: what was sent is forfeited, the rest released.
        """
        ...

    def reservation(self, reservation_id: str) -> Reservation | None:
        """One reservation; None if unknown."""
        ...

    def reservations(self, run_id: str) -> list[Reservation]:
        """All reservations of a run, oldest first."""
        ...

    # journal
    def replay(self, reply_key: str) -> bytes | None:
        """The reply of a settled call; None if there is none."""
        ...

    def record_outcome(self, run_id: str, outcome: TaskOutcome) -> None:
        """Keep how a task ended; a later outcome of the same task replaces an unsuccessful one only."""
        ...

    def outcome(self, run_id: str, task_id: str) -> TaskOutcome | None:
        """How a task ended; None if it has not."""
        ...

    def outcomes(self, run_id: str) -> dict[str, TaskOutcome]:
        """How each ended task of a run ended."""
        ...

    def forget(self, run_id: str, task_ids: Sequence[str]) -> int:
        """Drop the outcomes and the replies of these tasks, so that they are done and bought anew.

        Returns how many outcomes there were. What the tasks have cost stays in the books, and so do their events.
        """
        ...

    def append_events(self, events: Sequence[LifecycleEvent]) -> None:
        """Add to the journal of each event's run."""
        ...

    def events(self, run_id: str, *, after: int = 0) -> list[tuple[int, LifecycleEvent]]:
        """The run's journal after position ``after``, with positions."""
        ...

    def close(self) -> None:
        """Let go of the store. Idempotent."""
        ...

    # async twins
    async def aopen_scope(self, scope: Scope) -> Balance: ...
    async def aset_limit(self, name: str, limit_nano: int | None) -> Balance: ...
    async def atop_up(self, name: str, nano: int, *, key: str) -> Balance: ...
    async def abalance(self, name: str) -> Balance: ...
    async def abalances(self, prefix: str = "") -> list[Balance]: ...
    async def areserve(self, hold: Hold) -> Decision: ...
    async def amark_sent(self, reservation_id: str, lease: int) -> None: ...
    async def asettle(
        self, settlement: Settlement, *, outcome: TaskOutcome | None = None, run_id: str | None = None
    ) -> int: ...
    async def arelease(self, reservation_id: str) -> None: ...
    async def arenew(self, holder: str, lease_seconds: float) -> int: ...
    async def aabandon(self, run_id: str) -> int: ...
    async def areservation(self, reservation_id: str) -> Reservation | None: ...
    async def areservations(self, run_id: str) -> list[Reservation]: ...
    async def areplay(self, reply_key: str) -> bytes | None: ...
    async def arecord_outcome(self, run_id: str, outcome: TaskOutcome) -> None: ...
    async def aoutcome(self, run_id: str, task_id: str) -> TaskOutcome | None: ...
    async def aoutcomes(self, run_id: str) -> dict[str, TaskOutcome]: ...
    async def aforget(self, run_id: str, task_ids: Sequence[str]) -> int: ...
    async def aappend_events(self, events: Sequence[LifecycleEvent]) -> None: ...
    async def aevents(self, run_id: str, *, after: int = 0) -> list[tuple[int, LifecycleEvent]]: ...
    async def aclose(self) -> None: ...

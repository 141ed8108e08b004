"""What a back end provides: one open transaction on its store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Protocol, Self

from langchain_runtime.ledgers._rules import Account, Charge, Entry

SWEEP_LIMIT = 500
"""Most leases that one transaction ends, so that no caller pays for a big crash alone (about 20 ms in SQLite)."""


class Books(Protocol):
    """An open transaction: everything read in it is consistent, everything saved in it happens together or not at all.

    A context manager; leaving it with an exception undoes it. Records that were read may be changed in place, and are
    changed for others once saved. Memory undoes nothing, so whatever can be refused is refused before the first change.
    """

    now: float
    """The store's time, fixed for the transaction."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    # accounts
    def account(self, name: str) -> Account | None:
        """The scope's account in the window around ``now``; None if it was never opened."""
        ...

    def accounts(self, names: Sequence[str]) -> list[Account]:
        """The accounts of these scopes, in their order, as ``account`` gives them; those never opened are left out."""
        ...

    def accounts_from(self, prefix: str) -> list[Account]:
        """All accounts whose name starts with ``prefix``, by name, each in its current window."""
        ...

    def open_account(self, account: Account) -> None:
        """Add an account."""
        ...

    def save_limits(self, account: Account) -> None:
        """Keep ``limit`` and ``base``."""
        ...

    def save_figures(self, accounts: Sequence[Account], charges: Sequence[Charge] = ()) -> None:
        """Keep window and figures, and what was charged in rolling periods."""
        ...

    def has_top_up(self, scope: str, key: str) -> bool:
        """Whether the scope was topped up under this key."""
        ...

    def add_top_up(self, scope: str, key: str, nano: int) -> None:
        """Remember a top-up."""
        ...

    # reservations
    def entry(self, reservation_id: str) -> Entry | None:
        """One reservation; None if unknown."""
        ...

    def entries(self, run_id: str) -> list[Entry]:
        """All reservations of a run, oldest first."""
        ...

    def add_entry(self, entry: Entry) -> None:
        """Add a reservation and number its lease."""
        ...

    def save_entry(self, entry: Entry) -> None:
        """Keep everything of a reservation that can change after it was made."""
        ...

    def expired(self) -> list[Entry]:
        """Up to ``SWEEP_LIMIT`` live reservations whose lease has run out, oldest lease first."""
        ...

    def renew(self, holder: str, expires_at: float) -> int:
        """Extend the leases of ``holder`` that have not run out to ``expires_at``, never shorten; returns how many."""
        ...

    # journal
    def reply(self, key: str) -> bytes | None:
        """A reply; None if there is none."""
        ...

    def add_reply(self, key: str, reply: bytes) -> bool:
        """Keep a reply, unless the key has one; returns whether it was kept."""
        ...

    def forget_replies(self, run_id: str, task_ids: Collection[str]) -> None:
        """Drop the replies of these tasks' calls, as ``Entry.reply_key`` tells whose they are."""
        ...

    def outcomes(self, run_id: str, task_id: str | None = None) -> list[tuple[str, str]]:
        """Task ids and outcomes (JSON) of a run, or of one of its tasks, in the order they were first recorded."""
        ...

    def save_outcome(self, run_id: str, task_id: str, outcome: str, *, completed: bool) -> None:
        """Keep an outcome (JSON), unless the task has a completed one."""
        ...

    def forget_outcomes(self, run_id: str, task_ids: Collection[str]) -> int:
        """Drop these tasks' outcomes; returns how many there were."""
        ...

    def events(self, run_id: str, after: int) -> list[tuple[int, str]]:
        """Events (JSON) of a run behind position ``after``, with their positions, in order."""
        ...

    def add_events(self, events: Sequence[tuple[str, str]]) -> None:
        """Append events (run id, JSON)."""
        ...

"""What each method of a ledger does, step by step, whatever the store: written once over ``Books``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from langchain_runtime.contracts.budget import (
    Balance,
    Decision,
    Hold,
    Reservation,
    ReservationState,
    Scope,
    Settlement,
    Verdict,
)
from langchain_runtime.contracts.errors import (
    BudgetNotSetError,
    InvalidInputError,
    LangChainRuntimeError,
    LedgerUnavailableError,
)
from langchain_runtime.contracts.events import LifecycleEvent, parse_event
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.ledgers import _limits, _rules
from langchain_runtime.ledgers._books import SWEEP_LIMIT, Books
from langchain_runtime.ledgers._rules import LIVE, Account, Entry
from langchain_runtime.ledgers._twins import AsyncTwins

T = TypeVar("T")

_ADMIT, _SETTLED = Verdict.ADMIT, ReservationState.SETTLED


class Bookkeeper(AsyncTwins):
    """A ledger over transactions of a store.

    Where the contract leaves a choice:

    - An id names one paid call. Reserving again with an id that is still live returns the same reservation, if the
      hold is the same; an ended id, or another hold under it, raises ``InvalidInputError``.
    - Money that was spent is never lost: settling a released reservation (its lease ran out, but the provider
      answered) charges it, even above the limit, and counts it in ``overdrawn_nano``.
    - A second settlement moves no money; a reply or outcome it carries is kept where there was none.
    - A call keeps one reply. It is of the task that its hold names, and is forgotten with it.
    - Releasing an unknown id is a no-op, settling one raises ``InvalidInputError``.
    - Top-up keys are a scope's own.
    """

    @abstractmethod
    def _write(self) -> Books:
        """A transaction that may change the books; nobody else changes them meanwhile."""

    @abstractmethod
    def _read(self) -> Books:
        """A transaction that only looks."""

    # --- budgets -----------------------------------------------------------------------------------------------------

    def open_scope(self, scope: Scope) -> Balance:
        """Create the scope, or check that it is the same as the one that exists; see ``Ledger.open_scope``."""
        for what, limit in (("a limit", scope.limit_nano), ("a token limit", scope.token_limit)):
            if limit is not None:
                _limits.check_amount(what, limit, smallest=1)
        with self._read() as books:
            account = books.account(scope.name)
        if account is None:
            with self._write() as books:
                account = books.account(scope.name)
                if account is None:
                    books.open_account(Account.opened(scope))
        if account is not None:
            _limits.check_same(account, scope)
        return self.balance(scope.name)

    def set_limit(self, name: str, limit_nano: int | None) -> Balance:
        """Change the limit of an open scope; see ``Ledger.set_limit``."""
        with self._write() as books:
            account = _open_account(books, name)
            _limits.set_limit(account, limit_nano)
            books.save_limits(account)
            return account.balance()

    def top_up(self, name: str, nano: int, *, key: str) -> Balance:
        """Raise the limit by ``nano`` once for each ``key``; see ``Ledger.top_up``.

        Raises:
            BudgetNotSetError: There is no such scope.
            InvalidInputError: The scope has no limit, or the amount is not positive.
        """
        with self._write() as books:
            account = _open_account(books, name)
            if not books.has_top_up(name, key):
                _limits.top_up(account, nano)
                books.add_top_up(name, key, nano)
                books.save_limits(account)
            return account.balance()

    def balance(self, name: str) -> Balance:
        """The account now, after abandoned holds were ended; see ``Ledger.balance``."""
        self._sweep_all()
        with self._read() as books:
            return _open_account(books, name).balance()

    def balances(self, prefix: str = "") -> list[Balance]:
        """All accounts whose name starts with ``prefix``, by name, after abandoned holds were ended."""
        self._sweep_all()
        with self._read() as books:
            return [account.balance() for account in books.accounts_from(prefix)]

    def _sweep_all(self) -> None:
        with self._read() as books:
            stale = bool(books.expired())
        while stale:
            with self._write() as books:
                stale = _sweep(books) == SWEEP_LIMIT

    # --- reservations ------------------------------------------------------------------------------------------------

    def reserve(self, hold: Hold) -> Decision:
        """Hold the worst case in all scopes or in none; see ``Ledger.reserve``.

        On admission the decision's free figures are what is left beside the hold.

        Raises:
            BudgetNotSetError: A scope was not opened.
            CurrencyMismatchError: A scope is in another currency.
            InvalidInputError: The id's reservation has ended or was made for another hold, or an amount is too large.
        """
        _limits.check_hold(hold)
        with self._write() as books:
            _sweep(books)
            accounts = _open_accounts(books, hold)
            entry = books.entry(hold.id)
            if entry is not None:
                _rules.check_repeat(entry, hold, books.now)
                return _decision(_ADMIT, None, entry, accounts, hold)
            verdict, account = _rules.decide(accounts, hold)
            refused = None if account is None else account.balance()
            if verdict is not _ADMIT:
                return _decision(verdict, refused, None, accounts, hold)
            entry = Entry.of(hold, books.now)
            _rules.take(accounts, hold)
            books.add_entry(entry)
            books.save_figures(accounts)
            return _decision(_ADMIT, refused, entry, accounts, hold)

    def mark_sent(self, reservation_id: str, lease: int) -> None:
        """Fence: from here on the provider may bill; renews the lease. See ``Ledger.mark_sent``."""
        with self._write() as books:
            entry = _rules.check_sendable(books.entry(reservation_id), reservation_id, lease, books.now)
            entry.state = ReservationState.SENT
            entry.expires_at = max(entry.expires_at, books.now + entry.hold.lease_seconds)
            books.save_entry(entry)

    def settle(self, settlement: Settlement, *, outcome: TaskOutcome | None = None, run_id: str | None = None) -> int:
        """End a call at what it cost and return that (nano units); see ``Ledger.settle``.

        Raises:
            InvalidInputError: The reservation is unknown, the price or the tokens are out of range, or an outcome came
                without its run.
        """
        if outcome is not None and run_id is None:
            raise InvalidInputError(
                f"the outcome of task {outcome.task!r} needs the id of its run", hint="pass run_id="
            )
        _limits.check_settlement(settlement)
        encoded = "" if outcome is None else outcome.model_dump_json()
        with self._write() as books:
            entry = books.entry(settlement.reservation_id)
            if entry is None:
                raise InvalidInputError(
                    f"reservation {settlement.reservation_id!r} is not in this ledger", hint="reserve before you settle"
                )
            if entry.state is not _SETTLED:
                accounts = books.accounts(entry.hold.scopes)
                charges = _rules.settle(entry, accounts, settlement, books.now)
                _keep_reply(books, entry, settlement)
                books.save_entry(entry)
                books.save_figures(accounts, charges)
            elif _keep_reply(books, entry, settlement):
                books.save_entry(entry)
            if outcome is not None and run_id is not None:
                books.save_outcome(run_id, outcome.task, encoded, completed=outcome.state is TaskState.COMPLETED)
            charged = entry.charged
        assert charged is not None
        return charged

    def release(self, reservation_id: str) -> None:
        """Give the hold back; no-op once ended or when unknown. See ``Ledger.release``."""
        with self._write() as books:
            entry = books.entry(reservation_id)
            if entry is not None and entry.state in LIVE:
                accounts = books.accounts(entry.hold.scopes)
                _rules.release(entry, accounts, books.now)
                books.save_entry(entry)
                books.save_figures(accounts)

    def renew(self, holder: str, lease_seconds: float) -> int:
        """Extend all leases of ``holder`` that have not run out; returns how many."""
        _limits.check_lease(lease_seconds)
        with self._write() as books:
            return books.renew(holder, books.now + lease_seconds)

    def abandon(self, run_id: str) -> int:
        """End all live reservations of a run whose process is dead; see ``Ledger.abandon``."""
        with self._write() as books:
            live = [entry for entry in books.entries(run_id) if entry.state in LIVE]
            for entry in live:
                _end_abandoned(books, entry)
            return len(live)

    def reservation(self, reservation_id: str) -> Reservation | None:
        """One reservation; None if unknown."""
        with self._read() as books:
            entry = books.entry(reservation_id)
            return None if entry is None else entry.reservation()

    def reservations(self, run_id: str) -> list[Reservation]:
        """All reservations of a run, oldest first."""
        with self._read() as books:
            return [entry.reservation() for entry in books.entries(run_id)]

    # --- journal -----------------------------------------------------------------------------------------------------

    def replay(self, reply_key: str) -> bytes | None:
        """The reply of a settled call; None if there is none."""
        with self._read() as books:
            return books.reply(reply_key)

    def record_outcome(self, run_id: str, outcome: TaskOutcome) -> None:
        """Keep how a task ended; see ``Ledger.record_outcome``."""
        encoded = outcome.model_dump_json()
        with self._write() as books:
            books.save_outcome(run_id, outcome.task, encoded, completed=outcome.state is TaskState.COMPLETED)

    def outcome(self, run_id: str, task_id: str) -> TaskOutcome | None:
        """How a task ended; None if it has not."""
        with self._read() as books:
            found = books.outcomes(run_id, task_id)
        return _parsed(TaskOutcome.model_validate_json, found[0][1]) if found else None

    def outcomes(self, run_id: str) -> dict[str, TaskOutcome]:
        """How each ended task of a run ended, in the order they were first recorded."""
        with self._read() as books:
            found = books.outcomes(run_id)
        return {task_id: _parsed(TaskOutcome.model_validate_json, outcome) for task_id, outcome in found}

    def forget(self, run_id: str, task_ids: Sequence[str]) -> int:
        """Drop the outcomes and the replies of these tasks; see ``Ledger.forget``."""
        tasks = frozenset(task_ids)
        if not tasks:
            return 0
        with self._write() as books:
            books.forget_replies(run_id, tasks)
            return books.forget_outcomes(run_id, tasks)

    def append_events(self, events: Sequence[LifecycleEvent]) -> None:
        """Add to the journal of each event's run."""
        if events:
            rows = [(event.run_id, event.model_dump_json()) for event in events]
            with self._write() as books:
                books.add_events(rows)

    def events(self, run_id: str, *, after: int = 0) -> list[tuple[int, LifecycleEvent]]:
        """The run's journal behind position ``after``, with positions; see ``Ledger.events``."""
        with self._read() as books:
            found = books.events(run_id, after)
        return [(position, _parsed(parse_event, event)) for position, event in found]


def _parsed(parse: Callable[[str], T], record: str) -> T:
    try:
        return parse(record)
    except (ValueError, LangChainRuntimeError) as error:
        raise LedgerUnavailableError(
            f"the journal holds a record that cannot be read: {error}",
            hint="upgrade, if a newer release wrote it; else the ledger is damaged: restore it from a backup",
        ) from error


def _open_account(books: Books, name: str) -> Account:
    account = books.account(name)
    if account is None:
        raise _not_open(name)
    return account


def _not_open(name: str) -> BudgetNotSetError:
    return BudgetNotSetError(
        f"scope {name!r} has no budget in this ledger", scope=name, hint="open it first with ledger.open_scope(...)"
    )


def _open_accounts(books: Books, hold: Hold) -> list[Account]:
    accounts = books.accounts(hold.scopes)
    if len(accounts) < len(hold.scopes):
        unknown = set(hold.scopes) - {account.name for account in accounts}
        if unknown:  # else a scope is named twice, by a hold that was not validated
            raise _not_open(min(unknown))
    return accounts


def _keep_reply(books: Books, entry: Entry, settlement: Settlement) -> bool:
    """Keep the reply that a settlement carries, if the call has none; whether that changed the entry."""
    key, reply = settlement.reply_key, settlement.reply
    if key is None or reply is None or entry.reply_key is not None or not books.add_reply(key, reply):
        return False
    entry.reply_key = key
    return True


def _sweep(books: Books) -> int:
    """End abandoned holds; returns how many."""
    expired = books.expired()
    for entry in expired:
        _end_abandoned(books, entry)
    return len(expired)


def _end_abandoned(books: Books, entry: Entry) -> None:
    if entry.state not in LIVE:
        return  # in memory, a finaliser has ended it since it was read
    accounts = books.accounts(entry.hold.scopes)
    charges = _rules.expire(entry, accounts, books.now)
    books.save_entry(entry)
    books.save_figures(accounts, charges)


def _decision(
    verdict: Verdict, refused: Balance | None, entry: Entry | None, accounts: Sequence[Account], hold: Hold
) -> Decision:
    free_nano, free_tokens = _rules.free(accounts, hold.shadows)
    return trusted(
        Decision,
        {
            "verdict": verdict,
            "reservation": None if entry is None else entry.reservation(),
            "refused_by": refused,
            "free_nano": free_nano,
            "free_tokens": free_tokens,
        },
    )

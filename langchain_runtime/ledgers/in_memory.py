"""A ledger in this process's memory: the default, and as fast as a dictionary."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import count
from math import inf
from typing import Any, Self, TypeVar

from langchain_runtime.contracts.errors import InvalidInputError, LedgerUnavailableError
from langchain_runtime.ledgers import _rules
from langchain_runtime.ledgers._bookkeeping import Bookkeeper
from langchain_runtime.ledgers._books import SWEEP_LIMIT, Books
from langchain_runtime.ledgers._forks import watch
from langchain_runtime.ledgers._rules import LIVE, Account, Charge, Entry

T = TypeVar("T")

_HISTORY = 10_000
"""How many ended calls outside of runs are remembered, for late and repeated settlements (about 10 MB)."""


class InMemoryLedger(Bookkeeper):
    """Books in memory, shared by all threads of this process and gone with it.

    Copies of it are the same ledger, so that a copied model keeps charging the same budget. It cannot be pickled, and
    after a fork the child cannot use it: two processes with a copy each would spend the limit twice. Runs are kept
    as long as the ledger; of calls outside of runs, the last 10,000 that ended.

    Args:
        clock: Seconds since the epoch; leases and periods go by it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._books: Books = _MemoryBooks(clock)
        watch(self)

    def _write(self) -> Books:
        return self._books

    def _read(self) -> Books:
        return self._books

    async def _off_loop(self, call: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:  # noqa: ARG002 - nothing is awaited, so nothing can be cancelled
        return call()

    def close(self) -> None:
        """No-op: the books live as long as the ledger."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self is _default:
            return (default_ledger, ())
        raise InvalidInputError(
            "an in-memory ledger cannot be pickled: another process would not charge these books",
            hint="share a SqliteLedger(path) between processes",
        )

    def after_fork(self) -> None:
        """Fail closed in a forked child."""
        # The default ledger is each process's own by its meaning: the child goes on with what it has inherited.
        books = self._books
        if isinstance(books, _MemoryBooks):
            books.lock = threading.RLock()
            if self is not _default and books.by_name:
                self._books = _OtherProcessBooks(books.clock)


_default: InMemoryLedger | None = None
_default_lock = threading.Lock()


def default_ledger() -> InMemoryLedger:
    """The ledger of this process, for budgets that name none; made at its first use.

    Pickled, it stands for the default ledger of the process that loads it: each process counts for itself.
    """
    global _default  # noqa: PLW0603 - one for the process, by definition
    with _default_lock:
        if _default is None:
            _default = InMemoryLedger()
        return _default


class _MemoryBooks(Books):
    """The store: plain dictionaries behind one lock.

    The lock is re-entrant because the garbage collector may finalise a stream, which settles, in the middle of a
    transaction; rules change accounts by single in-place additions, and what a transaction goes through is copied
    first, so that such a nested one does no harm.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.now = 0.0
        self.lock = threading.RLock()
        self.by_name: dict[str, Account] = {}
        self._charges: dict[str, dict[int, Charge]] = {}
        self._top_ups: set[tuple[str, str]] = set()
        self._entries: dict[str, Entry] = {}
        self._leases = count(1)
        self._live: dict[str, Entry] = {}
        self._next_expiry = inf  # no lease runs out before: sweeping looks no further until then
        self._runs: dict[str, list[Entry]] = {}
        self._ended: deque[str] = deque()
        self._replies: dict[str, bytes] = {}
        self._outcomes: dict[str, dict[str, tuple[bool, str]]] = {}
        self._positions = count(1)
        self._events: dict[str, list[tuple[int, str]]] = {}

    def __enter__(self) -> Self:
        self.lock.acquire()
        try:
            self.now = self.clock()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, _kind: object, _error: object, _trace: object) -> None:
        self.lock.release()

    # accounts
    def account(self, name: str) -> Account | None:
        account = self.by_name.get(name)
        if account is not None and account.end <= self.now:
            self._roll(account)
        return account

    def accounts(self, names: Sequence[str]) -> list[Account]:
        found = []
        for name in names:
            account = self.by_name.get(name)
            if account is not None:
                if account.end <= self.now:
                    self._roll(account)
                found.append(account)
        return found

    def _roll(self, account: Account) -> None:
        seconds = account.window_seconds
        if seconds is None:
            _rules.begin_window(account, self.now)
            return
        account.start = max(account.start, self.now - seconds)
        charges = self._charges[account.name]
        while charges:
            oldest = next(iter(charges.values()))
            if oldest.at >= account.start:
                break
            del charges[oldest.lease]
            _rules.forget(account, nano=oldest.nano, tokens=oldest.tokens, forfeited=oldest.forfeited)

    def accounts_from(self, prefix: str) -> list[Account]:
        names = sorted(name for name in self.by_name if name.startswith(prefix))
        return [account for name in names if (account := self.account(name)) is not None]

    def open_account(self, account: Account) -> None:
        self.by_name[account.name] = account
        self._charges[account.name] = {}

    def save_limits(self, account: Account) -> None:
        """Changed in place."""

    def save_figures(self, accounts: Sequence[Account], charges: Sequence[Charge] = ()) -> None:  # noqa: ARG002 - figures were changed in place
        for charge in charges:
            self._charges[charge.scope][charge.lease] = charge

    def has_top_up(self, scope: str, key: str) -> bool:
        return (scope, key) in self._top_ups

    def add_top_up(self, scope: str, key: str, nano: int) -> None:  # noqa: ARG002 - nobody audits memory
        self._top_ups.add((scope, key))

    # reservations
    def entry(self, reservation_id: str) -> Entry | None:
        return self._entries.get(reservation_id)

    def entries(self, run_id: str) -> list[Entry]:
        return self._runs.get(run_id, [])

    def add_entry(self, entry: Entry) -> None:
        hold = entry.hold
        entry.lease = next(self._leases)
        self._entries[hold.id] = self._live[hold.id] = entry
        self._next_expiry = min(self._next_expiry, entry.expires_at)
        if hold.run_id is not None:
            self._runs.setdefault(hold.run_id, []).append(entry)

    def save_entry(self, entry: Entry) -> None:
        if entry.state in LIVE:
            return
        hold = entry.hold
        if self._live.pop(hold.id, None) is not None and hold.run_id is None:
            self._ended.append(hold.id)
            if len(self._ended) > _HISTORY:
                self._entries.pop(self._ended.popleft(), None)

    def expired(self) -> list[Entry]:
        if self.now < self._next_expiry:
            return []
        live = list(self._live.values())  # a finaliser may end one of them meanwhile
        self._next_expiry = min((entry.expires_at for entry in live), default=inf)
        expired = [entry for entry in live if entry.expires_at <= self.now]
        return sorted(expired, key=lambda entry: entry.expires_at)[:SWEEP_LIMIT]

    def renew(self, holder: str, expires_at: float) -> int:
        renewed = 0
        for entry in list(self._live.values()):
            if entry.hold.holder == holder and entry.expires_at > self.now:
                entry.expires_at = max(entry.expires_at, expires_at)
                renewed += 1
        return renewed

    # journal
    def reply(self, key: str) -> bytes | None:
        return self._replies.get(key)

    def add_reply(self, key: str, reply: bytes) -> bool:
        is_new = key not in self._replies
        self._replies.setdefault(key, reply)
        return is_new

    def forget_replies(self, run_id: str, task_ids: Collection[str]) -> None:
        for entry in list(self._runs.get(run_id, ())):
            if entry.hold.task_id in task_ids and entry.reply_key is not None:
                self._replies.pop(entry.reply_key, None)
                entry.reply_key = None

    def outcomes(self, run_id: str, task_id: str | None = None) -> list[tuple[str, str]]:
        found = self._outcomes.get(run_id, {})
        return [(task, outcome) for task, (_, outcome) in found.items() if task_id is None or task == task_id]

    def save_outcome(self, run_id: str, task_id: str, outcome: str, *, completed: bool) -> None:
        known = self._outcomes.setdefault(run_id, {})
        if not known.get(task_id, (False, ""))[0]:
            known[task_id] = (completed, outcome)

    def forget_outcomes(self, run_id: str, task_ids: Collection[str]) -> int:
        known = self._outcomes.get(run_id, {})
        return sum(known.pop(task_id, None) is not None for task_id in task_ids)

    def events(self, run_id: str, after: int) -> list[tuple[int, str]]:
        return [(position, event) for position, event in self._events.get(run_id, []) if position > after]

    def add_events(self, events: Sequence[tuple[str, str]]) -> None:
        for run_id, event in events:
            self._events.setdefault(run_id, []).append((next(self._positions), event))


class _OtherProcessBooks(_MemoryBooks):
    """What a forked child finds: nothing may be spent on a copy of the parent's books."""

    def __enter__(self) -> Self:
        raise LedgerUnavailableError(
            "this in-memory ledger belongs to the process that was forked",
            hint="share a SqliteLedger(path) between processes, or make the ledger after the fork",
        )

"""The books in SQLite: every statement the ledger runs, all short and by index."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from langchain_runtime.contracts.budget import Hold, Period, ReservationState
from langchain_runtime.contracts.errors import LangChainRuntimeError, LedgerUnavailableError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import _rules
from langchain_runtime.ledgers._books import SWEEP_LIMIT, Books
from langchain_runtime.ledgers._rules import Account, Charge, Entry
from langchain_runtime.ledgers._sqlite_store import DamagedRecordError, SqliteStore

T = TypeVar("T")

_ACCOUNT: Final = """
    SELECT name, currency, limit_nano, declared_nano, base_nano, token_limit, period, window_start, window_end,
           spent_nano, held_nano, forfeited_nano, overdrawn_nano, tokens_spent, tokens_held
    FROM scopes
"""
_ENTRY: Final = """
    SELECT id, scopes, nano, currency, tokens, holder, lease_seconds, reserved_sent, shadows, priced, run_id,
           task_id, model, state, lease, expires_at, created_at, charged_nano, charged_tokens, usage, ended_at,
           reply_key
    FROM reservations
"""
# The states stand as in the partial index, so that it is used.
_EXPIRED: Final = _ENTRY + "WHERE state IN ('held', 'sent') AND expires_at <= ? ORDER BY expires_at LIMIT ?"
_RENEW: Final = """
    UPDATE reservations SET expires_at = max(expires_at, ?)
    WHERE holder = ? AND state IN ('held', 'sent') AND expires_at > ?
"""
_REPLY_KEYS: Final = "SELECT task_id, lease, reply_key FROM reservations WHERE run_id = ? AND reply_key IS NOT NULL"


class SqliteBooks(Books):
    """One transaction, to write or only to look.

    The garbage collector may finalise a stream, which settles, in the middle of another transaction of the same
    thread: that settlement is refused and left to its lease, since it would change figures already read.
    """

    def __init__(self, store: SqliteStore, *, write: bool) -> None:
        self.now = 0.0
        self._store = store
        self._write = write

    def __enter__(self) -> Self:
        store = self._store
        store.lock.acquire()
        try:
            self._connection = store.connection()
            _refuse_reentry(self._connection)
            self._execute = self._connection.execute
            self._begin()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            store.close()
            store.lock.release()
            raise store.unavailable(error) from error
        except BaseException:
            store.lock.release()
            raise
        return self

    def _begin(self) -> None:
        self._store.begin(self._connection, write=self._write)
        try:
            self.now = self._store.clock()  # after the wait for other writers, so that time goes forward in the books
        except BaseException:
            self._execute("ROLLBACK")
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, failure: BaseException | None, _trace: TracebackType | None, /
    ) -> None:
        store = self._store
        try:
            if failure is None:
                self._execute("COMMIT")
            elif not isinstance(failure, sqlite3.Error):
                self._execute("ROLLBACK")
            else:
                store.close()  # rolls back, and the next call starts with a sound connection
            if isinstance(failure, (sqlite3.Error, OverflowError, UnicodeDecodeError, DamagedRecordError)):
                raise store.unavailable(failure) from failure
        except sqlite3.Error as error:
            store.close()
            raise store.unavailable(error) from error
        finally:
            store.lock.release()

    # accounts
    def account(self, name: str) -> Account | None:
        row = self._execute(_ACCOUNT + "WHERE name = ?", (name,)).fetchone()
        return None if row is None else self._account(row)

    def accounts(self, names: Sequence[str]) -> list[Account]:
        # Names are sorted in every hold, and by bytes as here.
        places = ", ".join("?" * len(names))
        rows = self._execute(_ACCOUNT + f"WHERE name IN ({places}) ORDER BY name", tuple(names))
        return [self._account(row) for row in rows.fetchall()]

    def accounts_from(self, prefix: str) -> list[Account]:
        # U+10FFFF is no character: it sorts behind every name with the prefix.
        rows = self._execute(_ACCOUNT + "WHERE name >= ? AND name < ? ORDER BY name", (prefix, prefix + "\U0010ffff"))
        return [self._account(row) for row in rows.fetchall()]

    def _account(self, row: tuple[Any, ...]) -> Account:
        account = _read(_parse_account, row)
        if account.end <= self.now:
            self._roll(account)
        return account

    def _roll(self, account: Account) -> None:
        seconds = account.window_seconds
        if seconds is None:
            _rules.begin_window(account, self.now)
            return
        account.start, forgotten = max(account.start, self.now - seconds), account.start
        nano, tokens, forfeited = self._execute(
            "SELECT coalesce(sum(nano), 0), coalesce(sum(tokens), 0), coalesce(sum(forfeited_nano), 0)"
            " FROM charges WHERE scope = ? AND at < ? AND at >= ?",
            (account.name, account.start, forgotten),
        ).fetchone()
        _rules.forget(account, nano=nano, tokens=tokens, forfeited=forfeited)

    def open_account(self, account: Account) -> None:
        period = None if account.period is None else account.period.model_dump_json()
        self._execute(
            "INSERT INTO scopes (name, currency, limit_nano, declared_nano, base_nano, token_limit, period,"
            " window_start, window_end, spent_nano, held_nano, forfeited_nano, overdrawn_nano, tokens_spent,"
            " tokens_held) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0)",
            (
                account.name,
                account.currency,
                account.limit,
                account.declared,
                account.base,
                account.token_limit,
                period,
                account.start,
                account.end,
            ),
        )

    def save_limits(self, account: Account) -> None:
        self._execute(
            "UPDATE scopes SET limit_nano = ?, base_nano = ? WHERE name = ?",
            (account.limit, account.base, account.name),
        )

    def save_figures(self, accounts: Sequence[Account], charges: Sequence[Charge] = ()) -> None:
        for account in accounts:
            self._execute(
                "UPDATE scopes SET window_start = ?, window_end = ?, spent_nano = ?, held_nano = ?,"
                " forfeited_nano = ?, overdrawn_nano = ?, tokens_spent = ?, tokens_held = ? WHERE name = ?",
                (
                    account.start,
                    account.end,
                    account.spent,
                    account.held,
                    account.forfeited,
                    account.overdrawn,
                    account.tokens_spent,
                    account.tokens_held,
                    account.name,
                ),
            )
        for charge in charges:
            self._execute("INSERT OR REPLACE INTO charges VALUES (?, ?, ?, ?, ?, ?)", charge)

    def has_top_up(self, scope: str, key: str) -> bool:
        found = self._execute("SELECT 1 FROM top_ups WHERE scope = ? AND key = ?", (scope, key))
        return found.fetchone() is not None

    def add_top_up(self, scope: str, key: str, nano: int) -> None:
        self._execute("INSERT INTO top_ups VALUES (?, ?, ?, ?)", (scope, key, nano, self.now))

    # reservations
    def entry(self, reservation_id: str) -> Entry | None:
        row = self._execute(_ENTRY + "WHERE id = ?", (reservation_id,)).fetchone()
        return None if row is None else _read(_parse_entry, row)

    def entries(self, run_id: str) -> list[Entry]:
        rows = self._execute(_ENTRY + "WHERE run_id = ? ORDER BY lease", (run_id,)).fetchall()
        return [_read(_parse_entry, row) for row in rows]

    def add_entry(self, entry: Entry) -> None:
        hold = entry.hold
        added = self._execute(
            "INSERT INTO reservations (id, scopes, nano, currency, tokens, holder, lease_seconds, reserved_sent,"
            " shadows, priced, run_id, task_id, model, state, expires_at, created_at, unchecked)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                hold.id,
                json.dumps(hold.scopes),
                hold.nano,
                hold.currency,
                hold.tokens,
                hold.holder,
                hold.lease_seconds,
                hold.sent,
                json.dumps(hold.shadows),
                hold.priced,
                hold.run_id,
                hold.task_id,
                hold.model,
                entry.state.value,
                entry.expires_at,
                entry.created_at,
            ),
        )
        assert added.lastrowid is not None
        entry.lease = added.lastrowid

    def save_entry(self, entry: Entry) -> None:
        usage = None if entry.usage is None else entry.usage.model_dump_json(exclude_defaults=True)
        self._execute(
            "UPDATE reservations SET state = ?, expires_at = ?, charged_nano = ?, charged_tokens = ?, usage = ?,"
            " ended_at = ?, reply_key = ? WHERE lease = ?",
            (
                entry.state.value,
                entry.expires_at,
                entry.charged,
                entry.tokens,
                usage,
                entry.ended_at,
                entry.reply_key,
                entry.lease,
            ),
        )

    def expired(self) -> list[Entry]:
        rows = self._execute(_EXPIRED, (self.now, SWEEP_LIMIT)).fetchall()
        return [_read(_parse_entry, row) for row in rows]

    def renew(self, holder: str, expires_at: float) -> int:
        return self._execute(_RENEW, (expires_at, holder, self.now)).rowcount

    # journal
    def reply(self, key: str) -> bytes | None:
        row = self._execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def add_reply(self, key: str, reply: bytes) -> bool:
        kept = self._execute("INSERT INTO replies VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (key, reply, self.now))
        return kept.rowcount > 0

    def forget_replies(self, run_id: str, task_ids: Collection[str]) -> None:
        for task_id, lease, key in self._execute(_REPLY_KEYS, (run_id,)).fetchall():
            if task_id in task_ids:
                self._execute("DELETE FROM replies WHERE key = ?", (key,))
                self._execute("UPDATE reservations SET reply_key = NULL WHERE lease = ?", (lease,))

    def outcomes(self, run_id: str, task_id: str | None = None) -> list[tuple[str, str]]:
        query, values = "SELECT task_id, outcome FROM outcomes WHERE run_id = ?", [run_id]
        if task_id is not None:
            query, values = query + " AND task_id = ?", [run_id, task_id]
        return self._execute(query + " ORDER BY position", values).fetchall()

    def save_outcome(self, run_id: str, task_id: str, outcome: str, *, completed: bool) -> None:
        self._execute(
            "INSERT INTO outcomes (run_id, task_id, completed, outcome, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id, task_id) DO UPDATE SET completed = excluded.completed, outcome = excluded.outcome,"
            " at = excluded.at WHERE NOT completed",
            (run_id, task_id, completed, outcome, self.now),
        )

    def forget_outcomes(self, run_id: str, task_ids: Collection[str]) -> int:
        rows = [(run_id, task_id) for task_id in task_ids]
        return self._connection.executemany("DELETE FROM outcomes WHERE run_id = ? AND task_id = ?", rows).rowcount

    def events(self, run_id: str, after: int) -> list[tuple[int, str]]:
        return self._execute(
            "SELECT position, event FROM events WHERE run_id = ? AND position > ? ORDER BY position", (run_id, after)
        ).fetchall()

    def add_events(self, events: Sequence[tuple[str, str]]) -> None:
        self._connection.executemany("INSERT INTO events (run_id, event) VALUES (?, ?)", events)


def _refuse_reentry(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        raise LedgerUnavailableError(
            "the ledger was called from within one of its own transactions (a finaliser?); nothing was changed",
            hint="close streams instead of leaving them to the garbage collector",
        )


def _read(parse: Callable[[tuple[Any, ...]], T], row: tuple[Any, ...]) -> T:
    try:
        return parse(row)
    except (ValueError, TypeError, LangChainRuntimeError) as error:
        raise DamagedRecordError(f"a record that nobody wrote: {error}") from error


def _parse_account(row: tuple[Any, ...]) -> Account:
    name, currency, limit, declared, base, token_limit, period, start, end, *figures = row
    numbers = [*figures, *(number for number in (limit, declared, base, token_limit) if number is not None)]
    if any(type(number) is not int for number in numbers) or type(start) is not float or type(end) is not float:
        raise TypeError(f"the account of {name!r} has figures that are no numbers")
    return Account(name, currency, limit, declared, base, token_limit, _period(period), start, end, *figures)


@lru_cache(maxsize=256)
def _period(period: str | None) -> Period | None:
    return None if period is None else Period.model_validate_json(period)


def _parse_entry(row: tuple[Any, ...]) -> Entry:
    (
        (id_, scopes, nano, currency, tokens, holder, lease_seconds, sent, shadows, priced, run_id, task_id, model),
        ended,
    ) = (
        row[:13],
        row[13:],
    )
    hold = Hold(
        id=id_,
        scopes=tuple(json.loads(scopes)),
        nano=nano,
        currency=currency,
        tokens=tokens,
        holder=holder,
        lease_seconds=lease_seconds,
        sent=bool(sent),
        shadows=tuple(json.loads(shadows)),
        priced=bool(priced),
        run_id=run_id,
        task_id=task_id,
        model=model,
    )
    state, lease, expires_at, created_at, charged, charged_tokens, usage, ended_at, reply_key = ended
    return Entry(
        hold,
        ReservationState(state),
        lease,
        expires_at,
        created_at,
        charged,
        charged_tokens,
        None if usage is None else TokenUsage.model_validate_json(usage),
        ended_at,
        reply_key,
    )

"""The tables of the SQLite ledger, as migrations: ordered, and never changed once released."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from langchain_runtime.contracts.errors import LedgerUnavailableError

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (  # 1: budgets, reservations and the journal of runs
        """
        CREATE TABLE scopes (
            name TEXT PRIMARY KEY,
            currency TEXT NOT NULL,
            limit_nano INTEGER,
            declared_nano INTEGER,
            base_nano INTEGER,
            token_limit INTEGER,
            period TEXT,
            window_start REAL NOT NULL,
            window_end REAL NOT NULL,
            spent_nano INTEGER NOT NULL,
            held_nano INTEGER NOT NULL,
            forfeited_nano INTEGER NOT NULL,
            overdrawn_nano INTEGER NOT NULL,
            tokens_spent INTEGER NOT NULL,
            tokens_held INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE reservations (
            lease INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            holder TEXT NOT NULL,
            lease_seconds REAL NOT NULL,
            expires_at REAL NOT NULL,
            scopes TEXT NOT NULL,
            currency TEXT NOT NULL,
            nano INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            reserved_sent INTEGER NOT NULL,
            unchecked INTEGER NOT NULL,
            priced INTEGER NOT NULL,
            run_id TEXT,
            task_id TEXT,
            model TEXT,
            created_at REAL NOT NULL,
            charged_nano INTEGER,
            charged_tokens INTEGER,
            usage TEXT,
            ended_at REAL
        )
        """,
        "CREATE INDEX live_leases ON reservations (expires_at) WHERE state IN ('held', 'sent')",
        "CREATE INDEX reservations_of_run ON reservations (run_id, lease) WHERE run_id IS NOT NULL",
        # What counts towards rolling periods, by the time it was charged.
        """
        CREATE TABLE charges (
            scope TEXT NOT NULL,
            lease INTEGER NOT NULL,
            at REAL NOT NULL,
            nano INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            forfeited_nano INTEGER NOT NULL,
            PRIMARY KEY (scope, lease)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX charges_by_time ON charges (scope, at)",
        """
        CREATE TABLE top_ups (
            scope TEXT NOT NULL,
            key TEXT NOT NULL,
            nano INTEGER NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (scope, key)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE replies (
            key TEXT NOT NULL UNIQUE,
            reply BLOB NOT NULL,
            at REAL NOT NULL
        )
        """,
        """
        CREATE TABLE outcomes (
            position INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            completed INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            at REAL NOT NULL,
            UNIQUE (run_id, task_id)
        )
        """,
        """
        CREATE TABLE events (
            position INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            event TEXT NOT NULL
        )
        """,
        "CREATE INDEX events_of_run ON events (run_id, position)",
    ),
    (  # 2: a hold says which of its scopes only record; before, it was all of them (``unchecked``) or none.
        # The old column stays: SQLite drops columns from 3.35 on only, and a process of the release before that has
        # the file open goes on writing it.
        "ALTER TABLE reservations ADD COLUMN shadows TEXT NOT NULL DEFAULT '[]'",
        "UPDATE reservations SET shadows = scopes WHERE unchecked",
    ),
    (  # 3: a reservation says under which key its reply was kept, so that the replies of a task can be forgotten.
        # Before, the key of a run's call began with its run and its task, and was kept at the very time the call ended.
        "ALTER TABLE reservations ADD COLUMN reply_key TEXT",
        """
        UPDATE reservations SET reply_key = (
            SELECT key FROM replies
            WHERE key >= run_id || ':' || task_id || ':' AND key < run_id || ':' || task_id || ';' AND at = ended_at
        )
        WHERE run_id IS NOT NULL AND state = 'settled'
        """,
    ),
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the tables to the newest version, in one transaction; several processes may try at once.

    Raises:
        LedgerUnavailableError: The file was written by a newer version, or is some other program's database.
    """
    if _version(connection) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        _refuse_newer(version, len(migrations))
        if version == 0:
            _refuse_foreign_tables(connection)
            connection.execute("CREATE TABLE ledger_schema (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)")
        for number, statements in enumerate(migrations[version:], start=version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO ledger_schema VALUES (?, datetime('now'))", (number,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger_schema'").fetchone()
    if known is None:
        return 0
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM ledger_schema").fetchone()
    return int(version)


def _refuse_newer(version: int, newest: int) -> None:
    if version > newest:
        raise LedgerUnavailableError(
            f"the ledger has schema version {version}, this release knows up to {newest}",
            hint="upgrade langchain-runtime-layer, or use another ledger file",
        )


def _refuse_foreign_tables(connection: sqlite3.Connection) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if tables:
        raise LedgerUnavailableError(
            f"the file is another program's database (tables: {', '.join(sorted(tables)[:5])})",
            hint="give the ledger a file of its own",
        )

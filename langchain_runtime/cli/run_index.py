"""The index of runs: what ``lcr`` was asked to do, so that a run id alone is enough to continue or to report."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from langchain_runtime.contracts.errors import RunNotFoundError
from langchain_runtime.contracts.identifiers import check_run_id

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lcr_runs (
    run_id     TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL,
    run_file   TEXT NOT NULL,
    inputs     TEXT NOT NULL,
    model      TEXT NOT NULL,
    options    TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
)
"""

_BUSY_SECONDS: Final = 30.0
"""How long to wait for another process that writes to the same file."""


@dataclass(frozen=True)
class RunRecord:
    """What a run was started with, and how it stands.

    Attributes:
        run_id: Its id, and its thread's in the checkpointer.
        name: For people.
        kind: The command that started it: ``run`` or ``brief``.
        state: As of its driver's last word; a driver that was killed leaves ``running``.
        run_file: The tasks and the policy as JSON, options of the command line applied.
        inputs: Values given on the command line.
        model: Default model of the tasks.
        options: What else the command needs to build the same graph again.
        created_at: UTC.
        updated_at: UTC.
    """

    run_id: str
    name: str
    kind: str
    state: str
    run_file: dict[str, Any]
    inputs: dict[str, Any]
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=lambda: datetime.now(tz=UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(tz=UTC))


class RunIndex:
    """Reads and writes the table ``lcr_runs``.

    Args:
        path: The database; made by the first ``add``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, record: RunRecord) -> None:
        """Keep a new run."""
        row = (
            check_run_id(record.run_id),
            record.name,
            record.kind,
            record.state,
            json.dumps(record.run_file),
            json.dumps(record.inputs),
            record.model,
            json.dumps(record.options),
            record.created_at.isoformat(),
            record.updated_at.isoformat(),
        )
        with self._connection() as connection:
            connection.execute(_SCHEMA)
            connection.execute("INSERT INTO lcr_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def get(self, run_id: str) -> RunRecord:
        """One run.

        Raises:
            InvalidInputError: ``run_id`` is not an id (a path, for instance).
            RunNotFoundError: There is none.
        """
        check_run_id(run_id)
        for record in self._select("WHERE run_id = ?", run_id):
            return record
        raise RunNotFoundError(
            f"there is no run {run_id!r} in {self._path.parent}",
            run_id=run_id,
            hint="`lcr runs` lists the runs of a home folder; another one is chosen with --home or LCR_HOME",
        )

    def all(self) -> list[RunRecord]:
        """Every run, newest first."""
        return self._select("ORDER BY created_at DESC, run_id DESC")

    def update(self, run_id: str, *, state: str, run_file: dict[str, Any], model: str) -> None:
        """Note a run's new state, and what a resume has changed of it."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE lcr_runs SET state = ?, run_file = ?, model = ?, updated_at = ? WHERE run_id = ?",
                (state, json.dumps(run_file), model, datetime.now(tz=UTC).isoformat(), run_id),
            )

    def _select(self, rest: str, *parameters: str) -> list[RunRecord]:
        if not self._path.is_file():
            return []
        with self._connection() as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'lcr_runs'").fetchone()
            rows = connection.execute(f"SELECT * FROM lcr_runs {rest}", parameters).fetchall() if known else []  # noqa: S608 - `rest` is ours
        return [_record(row) for row in rows]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                yield connection
        finally:
            connection.close()


def _record(row: sqlite3.Row) -> RunRecord:
    return RunRecord(
        run_id=row["run_id"],
        name=row["name"],
        kind=row["kind"],
        state=row["state"],
        run_file=json.loads(row["run_file"]),
        inputs=json.loads(row["inputs"]),
        model=row["model"],
        options=json.loads(row["options"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )

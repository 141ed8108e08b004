"""The folder where ``lcr`` keeps what must outlive a process.

::

    <home>/runs.db      checkpoints and store of the graph, and our index of runs
    <home>/ledger.db    budgets, reservations, replies, outcomes, events
    <home>/locks/       one file per run that is being driven

Two databases on purpose: every model call writes to the ledger, and one file for both would make the graph wait for it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from langchain_runtime.cli.run_index import RunIndex
from langchain_runtime.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.store.sqlite.aio import AsyncSqliteStore

    from langchain_runtime.ledgers import SqliteLedger


@dataclass(frozen=True)
class Persistence:
    """What a graph is compiled with."""

    checkpointer: AsyncSqliteSaver
    store: AsyncSqliteStore
    ledger: SqliteLedger


@dataclass(frozen=True)
class Home:
    """The home folder; nothing is written before ``create``.

    Attributes:
        path: Where it is.
        option: What to add to a command so that it finds this home again; empty where it would by itself.
    """

    path: Path
    option: str = ""

    @classmethod
    def locate(cls, option: Path | None, environment: Mapping[str, str] = os.environ) -> Self:
        """``--home``, else ``LCR_HOME``, else the data folder that the operating system has for its users."""
        if option is not None:
            return cls(option.expanduser(), f" --home {shlex.quote(str(option))}")
        if from_environment := environment.get("LCR_HOME"):
            return cls(Path(from_environment).expanduser())
        from platformdirs import user_data_path

        return cls(user_data_path("langchain_runtime", appauthor=False))

    @property
    def runs_db(self) -> Path:
        """Checkpoints, store, and the index of runs."""
        return self.path / "runs.db"

    @property
    def ledger_db(self) -> Path:
        """The books."""
        return self.path / "ledger.db"

    @property
    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return self.runs_db.is_file()

    def lock_file(self, run_id: str) -> Path:
        """The file that the driver of a run holds locked."""
        return self.path / "locks" / f"{run_id}.lock"

    def create(self) -> None:
        """Make the folder, for its user alone: prompts and replies will lie in it.

        Raises:
            InvalidInputError: It cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_file("any").parent.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._unusable("it cannot be written to")

    def _unusable(self, reason: str) -> InvalidInputError:
        return InvalidInputError(
            f"cannot keep runs in {self.path}: {reason}", hint="choose another folder with --home or LCR_HOME"
        )

    def index(self) -> RunIndex:
        """The index of runs."""
        return RunIndex(self.runs_db)

    @contextlib.asynccontextmanager
    async def persistence(self) -> AsyncIterator[Persistence]:
        """Open both databases for one run, and close them."""
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        from langgraph.store.sqlite.aio import AsyncSqliteStore

        from langchain_runtime.ledgers import SqliteLedger

        ledger = SqliteLedger(self.ledger_db)
        try:
            async with (
                AsyncSqliteSaver.from_conn_string(str(self.runs_db)) as checkpointer,
                AsyncSqliteStore.from_conn_string(str(self.runs_db)) as store,
            ):
                await checkpointer.setup()
                await store.setup()
                yield Persistence(checkpointer, store, ledger)
        finally:
            await ledger.aclose()

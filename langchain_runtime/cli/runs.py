"""``lcr runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.cli.home import Home
    from langchain_runtime.cli.run_index import RunRecord


def runs(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """List the runs of the home folder, newest first."""
    with reported(debug=debug):
        import json

        from langchain_runtime.cli.home import Home

        place = Home.locate(home)
        rows = [_row(place, record) for record in place.index().all()]
        if as_json:
            typer.echo(json.dumps(rows))
        else:
            typer.echo("\n".join(_lines(rows)) if rows else f"no runs in {place.path}")


def _row(home: Home, record: RunRecord) -> dict[str, Any]:
    return {
        "id": record.run_id,
        "state": _state(home, record),
        "kind": record.kind,
        "name": record.name,
        "model": record.model,
        "created_at": record.created_at.isoformat(timespec="seconds"),
        "updated_at": record.updated_at.isoformat(timespec="seconds"),
    }


def _state(home: Home, record: RunRecord) -> str:
    """As recorded, but a run that nobody drives does not run: its process died, or was stopped with Ctrl-C."""
    from langchain_runtime.cli.run_lock import is_driven
    from langchain_runtime.contracts.run import RunState

    running = record.state == RunState.RUNNING.value
    return "interrupted" if running and not is_driven(home.lock_file(record.run_id)) else record.state


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    shown = ("id", "state", "kind", "name", "model", "created_at")
    table = [dict(zip(shown, ("run", "state", "by", "name", "model", "started (UTC)"), strict=True)), *rows]
    widths = {key: max(len(row[key]) for row in table) for key in shown}
    return ["  ".join(row[key].ljust(widths[key]) for key in shown).rstrip() for row in table]

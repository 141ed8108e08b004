"""``lcr report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.cli.home import Home
    from langchain_runtime.report import RunReport


def report(
    run: options.Run,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write one self-contained HTML file.")
    ] = None,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Show what a run did: tasks, spending, critical path, results. Spends nothing."""
    with reported(debug=debug):
        import asyncio
        import json

        from langchain_runtime.cli.home import Home

        found = asyncio.run(_read(Home.locate(home), run))
        if html is not None:
            _write(found, html)
        typer.echo(json.dumps(found.to_json()) if as_json else found.to_text())


async def _read(home: Home, run_id: str) -> RunReport:
    from langchain_runtime.cli.drive import read_report
    from langchain_runtime.cli.launch import Launch

    launch = Launch(home, home.index().get(run_id), resumed=True)
    async with home.persistence() as kept:
        graph = launch.compile(checkpointer=kept.checkpointer, store=kept.store, ledger=kept.ledger)
        found, _ = await read_report(launch, graph, kept)
        return found


def _write(found: RunReport, path: Path) -> None:
    from langchain_runtime.contracts.errors import InvalidInputError

    try:
        found.to_html(path)
    except OSError as error:
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror or error}", hint="choose another path for --html"
        ) from None
    typer.echo(f"wrote {path}", err=True)

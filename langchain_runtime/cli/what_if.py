"""``lcr what-if``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_runtime.cli.home import Home
    from langchain_runtime.graph import WhatIf


def what_if(
    run: options.Run,
    *,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="OLD=NEW", help="Another model for a model or a task (TASK=NEW); repeatable."),
    ] = None,
    parallelism: Annotated[int | None, typer.Option("--parallelism", metavar="N", help="Tasks at a time.")] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Other prices: a catalogue overlay in YAML.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Show what a finished run would have taken and cost under other settings. Spends and writes nothing."""
    with reported(debug=debug):
        import asyncio

        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.inputs import parse_models

        models = parse_models(model or ())
        found = asyncio.run(_ask(Home.locate(home), run, models, parallelism, prices))
        typer.echo(found.model_dump_json() if as_json else found.to_text())


async def _ask(
    home: Home, run_id: str, models: Mapping[str, str], parallelism: int | None, prices: Path | None
) -> WhatIf:
    from langchain_runtime.cli.launch import Launch

    launch = Launch(home, home.index().get(run_id), resumed=True)
    async with home.persistence() as kept:
        graph = launch.compile(checkpointer=kept.checkpointer, store=kept.store, ledger=kept.ledger)
        run = await graph.aget_run(launch.config)
        return await graph.awhat_if(run, models=models, max_parallelism=parallelism, prices=prices)

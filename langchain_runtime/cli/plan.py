"""``lcr plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.cli.launch import Launch
    from langchain_runtime.graph.plan import RunPlan


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Run file, YAML or JSON.")],
    *,
    inputs: options.Inputs = None,
    budget: options.Budget = None,
    model: options.Model = None,
    price_as: options.PriceAs = None,
    allow_code: options.AllowCode = False,
    parallelism: Annotated[
        int | None, typer.Option("--parallelism", metavar="N", help="Tasks at a time; else the file's.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--items", metavar="TASK=N", help="How long the list of a for_each task will be; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Show what a run would do and cost, by earlier runs where there are any. Spends and writes nothing."""
    with reported(debug=debug):
        import asyncio

        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.inputs import parse_counts
        from langchain_runtime.cli.run import new_run

        launch = new_run(
            Home.locate(home), file, inputs, budget=budget, model=model, price_as=price_as, allow_code=allow_code
        )
        forecast = asyncio.run(_plan(launch, parallelism, parse_counts(items or [])))
        typer.echo(forecast.model_dump_json() if as_json else forecast.to_text())


async def _plan(launch: Launch, parallelism: int | None, items: dict[str, int]) -> RunPlan:
    inputs = launch.record.inputs
    if not launch.home.exists:
        return launch.compile().plan(inputs, max_parallelism=parallelism, items=items)
    async with launch.home.persistence() as kept:
        graph = launch.compile(store=kept.store)
        return await graph.aplan(inputs, max_parallelism=parallelism, items=items)

"""``lcr plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Run file, YAML or JSON.")],
    *,
    inputs: options.Inputs = None,
    budget: options.Budget = None,
    model: options.Model = None,
    price_as: options.PriceAs = None,
    allow_code: options.AllowCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: options.Debug = False,
) -> None:
    """Show what a run would do and cost at most: order, tokens, critical path. Spends and writes nothing."""
    with reported(debug=debug):
        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.run import new_run

        launch = new_run(
            Home.locate(None), file, inputs, budget=budget, model=model, price_as=price_as, allow_code=allow_code
        )
        forecast = launch.compile().plan(launch.record.inputs)
        typer.echo(forecast.model_dump_json() if as_json else forecast.to_text())

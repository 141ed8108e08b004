"""``lcr run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.cli.home import Home
    from langchain_runtime.cli.launch import Launch
    from langchain_runtime.contracts.run import Run
    from langchain_runtime.report import RunReport


def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Run file, YAML or JSON.", show_default=False)
    ] = None,
    *,
    inputs: options.Inputs = None,
    budget: options.Budget = None,
    model: options.Model = None,
    resume: options.Resume = None,
    price_as: options.PriceAs = None,
    allow_code: options.AllowCode = False,
    as_json: options.AsJson = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Run a file of tasks, or go on with a run; the first line on stdout is its id."""
    with reported(debug=debug):
        from langchain_runtime.cli.drive import drive
        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.launch import refuse_with_resume, resumed_launch

        place = Home.locate(home)
        if resume is not None:
            refuse_with_resume(FILE=file, **{"--input": inputs, "--price-as": price_as, "--allow-code": allow_code})
            launch = resumed_launch(place, resume, budget=budget, model=model)
        else:
            launch = new_run(place, file, inputs, budget=budget, model=model, price_as=price_as, allow_code=allow_code)
        drive(launch, print_json if as_json else print_text)


def new_run(
    home: Home,
    file: Path | None,
    inputs: list[str] | None,
    *,
    budget: str | None,
    model: str | None,
    price_as: str | None,
    allow_code: bool,
) -> Launch:
    """A launch from a run file.

    Raises:
        InputError: The file or an option is wrong.
    """
    from langchain_runtime.cli.inputs import parse_inputs
    from langchain_runtime.cli.launch import new_launch
    from langchain_runtime.contracts.errors import InvalidInputError
    from langchain_runtime.graph.run_file_reader import read_run_file

    if file is None:
        raise InvalidInputError("there is nothing to run", hint="lcr run FILE, or lcr run --resume RUN")
    return new_launch(
        home,
        read_run_file(file),
        inputs=parse_inputs(inputs or []),
        budget=budget,
        model=model,
        options={"allow_code": allow_code, "price_as": price_as},
        name=file.stem,
    )


def print_text(report: RunReport, _run: Run) -> None:
    """The report for people."""
    typer.echo(report.to_text())


def print_json(report: RunReport, _run: Run) -> None:
    """The report for programs, on one line."""
    import json

    typer.echo(json.dumps(report.to_json()))

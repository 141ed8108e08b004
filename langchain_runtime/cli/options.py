"""Options that several commands share, so that one name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_runtime.cli.completion import complete_model, complete_run

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of runs and ledger; else LCR_HOME, else the user's data folder."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]
Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="AMOUNT", help='Most that the run may spend: 0.50 (USD) or "0.50 EUR".'),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PROVIDER:NAME",
        help="Default model of the tasks; else the file's, else by a key in the environment, else extractive.",
        autocompletion=complete_model,
    ),
]
PriceAs = Annotated[
    str | None,
    typer.Option(
        "--price-as",
        metavar="MODEL",
        help="Bill the default model at the list price of another one.",
        autocompletion=complete_model,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="KEY=VALUE", help="Value of a variable of the prompts; repeatable."),
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let the file name Python callables to run.")]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume", metavar="RUN", help="Continue a run; nothing is bought twice.", autocompletion=complete_run
    ),
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of the run: `lcr runs` lists them.", autocompletion=complete_run)
]

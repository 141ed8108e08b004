"""The ``lcr`` application: one command per module, each importing what it needs when it runs."""

from __future__ import annotations

import typer

from langchain_runtime.cli.brief import brief
from langchain_runtime.cli.budget import budget
from langchain_runtime.cli.models import models
from langchain_runtime.cli.plan import plan
from langchain_runtime.cli.report import report
from langchain_runtime.cli.run import run
from langchain_runtime.cli.runs import runs
from langchain_runtime.cli.schema import schema
from langchain_runtime.cli.view import view
from langchain_runtime.cli.what_if import what_if

app = typer.Typer(
    name="lcr",
    help="Run DAGs of model calls: within a budget, resumable, with every cost in sight.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(plan)
app.command()(report)
app.command()(view)
app.command()(what_if)
app.command()(runs)
app.command()(brief)
app.add_typer(budget, name="budget")
app.command()(models)
app.command()(schema)

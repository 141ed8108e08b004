"""``lcr schema``."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of run files, for editors and other tools."""
    import json

    from langchain_runtime.contracts.run_file import run_file_schema

    typer.echo(json.dumps(run_file_schema(), indent=2))

"""The command line, ``lcr``: a thin layer over the public API, with a home folder for runs and their books."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of ``lcr``."""
    try:
        from langchain_runtime.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit(
            f"error[missing_extra]: the command line needs {error.name!r}, which is not installed\n"
            "  pip install 'langchain-runtime-layer[cli]'"
        )
    app()

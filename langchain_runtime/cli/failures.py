"""How an error reaches the terminal, and which exit status it leaves.

===  ====================================================
  2  the input is wrong; nothing was started
  3  the budget does not allow it
  4  the run failed or was aborted; it can be resumed
130  interrupted with Ctrl-C; it can be resumed
  1  a defect of ours
===  ====================================================
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Final

import typer

EXIT_DEFECT: Final = 1
EXIT_INPUT: Final = 2
EXIT_BUDGET: Final = 3
EXIT_FAILED: Final = 4
EXIT_INTERRUPTED: Final = 130


@contextlib.contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Print what goes wrong inside as ``error[code]: sentence`` with a hint, and exit with its status.

    Args:
        debug: Print the traceback, too.
    """
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ["interrupted"]):
            typer.echo(note, err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 - the last frame before the terminal: all that is left is to print it
        if debug:
            typer.echo("".join(traceback.format_exception(error)), err=True)
        raise typer.Exit(_print(error)) from None


def _print(error: Exception) -> int:
    from langchain_runtime.contracts.errors import LangChainRuntimeError

    if not isinstance(error, LangChainRuntimeError):
        sentence = f"{type(error).__name__}: {error}"
        print_error("internal", sentence, hint="this should not happen: run it again with --debug and report it")
        return EXIT_DEFECT
    print_error(error.code, str(error), hint=error.hint)
    return exit_status(error)


def print_error(code: str, sentence: str, *, hint: str | None = None) -> None:
    """Print an error in the form that people and programs read."""
    typer.echo(f"error[{code}]: {sentence}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)


def exit_status(error: Exception) -> int:
    """The exit status for an error of ours, by family."""
    from langchain_runtime.contracts.errors import BudgetError, InputError, RunCompletedError, RunNotFoundError

    if isinstance(error, (InputError, RunNotFoundError, RunCompletedError)):
        return EXIT_INPUT
    return EXIT_BUDGET if isinstance(error, BudgetError) else EXIT_FAILED

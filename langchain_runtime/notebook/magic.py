"""The magics ``%%budget`` and ``%budget``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any, Final, cast

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser

from langchain_runtime.contracts.budget import Budget, OnExceed
from langchain_runtime.contracts.errors import LangChainRuntimeError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.notebook.budget_cell import BudgetCell, Session
from langchain_runtime.notebook.cell_syntax import install

_AMOUNT: Final = "what the cell may spend: 0.50 (USD), or 0.50 EUR"


def _parser() -> argparse.ArgumentParser:
    made: Any = MagicArgumentParser  # raises UsageError where argparse would end the process
    parser: argparse.ArgumentParser = made("%%budget", add_help=False)
    parser.add_argument("amount", help=_AMOUNT)
    parser.add_argument("currency", nargs="?", default="USD", help="ISO 4217 code")
    parser.add_argument("--scope", metavar="NAME", help="a budget that several cells share; its own for each otherwise")
    parser.add_argument("--on-exceed", choices=["cap", "raise", "warn"], default="cap", help="what becomes of a call")
    parser.add_argument("--price-as", metavar="MODEL=MODEL", action="append", default=[], help="price unwrapped models")
    return parser


@magics_class
class BudgetMagics(Magics):
    """``%%budget`` puts a cell under a budget; ``%budget`` shows what the session spent."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell: Any = shell
        self.session = Session()
        self._parser = _parser()

    @line_cell_magic
    def budget(self, line: str, cell: str | None = None) -> None:
        """Put everything that the cell calls under a budget, or show what this session spent.

        ::

            %%budget AMOUNT [CURRENCY] [--scope NAME] [--on-exceed cap|raise|warn] [--price-as MODEL=MODEL]
            %budget

        AMOUNT is in USD unless a currency follows. Afterwards one line says what the cell spent.

        --scope NAME      cells with the same name share one budget; without it each run of a cell has its own
        --on-exceed       ``cap`` (default) shortens replies until they fit, then refuses; ``raise`` refuses;
                          ``warn`` only counts
        --price-as        prices models that are not wrapped as another one: ``my-proxy=openai:gpt-5-mini``

        Models under ``with_budget(model, None)`` are capped to what fits. Models that are not wrapped cannot be capped:
        they are held for the longest reply that they may give (``max_tokens``), and refused if that does not fit.
        Code that awaits works as in any other cell.
        """
        if cell is not None:  # through other magics and run_cell_magic; a cell of its own never gets here
            self._shell.run_cell(f"%%budget {line}\n{cell}")
        elif line.strip():
            raise UsageError(f"a budget is for a cell: write %%budget {line.strip()} in its first line")
        else:
            print(self.session)  # noqa: T201 - the output of the cell

    def open_cell(self, line: str) -> BudgetCell:
        """The budget around a cell, from its first line.

        Raises:
            UsageError: An argument is missing or wrong.
        """
        if not line.strip():
            raise UsageError("%%budget needs an amount: write %%budget 0.50, or see %%budget?")
        asked = self._parser.parse_args(_words(line))
        try:
            budget = Budget(
                Cost(asked.amount.removeprefix("$"), asked.currency.upper()),
                scope=asked.scope or self.session.fresh_scope(self._shell.execution_count),
                on_exceed=cast("OnExceed", asked.on_exceed),
            )
            return BudgetCell(budget, self.session, dict(_pair(text) for text in asked.price_as))
        except LangChainRuntimeError as error:
            raise UsageError(f"%%budget: {error}" + (f" ({error.hint})" if error.hint else "")) from None


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%budget: {error} in {line!r}") from None


def _pair(text: str) -> tuple[str, str]:
    model, equals, priced_as = text.partition("=")
    if not (model and equals and priced_as):
        raise UsageError(f"%%budget: {text!r} is not MODEL=MODEL: write --price-as my-proxy=openai:gpt-5-mini")
    return model, priced_as


_removers: dict[int, Callable[[], None]] = {}
"""What undoes the installation, by the shell's id."""


def load(shell: InteractiveShell) -> None:
    """Register the magics; a second time it changes nothing."""
    if id(shell) in _removers:
        return
    magics: Any = BudgetMagics(shell)
    shell.register_magics(magics)
    forget_syntax = install(shell)

    def remove() -> None:
        forget_syntax()
        magics.session.close()
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("budget", None)
        shell.magics_manager.registry.pop("BudgetMagics", None)

    _removers[id(shell)] = remove


def unload(shell: InteractiveShell) -> None:
    """Take everything back; what was counted is forgotten."""
    _removers.pop(id(shell), lambda: None)()

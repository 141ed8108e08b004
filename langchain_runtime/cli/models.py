"""``lcr models``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from langchain_runtime.contracts.pricing import ModelInfo

_SHOWN: Final = 30
"""Lines that are read; more are counted."""

_ANY_WIDTH: Final = 1_000


def models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Only models whose name holds this text, e.g. openai:gpt-5.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show all of them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of all of them.")] = False,
    debug: options.Debug = False,
) -> None:
    """List models with their windows and list prices, and which one is used if you name none."""
    with reported(debug=debug):
        import json
        import os

        from langchain_runtime.cli.model_choice import choose_model
        from langchain_runtime.contracts.errors import UnknownModelError
        from langchain_runtime.cost import default_catalog

        catalog = default_catalog()
        names = [name for name in sorted(catalog.names()) if (pattern or "").lower() in name.lower()]
        if not names:
            raise UnknownModelError(
                f"no model of the price list has {pattern!r} in its name",
                model=str(pattern),
                hint="`lcr models --all` lists them all",
            )
        if as_json:
            typer.echo(json.dumps([_as_json(catalog.get(name)) for name in names]))
            return
        choice = choose_model(explicit=None, of_file=None, environment=os.environ)
        typer.echo(f"used where none is named: {choice}\n")
        shown = names if every else names[:_SHOWN]
        typer.echo("\n".join(_lines([catalog.get(name) for name in shown])))
        typer.echo("prices in USD per million tokens, windows in tokens")
        if more := len(names) - len(shown):
            typer.echo(f"... {more:,} more: lcr models TEXT narrows them down, --all shows them")


def _lines(infos: Sequence[ModelInfo]) -> list[str]:
    """A table with the name at the end of each line, whole: it is there to be copied."""
    from langchain_runtime.report.formats import UNKNOWN, count
    from langchain_runtime.report.table import Column, table

    columns = [*(Column(title, numeric=True) for title in ("window", "output", "in", "cached", "out")), Column("model")]
    rows = [
        [
            count(info.context_window),
            count(info.max_output_tokens),
            *(price or UNKNOWN for price in _prices(info).values()),
            info.id if info.currency == "USD" else f"{info.id} (in {info.currency})",
        ]
        for info in infos
    ]
    return table(columns, rows, _ANY_WIDTH)


def _prices(info: ModelInfo) -> dict[str, str | None]:
    """Per million tokens, as decimal text."""
    from langchain_runtime.contracts.money import Cost, format_amount

    rates = info.rates
    nano = {
        "input": None if rates is None else rates.input,
        "cache_read": None if rates is None else rates.cache_read,
        "output": None if rates is None else rates.output,
    }
    return {
        kind: None if rate is None else format_amount(Cost.from_nano(rate, info.currency).amount)
        for kind, rate in nano.items()
    }


def _as_json(info: ModelInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "context_window": info.context_window,
        "max_output_tokens": info.max_output_tokens,
        "currency": info.currency,
        "per_million_tokens": _prices(info),
        "source": info.source,
    }

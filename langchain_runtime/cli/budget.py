"""``lcr budget``: the accounts of the home's ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_runtime.cli import options
from langchain_runtime.cli.completion import complete_run
from langchain_runtime.cli.failures import reported

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from langchain_runtime.cli.home import Home
    from langchain_runtime.contracts.budget import Balance
    from langchain_runtime.contracts.money import Cost
    from langchain_runtime.ledgers import SqliteLedger

budget = typer.Typer(help="Show and change the budgets of the home folder.", no_args_is_help=True)

Account = Annotated[
    str,
    typer.Argument(
        metavar="RUN|SCOPE", help="A run's id, or the name of a budget's scope.", autocompletion=complete_run
    ),
]


@budget.command()
def show(
    account: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|SCOPE]", help="A run's id or a scope; all of them if left out.", autocompletion=complete_run
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Show what was spent, what is held and what is left."""
    with reported(debug=debug):
        import json
        import shutil

        from langchain_runtime.cli.home import Home

        place = Home.locate(home)
        with _ledger(place) as ledger:
            balances = ledger.balances() if account is None else [ledger.balance(_scope(place, account))]
        if as_json:
            typer.echo(json.dumps([_as_json(balance) for balance in balances]))
        elif balances:
            typer.echo("\n".join(_lines(balances, shutil.get_terminal_size().columns)))
        else:
            typer.echo(f"no budgets in {place.path}")


@budget.command(name="top-up")
def top_up(
    account: Account,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help='What to add: 0.40 (USD) or "0.40 EUR".')],
    key: Annotated[
        str | None,
        typer.Option("--key", help="Name of this top-up: the same key adds only once, however often it is sent."),
    ] = None,
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Add money to a budget; a run that ran out goes on with `lcr run --resume`."""
    with reported(debug=debug):
        import uuid

        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.inputs import parse_budget

        place = Home.locate(home)
        added = parse_budget(amount)
        with _ledger(place) as ledger:
            before = ledger.balance(_scope(place, account))
            _check_limited(before, account, added)
            after = ledger.top_up(before.scope.name, added.nano, key=key or uuid.uuid4().hex)
        typer.echo(_left(after))
        if before.scope.name != account:
            typer.echo(f"go on with: lcr run --resume {account}{place.option}")


@budget.command(name="set")
def set_limit(
    account: Account,
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help='The new limit: 2.00 (USD) or "2.00 EUR".')],
    home: options.Home = None,
    debug: options.Debug = False,
) -> None:
    """Set the limit of a budget that several runs or programs share."""
    with reported(debug=debug):
        from langchain_runtime.cli.home import Home
        from langchain_runtime.cli.inputs import parse_budget
        from langchain_runtime.contracts.errors import InvalidInputError

        place = Home.locate(home)
        new = parse_budget(limit)
        with _ledger(place) as ledger:
            before = ledger.balance(_scope(place, account))
            if before.scope.name != account:
                raise InvalidInputError(
                    f"{account!r} is a run, whose limit is kept with it",
                    hint=f"`lcr run --resume {account} --budget {new.amount}` sets it, `lcr budget top-up` adds to it",
                )
            _check_limited(before, account, new)
            typer.echo(_left(ledger.set_limit(account, new.nano)))


def _ledger(home: Home) -> AbstractContextManager[SqliteLedger]:
    """The home's books; nothing is made where there are none."""
    from contextlib import contextmanager

    from langchain_runtime.contracts.errors import BudgetNotSetError
    from langchain_runtime.ledgers import SqliteLedger

    @contextmanager
    def opened() -> Iterator[SqliteLedger]:
        if not home.ledger_db.is_file():
            raise BudgetNotSetError(
                f"there are no budgets in {home.path}", scope="", hint="another home is chosen with --home or LCR_HOME"
            )
        ledger = SqliteLedger(home.ledger_db)
        try:
            yield ledger
        finally:
            ledger.close()

    return opened()


def _scope(home: Home, account: str) -> str:
    """The name of a scope; a run's for its id."""
    return f"run:{account}" if any(record.run_id == account for record in home.index().all()) else account


def _check_limited(balance: Balance, account: str, given: Cost) -> None:
    from langchain_runtime.contracts.errors import CurrencyMismatchError, InvalidInputError

    if balance.limit is None:
        raise InvalidInputError(f"{account!r} has no limit, so there is nothing to change")
    if given.currency != balance.limit.currency:
        raise CurrencyMismatchError(
            f"{account!r} is in {balance.limit.currency}, not in {given.currency}",
            expected=balance.limit.currency,
            actual=given.currency,
            hint=f'write "{given.amount} {balance.limit.currency}"',
        )


def _left(balance: Balance) -> str:
    figures = f"limit {balance.limit}, spent {balance.spent}, held {balance.held}, left {balance.remaining}"
    return f"{balance.scope.name}: {figures}"


def _lines(balances: Sequence[Balance], width: int) -> list[str]:
    from langchain_runtime.report.formats import amount
    from langchain_runtime.report.table import Column, table

    columns = [
        Column("scope", shrinks=True),
        Column("", optional=1),
        *(Column(title, numeric=True) for title in ("limit", "spent", "held", "left")),
        Column("forfeited", numeric=True, optional=2),
    ]
    rows = [
        [
            balance.scope.name,
            balance.scope.currency,
            *(
                amount(cost)
                for cost in (balance.limit, balance.spent, balance.held, balance.remaining, balance.forfeited)
            ),
        ]
        for balance in balances
    ]
    return table(columns, rows, width)


def _as_json(balance: Balance) -> dict[str, Any]:
    from langchain_runtime.contracts.money import format_amount

    figures = ("limit", "spent", "held", "remaining", "forfeited")
    amounts = {name: getattr(balance, name) for name in figures}
    return {
        "scope": balance.scope.name,
        "currency": balance.scope.currency,
        **{name: None if cost is None else format_amount(cost.amount) for name, cost in amounts.items()},
        "tokens_spent": balance.tokens_spent,
        "tokens_held": balance.tokens_held,
    }

"""The rules of limits: which amounts a ledger holds, and how the limit of an open scope may differ or change."""

from __future__ import annotations

from math import inf

from langchain_runtime.contracts.budget import Hold, Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import MAX_NANO, Cost
from langchain_runtime.ledgers._rules import Account


def check_same(account: Account, scope: Scope) -> None:
    """Check that ``scope`` describes the open ``account``, by its first limit, its set one or its current one.

    Raises:
        InvalidInputError: It does not; names both.
    """
    current = account.balance().scope
    known = {account.limit, account.declared, account.base}
    limit = account.limit if scope.limit_nano in known else scope.limit_nano
    asked = scope.model_copy(update={"limit_nano": limit})
    if asked != current:
        limits_differ = asked.limit_nano != current.limit_nano
        raise InvalidInputError(
            f"scope {scope.name!r} is open with {_terms(current)}, but was asked for with {_terms(scope)}",
            hint=f"change its limit with ledger.set_limit({scope.name!r}, ...) or `lcr budget`"
            if limits_differ
            else "only the limit of an open scope can change: open the other terms under another name",
        )


def _terms(scope: Scope) -> str:
    limit = None if scope.limit_nano is None else Cost.from_nano(scope.limit_nano, scope.currency)
    terms = [f"no limit in {scope.currency}" if limit is None else f"a limit of {limit}"]
    if scope.token_limit is not None:
        terms.append(f"{scope.token_limit} tokens")
    if (period := scope.period) is not None:
        length = (
            f"{period.seconds} rolling seconds" if period.kind == "rolling" else f"{period.kind} in {period.timezone}"
        )
        terms.append(f"per {length}")
    return ", ".join(terms)


def set_limit(account: Account, limit: int | None) -> None:
    """Give the account another limit; one below what is spent admits nothing more.

    Raises:
        InvalidInputError: The limit is not positive or too large.
    """
    if limit is not None:
        check_amount("a limit", limit, smallest=1)
    account.limit = account.base = limit


def top_up(account: Account, nano: int) -> None:
    """Raise the limit.

    Raises:
        InvalidInputError: The amount is not positive, or there is no limit to raise.
    """
    check_amount("a top-up", nano, smallest=1)
    if account.limit is None:
        raise InvalidInputError(
            f"scope {account.name!r} has no limit to top up",
            hint=f"give it one first with ledger.set_limit({account.name!r}, ...)",
        )
    check_amount("a limit", account.limit + nano)
    account.limit += nano


def check_hold(hold: Hold) -> None:
    """Refuse holds that no ledger can keep, however they were made.

    Raises:
        InvalidInputError: Money or tokens are no whole number from 0 to ``MAX_NANO``, or the lease would never end.
    """
    nano, tokens, seconds = hold.nano, hold.tokens, hold.lease_seconds
    # In one go: this is on the way of every call.
    whole = type(nano) is int and type(tokens) is int
    if not (whole and 0 <= nano <= MAX_NANO and 0 <= tokens <= MAX_NANO and 0 < seconds < inf):
        check_amount("a hold", nano)
        check_amount("the tokens of a hold", tokens)
        check_lease(seconds)


def check_settlement(settlement: Settlement) -> None:
    """Refuse prices and tokens that no ledger can keep, whoever reported them.

    Raises:
        InvalidInputError: One is no whole number from 0 to ``MAX_NANO``.
    """
    nano, usage = settlement.nano, settlement.usage
    if nano is not None and (type(nano) is not int or not 0 <= nano <= MAX_NANO):
        check_amount("a price", nano)
    if usage is not None:
        tokens = usage.total
        if type(tokens) is not int or not 0 <= tokens <= MAX_NANO:
            check_amount("the tokens of a call", tokens)


def check_lease(seconds: float) -> None:
    """Refuse leases that are over before they begin, or that never end: what is held under them would be lost.

    Raises:
        InvalidInputError: ``seconds`` is not positive and finite.
    """
    if not 0 < seconds < inf:
        raise InvalidInputError(
            f"a lease must last for a positive, finite number of seconds, got {seconds}",
            hint="take a minute or so, and renew it while the call is in flight",
        )


def check_amount(what: str, nano: int, *, smallest: int = 0) -> None:
    """Refuse amounts that no ledger can hold.

    Raises:
        InvalidInputError: ``nano`` is no whole number, below ``smallest`` or above ``MAX_NANO``.
    """
    if type(nano) is not int or not smallest <= nano <= MAX_NANO:
        raise InvalidInputError(
            f"{what} must be a whole number from {smallest} to {MAX_NANO} nano units (or tokens), got {nano!r}",
            hint="Cost(...).nano gives the nano units of an amount",
        )

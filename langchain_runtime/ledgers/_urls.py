"""Ledgers by URL, for settings and command lines."""

from __future__ import annotations

from urllib.parse import unquote

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.ledgers.in_memory import InMemoryLedger
from langchain_runtime.ledgers.sqlite import SqliteLedger


def open_ledger(url: str) -> Ledger:
    """The ledger that ``url`` names; nothing is connected yet.

    - ``memory://``: a new ``InMemoryLedger``.
    - ``sqlite:///relative.db``, ``sqlite:////absolute.db``: a ``SqliteLedger``.

    Raises:
        InvalidInputError: The URL is malformed, or its kind of ledger does not exist.
    """
    kind, separator, rest = url.partition("://")
    if not separator:
        raise InvalidInputError(f"{url!r} is not a ledger's URL", hint="write it like sqlite:///ledger.db or memory://")
    if kind == "memory" and not rest:
        return InMemoryLedger()
    if kind == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteLedger(unquote(rest[1:]))
    if kind in {"postgresql", "redis"}:
        raise InvalidInputError(
            f"{kind} ledgers are not available in this version", hint="use sqlite:///PATH for processes of one machine"
        )
    raise InvalidInputError(
        f"{url!r} names no ledger", hint="use memory://, sqlite:///relative.db or sqlite:////absolute.db"
    )

"""Tells ledgers that they find themselves in a forked child, before anything else runs there."""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol


class ForkAware(Protocol):
    """Has locks, connections or threads that do not survive a fork."""

    def after_fork(self) -> None:
        """Make good, in the child; no other thread exists yet."""
        ...


def watch(ledger: ForkAware) -> None:
    """Call ``ledger.after_fork()`` in every child, as long as the ledger lives."""
    _watched().add(ledger)


@cache  # registered once, by the first ledger: importing this module does nothing
def _watched() -> weakref.WeakSet[ForkAware]:
    ledgers: weakref.WeakSet[ForkAware] = weakref.WeakSet()

    def in_child() -> None:
        for ledger in list(ledgers):
            ledger.after_fork()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)
    return ledgers

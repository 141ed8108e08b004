"""Who pays for the code that runs now.

An account travels in a context variable: asyncio tasks and LangChain's executors follow it by themselves, a raw
``threading.Thread`` only through ``contextvars.copy_context().run``. Accounts nest: a call charges the innermost one
and everything around it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from langchain_runtime.contracts.budget import Balance, Budget, Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.events import LifecycleEvent
from langchain_runtime.contracts.job import AdoptedHold
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import BudgetEnforcer
from langchain_runtime.ledgers import default_ledger


@dataclass(slots=True)
class _Progress:
    """What changes while an account is in use; calls of one body may run in several threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: Counter[str] = field(default_factory=Counter)
    hold_taken: bool = False
    deferred: Settlement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Who pays, and for whom.

    Attributes:
        ledger: The books.
        budgets: What every call charges, all or none; each was opened in ``ledger`` before.
        run_id: The run that pays; None outside runs.
        task_id: The run's task that runs now.
        hold: Reservation made for the next call in all ``budgets``; one call adopts it.
        on_event: Receives ``CallReserved`` and ``CallSettled`` of the run; called from whatever thread makes the call.
        replay: Whether replies are journalled, and read back instead of bought again.
        defer_settlement: Whether the settlement of the adopting call, if it succeeds, is left in ``deferred`` for the
            owner to commit together with the task's outcome. A call that fails settles at once.
        first_call: Number of the first call; see ``next_call``.
        enclosing: The account around this one; ``paying`` sets it.
    """

    ledger: Ledger
    budgets: tuple[Budget, ...] = ()
    run_id: str | None = None
    task_id: str | None = None
    hold: AdoptedHold | None = None
    on_event: Callable[[LifecycleEvent], None] | None = None
    replay: bool = False
    defer_settlement: bool = False
    first_call: int = 0
    enclosing: Account | None = None
    _progress: _Progress = field(default_factory=_Progress, repr=False)

    @property
    def deferred(self) -> Settlement | None:
        """The settlement that the owner must commit; None if there is none."""
        return self._progress.deferred

    def defer(self, settlement: Settlement) -> None:
        """Leave the adopting call's settlement for the owner."""
        self._progress.deferred = settlement

    def take_hold(self) -> AdoptedHold | None:
        """The hold, to the first who asks; None to all others."""
        progress = self._progress
        with progress.lock:
            if progress.hold_taken:
                return None
            progress.hold_taken = True
            return self.hold

    def next_call(self, request: str) -> int:
        """Number of the next call among those under this account that make the same request.

        So a reply is found again in whatever order calls are made, and by an agent that goes on from a checkpoint of
        its own and leaves out what it did before.
        """
        progress = self._progress
        with progress.lock:
            number = self.first_call + progress.calls[request]
            progress.calls[request] += 1
            return number

    @property
    def run(self) -> Account | None:
        """The nearest account that belongs to a run, this one included."""
        account: Account | None = self
        while account is not None and account.run_id is None:
            account = account.enclosing
        return account


_CURRENT: ContextVar[Account | None] = ContextVar("langchain_runtime_account", default=None)


def current_account() -> Account | None:
    """Who pays for the code that runs now; None if nobody but the models' own budgets."""
    return _CURRENT.get()


@contextmanager
def paying(account: Account) -> Iterator[Account]:
    """Let ``account`` pay for the block, in addition to who pays already."""
    enclosing = _CURRENT.get()
    entered = account if account.enclosing is enclosing else replace(account, enclosing=enclosing)
    token = _CURRENT.set(entered)
    try:
        yield entered
    finally:
        _CURRENT.reset(token)


@dataclass(frozen=True)
class Charge:
    """The budgets that a call charges in one ledger, in one atomic step."""

    ledger: Ledger
    budgets: tuple[Budget, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was found out here: marks mean nothing in another process."""
        return (Charge, (self.ledger, self.budgets))

    @cached_property
    def enforcer(self) -> BudgetEnforcer:
        """Admits calls that belong to no run."""
        return BudgetEnforcer(self.ledger)

    @cached_property
    def scopes(self) -> tuple[str, ...]:
        """Names of the budgets' scopes, sorted: every ledger locks in one order."""
        return tuple(sorted(budget.scope for budget in self.budgets))

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """A name for each budget's scope that tells it from all others of this process, and says nothing else."""
        # The ledgers of calls in flight are alive, so ids are unique; strings hash differently in every process.
        return tuple(f"{hash((id(self.ledger), budget.scope)):x}" for budget in self.budgets)

    @cached_property
    def limits_money(self) -> bool:
        """Whether a call may be refused for its price. A budget that only warns blocks nothing."""
        return any(budget.limit is not None and budget.on_exceed != "warn" for budget in self.budgets)

    @cached_property
    def limits(self) -> bool:
        """Whether a call may be refused for its price or its tokens."""
        return self.limits_money or any(
            budget.token_limit is not None and budget.on_exceed != "warn" for budget in self.budgets
        )

    @cached_property
    def floor(self) -> int | None:
        """The highest floor that a budget sets for ``cap``; None where all leave it to the model's kind."""
        floors = [budget.min_output_tokens for budget in self.budgets if budget.min_output_tokens is not None]
        return max(floors, default=None)


def charges(account: Account | None, own: Sequence[Charge] = ()) -> list[Charge]:
    """Everything that a call charges: ``own``, ``account`` and all around it; one entry for each ledger.

    A scope that is named twice is charged once. Ledgers come in one order everywhere, so that two calls that wait for
    money in two ledgers never wait for each other.
    """
    found = list(own)
    while account is not None:
        found.append(Charge(account.ledger, account.budgets))
        account = account.enclosing
    if len(found) == 1:
        return found if found[0].budgets else []
    by_ledger: dict[int, tuple[Ledger, dict[str, Budget]]] = {}
    for charge in found:
        _, budgets = by_ledger.setdefault(id(charge.ledger), (charge.ledger, {}))
        for budget in charge.budgets:
            budgets.setdefault(budget.scope, budget)
    return [Charge(ledger, tuple(budgets.values())) for _, (ledger, budgets) in sorted(by_ledger.items()) if budgets]


@dataclass(frozen=True, slots=True)
class BudgetScope:
    """A budget that is open for a block; its figures are read from the ledger when asked for."""

    budget: Budget
    ledger: Ledger

    def snapshot(self) -> Balance:
        """The account now."""
        return self.ledger.balance(self.budget.scope)

    @property
    def spent(self) -> Cost:
        """What calls have cost so far."""
        return self.snapshot().spent

    @property
    def held(self) -> Cost:
        """What is reserved for calls in flight."""
        return self.snapshot().held

    @property
    def remaining(self) -> Cost | None:
        """What is left for further calls; None for no limit."""
        return self.snapshot().remaining

    @property
    def limit(self) -> Cost | None:
        """What may be spent, top-ups included; None for no limit."""
        return self.snapshot().limit


@contextmanager
def budget_scope(budget: Budget, *, ledger: Ledger | None = None) -> Iterator[BudgetScope]:
    """Charge every budgeted model call in the block to ``budget`` too; nested scopes add up.

    Works around async code as well: ``with`` is enough. Models must be wrapped by ``with_budget``; a budget of None
    there means that only the scopes around a call are charged.

    Args:
        budget: What may be spent. The same scope in the same ledger is the same budget everywhere.
        ledger: Where it is kept; None for the process-wide ledger in memory.

    Yields:
        A handle with ``spent``, ``held``, ``remaining``, ``limit`` and ``snapshot()``.

    Raises:
        InvalidInputError: The scope exists in the ledger with another limit.
    """
    if not isinstance(budget, Budget):
        raise InvalidInputError(f"budget_scope needs a Budget, got {type(budget).__name__}")
    books = default_ledger() if ledger is None else ledger
    books.open_scope(Scope.of(budget))
    with paying(Account(ledger=books, budgets=(budget,))):
        yield BudgetScope(budget, books)

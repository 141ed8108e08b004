"""What a ``%%budget`` cell does around its code, and what a session adds up."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, cast

from langchain_core.tracers.context import register_configure_hook

from langchain_runtime.adapters.account import Account, BudgetScope, budget_scope, current_account
from langchain_runtime.callbacks import BudgetCallbackHandler, UsageCallbackHandler
from langchain_runtime.callbacks.blocks import heard_by, refusals_not_logged
from langchain_runtime.callbacks.unwrapped import UnwrappedUsage
from langchain_runtime.contracts.budget import Balance, Budget
from langchain_runtime.contracts.errors import (
    BudgetError,
    CurrencyMismatchError,
    EstimationError,
    LangChainRuntimeError,
    UnpricedModelError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import default_ledger
from langchain_runtime.report.formats import amount, at_the_point, money, plural

_REFUSALS: Final = (BudgetError, CurrencyMismatchError, EstimationError, UnpricedModelError)
_LATEST: Final = 12


@dataclass(frozen=True, slots=True)
class _Spending:
    """A scope, and what its account was when somebody began to look."""

    scope: BudgetScope
    before: Balance

    @classmethod
    def from_now(cls, scope: BudgetScope) -> Self:
        return cls(scope, scope.snapshot())

    def figures(self) -> tuple[Cost, int, Balance]:
        """Spent and tokens since then, and the account now."""
        now = self.scope.snapshot()
        nano = now.spent_nano - self.before.spent_nano
        return (
            Cost.from_nano(nano, now.scope.currency),
            now.tokens_spent - self.before.tokens_spent,
            now,
        )


class BudgetCell:
    """Everything called in the block is charged to ``budget``; then one line says what it spent.

    Models under ``with_budget`` charge it themselves and are capped; all others are held for their worst case by a
    callback, and refused where that does not fit.

    Args:
        budget: What the block may spend.
        session: Adds up its cells.
        price_as: Catalogue models to price unwrapped models as.

    Raises:
        InvalidInputError: The scope is known with another limit.
    """

    def __init__(self, budget: Budget, session: Session, price_as: Mapping[str, str]) -> None:
        self._budget = budget
        self._session = session
        self._stack = ExitStack()
        self._guard = BudgetCallbackHandler(budget, price_as=price_as)
        self._unwrapped = UnwrappedUsage(price_as=price_as)
        self._spending: _Spending | None = None

    def __enter__(self) -> BudgetScope:
        """Open the budget."""
        scope = self._guard.scope
        self._spending = _Spending.from_now(scope)
        self._session.note(self._spending)
        self._stack.enter_context(budget_scope(self._budget))
        self._stack.enter_context(refusals_not_logged())
        self._stack.enter_context(heard_by(self._guard))
        self._stack.enter_context(heard_by(self._unwrapped))
        return scope

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Print the line, and let a refusal show as a sentence."""
        self._stack.close()
        print(self)  # noqa: T201 - the output of the cell
        if isinstance(error, _REFUSALS):
            _show_as_sentence(error, traceback)

    def __str__(self) -> str:
        """What was spent, and what is left."""
        assert self._spending is not None
        spent, tokens, now = self._spending.figures()
        shared = self._spending.before.spent_nano > 0
        parts = [
            f"{'this cell ' if shared else ''}spent {money(spent)} ({plural(tokens, 'token')})",
            f"{now.scope.name}: {_left(now)}" if shared else _left(now),
        ]
        if now.held_nano:
            parts.append(f"{money(now.held)} held for calls under way")
        if self._unwrapped.unpriced:
            parts.append(f"{plural(self._unwrapped.unpriced, 'call')} without a known price")
        return "%%budget: " + ", ".join(parts)


def _left(now: Balance) -> str:
    assert now.limit is not None
    if now.spent > now.limit:
        return f"{money(now.spent - now.limit)} over the limit of {money(now.limit)}"
    assert now.remaining is not None
    return f"{amount(now.remaining)} of {money(now.limit)} left"


def _show_as_sentence(error: LangChainRuntimeError, traceback: TracebackType | None) -> None:
    """Have IPython print what happened and what to do, and the line of the cell, instead of thirty frames."""
    place = "" if traceback is None else f" (line {traceback.tb_lineno} of the cell)"
    text = f"{type(error).__name__}{place}: {error}"
    if error.hint:
        text += f"\n  {error.hint}"
    shown: Any = error
    shown._render_traceback_ = functools.partial(list, (text,))


class _Elsewhere(UsageCallbackHandler):
    """Counts the calls that no cell's budget pays."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def _begin(self, *call: Any) -> None:
        if not self._session.pays(current_account()):
            super()._begin(*call)


class _Everywhere:
    """Gives LangChain the open session's handler for all calls of the process, in any thread.

    It stands for a context variable, of which LangChain wants the value alone: the value of a real one would end with
    the cell that set it.
    """

    def __init__(self) -> None:
        self._handlers: list[UsageCallbackHandler] = []

    def get(self) -> UsageCallbackHandler | None:
        """The handler of the session that was opened last; None without a session."""
        return self._handlers[-1] if self._handlers else None

    def add(self, handler: UsageCallbackHandler) -> None:
        self._handlers.append(handler)

    def remove(self, handler: UsageCallbackHandler) -> None:
        self._handlers.remove(handler)


@functools.cache
def _everywhere() -> _Everywhere:
    """Registered once: LangChain does not take registrations back."""
    made: Any = _Everywhere()
    register_configure_hook(made, inheritable=True)
    return cast("_Everywhere", made)


@dataclass(eq=False)
class Session:
    """What was spent since the extension was loaded."""

    _spendings: dict[str, _Spending] = field(default_factory=dict)
    _elsewhere: _Elsewhere = field(init=False)

    def __post_init__(self) -> None:
        """Listen to all calls of the process."""
        self._elsewhere = _Elsewhere(self)
        _everywhere().add(self._elsewhere)

    def close(self) -> None:
        """Count no more."""
        _everywhere().remove(self._elsewhere)

    def note(self, spending: _Spending) -> None:
        """A cell begins to spend; a scope that is known already goes on counting from its first cell."""
        self._spendings.setdefault(spending.scope.budget.scope, spending)

    def pays(self, account: Account | None) -> bool:
        """Whether a call under ``account`` is charged to a cell."""
        while account is not None:
            if any(budget.scope in self._spendings for budget in account.budgets):
                return True
            account = account.enclosing
        return False

    def fresh_scope(self, number: int) -> str:
        """A name for the budget of a cell that names none; the same cell run again is another budget."""
        name = first = f"cell [{number}]"
        known = {balance.scope.name for balance in default_ledger().balances(first)}
        again = 1
        while name in known:
            again += 1
            name = f"{first} #{again}"
        return name

    def __str__(self) -> str:
        """The sum, the latest cells, and what was called outside of them."""
        figures = {name: spending.figures() for name, spending in self._spendings.items()}
        figures = {name: what for name, what in figures.items() if what[1] or what[0].nano}
        totals: dict[str, Cost] = {}
        for spent, _, _ in figures.values():
            totals[spent.currency] = totals[spent.currency] + spent if spent.currency in totals else spent
        tokens = sum(used for _, used, _ in figures.values())
        total = " + ".join(money(cost) for cost in totals.values()) or "nothing"
        lines = [f"spent in this session under %%budget: {total} ({plural(tokens, 'token')})"]
        latest = list(figures.items())[-_LATEST:]
        width = max((len(name) for name, _ in latest), default=0)
        amounts = at_the_point(amount(spent) for _, (spent, _, _) in latest)
        wide = max(map(len, amounts), default=0)
        lines += [
            f"  {name:{width}}  {shown:>{wide}} {spent.currency}, {_left(now)}"
            for shown, (name, (spent, _, now)) in zip(amounts, latest, strict=True)
        ]
        if len(figures) > len(latest):
            lines.append(f"  and {plural(len(figures) - len(latest), 'earlier budget')}")
        if self._elsewhere.calls:
            lines.append(f"outside, at list price: {self._elsewhere!r}")
        return "\n".join(lines)

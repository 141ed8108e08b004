"""What one test spends on model calls, and whether that is within what it may spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self
from uuid import UUID

import pytest

from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.callbacks.blocks import heard_by
from langchain_runtime.callbacks.unwrapped import UnwrappedUsage
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import BudgetExceededError, CurrencyMismatchError, LangChainRuntimeError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.report.formats import amount, at_the_point, plural

_WISHES: Final = ("cap", "raise", "warn")


class _Calls(UnwrappedUsage):
    """Counts what no budget sees, and remembers a refusal by ``scope``, whoever catches it."""

    def __init__(self, scope: str, price_as: Mapping[str, str] | None) -> None:
        super().__init__(price_as=price_as)
        self._scope = scope
        self.refusal: BudgetExceededError | None = None

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **event: Any) -> None:
        if isinstance(error, BudgetExceededError) and error.scope == self._scope:
            self.refusal = error
        super().on_llm_error(error, run_id=run_id, **event)


class SpendingBlock:
    """A budget that is open until the end of a ``with`` block, or of the test.

    Attributes:
        limit: What may be spent.
    """

    def __init__(self, test: SpendingOfTest, budget: Budget, price_as: Mapping[str, str] | None) -> None:
        assert budget.limit is not None
        self.limit = budget.limit
        self._test = test
        self._calls = _Calls(budget.scope, price_as)
        self._stack = ExitStack()
        self._scope = self._stack.enter_context(budget_scope(budget))
        self._stack.enter_context(heard_by(self._calls))

    @property
    def spent(self) -> Cost:
        """What the calls have cost so far, at list price.

        Raises:
            CurrencyMismatchError: An unwrapped model has its price in another currency.
        """
        unwrapped = self._calls.total.cost
        return self._scope.spent if unwrapped is None else self._scope.spent + unwrapped

    @property
    def known_cost(self) -> Cost | None:
        """``spent``; None where the price of a call is unknown or in another currency."""
        try:
            return None if self._calls.unpriced else self.spent
        except CurrencyMismatchError:
            return None

    @property
    def tokens(self) -> int:
        """Input and output tokens so far."""
        return self._scope.snapshot().tokens_spent + self._calls.tracker.total().tokens.total

    def __enter__(self) -> Self:
        """It is open since it was made."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Close it; the test fails if the calls cost more, or would have."""
        self.close()
        self.judge(error)

    def close(self) -> None:
        """Stop to count; a second time changes nothing."""
        with suppress(ValueError):  # an async test had a context of its own, which ended with it
            self._stack.close()
        self._test.closed(self)

    def judge(self, error: BaseException | None) -> None:
        """Fail the test for its cost, unless it failed for another reason.

        Args:
            error: What the block raised; None if it came to its end.
        """
        refused = error if self._refuses(error) else self._calls.refusal
        why = self._complaint(refused) if error is None or refused is not None else None
        if why is None:
            return
        if error is None or error is refused:
            raise pytest.fail.Exception(f"llm_budget: {why}", pytrace=False) from None
        error.add_note(f"llm_budget: {why}")  # it may well be the cause

    def _refuses(self, error: BaseException | None) -> bool:
        return isinstance(error, BudgetExceededError) and error.scope == self._scope.budget.scope

    def _complaint(self, refused: Any) -> str | None:
        if refused is not None:
            call = f"a call of {refused.model}" if refused.model else "a call"
            return (
                f"refused{self._test.line_of(refused)}: {call} may cost up to {refused.needed}, and of {self.limit} "
                f"this test has spent {self.spent}"
            )
        calls = self._calls
        if calls.unpriced:
            return (
                f"{plural(calls.unpriced, 'call')} of {', '.join(calls.by_model())} without a known price, so nobody "
                f"knows whether this test costs less than {self.limit}; name a model to price it as: "
                f'llm_budget("{amount(self.limit)}", price_as={{...}})'
            )
        try:
            spent = self.spent
        except CurrencyMismatchError as mismatch:
            return str(mismatch)
        if spent > self.limit:
            return f"this test cost {spent} ({plural(self.tokens, 'token')}), more than {self.limit}"
        return None


class SpendingOfTest:
    """The budgets of one test.

    Args:
        path: File of the test, to say where a call was refused.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: list[SpendingBlock] = []
        self._outermost: list[SpendingBlock] = []

    def open(
        self,
        most: Any,
        currency: str = "USD",
        *,
        on_exceed: Literal["cap", "raise", "warn"] = "cap",
        price_as: Mapping[str, str] | None = None,
    ) -> SpendingBlock:
        """Open a budget; see ``LLMBudget``."""
        if on_exceed not in _WISHES:
            pytest.fail(f"llm_budget: on_exceed must be one of {', '.join(_WISHES)}, got {on_exceed!r}", pytrace=False)
        try:
            block = SpendingBlock(self, Budget(Cost(most, currency), on_exceed=on_exceed), price_as)
        except LangChainRuntimeError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise pytest.fail.Exception(f"llm_budget: {error}{hint}", pytrace=False) from None
        if not self._open:
            self._outermost.append(block)
        self._open.append(block)
        return block

    def closed(self, block: SpendingBlock) -> None:
        """A block is at its end."""
        if block in self._open:
            self._open.remove(block)

    def close(self, error: BaseException | None) -> None:
        """The test is over: close what is open, innermost first, and judge it."""
        rest = self._open[::-1]
        self.drop()
        for block in rest:
            block.judge(error)

    def drop(self) -> None:
        """Close what is open without a judgement."""
        for block in self._open[::-1]:
            block.close()

    def line_of(self, error: BaseException) -> str:
        """Where in the test's file ``error`` was raised: `` in line 12``; empty if elsewhere."""
        line, frame = 0, error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == self._path:
                line = frame.tb_lineno
            frame = frame.tb_next
        return f" in line {line}" if line else ""

    @property
    def figures(self) -> tuple[Cost | None, Cost, int] | None:
        """Spent (None where a price is unknown), limit and tokens; None where there was no budget to speak of.

        Budgets in several currencies have no sum, so they are left out.
        """
        blocks = self._outermost
        if not blocks or len({block.limit.currency for block in blocks}) > 1:
            return None
        limits = [block.limit for block in blocks]
        costs = [block.known_cost for block in blocks]
        known = [cost for cost in costs if cost is not None]
        spent = sum(known[1:], known[0]) if len(known) == len(costs) else None
        return spent, sum(limits[1:], limits[0]), sum(block.tokens for block in blocks)


def summary_lines(rows: Iterable[tuple[str, str, str, int]]) -> list[str]:
    """The lines of the summary, dearest test first, what is unknown before all others.

    Args:
        rows: Test id, cost, limit and tokens; money as ``0.12 USD``.
    """
    read = [
        _Row(test, None if spent == "unknown" else Cost(*spent.split()), Cost(*limit.split()), tokens)
        for test, spent, limit, tokens in rows
    ]
    read.sort(key=lambda row: (row.spent is not None, -row.spent.nano if row.spent else 0, row.test))
    costs = _column(at_the_point(amount(row.spent) for row in read))
    limits = _column(at_the_point(amount(row.limit) for row in read))
    tokens = _column(f"{row.tokens:,}" for row in read)
    lines = [
        f"{cost} of {limit} {row.limit.currency}  {used} tokens  {row.test}"
        for cost, limit, used, row in zip(costs, limits, tokens, read, strict=True)
    ]
    totals: dict[str, Cost] = {}
    for row in read:
        if row.spent is not None:
            so_far = totals.get(row.spent.currency)
            totals[row.spent.currency] = row.spent if so_far is None else so_far + row.spent
    return [*lines, f"together {', '.join(map(str, totals.values()))}"] if totals else lines


class _Row(NamedTuple):
    test: str
    spent: Cost | None
    limit: Cost
    tokens: int


def _column(texts: Iterable[str]) -> list[str]:
    texts = list(texts)
    width = max(map(len, texts))
    return [f"{text:>{width}}" for text in texts]

"""Spending added up while a run runs, so that a redraw costs the same after ten thousand calls as after ten."""

from __future__ import annotations

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.figures import Total


class SpendTally:
    """The sum of what each task told at its end and, until then, of its calls.

    Args:
        currency: Of the run's budget; None takes that of the first cost. Costs in another one count as unknown.
    """

    def __init__(self, currency: str | None) -> None:
        self._currency = currency
        self._counted: dict[str | None, list[Usage]] = {}
        self._told: set[str] = set()
        self._input = self._output = self._nano = self._known = self._unknown = 0

    @property
    def currency(self) -> str:
        """Of the sum; USD before anything is known."""
        return self._currency or "USD"

    def call(self, task: str | None, usage: Usage) -> None:
        """Count a settled call, unless its task has told its own sum."""
        if task not in self._told:
            self._add(usage)
            self._counted.setdefault(task, []).append(usage)

    def tell(self, task: str, usage: Usage) -> None:
        """Count what a task used in all, in place of its calls; a task that tells nothing keeps its calls."""
        if usage == Usage():
            return
        for counted in self._counted.pop(task, ()):
            self._add(counted, sign=-1)
        self._add(usage)
        self._counted[task] = [usage]
        self._told.add(task)

    def again(self, task: str) -> None:
        """The task starts anew: calls to come are counted beside what it told."""
        self._told.discard(task)

    def total(self) -> Total:
        """The sum now."""
        tokens = TokenUsage(input=self._input, output=self._output)
        cost = Cost.from_nano(self._nano, self.currency) if self._known else None
        return Total(tokens, cost, complete=self._unknown == 0)

    def _add(self, usage: Usage, *, sign: int = 1) -> None:
        self._input += sign * usage.tokens.input
        self._output += sign * usage.tokens.output
        if usage.cost is not None:
            self._currency = self._currency or usage.cost.currency
        if usage.cost is not None and usage.cost.currency == self._currency:
            self._nano += sign * usage.cost.nano
            self._known += sign
        else:
            self._unknown += sign

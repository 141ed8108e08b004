"""What chains and agents used outside of runs, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from langchain_runtime.callbacks import UsageCallbackHandler
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report.figures import Total
from langchain_runtime.report.formats import count, duration, money, plural

_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class CallFigures:
    """Calls of chat models so far.

    Attributes:
        calls: Those that ended and were billed, or may have been.
        failed: Those that ended in an error and cost nothing.
        cached: Those that LangChain's response cache answered.
        total: Tokens and money at list price.
        models: The same by ``provider:name``, dearest first.
        elapsed: Seconds since the outermost chain began.
        ended: Whether that chain has ended.
    """

    calls: int
    failed: int
    cached: int
    total: Total
    models: tuple[tuple[str, Usage], ...]
    elapsed: float
    ended: bool

    @classmethod
    def of(cls, usage: UsageCallbackHandler, *, elapsed: float, ended: bool) -> CallFigures:
        """What ``usage`` has counted by now; of costs in several currencies, those in that of the first model."""
        by_model = usage.by_model()
        currency = next((each.cost.currency for each in by_model.values() if each.cost is not None), "USD")
        total = Total.of(by_model.values(), currency)
        models = sorted(by_model.items(), key=lambda item: (-(item[1].cost.nano if item[1].cost else 0), item[0]))
        complete = total.complete and not usage.unpriced
        return cls(
            calls=usage.calls,
            failed=usage.failed,
            cached=usage.cached,
            total=Total(total.tokens, total.cost, complete),
            models=tuple(models),
            elapsed=elapsed,
            ended=ended,
        )

    def __str__(self) -> str:
        tokens = self.total.tokens
        parts = [plural(self.calls, "call")]
        parts += [f"{number:,} {what}" for number, what in ((self.failed, "failed"), (self.cached, "cached")) if number]
        parts += [f"{count(tokens.input)} tokens in", f"{count(tokens.output)} out"]
        cost = self.total.cost
        parts.append("cost unknown" if cost is None else money(cost, complete=self.total.complete))
        return ", ".join([*parts, duration(self.elapsed)])


def is_told(calls: int) -> bool:
    """Whether a log gets a line after so many calls: 1, 2, 5, 10, 20, 50, 100, ..."""
    while calls >= 10 and calls % 10 == 0:  # noqa: PLR2004 - decimal
        calls //= 10
    return calls in _STEPS

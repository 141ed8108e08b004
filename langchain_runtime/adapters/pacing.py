"""When a call may go: a model that fails is left alone, and an account's requests and tokens per minute are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_core.messages import BaseMessage

from langchain_runtime.adapters import failures
from langchain_runtime.adapters.account import current_account
from langchain_runtime.adapters.request_bounds import CallBound
from langchain_runtime.contracts.errors import ModelUnavailableError
from langchain_runtime.contracts.plans import Plan, pause
from langchain_runtime.contracts.protocols import TokenEstimator
from langchain_runtime.cost.circuit_breaker import CircuitBreaker, Passage
from langchain_runtime.cost.rate_limiter import RateLimiter, Turn

Caller = tuple[str, str]
"""A task that makes calls: its run and its id."""


class TurnedAway:
    """Tasks whose last call a closed model turned away, until somebody asks; safe for threads."""

    def __init__(self) -> None:
        self._callers: set[Caller] = set()
        self._failures: dict[Caller, int] = {}

    def add(self, caller: Caller) -> None:
        """A call was not let through."""
        self._callers.add(caller)

    def failed(self, caller: Caller, *, busy: bool) -> None:
        """A call was let through and failed; ``busy`` if the provider asked for patience."""
        self._failures[caller] = self._failures.get(caller, 0) + 1
        (self._callers.add if busy else self._callers.discard)(caller)

    def clear(self, caller: Caller) -> None:
        """A call succeeded."""
        self._callers.discard(caller)
        self._failures.pop(caller, None)

    def pop(self, caller: Caller) -> int | None:
        """How many calls of the task failed in a row, if its last one was turned away; told once, then None."""
        if caller not in self._callers:
            return None
        self._callers.discard(caller)
        return self._failures.get(caller, 0)

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        for caller in [*tuple(self._callers), *tuple(self._failures)]:
            if caller[0] == run_id:
                self.clear(caller)


@dataclass(frozen=True, slots=True)
class Pace:
    """What the calls of a model wait for; each part may be shared with other models.

    Attributes:
        breaker: Holds calls back while the model fails; None for none.
        rate_limiter: Requests and tokens per minute; None for no limits.
        by_model: Limits of a run, by the name under which calls are priced; they hold besides ``rate_limiter``. A
            ladder may bring a call to another model than the one that was wrapped.
        turned_away: Learns which tasks of a run could not call; None where nobody asks.
    """

    breaker: CircuitBreaker | None = None
    rate_limiter: RateLimiter | None = None
    by_model: Mapping[str, RateLimiter] = field(default_factory=dict)
    turned_away: TurnedAway | None = None

    @property
    def counts_tokens(self) -> bool:
        """Whether a call must say how many tokens it may use."""
        limiters = (self.rate_limiter, *self.by_model.values())
        return any(limiter is not None and limiter.counts_tokens for limiter in limiters)

    def limiters(self, model: str) -> list[RateLimiter]:
        """What limits calls of ``model``."""
        return [limiter for limiter in (self.rate_limiter, self.by_model.get(model)) if limiter is not None]


class CallPace:
    """One try of a call, from waiting for its turn until it is known how it ended."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._caller = _caller()
        self._passage: Passage | None = None
        self._turns: list[tuple[RateLimiter, Turn]] = []

    def enter(self, model: str, tokens: int) -> Plan[None]:
        """Wait for the turn of a call that may use so many tokens.

        Raises:
            ModelUnavailableError: The model failed too often, or asked for a longer pause than anybody waits.
        """
        breaker = self._pace.breaker
        try:
            if breaker is not None:
                while not isinstance(answer := breaker.admit(model), Passage):
                    yield pause(answer)
                self._passage = answer
            for limiter in self._pace.limiters(model):
                turn = limiter.queue(tokens, caller=self._caller)
                self._turns.append((limiter, turn))
                while wait := limiter.take(turn):
                    yield pause(wait)
        except BaseException as error:
            if isinstance(error, ModelUnavailableError) and self._pace.turned_away is not None:
                self._pace.turned_away.add(self._caller)
            self.leave()
            raise

    def leave(self) -> None:
        """The call was not sent after all."""
        if self._passage is not None and self._pace.breaker is not None:
            self._pace.breaker.abandoned(self._passage)
        for limiter, turn in self._turns:
            limiter.leave(turn)
        self._forget()

    def succeeded(self, tokens: int | None) -> None:
        """The reply came, and took so many tokens; None where the provider did not say."""
        if self._passage is not None and self._pace.breaker is not None:
            self._pace.breaker.succeeded(self._passage)
            if self._pace.turned_away is not None:
                self._pace.turned_away.clear(self._caller)
        self._used(tokens)

    def failed(self, error: BaseException) -> None:
        """The request ended in an error."""
        breaker, passage = self._pace.breaker, self._passage
        if breaker is not None and passage is not None:
            busy = failures.too_many_requests(error)
            if busy:
                breaker.refused(passage, failures.retry_after(error))
            elif failures.speaks_against_model(error):
                breaker.failed(passage)
            else:
                breaker.abandoned(passage)
            if self._pace.turned_away is not None:
                self._pace.turned_away.failed(self._caller, busy=busy)
        self._used(0 if failures.http_error_status(error) is not None else None)

    def _used(self, tokens: int | None) -> None:
        if tokens is not None:
            for limiter, turn in self._turns:
                limiter.used(turn, tokens)
        self._forget()

    def _forget(self) -> None:
        self._passage = None
        self._turns = []


def _caller() -> Caller:
    """The task whose body makes the call; empty outside runs."""
    account = current_account()
    run = account.run if account is not None else None
    return ("", "") if run is None else (str(run.run_id), run.task_id or "")


def expected_use(bound: CallBound, messages: Sequence[BaseMessage], estimator: TokenEstimator) -> int:
    """Tokens that a call may use, as providers count them towards a limit per minute."""
    terms = bound.terms
    read = estimator.expected(messages, model=terms.model, tools=terms.extras)
    return min(read, bound.input_tokens) + bound.output_cap * terms.choices

"""When a call may go: a model that fails is left alone, and an account's requests and tokens per minute are kept."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_runtime.adapters import failures
from langchain_runtime.contracts.plans import Plan, pause
from langchain_runtime.cost.circuit_breaker import CircuitBreaker, Passage
from langchain_runtime.cost.rate_limiter import RateLimiter, Turn


@dataclass(frozen=True, slots=True)
class Pace:
    """What the calls of a model wait for; each part may be shared with other models.

    Attributes:
        breaker: Holds calls back while the model fails; None for none.
        rate_limiter: Requests and tokens per minute; None for no limits.
    """

    breaker: CircuitBreaker | None = None
    rate_limiter: RateLimiter | None = None

    @property
    def counts_tokens(self) -> bool:
        """Whether a call must say how many tokens it may use."""
        return self.rate_limiter is not None and self.rate_limiter.counts_tokens


class CallPace:
    """One try of a call, from waiting for its turn until it is known how it ended."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._passage: Passage | None = None
        self._turn: Turn | None = None

    def enter(self, model: str, tokens: int) -> Plan[None]:
        """Wait for the turn of a call that may use so many tokens.

        Raises:
            ModelUnavailableError: The model failed too often, or asked for a longer pause than anybody waits.
        """
        breaker, limiter = self._pace.breaker, self._pace.rate_limiter
        try:
            if breaker is not None:
                while not isinstance(answer := breaker.admit(model), Passage):
                    yield pause(answer)
                self._passage = answer
            if limiter is not None:
                self._turn = limiter.queue(tokens)
                while wait := limiter.take(self._turn):
                    yield pause(wait)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """The call was not sent after all."""
        if self._passage is not None and self._pace.breaker is not None:
            self._pace.breaker.abandoned(self._passage)
        if self._turn is not None and self._pace.rate_limiter is not None:
            self._pace.rate_limiter.leave(self._turn)
        self._passage = self._turn = None

    def succeeded(self, tokens: int | None) -> None:
        """The reply came, and took so many tokens; None where the provider did not say."""
        if self._passage is not None and self._pace.breaker is not None:
            self._pace.breaker.succeeded(self._passage)
        self._used(tokens)

    def failed(self, error: BaseException) -> None:
        """The request ended in an error."""
        breaker, passage = self._pace.breaker, self._passage
        if breaker is not None and passage is not None:
            if failures.too_many_requests(error):
                breaker.refused(passage, failures.retry_after(error))
            elif failures.speaks_against_model(error):
                breaker.failed(passage)
            else:
                breaker.abandoned(passage)
        self._used(0 if failures.http_error_status(error) is not None else None)

    def _used(self, tokens: int | None) -> None:
        if self._turn is not None and self._pace.rate_limiter is not None and tokens is not None:
            self._pace.rate_limiter.used(self._turn, tokens)
        self._passage = self._turn = None

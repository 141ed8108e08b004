"""When the models of a run take calls: requests and tokens per minute, and a circuit breaker.

The wrapper around each model keeps the limits in any case: a call waits for its turn. The gates spare the slots: the
driver asks before it starts a task, and lets tasks of other models go first while a model is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from langchain_core.language_models import BaseChatModel

from langchain_runtime.adapters.pacing import Caller, Pace, TurnedAway
from langchain_runtime.adapters.providers import model_id
from langchain_runtime.adapters.request_bounds import catalog_name
from langchain_runtime.chat_models.budgeted import BudgetedChatModel
from langchain_runtime.contracts.errors import ModelUnavailableError
from langchain_runtime.contracts.run import ModelLimits
from langchain_runtime.cost import CircuitBreaker, RateLimiter

_SHORTEST_WAIT: Final = 0.001
"""Seconds; a model that opens at this very moment is asked again."""

_ROOM_FOR_PROBE: Final = 1.0
"""Seconds that a task has to make the call that tries a model, before another task may."""

_MOST_FAILURES: Final = 10
"""Calls of one task that may fail in a row until it stops to wait for its model, whatever other tasks' calls do."""


class ModelGates:
    """The gates of all models, for all runs of one compiled graph; safe for threads and event loops.

    Models go by the names that jobs have (``TaskJob.model``). Times are ``time.monotonic`` seconds. A model is closed

    * while its requests or tokens of the minute are used up (``RunPolicy.per_model``); this wait ends by itself,
    * while its breaker is open, or the provider asked for patience (429). This wait is bounded: after as many setbacks
      in a row as the breaker's ``give_up_after``, or a pause beyond its ``longest_wait``, tasks fail instead of
      waiting, with ``ModelUnavailableError``; a run without a deadline ends even if a provider is gone for good. After
      each cool-down one task tries the model again, and its success opens it for all.

    For a driver: ``enter`` before a single call is dispatched (``opens_at`` before an agent), ``leave`` when the
    attempt has ended, ``closed_by`` when it failed, ``forget`` when the run has ended.

    Args:
        limits: By model, as in the policy.
        breaker: For all models of the graph; None leaves those that models bring along.
        price_as: As for ``with_budget``: the wrapper's breaker knows models by the name that prices them.
    """

    def __init__(
        self,
        limits: Mapping[str, ModelLimits] | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        price_as: Mapping[str, str] | None = None,
    ) -> None:
        self._breaker = breaker
        self._price_as = dict(price_as or {})
        self._limiters = {
            model: RateLimiter(rpm=limit.rpm, tpm=limit.tpm)
            for model, limit in (limits or {}).items()
            if limit.rpm is not None or limit.tpm is not None
        }
        self._paces: dict[str, tuple[str, Pace]] = {}
        self._entered: dict[Caller, tuple[str, Pace]] = {}
        self._probed_until: dict[str, float] = {}
        self._turned_away = TurnedAway()

    def paced(self, model: str, chat_model: BaseChatModel) -> BaseChatModel:
        """The budgeted ``chat_model`` behind ``model``, so that all its calls wait for their turn.

        A limit or a breaker of its own goes on holding; the graph's breaker takes the place of its own.
        """
        if not isinstance(chat_model, BudgetedChatModel) or chat_model.lcr_guard is None:
            return chat_model
        known_as = catalog_name(model_id(chat_model, {}), self._price_as)
        by_model = {catalog_name(name, self._price_as): limiter for name, limiter in self._limiters.items()}
        by_model.pop(known_as, None)
        if model in self._limiters:
            by_model[known_as] = self._limiters[model]
        own = chat_model.lcr_guard.pace or Pace()
        pace = Pace(self._breaker or own.breaker, own.rate_limiter, by_model, self._turned_away)
        if pace.breaker is None and pace.rate_limiter is None and not by_model:
            return chat_model
        self._paces[model] = (known_as, pace)
        return chat_model.model_copy(update={"lcr_guard": replace(chat_model.lcr_guard, pace=pace)})

    # --- for drivers -------------------------------------------------------------------------------------------------

    def counts_tokens(self, model: str | None) -> bool:
        """Whether ``enter`` needs to know how many tokens a call of ``model`` may use."""
        known = self._known(model)
        return known is not None and known[1].counts_tokens

    def opens_at(self, model: str | None, tokens: int, now: float) -> float | None:
        """When ``model`` takes a call that may use so many tokens; None for now. A look: nothing is taken.

        Raises:
            ModelUnavailableError: The model is not worth waiting for.
        """
        known = self._known(model)
        if known is None:
            return None
        known_as, pace = known
        waits = [limiter.look(tokens) for limiter in pace.limiters(known_as)]
        wait = max(self._breakers_wait(known_as, pace, now), *waits, 0.0)
        return now + max(wait, _SHORTEST_WAIT) if wait > 0 else None

    def enter(self, run_id: str, task_id: str, model: str | None, tokens: int, now: float) -> float | None:
        """As ``opens_at``; where the model is open, the turn of the task's next call is taken already.

        So tasks that are dispatched together do not all take the same turn for theirs.
        """
        known = self._known(model)
        if known is None:
            return None
        if (until := self.opens_at(model, tokens, now)) is not None:
            return until
        known_as, pace = known
        caller = (run_id, task_id)
        self._entered[caller] = known
        for limiter in pace.limiters(known_as):
            if wait := limiter.take_ahead(caller, tokens):  # somebody was faster
                self.leave(run_id, task_id)
                return now + wait
        if pace.breaker is not None and pace.breaker.state(known_as) == "half_open":
            self._probed_until[known_as] = now + _ROOM_FOR_PROBE
        return None

    def leave(self, run_id: str, task_id: str) -> None:
        """The attempt has ended: give back what was taken for a call that it did not make."""
        caller = (run_id, task_id)
        if (known := self._entered.pop(caller, None)) is not None:
            known_as, pace = known
            for limiter in pace.limiters(known_as):
                limiter.drop(caller)

    def closed_by(self, run_id: str, task_id: str, model: str | None, now: float) -> float | None:
        """When to start a task again whose attempt failed only because ``model`` was closed, or has closed now.

        That was no attempt: nothing was sent, or the provider answered that there were too many requests. None where
        the failure is the task's own, or there is no point in waiting.
        """
        known = self._known(model)
        failures = self._turned_away.pop((run_id, task_id))
        if known is None or failures is None or failures >= _MOST_FAILURES:
            return None
        try:
            return now + max(self._breakers_wait(*known, now), _SHORTEST_WAIT)
        except ModelUnavailableError:
            return None

    def forget(self, run_id: str) -> None:
        """The run has ended here."""
        self._turned_away.forget(run_id)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _known(self, model: str | None) -> tuple[str, Pace] | None:
        """The name and the pace of a model that has limits; None for all others."""
        return None if model is None else self._paces.get(model)

    def _breakers_wait(self, known_as: str, pace: Pace, now: float) -> float:
        if pace.breaker is None:
            return 0.0
        wait = pace.breaker.look(known_as)
        if wait == 0 and pace.breaker.state(known_as) == "half_open":
            wait = self._probed_until.get(known_as, now) - now
        return wait

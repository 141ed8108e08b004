"""Requests and tokens per minute in virtual time: the rate limiter that real calls pass, on the clock of a replay."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_runtime.contracts.run import ModelLimits
from langchain_runtime.cost import RateLimiter
from langchain_runtime.orchestration.replay import Pace


class VirtualPace(Pace):
    """Lets calls of limited models start when they have their turn.

    Args:
        limits: Ceilings of the models whose calls are paced; without rates they take calls at any time.
        models: Model by task.
        tokens: What each task's calls use.
    """

    def __init__(
        self, limits: Mapping[str, ModelLimits], models: Mapping[str, str | None], tokens: Mapping[str, int]
    ) -> None:
        self._governed = frozenset(limits)
        self._models = models
        self._tokens = tokens
        self._now = 0.0
        self._limiters = {
            model: RateLimiter(rpm=each.rpm, tpm=each.tpm, clock=lambda: self._now)
            for model, each in limits.items()
            if each.rpm is not None or each.tpm is not None
        }

    def governs(self, model: str | None) -> bool:
        """Whether the model is one of them."""
        return model in self._governed

    def closed_for(self, task_id: str, now: float) -> float:
        """Seconds until there is room for the task's call."""
        limiter = self._limiter_of(task_id)
        self._now = now
        return 0.0 if limiter is None else limiter.look(self._tokens[task_id])

    def started(self, task_id: str, now: float) -> None:
        """Take what the call uses."""
        limiter = self._limiter_of(task_id)
        self._now = now
        if limiter is not None:
            limiter.take(limiter.queue(self._tokens[task_id]))

    def _limiter_of(self, task_id: str) -> RateLimiter | None:
        """None also for a task that makes no call: it did not run, took a kept result, or only gathers others."""
        return self._limiters.get(self._models.get(task_id) or "") if self._tokens.get(task_id) else None

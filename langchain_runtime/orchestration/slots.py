"""Slots of a run and of its models, and the line of tasks that wait for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from langchain_runtime.orchestration.queue_manager import QueueManager


class _Lane:
    """One model: its own slots, and the tasks that came to the head of the line while it was closed."""

    def __init__(self, limit: int | None) -> None:
        self.free: float = math.inf if limit is None else limit
        self.paused_until = -math.inf
        self.parked = QueueManager()


class Slots:
    """Gives slots to queued tasks by urgency; a task whose model is full or paused lets the others pass.

    A task in front of a closed model is parked there and comes back to the line when the model has room for it. Each
    freed slot moves at most one task, so an operation is O(log n) amortised, however many models there are.

    Args:
        total: Slots of the run.
        limits: Slots by model; None or no entry for no limit.
        models: Model by task; None or no entry for a task without a model.
        urgency: As for ``QueueManager``.
    """

    def __init__(
        self,
        total: int,
        *,
        limits: Mapping[str, int | None],
        models: Mapping[str, str | None],
        urgency: Callable[[str], tuple[float, ...]],
    ) -> None:
        self._free = total
        self._limits = limits
        self._models = dict(models)
        self._urgency = urgency
        self._line = QueueManager()
        self._lanes: dict[str, _Lane] = {}
        self._paused: set[str] = set()
        self._taken: dict[str, list[str | None]] = {}

    @property
    def wanted(self) -> bool:
        """Whether a task waits for a slot."""
        return bool(self._line) or any(lane.parked for lane in self._lanes.values())

    def model(self, task_id: str) -> str | None:
        """The model in whose line the task stands when it waits."""
        return self._models.get(task_id)

    def enqueue(self, task_id: str) -> None:
        """Let the task wait for a slot."""
        self._line.enqueue(task_id, self._urgency(task_id))

    def move(self, task_id: str, model: str) -> None:
        """Let the task wait for ``model`` from now on; slots that it has are not touched."""
        self._models[task_id] = model

    def take(self) -> str | None:
        """Give a slot to the most urgent task that can have one, and return the task; None if there is none."""
        while self._free and (task_id := self._line.dequeue()) is not None:
            model = self._models.get(task_id)
            if model is not None:
                lane = self._lane(model)
                if model in self._paused or not lane.free:
                    lane.parked.enqueue(task_id, self._urgency(task_id))
                    continue
                lane.free -= 1
            self._free -= 1
            self._taken.setdefault(task_id, []).append(model)
            return task_id
        return None

    def give_back(self, task_id: str, *, oldest: bool = False) -> None:
        """Free the slot that ``task_id`` took last; or first, for a body that outlived its attempt."""
        self._free += 1
        model = self._taken[task_id].pop(0 if oldest else -1)
        if model is not None:
            self._lane(model).free += 1
            self._unpark(model, 1)

    def pause(self, model: str, until: float) -> None:
        """Close the model until then, or longer if it is closed for longer already; what runs goes on."""
        lane = self._lane(model)
        lane.paused_until = max(until, lane.paused_until)
        self._paused.add(model)

    def reopen(self, now: float) -> None:
        """Open the models whose pause is over."""
        for model in [model for model in self._paused if self._lanes[model].paused_until <= now]:
            self._paused.remove(model)
            self._unpark(model, self._lanes[model].free)

    def reopens_at(self) -> float:
        """The next time at which a pause ends that a parked task waits for; infinite if none does."""
        if not self._paused:
            return math.inf
        lanes = (self._lanes[model] for model in self._paused)
        return min((lane.paused_until for lane in lanes if lane.parked), default=math.inf)

    def _lane(self, model: str) -> _Lane:
        if model not in self._lanes:
            self._lanes[model] = _Lane(self._limits.get(model))
        return self._lanes[model]

    def _unpark(self, model: str, at_most: float) -> None:
        """Let parked tasks back into the line, the most urgent ones first."""
        while at_most > 0 and (task_id := self._lanes[model].parked.dequeue()) is not None:
            self.enqueue(task_id)
            at_most -= 1

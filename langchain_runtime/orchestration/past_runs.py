"""What earlier runs tell about the next one: the nearest samples there are, and how fast models answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from statistics import fmean, linear_regression, median
from typing import Final, TypeVar

from langchain_runtime.contracts.history import TaskSample

_ENOUGH_FOR_A_LINE: Final = 3
"""Samples of a model from which on its speed is told apart from its time to the first token."""


Durations = Mapping[tuple[str, str, str | None], float]
"""Seconds that the tasks of one run took, by task, body and model."""

_Key = TypeVar("_Key", bound=Hashable)


class PastRuns:
    """Samples of earlier runs, by what they are samples of.

    The samples of a task are those of the same task, prompt and model; where there are none, of the same prompt and
    model in other tasks. A task whose prompt was rewritten has none.

    Args:
        samples: In any order.
    """

    def __init__(self, samples: Iterable[TaskSample] = ()) -> None:
        self._samples = list(samples)

    @cached_property
    def _of_tasks(self) -> Mapping[tuple[str, str, str | None], list[TaskSample]]:
        return _grouped(self._samples, lambda sample: (sample.task, sample.body, sample.model))

    @cached_property
    def _of_bodies(self) -> Mapping[tuple[str, str | None], list[TaskSample]]:
        return _grouped(self._samples, lambda sample: (sample.body, sample.model))

    @cached_property
    def _of_models(self) -> Mapping[str | None, list[TaskSample]]:
        return _grouped(self._samples, lambda sample: sample.model)

    def of(self, task: str, body: str, model: str | None) -> Sequence[TaskSample]:
        """The nearest samples of a task; empty where there are none. Arguments are as in ``TaskSample``."""
        return self._of_tasks.get((task, body, model)) or self._of_bodies.get((body, model)) or ()

    def has(self, task: str, body: str, model: str | None) -> bool:
        """Whether this very task was carried out before."""
        return (task, body, model) in self._of_tasks

    def seconds_on(self, model: str, output_tokens: float) -> float | None:
        """How long a model takes to write so many tokens, by all prompts that it answered; None if it answered none.

        A straight line through time and output tokens, where the samples have one that rises.
        """
        samples = self._of_models.get(model)
        if not samples:
            return None
        written = [sample.tokens.output for sample in samples]
        seconds = [sample.seconds for sample in samples]
        if len(samples) >= _ENOUGH_FOR_A_LINE and min(written) < max(written):
            slope, intercept = linear_regression(written, seconds)
            if slope > 0:
                return max(intercept + slope * output_tokens, min(seconds))
        return median(seconds)


def durations_of(samples: Iterable[TaskSample]) -> Durations:
    """How long each task of a run took; of several samples of one, the median."""
    durations: dict[tuple[str, str, str | None], float] = {}
    several: dict[tuple[str, str, str | None], list[float]] = {}
    for sample in samples:
        key = (sample.task, sample.body, sample.model)
        if key in durations:
            several.setdefault(key, [durations[key]]).append(sample.seconds)
        else:
            durations[key] = sample.seconds
    return durations | {key: median(seconds) for key, seconds in several.items()}


def _grouped(samples: Iterable[TaskSample], key: Callable[[TaskSample], _Key]) -> Mapping[_Key, list[TaskSample]]:
    groups: dict[_Key, list[TaskSample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return groups


def typical_seconds(samples: Sequence[TaskSample]) -> float:
    """The duration to reckon with: one slow answer in ten must not move the critical path."""
    return median(sample.seconds for sample in samples)


def mean_items(samples: Sequence[TaskSample]) -> int | None:
    """How many children a ``for_each`` task had on average; None if no sample tells."""
    counts = [sample.items for sample in samples if sample.items is not None]
    return round(fmean(counts)) if counts else None

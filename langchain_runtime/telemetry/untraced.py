"""What the graph tells about a run, where nobody traces: nothing comes of it, and it costs nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, Self

from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.protocols import RunObserver
from langchain_runtime.contracts.run import TaskOutcome

NOTHING: Final = nullcontext()
"""Serves any number of blocks, also one inside the other."""


class AttemptTrace:
    """One attempt at a task, of a run that nobody traces."""

    def __enter__(self) -> Self:
        """Begin; ``body`` and ``ended`` are for inside."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, with the outcome that was told, or with an error."""

    def body(self) -> AbstractContextManager[None]:
        """Around the body, in the context in which it runs; it may run more than once in an attempt."""
        return NOTHING

    def ended(self, outcome: TaskOutcome) -> None:
        """Tell what came of it."""


_UNTRACED: Final = AttemptTrace()


class RunTrace:
    """One execution of a run, of which nobody makes a trace.

    Attributes:
        observers: Who has to hear the run's events.
    """

    observers: tuple[RunObserver, ...] = ()

    def run(self) -> AbstractContextManager[None]:
        """Around the driver."""
        return NOTHING

    def attempt(self, job: TaskJob) -> AttemptTrace:  # noqa: ARG002 - those who trace look at it
        """Around an attempt that may come to run its body."""
        return _UNTRACED

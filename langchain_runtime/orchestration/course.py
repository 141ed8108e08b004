"""Whether a run goes on, and how it ends."""

from __future__ import annotations

import math

from langchain_runtime.contracts.run import RunPolicy, RunState
from langchain_runtime.orchestration.executor_protocol import Finish


class Course:
    """Verdict, shutdown, deadline and the question to a human of one run.

    Args:
        policy: For its deadline and what it does about failures.

    Attributes:
        deadline: When the run is ended; infinite for never.
        draining: Nothing starts any more, and what runs may finish.
        asking: Nothing starts before a human has answered.
        failed: Whether a task has failed.
    """

    def __init__(self, policy: RunPolicy) -> None:
        self._timeout_ms = policy.timeout_ms
        self._fail_fast = policy.on_task_failure == "fail_fast"
        self._asked = False
        self.deadline = math.inf
        self._verdict: Finish | None = None
        self.draining = False
        self.failed = False
        self.asking = False

    @property
    def stopping(self) -> bool:
        """Whether the run ends although work may be left."""
        return self._verdict is not None

    @property
    def may_start(self) -> bool:
        """Whether tasks may start."""
        return not self.stopping and not self.draining and not self.asking

    @property
    def fails_fast(self) -> bool:
        """Whether a task has failed and that ends the run."""
        return self.failed and self._fail_fast

    def restart_deadline(self, now: float) -> None:
        """Give the run its whole time from now on."""
        if self._timeout_ms is not None:
            self.deadline = now + self._timeout_ms / 1000

    def stop(self, verdict: Finish) -> bool:
        """Let the run end with this verdict; the first one stands, and for later ones this is False."""
        if self.stopping:
            return False
        self._verdict = verdict
        return True

    def ask(self) -> bool:
        """Let the run wait for a human; False if it does already. It does not pay for a human's time."""
        if self._asked:
            return False
        self._asked = True
        self.deadline = math.inf
        return True

    def answered(self, now: float) -> None:
        """Go on; also when the answer came before the question."""
        if self._asked:
            self.restart_deadline(now)
        self.asking = self._asked = False

    def outcome(self, *, unfinished: bool, standstill: str) -> Finish:
        """How the run has ended; ``standstill`` is the reason if work is left without a verdict."""
        if not unfinished and not self.failed:
            return Finish(RunState.COMPLETED)
        if self._verdict is not None:
            return self._verdict
        return Finish(RunState.RUNNING, standstill) if unfinished else Finish(RunState.FAILED)

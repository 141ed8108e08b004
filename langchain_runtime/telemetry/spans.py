"""A span for each execution of a run, and below it one for each attempt at a task.

``trace_of`` looks once whether anybody traces: only where the application has set a tracer provider up is OpenTelemetry
touched at all. A run that nobody traces has a ``RunTrace`` that does nothing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler

from langchain_runtime.contracts.errors import RunAbortedError, RunFailedError
from langchain_runtime.contracts.events import (
    BudgetRefused,
    CallSettled,
    ContextCompacted,
    LifecycleEvent,
    RunEnded,
    RunStarted,
    TaskFinished,
)
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import RunState, TaskOutcome, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.contracts.version import __version__
from langchain_runtime.telemetry import attributes as name
from langchain_runtime.telemetry import content, figures
from langchain_runtime.telemetry.endings import FAILED, broken_off, code_of, identity, is_cancelled, state_of, title_of
from langchain_runtime.telemetry.switches import captures_content, wants_chat_spans
from langchain_runtime.telemetry.untraced import NOTHING, AttemptTrace, RunTrace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_log = logging.getLogger(__name__)

HeardBy = Callable[[BaseCallbackHandler], AbstractContextManager[None]]
"""Lets a callback handler hear of every model call in a block."""

_UNNAMED: Final = "RunGraph"
"""Name of a graph that nobody has named: the conventions want none then."""

_MOST_OF_AN_ERROR: Final = 1_000
"""Characters."""

_FAILURES: Final = {RunState.FAILED: RunFailedError.code, RunState.ABORTED: RunAbortedError.code}

_HAS_NO_CONTENT: Final = frozenset(
    {"budget_exceeded", "context_overflow", "ledger_unavailable", "model_unavailable", "reservation_lost"}
    | {"task_cancelled", "task_timeout"}
)
"""Codes of errors whose messages consist of names and figures; others may quote a prompt or an output."""


def trace_of(run_id: str, graph: str, *, heard_by: HeardBy) -> RunTrace:
    """The trace of one execution of a run.

    Args:
        run_id: The run.
        graph: Name of its graph.
        heard_by: For spans of model calls, where they are switched on.
    """
    tracer = _tracer()
    return RunTrace() if tracer is None else _RecordedRun(tracer, run_id, graph, heard_by)


def _tracer() -> Tracer | None:
    """The application's tracer; None where it has none, or one that records nothing."""
    if sys.modules.get("opentelemetry.trace") is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - somebody else has imported it

    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    tracer = provider.get_tracer("langchain_runtime", __version__, schema_url=name.SCHEMA_URL)
    return None if isinstance(tracer, trace.NoOpTracer) else tracer


# --- somebody traces -------------------------------------------------------------------------------------------------


class _RecordedRun(RunTrace):
    """A run as a span, from the events that it emits.

    Its tokens and money are what this execution took; what earlier ones spent is in ``lcr.budget.spent``.
    """

    def __init__(self, tracer: Tracer, run_id: str, graph: str, heard_by: HeardBy) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - there is a tracer

        self.api = trace
        self.tracer = tracer
        self.run_id = run_id
        self.captures = captures_content()
        self.heard_by = heard_by if wants_chat_spans() else None
        self.open: dict[str, _RecordedAttempt] = {}
        self.ended: set[tuple[str, int]] = set()
        """Tasks and the attempts at them that have spans."""
        self.observers = (self,)
        self._named = {} if graph == _UNNAMED else {name.WORKFLOW_NAME: graph, name.AGENT_NAME: graph}
        self._title = name.INVOKE_WORKFLOW if graph == _UNNAMED else f"{name.INVOKE_WORKFLOW} {graph}"
        self._started: RunStarted | None = None
        self._ended: RunEnded | None = None
        self._used: Usage | None = None
        self.span: Span = trace.INVALID_SPAN

    @contextmanager
    def run(self) -> Iterator[None]:
        self.safely(self._begin)
        error: BaseException | None = None
        try:
            with self.current(self.span):
                yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.safely(lambda: self._tell_end(error))
            self.safely(self.span.end)

    def attempt(self, job: TaskJob) -> AttemptTrace:
        return _RecordedAttempt(self, job)

    def current(self, span: Span) -> AbstractContextManager[Span]:
        """Make a span the parent of what begins inside; what is raised there is ours to judge."""
        return self.api.use_span(span, record_exception=False, set_status_on_exception=False)

    def safely(self, work: Callable[[], None]) -> None:
        """Do what a span needs; nobody's processor, exporter or content may end a run that costs money."""
        try:
            work()
        except Exception:  # noqa: BLE001 - it may be anybody's code
            _log.warning("a span of run %s is not complete", self.run_id, exc_info=True)

    def start_below(self, title: str, known: dict[str, Any], *, at: datetime | None = None) -> Span:
        """A span below the run's, wherever it is made: a body may run in the context of a LangGraph node."""
        parent = self.api.set_span_in_context(self.span)
        return self.tracer.start_span(title, parent, attributes=known, start_time=None if at is None else _nanos(at))

    def set_error(self, span: Span, code: str, message: str | None) -> None:
        """Mark a span as failed. What may quote a prompt is said only where content may leave the process."""
        said = message if self.captures or code in _HAS_NO_CONTENT else content.error_class(message)
        span.set_attribute(name.ERROR_TYPE, code)
        span.set_status(self.api.StatusCode.ERROR, None if said is None else content.clipped(said, _MOST_OF_AN_ERROR))

    # --- events ------------------------------------------------------------------------------------------------------

    def on_run_event(self, event: LifecycleEvent) -> None:
        """Take note of an event of the run."""
        match event:
            case RunStarted():
                self._started = event
            case RunEnded():
                self._ended = event
            case CallSettled():
                self._charge(event)
            case BudgetRefused():
                self._note(event.task, name.EVENT_BUDGET_REFUSED, figures.of_refusal(event), event.at)
            case ContextCompacted():
                self._note(event.task, name.EVENT_CONTEXT_COMPACTED, figures.of_compaction(event), event.at)
            case TaskFinished() if (event.task, event.attempts) not in self.ended:
                self._finish_without_body(event)

    def _charge(self, call: CallSettled) -> None:
        used = Usage(tokens=call.usage or TokenUsage(), cost=call.cost)
        self._used = _sum(self._used, used)
        if call.task in self.open:
            attempt = self.open[call.task]
            attempt.used = _sum(attempt.used, used)

    def _note(self, task_id: str | None, event: str, facts: dict[str, Any], at: datetime) -> None:
        attempt = self.open.get(task_id or "")
        span = self.span if attempt is None else attempt.span
        span.add_event(event, {**({} if task_id is None else {name.TASK_ID: task_id}), **facts}, _nanos(at))

    def _finish_without_body(self, event: TaskFinished) -> None:
        if event.error is not None and not is_cancelled(event.error):
            known = {**identity(self.run_id, event.task, event.attempts), name.TASK_STATE: FAILED}
            span = self.start_below(title_of(event.task), known, at=event.at)
            self.set_error(span, event.error.code, event.error.message)
            span.end(_nanos(event.at))
            return
        facts: dict[str, Any] = {name.TASK_STATE: state_of(event.state, event.error)}
        if event.skipped_because is not None:
            facts[name.TASK_SKIPPED_BECAUSE] = event.skipped_because
        self._note(event.task, name.EVENT_TASK_FINISHED, facts, event.at)

    # --- beginning and end -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        known = {name.OPERATION_NAME: name.INVOKE_WORKFLOW, name.RUN_ID: self.run_id, **self._named}
        self.span = self.tracer.start_span(self._title, attributes=known)

    def _tell_end(self, error: BaseException | None) -> None:
        span, started, ended = self.span, self._started, self._ended
        limit = None if started is None else started.limit
        spent = None if ended is None else ended.usage.cost
        span.set_attributes(figures.of_usage(self._used) | figures.of_budget(limit, spent))
        if started is not None:
            span.set_attribute(name.RUN_TASKS, started.tasks)
        if error is not None:
            self._break_off(error)
        elif ended is not None:
            span.set_attribute(name.RUN_STATE, str(ended.state))
            if ended.reason is not None:
                span.set_attribute(name.RUN_REASON, ended.reason)
            if ended.state in _FAILURES:
                self.set_error(span, _FAILURES[ended.state], None)

    def _break_off(self, error: BaseException) -> None:
        state = broken_off(error)
        self.span.set_attribute(name.RUN_STATE, state)
        if state == FAILED:
            self.set_error(self.span, code_of(error), str(error))


class _RecordedAttempt(AttemptTrace):
    """An attempt as a span, which begins with its body: what LangGraph or an equal task had kept is none."""

    def __init__(self, run: _RecordedRun, job: TaskJob) -> None:
        self.used: Usage | None = None
        self.span: Span = run.api.INVALID_SPAN
        self._run = run
        self._job = job
        self._outcome: TaskOutcome | None = None
        self._left = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._run.open.pop(self._job.task_id, None) is None:
            return
        self._run.ended.add((self._job.task_id, self._job.attempt))
        self._run.safely(self._left.close)
        self._run.safely(lambda: self._tell_end(error))
        self._run.safely(self.span.end)

    @contextmanager
    def body(self) -> Iterator[None]:
        if self._job.task_id not in self._run.open:
            self._run.open[self._job.task_id] = self
            self._run.safely(self._begin)
        with self._run.current(self.span), self._hearing_calls():
            yield

    def ended(self, outcome: TaskOutcome) -> None:
        self._outcome = outcome

    def _begin(self) -> None:
        job = self._job
        known = {**identity(self._run.run_id, job.task_id, job.attempt), **figures.of_model(job.model)}
        self.span = self._run.start_below(title_of(job.task_id), known)
        if self._run.captures and self.span.is_recording():
            if job.messages is not None:
                self.span.set_attribute(name.INPUT_MESSAGES, content.chat_history(job.messages))
            else:
                self.span.set_attribute(name.TOOL_CALL_ARGUMENTS, content.as_json(job.inputs))

    def _hearing_calls(self) -> AbstractContextManager[None]:
        if self._run.heard_by is None:
            return NOTHING
        from langchain_runtime.telemetry.chat import ChatSpans  # noqa: PLC0415 - few switch it on

        calls = ChatSpans(self._run.tracer, captures=self._run.captures)
        self._left.callback(calls.close)
        return self._run.heard_by(calls)

    def _tell_end(self, error: BaseException | None) -> None:
        self.span.set_attributes(figures.of_usage(self.used))
        if self._outcome is not None:
            self._tell_outcome(self._outcome)
        elif error is not None:
            state = broken_off(error)
            self.span.set_attribute(name.TASK_STATE, state)
            if state == FAILED:
                self._run.set_error(self.span, code_of(error), str(error))

    def _tell_outcome(self, outcome: TaskOutcome) -> None:
        span = self.span
        span.set_attribute(name.TASK_STATE, state_of(outcome.state, outcome.error))
        if outcome.error is not None and not is_cancelled(outcome.error):
            self._run.set_error(span, outcome.error.code, outcome.error.message)
        if outcome.state is not TaskState.COMPLETED:
            return
        if (reason := content.finish_reason(outcome.metadata)) is not None:
            span.set_attribute(name.RESPONSE_FINISH_REASONS, [reason])
        if self._run.captures and span.is_recording():
            if self._job.messages is not None:
                span.set_attribute(name.OUTPUT_MESSAGES, content.reply(outcome.output, outcome.metadata))
            else:
                span.set_attribute(name.TOOL_CALL_RESULT, content.as_json(outcome.output))


def _sum(one: Usage | None, other: Usage) -> Usage:
    return other if one is None else one + other


def _nanos(at: datetime) -> int:
    return int(at.timestamp() * 1e9)

"""A callback handler that shows what it is handed to while that goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TextIO
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from langchain_runtime.adapters.account import current_account
from langchain_runtime.callbacks import UsageCallbackHandler
from langchain_runtime.contracts.events import LifecycleEvent, RunEnded, RunStarted
from langchain_runtime.contracts.protocols import ModelCatalog
from langchain_runtime.report.calls import CallFigures
from langchain_runtime.report.live import CallsView, LiveView, view_of_calls, view_of_run

_log = logging.getLogger(__name__)


class ProgressCallbackHandler(BaseCallbackHandler):
    """Shows a run of a ``RunGraph``, a chain or an agent while it runs.

    ::

        app.invoke(inputs, {"callbacks": [ProgressCallbackHandler()]})

    In a Jupyter notebook one output below the cell is updated in place (up to four times a second), in a terminal a
    tree of tasks is redrawn (rich), and everywhere else lines are appended: one for each tenth of the tasks, and for
    each failure. What is shown of a run: tasks and their states, tokens, cost, its budget, and the time left. Of chains
    and agents outside of runs: how many calls of chat models ended, their tokens, cost at list price, and time, until
    the outermost chain ends. The last figures stay.

    Several at once: each run has an output of its own in a notebook (eight at most; others are told in lines). A
    terminal has one table, which the run has that was first; others append lines above it, with their ids. A run that
    a task of a shown run carries out is part of that task. Calls outside of runs share one view.

    It never raises, and never keeps a run waiting: pictures are drawn in a thread of their own.

    Args:
        stream: Where to draw; None for the notebook, or else standard error.
        catalog: Models and prices of calls outside of runs; None for the default catalogue.
        price_as: As for ``UsageCallbackHandler``, for these calls.
    """

    run_inline = True  # in async code, too: who pays for a call is known from its context
    blind_to_tasks = True  # runs may leave LangGraph's tasks out, most of what a short task takes: events tell of ours

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        catalog: ModelCatalog | None = None,
        price_as: Mapping[str, str] | None = None,
    ) -> None:
        self._stream = stream
        self._new_usage = partial(UsageCallbackHandler, catalog=catalog, price_as=price_as)
        self._lock = threading.RLock()
        self._runs: dict[str, LiveView] = {}
        self._calls: _Calls | None = None
        self._outermost: dict[UUID, UUID] = {}
        """For all that began and has not ended, in LangChain's ids: what it is part of."""
        self._began_at = 0.0
        self._broken = False

    def on_run_event(self, event: LifecycleEvent) -> None:
        """Show what happened in a run of a ``RunGraph``."""
        self._safely(lambda: self._feed(event))

    def on_chain_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002 - LangChain's signature
        inputs: dict[str, Any],  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **_event: Any,
    ) -> None:
        """Note that a chain began."""
        if not self._is_inside_a_shown_run():
            self._begin(run_id, parent_run_id)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **_event: Any) -> None:  # noqa: ARG002
        """Let go of what is shown once the outermost chain has ended."""
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_event: Any) -> None:  # noqa: ARG002
        """As for a chain that ended well."""
        self._end(run_id)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **event: Any,
    ) -> None:
        """Note a call."""
        self._begin_call(
            lambda usage: usage.on_chat_model_start(serialized, messages, run_id=run_id, **event), run_id, parent_run_id
        )

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **event: Any,
    ) -> None:
        """Note a call of a text-completion model."""
        self._begin_call(
            lambda usage: usage.on_llm_start(serialized, prompts, run_id=run_id, **event), run_id, parent_run_id
        )

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **event: Any) -> None:
        """Show a call that ended."""
        self._count(lambda usage: usage.on_llm_end(response, run_id=run_id, **event))
        self._end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **event: Any) -> None:
        """Show a call that failed."""
        self._count(lambda usage: usage.on_llm_error(error, run_id=run_id, **event))
        self._end(run_id)

    def _feed(self, event: LifecycleEvent) -> None:
        view = self._runs.get(event.run_id)
        if view is None and isinstance(event, RunStarted) and not self._is_inside_a_shown_run():
            view = self._runs[event.run_id] = view_of_run(event.run_id, self._stream, alone=not self._runs)
        if view is None:
            return
        view.feed(event)
        if isinstance(event, RunEnded):
            del self._runs[event.run_id]
            view.close()

    def _is_inside_a_shown_run(self) -> bool:
        """Whether the code that runs now belongs to a task of a run that is shown."""
        account = current_account()
        while account is not None:
            if account.run_id in self._runs:
                return True
            account = account.enclosing
        return False

    def _begin(self, run_id: UUID, parent: UUID | None) -> None:
        with self._lock:
            if not self._outermost:
                self._began_at = time.monotonic()
            self._outermost[run_id] = run_id if parent is None else self._outermost.get(parent, run_id)

    def _begin_call(self, count: Callable[[UsageCallbackHandler], None], run_id: UUID, parent: UUID | None) -> None:
        if self._is_inside_a_shown_run():
            return
        with self._lock:
            if parent is not None and parent not in self._outermost:
                # Of somebody who was not heard of. LangChain does not tell of the end of calls that were cancelled:
                # whatever else goes on shall not wait for it.
                parent = next(reversed(self._outermost.values()), None)
            self._begin(run_id, parent)
            if self._calls is None:
                self._calls = _Calls(self._new_usage(), self._stream, self._began_at)
        self._count(count, begins=True)

    def _end(self, run_id: UUID) -> None:
        with self._lock:
            if self._outermost.pop(run_id, None) != run_id:
                return
            # Calls that were cancelled are still among its parts.
            self._outermost = {part: whole for part, whole in self._outermost.items() if whole != run_id}
            if not self._outermost:
                self._safely(self._close)

    def _count(self, count: Callable[[UsageCallbackHandler], None], *, begins: bool = False) -> None:
        with self._lock:
            calls = self._calls
        if calls is not None:
            self._safely(lambda: calls.count(count, begins=begins))

    def _close(self) -> None:
        """Whatever did not say that it ended was stopped: by an error, or to ask a human."""
        views: list[LiveView | _Calls] = [*self._runs.values()]
        views += [] if self._calls is None else [self._calls]
        self._runs.clear()
        self._calls = None
        for view in views:
            view.close()

    def _safely(self, show: Callable[[], None]) -> None:
        """Carry ``show`` out; after a failure nothing is shown any more."""
        with self._lock:
            if self._broken:
                return
            try:
                show()
            except Exception:  # noqa: BLE001 - whoever only looks on must not end a run that costs money
                self._broken = True
                _log.warning("progress is not shown any more", exc_info=True)
                with suppress(Exception):  # of what cannot be shown, the terminal is to be given back at least
                    self._close()


class _Calls:
    """Calls outside of runs, and their view once one has ended."""

    def __init__(self, usage: UsageCallbackHandler, stream: TextIO | None, began_at: float) -> None:
        self._usage = usage
        self._stream = stream
        self._began_at = began_at
        self._view: CallsView | None = None

    def count(self, count: Callable[[UsageCallbackHandler], None], *, begins: bool) -> None:
        before = self._seen()
        count(self._usage)
        if begins or self._seen() == before:
            return
        if self._view is None:
            self._view = view_of_calls(self._figures, self._stream)
        self._view.changed()

    def close(self) -> None:
        if self._view is not None:
            self._view.close()

    def _seen(self) -> tuple[int, int, int]:
        return self._usage.calls, self._usage.failed, self._usage.cached

    def _figures(self, ended: bool) -> CallFigures:
        return CallFigures.of(self._usage, elapsed=time.monotonic() - self._began_at, ended=ended)

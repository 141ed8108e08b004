"""What LangGraph's users do with a thread, for a graph of tasks: look at its state, edit it, go back, run parts again.

Each method does I/O and nothing else; what is to be seen, and what is to be changed, is decided in ``thread_state`` and
``thread_edits``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import Run, RunHeader, TaskOutcome
from langchain_runtime.graph.execution import Execution
from langchain_runtime.graph.run_view import assemble_run, header_of, outcomes_of
from langchain_runtime.graph.supersteps import Supersteps
from langchain_runtime.graph.thread_edits import (
    Revision,
    Standing,
    edition,
    migration,
    needs_no_change,
    rerun,
    resumption,
)
from langchain_runtime.graph.thread_state import begins_anew, told_by_tasks, unfinished_run
from langchain_runtime.graph.thread_values import Edit, read_edit

_CHECKPOINT_ID = "checkpoint_id"


class RunThreads(CompiledStateGraph[Any, Any, Any, Any]):
    """The part of a compiled graph that deals with the runs its threads hold."""

    _execution: Execution
    _supersteps: Supersteps | None

    # --- looking -----------------------------------------------------------------------------------------------------

    def get_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """LangGraph's snapshot, told by tasks: ``next`` and ``tasks`` name those that would run next.

        The newest snapshot of an unfinished run also holds, under ``values["results"]``, what has finished since its
        checkpoint was written. One that is asked for by its ``checkpoint_id`` holds what that checkpoint does.
        """
        snapshot = super().get_state(config, subgraphs=subgraphs)
        run_id = None if _is_addressed(config) else unfinished_run(snapshot)
        journal = None if run_id is None else self._ledger.outcomes(run_id)
        return told_by_tasks(self._execution.spec, snapshot, journal)

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Async twin of ``get_state``."""
        snapshot = await super().aget_state(config, subgraphs=subgraphs)
        run_id = None if _is_addressed(config) else unfinished_run(snapshot)
        journal = None if run_id is None else await self._ledger.aoutcomes(run_id)
        return told_by_tasks(self._execution.spec, snapshot, journal)

    def get_state_history(
        self,
        config: RunnableConfig,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """All snapshots of a thread, newest first, each as ``get_state`` tells it."""
        newest = _id_of(super().get_state(_newest(config)))
        for snapshot in super().get_state_history(config, filter=filter, before=before, limit=limit):
            run_id = unfinished_run(snapshot) if _id_of(snapshot) == newest else None
            journal = None if run_id is None else self._ledger.outcomes(run_id)
            yield told_by_tasks(self._execution.spec, snapshot, journal)

    async def aget_state_history(
        self,
        config: RunnableConfig,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - as above
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StateSnapshot]:
        """Async twin of ``get_state_history``."""
        newest = _id_of(await super().aget_state(_newest(config)))
        async for snapshot in super().aget_state_history(config, filter=filter, before=before, limit=limit):
            run_id = unfinished_run(snapshot) if _id_of(snapshot) == newest else None
            journal = None if run_id is None else await self._ledger.aoutcomes(run_id)
            yield told_by_tasks(self._execution.spec, snapshot, journal)

    def get_run(self, config: RunnableConfig) -> Run:
        """The run of a thread as it stands, unfinished tasks included; with a ``checkpoint_id``, as it stood there.

        Raises:
            RunNotFoundError: The thread holds no run.
        """
        snapshot = super().get_state(config)
        header = header_of(snapshot, config)
        return self._assembled(header, snapshot, {} if _is_addressed(config) else self._ledger.outcomes(header.run_id))

    async def aget_run(self, config: RunnableConfig) -> Run:
        """Async twin of ``get_run``."""
        snapshot = await super().aget_state(config)
        header = header_of(snapshot, config)
        journal = {} if _is_addressed(config) else await self._ledger.aoutcomes(header.run_id)
        return self._assembled(header, snapshot, journal)

    # --- changing ----------------------------------------------------------------------------------------------------

    def update_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> RunnableConfig:
        """Edit what tasks have produced: ``{"results": {task_id: TaskResult(...)}}``.

        What the tasks took and cost stays in the books; their results are marked with ``metadata["edited"]``. All
        tasks that rest on them are forgotten, also in a run that has ended: ``invoke(None, config)`` runs them anew.
        Other inputs, ``{"inputs": {...}}``, can be given as long as nothing has finished.

        Args:
            config: Names the thread; with a ``checkpoint_id`` the run goes back to that checkpoint first.
            values: The results, as objects or JSON; None with ``END`` or ``"__copy__"`` as LangGraph has it.
            as_node: Not needed; a task's id is taken as the task whose result is given.
            task_id: As LangGraph's, with None for values.

        Returns:
            The config of the new checkpoint.

        Raises:
            InvalidInputError: There is no such task, the values cannot be kept, or the run is under way.
            RunNotFoundError: The thread holds no run.
        """
        if values is None and as_node in _LANGGRAPHS_OWN:
            return super().update_state(config, None, as_node, task_id)
        edit = read_edit(values, as_node)
        snapshot = super().get_state(config)
        if _has_no_run(snapshot) and edit.inputs is not None and not edit.results:
            return super().update_state(config, {"inputs": self._checked(edit)}, START)
        return self._carry_out(config, edition(self._stand(config, snapshot), edit))

    async def aupdate_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> RunnableConfig:
        """Async twin of ``update_state``."""
        if values is None and as_node in _LANGGRAPHS_OWN:
            return await super().aupdate_state(config, None, as_node, task_id)
        edit = read_edit(values, as_node)
        snapshot = await super().aget_state(config)
        if _has_no_run(snapshot) and edit.inputs is not None and not edit.results:
            return await super().aupdate_state(config, {"inputs": self._checked(edit)}, START)
        return await self._acarry_out(config, edition(await self._astand(config, snapshot), edit))

    def rerun_from(self, config: RunnableConfig, *task_ids: str) -> RunnableConfig:
        """Forget the results of these tasks and of all that rest on them: ``invoke(None, config)`` runs them anew.

        That costs anew: the run keeps its id, its budget and its books. Only tasks that were added with ``cache`` may
        take what the cache holds.

        Args:
            config: Names the thread; with a ``checkpoint_id`` the run goes back to that checkpoint first.
            *task_ids: Tasks of the graph, children of ``for_each`` (``map#0``), or tasks that bodies added.

        Returns:
            The config of the new checkpoint.

        Raises:
            InvalidInputError: There is no such task, or the run is under way.
            RunNotFoundError: The thread holds no run.
        """
        return self._carry_out(config, rerun(self._stand(config, super().get_state(config)), task_ids))

    async def arerun_from(self, config: RunnableConfig, *task_ids: str) -> RunnableConfig:
        """Async twin of ``rerun_from``."""
        return await self._acarry_out(
            config, rerun(await self._astand(config, await super().aget_state(config)), task_ids)
        )

    def migrate(self, config: RunnableConfig) -> RunnableConfig:
        """Take a thread's run over into this graph, if it was started with another one.

        Results stay of tasks that are unchanged and rest on unchanged ones only; ``invoke(None, config)`` runs the
        others. What a function's code does is not compared: run such a task again with ``rerun_from``.

        Returns:
            The config of the new checkpoint; of the present one if the graph is the same.

        Raises:
            InvalidDAGError: Which tasks have changed is not known.
            InvalidInputError: The run is under way.
            RunNotFoundError: The thread holds no run.
        """
        snapshot = super().get_state(config)
        revision = migration(self._stand(config, snapshot))
        return snapshot.config if revision is None else self._carry_out(config, revision)

    async def amigrate(self, config: RunnableConfig) -> RunnableConfig:
        """Async twin of ``migrate``."""
        snapshot = await super().aget_state(config)
        revision = migration(await self._astand(config, snapshot))
        return snapshot.config if revision is None else await self._acarry_out(config, revision)

    # --- before a run goes on ----------------------------------------------------------------------------------------

    def _made_ready(self, given: Any, config: RunnableConfig) -> RunnableConfig:
        """The config to go on with, after what has to be changed in the thread before LangGraph takes it up.

        Raises:
            InvalidInputError: LangGraph would discard the finished work of an unfinished run, without a word.
        """
        if isinstance(given, Command):
            return config
        snapshot = super().get_state(config)
        if given is not None:
            _refuse_unfinished(snapshot, config)
        elif not begins_anew(snapshot):
            revision = resumption(self._stand(config, snapshot))
            ...
        return config

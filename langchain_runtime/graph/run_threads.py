"""What LangGraph's users do with a thread, for a graph of tasks: look at its state, edit it, go back, run parts again.

Each method does I/O and nothing else; what is to be seen, and what is to be changed, is decided in ``thread_state`` and
``thread_edits``. ``bulk_update_state`` stays LangGraph's own: it writes what it is given, and forgets nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot

from langchain_runtime.context.memory_log import MemoryLog
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import Run, RunHeader, TaskOutcome
from langchain_runtime.graph.execution import Execution
from langchain_runtime.graph.run_view import assemble_run, header_of, outcomes_of
from langchain_runtime.graph.supersteps import Supersteps
from langchain_runtime.graph.thread_edits import (
    Revision,
    edition,
    goes_on_as_it_is,
    migration,
    rerun,
    resumption,
)
from langchain_runtime.graph.thread_standing import Standing
from langchain_runtime.graph.thread_state import (
    begun_run,
    has_no_run,
    may_hide_nodes,
    refuse_unfinished,
    told_by_tasks,
    unfinished_run,
)
from langchain_runtime.graph.thread_values import checked_inputs, read_edit

_CHECKPOINT_ID: Final = "checkpoint_id"
_LANGGRAPHS_OWN: Final = frozenset({END, "__copy__"})
"""What LangGraph does for these nodes without values: it ends a thread, or copies a checkpoint."""


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
        if may_hide_nodes(snapshot) and not _is_addressed(config):
            snapshot = snapshot._replace(next=super().get_state(snapshot.config).next)
        run_id = None if _is_addressed(config) else unfinished_run(snapshot)
        journal = None if run_id is None else self._ledger.outcomes(run_id)
        return told_by_tasks(self._execution.spec, snapshot, journal)

    async def aget_state(self, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
        """Async twin of ``get_state``."""
        snapshot = await super().aget_state(config, subgraphs=subgraphs)
        if may_hide_nodes(snapshot) and not _is_addressed(config):
            snapshot = snapshot._replace(next=(await super().aget_state(snapshot.config)).next)
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
            InvalidDAGError: The run was started with another graph.
            RunNotFoundError: The thread holds no run.
        """
        if values is None and as_node in _LANGGRAPHS_OWN:
            return super().update_state(config, None, as_node, task_id)
        edit = read_edit(values, as_node)
        snapshot, newest = self._look(config)
        if edit.inputs is not None and not edit.results and has_no_run(snapshot):
            return super().update_state(config, {"inputs": checked_inputs(self._execution.spec, edit)}, START)
        return self._carry_out(config, edition(self._stand(config, snapshot, newest), edit))

    async def aupdate_state(
        self, config: RunnableConfig, values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> RunnableConfig:
        """Async twin of ``update_state``."""
        if values is None and as_node in _LANGGRAPHS_OWN:
            return await super().aupdate_state(config, None, as_node, task_id)
        edit = read_edit(values, as_node)
        snapshot, newest = await self._alook(config)
        if edit.inputs is not None and not edit.results and has_no_run(snapshot):
            return await super().aupdate_state(config, {"inputs": checked_inputs(self._execution.spec, edit)}, START)
        return await self._acarry_out(config, edition(await self._astand(config, snapshot, newest), edit))

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
            InvalidDAGError: The run was started with another graph.
            RunNotFoundError: The thread holds no run.
        """
        return self._carry_out(config, rerun(self._stand(config, *self._look(config)), task_ids))

    async def arerun_from(self, config: RunnableConfig, *task_ids: str) -> RunnableConfig:
        """Async twin of ``rerun_from``."""
        standing = await self._astand(config, *await self._alook(config))
        return await self._acarry_out(config, rerun(standing, task_ids))

    def migrate(self, config: RunnableConfig) -> RunnableConfig:
        """Take a thread's run over into this graph, if it was started with another one.

        Results stay of tasks that are unchanged and rest on unchanged ones only; ``invoke(None, config)`` runs the
        others. The code of functions is not compared: run tasks whose code has changed again with ``rerun_from``.

        Returns:
            The config of the new checkpoint; of the present one if the graph is the same.

        Raises:
            InvalidDAGError: Which tasks have changed is not known.
            InvalidInputError: The run is under way.
            RunNotFoundError: The thread holds no run.
        """
        snapshot, newest = self._look(config)
        revision = migration(self._stand(config, snapshot, newest))
        return snapshot.config if revision is None else self._carry_out(config, revision)

    async def amigrate(self, config: RunnableConfig) -> RunnableConfig:
        """Async twin of ``migrate``."""
        snapshot, newest = await self._alook(config)
        revision = migration(await self._astand(config, snapshot, newest))
        return snapshot.config if revision is None else await self._acarry_out(config, revision)

    # --- before a run goes on ----------------------------------------------------------------------------------------

    def _made_ready(self, given: Any, config: RunnableConfig) -> RunnableConfig:
        """Change in the thread what must be changed before LangGraph takes it up; the config to go on with.

        Raises:
            InvalidInputError: LangGraph would discard the finished work of an unfinished run, without a word.
            RunNotFoundError: There is nothing to go on with.
        """
        if isinstance(given, Command):
            return config
        snapshot, newest = self._look(config)
        if given is not None:
            refuse_unfinished(snapshot, config)
        elif not goes_on_as_it_is(self._execution.spec, snapshot, config, newest=newest, native=self._is_native):
            revision = resumption(self._stand(config, snapshot, newest))
            self._carry_out(config, revision)
            return _newest(config) if revision.steps else config
        return config

    async def _amade_ready(self, given: Any, config: RunnableConfig) -> RunnableConfig:
        """Async twin of ``_made_ready``."""
        if isinstance(given, Command):
            return config
        snapshot, newest = await self._alook(config)
        if given is not None:
            refuse_unfinished(snapshot, config)
        elif not goes_on_as_it_is(self._execution.spec, snapshot, config, newest=newest, native=self._is_native):
            revision = resumption(await self._astand(config, snapshot, newest))
            await self._acarry_out(config, revision)
            return _newest(config) if revision.steps else config
        return config

    # --- helpers -----------------------------------------------------------------------------------------------------

    @property
    def _ledger(self) -> Ledger:
        return self._execution.services.ledger

    @property
    def _memory_log(self) -> MemoryLog:
        return MemoryLog(self._execution.services.store)

    @property
    def _is_native(self) -> bool:
        return self._supersteps is not None

    def _look(self, config: RunnableConfig) -> tuple[StateSnapshot, bool]:
        """LangGraph's own snapshot with all nodes that are next, and whether it is the thread's newest."""
        newest = super().get_state(_newest(config))
        if may_hide_nodes(newest) or (self._is_native and newest.next):
            newest = newest._replace(next=super().get_state(newest.config).next)
        if not _is_addressed(config) or config["configurable"][_CHECKPOINT_ID] == _id_of(newest):
            return newest, True
        return super().get_state(config), False

    async def _alook(self, config: RunnableConfig) -> tuple[StateSnapshot, bool]:
        newest = await super().aget_state(_newest(config))
        if may_hide_nodes(newest) or (self._is_native and newest.next):
            newest = newest._replace(next=(await super().aget_state(newest.config)).next)
        if not _is_addressed(config) or config["configurable"][_CHECKPOINT_ID] == _id_of(newest):
            return newest, True
        return await super().aget_state(config), False

    def _stand(self, config: RunnableConfig, snapshot: StateSnapshot, newest: bool) -> Standing:
        header = self._at_rest(config, snapshot)
        journal = self._ledger.outcomes(header.run_id)
        return Standing(self._execution.spec, header, snapshot, journal, newest=newest, native=self._is_native)

    async def _astand(self, config: RunnableConfig, snapshot: StateSnapshot, newest: bool) -> Standing:
        header = self._at_rest(config, snapshot)
        journal = await self._ledger.aoutcomes(header.run_id)
        return Standing(self._execution.spec, header, snapshot, journal, newest=newest, native=self._is_native)

    def _at_rest(self, config: RunnableConfig, snapshot: StateSnapshot) -> RunHeader:
        """The run of a thread, which nobody in this process carries out now."""
        header = begun_run(snapshot, config)
        if header.run_id in self._execution.drivers:
            raise InvalidInputError(
                f"run {header.run_id!r} is under way, so it cannot be changed", hint="wait for its end, or abort it"
            )
        return header

    def _carry_out(self, config: RunnableConfig, revision: Revision) -> RunnableConfig:
        self._memory_log.forget(revision.run_id, revision.forget)  # first: what is still in the journal reads nothing
        self._ledger.forget(revision.run_id, revision.forget)
        for outcome in revision.record:
            self._ledger.record_outcome(revision.run_id, outcome)
        return super().bulk_update_state(config, revision.steps) if revision.steps else config

    async def _acarry_out(self, config: RunnableConfig, revision: Revision) -> RunnableConfig:
        await self._memory_log.aforget(revision.run_id, revision.forget)
        await self._ledger.aforget(revision.run_id, revision.forget)
        for outcome in revision.record:
            await self._ledger.arecord_outcome(revision.run_id, outcome)
        return await super().abulk_update_state(config, revision.steps) if revision.steps else config

    def _assembled(self, header: RunHeader, snapshot: StateSnapshot, journal: Mapping[str, TaskOutcome]) -> Run:
        return assemble_run(self._execution.spec, header, {**journal, **outcomes_of(snapshot.values)})


def _is_addressed(config: RunnableConfig) -> bool:
    """Whether the caller asks for one checkpoint, and not for the newest."""
    return config.get("configurable", {}).get(_CHECKPOINT_ID) is not None


def _newest(config: RunnableConfig) -> RunnableConfig:
    """The config of the thread's newest checkpoint."""
    if not _is_addressed(config):
        return config
    configurable = {key: value for key, value in config["configurable"].items() if key != _CHECKPOINT_ID}
    return {**config, "configurable": configurable}


def _id_of(snapshot: StateSnapshot) -> Any:
    return snapshot.config["configurable"].get(_CHECKPOINT_ID)

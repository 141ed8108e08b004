"""The compiled graph: a LangGraph graph to everybody who holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.graph import Graph
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import GraphOutput, StreamMode

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import RunHeader, RunState, TaskOutcome
from langchain_runtime.graph.ctrl_c import on_ctrl_c
from langchain_runtime.graph.dataflow import PAUSE, dataflow_builder
from langchain_runtime.graph.execution import Execution
from langchain_runtime.graph.io_schemas import input_schema, output_schema
from langchain_runtime.graph.journaled_saver import JournaledSaver
from langchain_runtime.graph.run_forecasts import RunForecasts
from langchain_runtime.graph.run_settings import RunSettings, is_node, read_settings, task_names, with_settings
from langchain_runtime.graph.run_view import assemble_run, outcomes_of, results_of
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.supersteps import Supersteps
from langchain_runtime.ledgers import InMemoryLedger

_NO_GATE = 1_000_000
"""LangGraph's ``max_concurrency`` gates the driver, the tasks and the checkpoint writes on one semaphore: it deadlocks
at 1 and starves durability. The planner bounds parallelism; the async setting is made harmless."""

_SPARE_THREADS = 4
"""Under sync invoke LangGraph's thread pool carries the driver and checkpoint writes besides the tasks."""

_STEPS_OF_OUR_OWN = 10
"""More than the steps that a run takes besides those of its tasks."""

Mode = Literal["dataflow", "supersteps"]
Stops = str | Sequence[str] | None
"""As LangGraph takes it: names, ``"*"`` for all, None for what was given at ``compile``."""


class CompiledRunGraph(RunForecasts):
    """Runs a DAG; made by ``RunGraph.compile``.

    ``invoke({"inputs": {...}})`` returns ``{"results": {task_id: TaskResult}, "run": Run}``; inside a parent graph the
    same as plain JSON, for the parent's checkpoints. ``invoke(None, config)`` resumes: finished tasks keep their
    results, failed and skipped ones are tried again.
    """

    _stops: tuple[frozenset[str], frozenset[str]]
    _runs_as: tuple[tuple[BaseCheckpointSaver[Any], bool, bool], Self] | None

    @classmethod
    def of(
        cls,
        spec: GraphSpec,
        services: Services,
        *,
        checkpointer: BaseCheckpointSaver[Any] | bool | None,
        cache: BaseCache[Any] | None,
        raise_on_failure: bool,
        mode: Mode,
        interrupt_before: Stops,
        interrupt_after: Stops,
    ) -> Self:
        """Build the graph of the mode around an execution of ``spec``."""
        execution = Execution(spec, services)
        supersteps = Supersteps(execution) if mode == "supersteps" else None
        if supersteps is None:
            builder = dataflow_builder(execution, raise_on_failure=raise_on_failure)
        else:
            builder = supersteps.builder(raise_on_failure=raise_on_failure)
        before = task_names(interrupt_before, spec.tasks) or frozenset()
        after = task_names(interrupt_after, spec.tasks) or frozenset()
        compiled = builder.compile(
            checkpointer=checkpointer,
            store=services.store,
            cache=cache,
            name=spec.name,
            interrupt_before=[PAUSE] if supersteps is None else sorted(before),
            interrupt_after=None if supersteps is None else sorted(after),
        )
        own = {"_execution": execution, "_supersteps": supersteps, "_stops": (before, after), "_runs_as": None}
        graph = cls.__new__(cls)
        # LangGraph's constructor knows only its own attributes, and a lone driver would stream only at its end.
        graph.__dict__.update({**compiled.__dict__, **own, "stream_eager": True})
        return graph

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """A copy that shares the execution; LangGraph's constructor knows only its own attributes."""
        copied = super().copy(update)
        for name in ("_execution", "_supersteps", "_stops"):
            copied.__dict__[name] = self.__dict__[name]
        copied.__dict__["_runs_as"] = None
        return copied

    # --- running -----------------------------------------------------------------------------------------------------

    def stream(
        self,
        input: Any,  # noqa: A002 - LangGraph's name; its overloads differ only in kwargs
        config: RunnableConfig | None = None,
        *,
        interrupt_before: Stops = None,
        interrupt_after: Stops = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """As LangGraph's; ``custom`` streams lifecycle events.

        Args:
            input: The run's inputs; None resumes; a ``Command`` answers a question.
            config: As LangGraph's; ``max_concurrency`` lowers the policy's parallelism.
            interrupt_before: Tasks before which the run stands still, once nothing else can go on. None resumes it.
            interrupt_after: Tasks whose dependents wait in the same way.
            **kwargs: LangGraph's others.
        """
        config = config or {}
        settings = self._settings(input, config, interrupt_before, interrupt_after, kwargs)
        if self._keeps_state(config, settings):
            config = self._made_ready(input, config)
        config = {**self._own_config(config, settings), "max_concurrency": self._threads(settings)}
        try:
            graph = self._with_saver_for(settings, sync=True)
            stops = self._native_stops(settings)
            with on_ctrl_c(partial(self._execution.abort, settings.key, "interrupted")):
                yield from CompiledStateGraph.stream(graph, input, config, **stops, **kwargs)
        except GraphInterrupt as questions:  # on the way to a parent graph
            raise _each_once(questions) from None
        finally:
            if self._supersteps is not None:
                self._supersteps.end(settings.key)

    async def astream(
        self,
        input: Any,  # noqa: A002 - as above
        config: RunnableConfig | None = None,
        *,
        interrupt_before: Stops = None,
        interrupt_after: Stops = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Async twin of ``stream``."""
        config = config or {}
        settings = self._settings(input, config, interrupt_before, interrupt_after, kwargs)
        if self._keeps_state(config, settings):
            config = await self._amade_ready(input, config)
        config = {**self._own_config(config, settings), "max_concurrency": _NO_GATE}
        try:
            graph = self._with_saver_for(settings, sync=False)
            stops = self._native_stops(settings)
            async for chunk in CompiledStateGraph.astream(graph, input, config, **stops, **kwargs):
                yield chunk
        except GraphInterrupt as questions:
            raise _each_once(questions) from None
        finally:
            if self._supersteps is not None:
                await self._supersteps.aend(settings.key)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - as above
        """Run to the end.

        Raises:
            RunFailedError: A task failed; ``.run`` and ``.results`` hold what is finished.
            RunAbortedError: The run was aborted or met its deadline.
            InputError: Nothing was started.
        """
        output = _plain(super().invoke(input, config, **_without_updates(kwargs)), kwargs)
        if not _is_result(output, config):
            return output
        header = RunHeader.model_validate(output["run"])
        unfinished = header.state is RunState.RUNNING
        journal = self._execution.services.ledger.outcomes(header.run_id) if unfinished else {}
        return self._typed(output, header, journal)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - as above
        """Async twin of ``invoke``."""
        output = _plain(await super().ainvoke(input, config, **_without_updates(kwargs)), kwargs)
        if not _is_result(output, config):
            return output
        header = RunHeader.model_validate(output["run"])
        unfinished = header.state is RunState.RUNNING
        journal = await self._execution.services.ledger.aoutcomes(header.run_id) if unfinished else {}
        return self._typed(output, header, journal)

    def abort(self, run_id: str, reason: str = "abort") -> bool:
        """End a run of this process soon; it can be resumed. From any thread.

        Returns:
            False if no such run is under way here.
        """
        return self._execution.abort(run_id, reason)

    def as_node(
        self, *, inputs: Callable[[Any], Mapping[str, Any]], output: str | Mapping[str, str]
    ) -> RunnableLambda[Any, dict[str, Any]]:
        """A node for a graph with a state of its own: takes the run's inputs from it and writes outputs of tasks to it.

        Args:
            inputs: Makes the run's inputs from the state.
            output: Id of the task whose output goes to the state's key of the same name; or state key -> task id.

        Raises:
            InvalidInputError: There is no such task.
        """
        keys = {output: output} if isinstance(output, str) else dict(output)
        for task_id in keys.values():
            if task_id not in self._execution.spec.tasks:
                raise InvalidInputError(f"there is no task {task_id!r} to take an output from")

        def update(finished: Mapping[str, Any]) -> dict[str, Any]:
            outcomes = outcomes_of(finished)
            return {key: outcomes[task_id].output for key, task_id in keys.items() if task_id in outcomes}

        def run(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(CompiledStateGraph.invoke(self, {"inputs": dict(inputs(state))}, config))

        async def arun(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(await CompiledStateGraph.ainvoke(self, {"inputs": dict(inputs(state))}, config))

        return RunnableLambda(run, arun, name=self.get_name())

    # --- looking -----------------------------------------------------------------------------------------------------

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:  # noqa: ARG002 - there is nothing below a task to show
        """One node for each task, one edge for each dependency."""
        dag = self._execution.spec.dag
        graph = Graph()
        start = graph.add_node(_drawn(START), START)
        nodes = {task_id: graph.add_node(_drawn(task_id), task_id) for task_id in dag.nodes}
        end = graph.add_node(_drawn(END), END)
        for task_id, node in dag.nodes.items():
            for dependency in node.deps:
                graph.add_edge(nodes[dependency], nodes[task_id])
            if not node.deps:
                graph.add_edge(start, nodes[task_id])
            if not node.next:
                graph.add_edge(nodes[task_id], end)
        if not nodes:
            graph.add_edge(start, end)
        return graph

    async def aget_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        """Async twin of ``get_graph``."""
        return self.get_graph(config, xray=xray)

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:  # noqa: ARG002 - LangGraph's signature
        """The run's inputs: variables of prompts, required where they have no default."""
        return input_schema(self._execution.spec)

    def get_output_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:  # noqa: ARG002 - as above
        """What a run leaves, as JSON."""
        return output_schema(self._execution.spec)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _settings(
        self,
        given: Any,
        config: RunnableConfig | None,
        interrupt_before: Stops,
        interrupt_after: Stops,
        options: Mapping[str, Any],
    ) -> RunSettings:
        tasks = self._execution.spec.tasks
        before, after = task_names(interrupt_before, tasks), task_names(interrupt_after, tasks)
        settings = read_settings(
            given,
            config,
            stop_before=self._stops[0] if before is None else before,
            stop_after=self._stops[1] if after is None else after,
            has_control=options.get("control") is not None,
            shown=self._shown(**options),
            journaled=not self._saver_outlives_journal(),
        )
        if (settings.stop_before or settings.stop_after) and not (settings.nested or self._has_saver()):
            raise InvalidInputError(
                "to go on after an interrupt the graph needs a checkpointer",
                hint="pass compile(checkpointer=...), or leave interrupt_before and interrupt_after out",
            )
        return settings

    def _shown(
        self,
        stream_mode: StreamMode | Sequence[StreamMode] | None = None,
        print_mode: StreamMode | Sequence[StreamMode] = (),
        subgraphs: bool = False,
        debug: bool | None = None,
        **_others: Any,
    ) -> frozenset[str]:
        """The modes of what LangGraph streams or prints with these options."""
        modes = {*_as_list(stream_mode or self.stream_mode), *_as_list(print_mode)}
        if subgraphs or debug or self.debug:
            modes.add("debug")
        return frozenset(modes)

    def _saver_outlives_journal(self) -> bool:
        """Whether another process would find the checkpoints, but not the outcomes."""
        in_memory = isinstance(self._execution.services.ledger, InMemoryLedger)
        return in_memory and self._has_saver() and not isinstance(self.checkpointer, InMemorySaver)

    def _with_saver_for(self, settings: RunSettings, *, sync: bool) -> Self:
        """The graph as LangGraph runs it: its checkpointer keeps nothing that the journal does."""
        saver = self.checkpointer
        if settings.nested or not isinstance(saver, BaseCheckpointSaver) or not (settings.journaled or sync):
            return self
        kind = (saver, settings.journaled, sync)
        if self._runs_as is None or self._runs_as[0] != kind:
            own = JournaledSaver(saver, journaled=settings.journaled, sync=sync)
            runs_as = (kind, self.copy({"checkpointer": own}))
            self.__dict__["_runs_as"] = runs_as
            return runs_as[1]
        return self._runs_as[1]

    def _own_config(self, config: RunnableConfig, settings: RunSettings) -> RunnableConfig:
        config = with_settings(config, settings)
        if self._supersteps is not None:  # a chain takes as many steps as it has tasks
            config.setdefault("recursion_limit", len(self._execution.spec.tasks) + _STEPS_OF_OUR_OWN)
        return config

    def _native_stops(self, settings: RunSettings) -> dict[str, Any]:
        """What LangGraph itself is to stop at: tasks are its nodes in one mode only."""
        if self._supersteps is None:
            return {}
        return {"interrupt_before": sorted(settings.stop_before), "interrupt_after": sorted(settings.stop_after)}

    def _threads(self, settings: RunSettings) -> int:
        """Threads that LangGraph may use: every body has one, and under supersteps every active node, too."""
        bound = self._execution.spec.policy.max_parallelism
        if settings.max_parallelism is not None:
            bound = min(bound, settings.max_parallelism)
        nodes = 0 if self._supersteps is None else len(self._execution.spec.tasks)
        return bound + nodes + _SPARE_THREADS

    def _has_saver(self) -> bool:
        return isinstance(self.checkpointer, BaseCheckpointSaver)

    def _keeps_state(self, config: RunnableConfig, settings: RunSettings) -> bool:
        has_thread = "thread_id" in config.get("configurable", {})
        return has_thread and not settings.nested and self._has_saver()

    def _typed(self, output: dict[str, Any], header: RunHeader, journal: Mapping[str, TaskOutcome]) -> dict[str, Any]:
        """Objects instead of JSON; of a run that stands still also what its journal knows."""
        outcomes = {**journal, **outcomes_of(output)}
        run = assemble_run(self._execution.spec, header, outcomes)
        return {**output, "results": results_of(outcomes, run), "run": run}


def _each_once(questions: GraphInterrupt) -> GraphInterrupt:
    """LangGraph collects a question from the task that asks and from the driver that passes it on."""
    return GraphInterrupt(tuple({question.id: question for question in questions.args[0]}.values()))


def _without_updates(options: Mapping[str, Any]) -> dict[str, Any]:
    """LangGraph's options for ``invoke``: it need not stream every task's result only to look for questions."""
    only_values = options.get("stream_mode", "values") == "values" and options.get("version", "v1") == "v1"
    return {**options, "version": "v2"} if only_values else dict(options)


def _plain(output: Any, options: Mapping[str, Any]) -> Any:
    """What ``invoke`` was to return before ``_without_updates`` changed its options."""
    if not isinstance(output, GraphOutput) or options.get("version") == "v2":
        return output
    value = output.value
    if not output.interrupts:
        return value
    return {**(value if isinstance(value, dict) else {}), "__interrupt__": list(output.interrupts)}


def _as_list(modes: StreamMode | Sequence[StreamMode]) -> Sequence[str]:
    return [modes] if isinstance(modes, str) else modes


def _is_result(output: Any, config: RunnableConfig | None) -> bool:
    """Whether the output is a run's, and for a caller; a parent graph keeps it in its own state, as JSON."""
    return isinstance(output, dict) and "results" in output and "run" in output and not is_node(config)


def _drawn(name: str) -> RunnableLambda[Any, Any]:
    return RunnableLambda(lambda value: value, name=name)

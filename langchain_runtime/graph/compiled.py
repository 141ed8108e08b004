"""The compiled graph: a LangGraph graph to everybody who holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.graph import Graph
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Overwrite, StateSnapshot

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import Run, RunHeader, RunState, TaskOutcome, TaskState
from langchain_runtime.graph.execution import KEEP_FAILURES, MAX_PARALLELISM, Execution
from langchain_runtime.graph.plan import RunPlan, plan_run
from langchain_runtime.graph.run_view import assemble_run, finish, header_of, outcomes_of, results_of
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.state import RunGraphState, RunInput, RunOutput

_NO_GATE = 1_000_000
"""LangGraph's ``max_concurrency`` gates the driver, the tasks and the checkpoint writes on one semaphore: it deadlocks
at 1 and starves durability. The planner bounds parallelism; the async setting is made harmless."""

_SPARE_THREADS = 4
"""Under sync invoke LangGraph's thread pool carries the driver and checkpoint writes besides the tasks."""


class CompiledRunGraph(CompiledStateGraph[Any, Any, Any, Any]):
    """Runs a DAG; made by ``RunGraph.compile``.

    ``invoke({"inputs": {...}})`` returns ``{"results": {task_id: TaskResult}, "run": Run}``; inside a parent graph the
    same as plain JSON, for the parent's checkpoints. ``invoke(None, config)`` resumes: finished tasks keep their
    results, failed and skipped ones are tried again.
    """

    _execution: Execution

    @classmethod
    def of(
        cls,
        spec: GraphSpec,
        services: Services,
        *,
        checkpointer: BaseCheckpointSaver[Any] | bool | None,
        cache: BaseCache[Any] | None,
        raise_on_failure: bool,
    ) -> Self:
        """Build the graph ``prepare -> driver -> finish`` around an execution of ``spec``."""
        execution = Execution(spec, services)
        builder = StateGraph(RunGraphState, input_schema=RunInput, output_schema=RunOutput)
        builder.add_node("prepare", RunnableLambda(execution.prepare, execution.aprepare, name="prepare"))
        builder.add_node("driver", RunnableLambda(execution.drive, execution.adrive, name="driver"))
        builder.add_node("finish", partial(finish, spec, raise_on_failure=raise_on_failure))
        builder.add_edge(START, "prepare")
        builder.add_edge("prepare", "driver")
        builder.add_edge("driver", "finish")
        builder.add_edge("finish", END)
        compiled = builder.compile(checkpointer=checkpointer, store=services.store, cache=cache, name=spec.name)
        graph = cls.__new__(cls)
        # LangGraph's constructor knows only its own attributes, and a lone driver would stream only at its end.
        graph.__dict__.update({**compiled.__dict__, "_execution": execution, "stream_eager": True})
        return graph

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """A copy that shares the execution; LangGraph's constructor knows only its own attributes."""
        copied = super().copy(update)
        copied.__dict__["_execution"] = self._execution
        return copied

    # --- running -----------------------------------------------------------------------------------------------------

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002 - LangGraph's name; its overloads differ only in kwargs
        """As LangGraph's; ``custom`` streams lifecycle events."""
        config, parallelism = self._own_config(input, config)
        if self._keeps_state(config):
            snapshot = self.get_state(config)
            if update := _before(input, snapshot, config):
                self.update_state(config, update, as_node="prepare")
        yield from super().stream(input, {**config, "max_concurrency": parallelism + _SPARE_THREADS}, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002 - as above
        """Async twin of ``stream``."""
        config, _ = self._own_config(input, config)
        if self._keeps_state(config):
            snapshot = await self.aget_state(config)
            if update := _before(input, snapshot, config):
                await self.aupdate_state(config, update, as_node="prepare")
        async for chunk in super().astream(input, {**config, "max_concurrency": _NO_GATE}, **kwargs):
            yield chunk

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - as above
        """Run to the end.

        Raises:
            RunFailedError: A task failed; ``.run`` and ``.results`` hold what is finished.
            RunAbortedError: The run was aborted or met its deadline.
            InputError: Nothing was started.
        """
        return self._typed(super().invoke(input, config, **kwargs), config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - as above
        """Async twin of ``invoke``."""
        return self._typed(await super().ainvoke(input, config, **kwargs), config)

    def abort(self, run_id: str, reason: str = "abort") -> bool:
        """End a run of this process soon; it can be resumed. From any thread.

        Returns:
            False if no such run is under way here.
        """
        driver = self._execution.drivers.get(run_id)
        if driver is not None:
            driver.abort(reason)
        return driver is not None

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

    @property
    def model_names(self) -> list[str]:
        """Models that its prompts may be answered by, those that a budget may move them to included."""
        spec, ladder = self._execution.spec, self._execution.services.ladder
        return list(dict.fromkeys(model for task in spec.tasks.values() for model in ladder.models_of(task)))

    def plan(self, inputs: Mapping[str, Any] | None = None) -> RunPlan:
        """What a run would do and cost; spends nothing.

        Raises:
            InputError: The run would be refused.
        """
        return plan_run(self._execution.spec, self._execution.services, inputs or {})

    def get_run(self, config: RunnableConfig) -> Run:
        """The run of a thread as it stands, unfinished tasks included.

        Raises:
            RunNotFoundError: The thread holds no run.
        """
        snapshot = self.get_state(config)
        header = header_of(snapshot, config)
        return self._as_it_stands(header, snapshot, self._execution.services.ledger.outcomes(header.run_id))

    async def aget_run(self, config: RunnableConfig) -> Run:
        """Async twin of ``get_run``."""
        snapshot = await self.aget_state(config)
        header = header_of(snapshot, config)
        return self._as_it_stands(header, snapshot, await self._execution.services.ledger.aoutcomes(header.run_id))

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

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _own_config(self, given: Any, config: RunnableConfig | None) -> tuple[RunnableConfig, int]:
        """Take over what the caller wrote as ``max_concurrency``; a parent graph's value is its own business."""
        config = {**(config or {})}
        configurable = dict(config.get("configurable") or {})
        bound = self._execution.spec.policy.max_parallelism
        if (wanted := config.pop("max_concurrency", None)) is not None and not _is_nested(config):
            bound = min(bound, wanted)
            configurable[MAX_PARALLELISM] = bound
        if isinstance(given, Command):
            configurable[KEEP_FAILURES] = True
        config["configurable"] = configurable
        return config, bound

    def _keeps_state(self, config: RunnableConfig) -> bool:
        has_thread = "thread_id" in config.get("configurable", {})
        return has_thread and not _is_nested(config) and isinstance(self.checkpointer, BaseCheckpointSaver)

    def _typed(self, output: Any, config: RunnableConfig | None) -> Any:
        """Objects instead of JSON, unless a parent graph will keep the output in its own state."""
        if not isinstance(output, dict) or "results" not in output or _is_nested(config or {}):
            return output
        outcomes = outcomes_of(output)
        run = assemble_run(self._execution.spec, RunHeader.model_validate(output["run"]), outcomes)
        return {**output, "results": results_of(outcomes), "run": run}

    def _as_it_stands(self, header: RunHeader, snapshot: StateSnapshot, journal: Mapping[str, TaskOutcome]) -> Run:
        return assemble_run(self._execution.spec, header, {**journal, **outcomes_of(snapshot.values)})


def _before(given: Any, snapshot: StateSnapshot, config: RunnableConfig) -> dict[str, Any] | None:
    """Check what a thread is asked to do next; for a run that failed or was aborted, what to clear before it resumes.

    LangGraph would discard the finished work of an unfinished thread on new input, without a word.
    """
    if isinstance(given, Command):
        return None
    if given is not None:
        if snapshot.next:
            raise InvalidInputError(
                f"thread {config['configurable']['thread_id']!r} holds an unfinished run",
                hint="resume it by passing None as input, or use another thread_id",
            )
        return None
    header = header_of(snapshot, config)
    if header.state not in {RunState.FAILED, RunState.ABORTED}:
        return None
    completed = {
        task_id: outcome.model_dump(mode="json")
        for task_id, outcome in outcomes_of(snapshot.values).items()
        if outcome.state is TaskState.COMPLETED
    }
    resumed = header.model_copy(update={"state": RunState.RUNNING, "reason": None})
    return {"results": Overwrite(completed), "run": resumed.model_dump(mode="json")}


def _is_nested(config: RunnableConfig) -> bool:
    """Whether a parent graph called us: it passes its task on in the config."""
    return "__pregel_task_id" in config.get("configurable", {})


def _drawn(name: str) -> RunnableLambda[Any, Any]:
    return RunnableLambda(lambda value: value, name=name)

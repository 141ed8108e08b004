"""Mode ``dataflow``: one node drives the whole run, and each task starts as soon as its dependencies are done.

::

    prepare -> driver -> finish
                 ^  |
                 |  v
                pause          where the caller asked to stop before or after a task
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import get_runtime

from langchain_runtime.contracts.run import RunHeader, RunState, TaskState
from langchain_runtime.graph.call_ids import pin_call_ids
from langchain_runtime.graph.execution import Execution
from langchain_runtime.graph.langgraph_tasks import LangGraphTask, async_task, sync_task
from langchain_runtime.graph.open_run import Ways
from langchain_runtime.graph.own_contexts import OwnContexts
from langchain_runtime.graph.own_loop import run_in_own_loop
from langchain_runtime.graph.run_settings import RunSettings, has_handlers, settings_of
from langchain_runtime.graph.run_view import finish, outcomes_of
from langchain_runtime.graph.state import RunGraphState, RunInput, RunOutput
from langchain_runtime.graph.task_calls import CallTask, DirectCalls, LangGraphCalls
from langchain_runtime.graph.top_ups import ask_here

PAUSE: Final = "pause"
"""Node before which LangGraph interrupts the graph, where our tasks cannot be its nodes."""


def dataflow_builder(execution: Execution, *, raise_on_failure: bool) -> StateGraph[Any, Any, Any, Any]:
    """The graph, not compiled yet."""
    driver = _DriverNode(execution)
    builder = StateGraph(RunGraphState, input_schema=RunInput, output_schema=RunOutput)
    builder.add_node("prepare", RunnableLambda(execution.prepare, execution.aprepare, name="prepare"))
    builder.add_node("driver", RunnableLambda(driver.drive, driver.adrive, name="driver"))
    builder.add_node(PAUSE, _go_on)
    builder.add_node("finish", partial(finish, execution.spec, raise_on_failure=raise_on_failure))
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "driver")
    builder.add_conditional_edges("driver", _after_driver, ["driver", PAUSE, "finish"])
    builder.add_edge(PAUSE, "driver")
    builder.add_edge("finish", END)
    return builder


class _DriverNode:
    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def drive(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Carry the run out under ``invoke`` or ``stream``."""
        return run_in_own_loop(lambda: self._drive(state, config, sync_task))

    async def adrive(self, state: RunGraphState, config: RunnableConfig) -> dict[str, Any]:
        """Carry the run out under ``ainvoke`` or ``astream``."""
        return await self._drive(state, config, async_task)

    async def _drive(
        self, state: RunGraphState, config: RunnableConfig, langgraph_task: LangGraphTask
    ) -> dict[str, Any]:
        settings = settings_of(config)
        header = RunHeader.model_validate(state["run"])
        control = get_runtime().control
        answers = self._execution.keeps_answers(config) and pin_call_ids(config)
        run = await self._execution.open(
            state,
            config,
            Ways(
                call_task=await self._calls(langgraph_task, settings, config, answers=answers),
                ask=ask_here,
                answers=answers,
                held=self._held(settings, header),
                is_draining=(lambda: control.drain_requested) if control and settings.drainable else None,
            ),
        )
        return self._stopped_at_the_end(await run.carry_out(), settings, header)

    async def _calls(
        self, langgraph_task: LangGraphTask, settings: RunSettings, config: RunnableConfig, *, answers: bool
    ) -> CallTask:
        """How bodies are run: without LangGraph tasks where nobody sees them, and nothing depends on them."""
        calls = LangGraphCalls(langgraph_task)
        has_saver = self._execution.keeps_answers(config)
        if settings.shows_tasks or has_handlers(config) or not settings.journaled or (has_saver and not answers):
            return calls
        contexts = await OwnContexts.learned(langgraph_task)
        return calls if contexts is None else DirectCalls(contexts, calls, keeps=has_saver)

    def _held(self, settings: RunSettings, header: RunHeader) -> frozenset[str]:
        """Tasks that wait for the caller: those before which it wants to stop, and what follows those after which."""
        nodes = self._execution.spec.dag.nodes
        followers = {follower for task_id in settings.stop_after for follower in nodes[task_id].next}
        return (settings.stop_before | followers) - set(header.released)

    def _stopped_at_the_end(self, update: dict[str, Any], settings: RunSettings, header: RunHeader) -> dict[str, Any]:
        """Stand still after a last task, too, if the caller asked to stop after it."""
        if not settings.stop_after:
            return update
        nodes, outcomes = self._execution.spec.dag.nodes, outcomes_of(update)
        reached = [
            task_id
            for task_id in sorted(settings.stop_after - set(header.released))
            if not nodes[task_id].next and task_id in outcomes and outcomes[task_id].state is TaskState.COMPLETED
        ]
        ended = RunHeader.model_validate(update["run"])
        if not reached or ended.state is RunState.RUNNING:
            return update
        paused = ended.model_copy(update={"state": RunState.RUNNING, "reason": "paused", "paused_at": reached})
        return {**update, "run": paused.model_dump(mode="json")}


def _after_driver(state: RunGraphState) -> str:
    run = state["run"]
    if run["state"] != RunState.RUNNING:
        return "finish"
    return PAUSE if run["reason"] == "paused" else "driver"  # drained: LangGraph stops before the next node


def _go_on(state: RunGraphState) -> dict[str, Any]:
    """The caller has taken the run up again."""
    header = RunHeader.model_validate(state["run"])
    released = list(dict.fromkeys([*header.released, *header.paused_at]))
    resumed = header.model_copy(update={"released": released, "paused_at": [], "reason": None})
    return {"run": resumed.model_dump(mode="json")}

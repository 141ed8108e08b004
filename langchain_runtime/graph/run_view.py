"""From the graph's JSON state to a ``Run``, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from langchain_runtime.contracts.errors import RunAbortedError, RunFailedError, RunNotFoundError
from langchain_runtime.contracts.run import Run, RunHeader, RunState, Task, TaskOutcome, TaskResult, TaskState
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.state import RunGraphState
from langchain_runtime.orchestration import DependencyResolver


def header_of(snapshot: StateSnapshot, config: RunnableConfig) -> RunHeader:
    """The run that a thread holds.

    Raises:
        RunNotFoundError: It holds none.
    """
    run = (snapshot.values or {}).get("run")
    if run is None:
        thread = str(config.get("configurable", {}).get("thread_id"))
        raise RunNotFoundError(f"thread {thread!r} holds no run", run_id=thread, hint="start one by passing inputs")
    return RunHeader.model_validate(run)


def outcomes_of(values: Mapping[str, Any]) -> dict[str, TaskOutcome]:
    """The outcomes in a state, by task id."""
    return {task_id: TaskOutcome.model_validate(value) for task_id, value in (values.get("results") or {}).items()}


def results_of(outcomes: Mapping[str, TaskOutcome]) -> dict[str, TaskResult]:
    """What callers asked for: results of the tasks that completed."""
    return {task_id: outcome.result() for task_id, outcome in outcomes.items() if outcome.state is TaskState.COMPLETED}


def assemble_run(spec: GraphSpec, header: RunHeader, outcomes: Mapping[str, TaskOutcome]) -> Run:
    """The whole run: what the spec says, what joined it, and what became of all that."""
    tasks = RunTasks(spec)
    tasks.show(outcomes)
    records = tasks.records()
    dag = DependencyResolver().build(records)
    for node in dag.nodes.values():
        node.pending = sum(not _completed(outcomes.get(dependency)) for dependency in node.deps)
    return Run(
        id=header.run_id,
        state=header.state,
        policy=spec.policy,
        dag=dag,
        tasks={task.id: _as_it_stands(task, outcomes.get(task.id)) for task in records},
        usage=header.usage,
        created_at=header.created_at,
        updated_at=header.updated_at,
    )


def finish(spec: GraphSpec, state: RunGraphState, *, raise_on_failure: bool) -> dict[str, Any]:
    """The graph's last node: a run that did not complete raises, with all that was finished.

    Raises:
        RunFailedError: A task failed.
        RunAbortedError: The run was aborted or met its deadline.
    """
    header = RunHeader.model_validate(state["run"])
    if not raise_on_failure or header.state is RunState.COMPLETED:
        return {}
    outcomes = outcomes_of(state)
    run, results = assemble_run(spec, header, outcomes), results_of(outcomes)
    hint = f"{len(results)} of {len(run.tasks)} tasks are finished and paid; resume with None to go on"
    if header.state is RunState.ABORTED:
        reason = header.reason or "abort"
        message = f"run {run.id} was aborted ({reason})"
        raise RunAbortedError(message, run=run, results=results, reason=reason, hint=hint)
    failed = [task for task in run.tasks.values() if task.error is not None]
    first = f": task {failed[0].id!r}: {failed[0].error.message}" if failed and failed[0].error else ""
    raise RunFailedError(f"{len(failed)} task(s) of run {run.id} failed{first}", run=run, results=results, hint=hint)


def _completed(outcome: TaskOutcome | None) -> bool:
    return outcome is not None and outcome.state is TaskState.COMPLETED


def _as_it_stands(task: Task, outcome: TaskOutcome | None) -> Task:
    if outcome is None:
        return task
    return task.model_copy(
        update={
            "state": outcome.state,
            "outputs": outcome.result() if outcome.state is TaskState.COMPLETED else None,
            "error": outcome.error,
            "model": outcome.model or task.model,
            "estimated_use": outcome.estimated_use,
            "actual_use": outcome.usage,
            "attempts": outcome.attempts,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
            "skipped_because": outcome.skipped_because,
        }
    )

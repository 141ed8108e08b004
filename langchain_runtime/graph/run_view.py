"""From the graph's JSON state to a ``Run``, and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from langchain_runtime.contracts.errors import RunAbortedError, RunFailedError, RunNotFoundError
from langchain_runtime.contracts.records import trusted
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


def results_of(outcomes: Mapping[str, TaskOutcome], run: Run) -> dict[str, TaskResult]:
    """What callers asked for: results of the tasks that completed, in the order in which they did."""
    found = ((task_id, run.tasks[task_id].outputs) for task_id in outcomes if task_id in run.tasks)
    return {task_id: result for task_id, result in found if result is not None}


def assemble_run(spec: GraphSpec, header: RunHeader, outcomes: Mapping[str, TaskOutcome]) -> Run:
    """The whole run: what the spec says, what joined it, and what became of all that."""
    tasks = RunTasks(spec)
    tasks.show(outcomes)
    records = tasks.records()
    dag = DependencyResolver().build(records)
    completed = {task_id for task_id, outcome in outcomes.items() if outcome.state is TaskState.COMPLETED}
    for node in dag.nodes.values():
        vars(node)["pending"] = sum(dependency not in completed for dependency in node.deps)
    for record in records:
        _bring_up_to_date(record, outcomes.get(record.id))
    return trusted(
        Run,
        {
            "id": header.run_id,
            "state": header.state,
            "policy": spec.policy,
            "dag": dag,
            "tasks": {record.id: record for record in records},
            "usage": header.usage,
            "created_at": header.created_at,
            "updated_at": header.updated_at,
        },
    )


def finish(spec: GraphSpec, state: RunGraphState, *, raise_on_failure: bool) -> dict[str, Any]:
    """The graph's last node: a run that did not complete raises, with all that was finished.

    Raises:
        RunFailedError: A task failed.
        RunAbortedError: The run was aborted or met its deadline.
    """
    if not raise_on_failure or state["run"]["state"] == RunState.COMPLETED:
        return {}
    header = RunHeader.model_validate(state["run"])
    outcomes = outcomes_of(state)
    run = assemble_run(spec, header, outcomes)
    results = results_of(outcomes, run)
    hint = f"{len(results)} of {len(run.tasks)} tasks are finished and paid; resume with None to go on"
    if header.state is RunState.ABORTED:
        reason = header.reason or "abort"
        message = f"run {run.id} was aborted ({reason})"
        raise RunAbortedError(message, run=run, results=results, reason=reason, hint=hint)
    failed = [task for task in run.tasks.values() if task.error is not None]
    first = f": task {failed[0].id!r}: {failed[0].error.message}" if failed and failed[0].error else ""
    raise RunFailedError(f"{len(failed)} task(s) of run {run.id} failed{first}", run=run, results=results, hint=hint)


def _bring_up_to_date(record: Task, outcome: TaskOutcome | None) -> None:
    if outcome is None:
        return
    vars(record).update(  # the values were validated with the outcome
        state=outcome.state,
        outputs=outcome.result() if outcome.state is TaskState.COMPLETED else None,
        error=outcome.error,
        model=outcome.model or record.model,
        estimated_use=outcome.estimated_use,
        actual_use=outcome.usage,
        attempts=outcome.attempts,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        skipped_because=outcome.skipped_because,
    )

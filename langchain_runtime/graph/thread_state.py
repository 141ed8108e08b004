"""What a thread of LangGraph's says of a run, told by tasks.

In mode ``dataflow`` LangGraph sees one node, the driver. Its own snapshot says no more than that the driver is next,
although the journal knows task by task what is finished. Here that is folded in:

- ``values["results"]`` holds what the journal knows as well; what the state holds itself wins.
- ``next`` names the tasks that would run next: their dependencies are completed, and they are not. Failed ones are
  among them, since a resumed run tries them again.
- ``tasks`` has an entry for each of those, with its error and the questions it asks a human. What cannot be told of
  one task (a question when several ask, an error of the driver itself) stays with the entry of LangGraph's own node.

A snapshot of the past is told by what it holds itself: results of later times are not folded in. Nodes without a task
to name keep their own name: from ``__start__`` and ``prepare`` a new run would begin, with ``finish`` all that is left
is to end the run. In mode ``supersteps`` tasks are LangGraph's own nodes, and its snapshot stands, save that ``next``
leaves out nodes that would only pass a finished result on, and those whose turn has not come: a saver that writes in
the background may catch the marks of the step after (``NamedBarrierValue.checkpoint`` is no copy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from langchain_runtime.contracts.errors import InvalidInputError, RunNotFoundError, TaskFailedError
from langchain_runtime.contracts.run import RunHeader, RunState, TaskOutcome, TaskState
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.run_view import header_of, outcomes_of
from langchain_runtime.graph.spec import GraphSpec

_BEFORE_A_RUN: Final = frozenset({START, "prepare"})


def begins_anew(snapshot: StateSnapshot) -> bool:
    """Whether LangGraph would start a new run from here: the values may still show the one before."""
    return not _BEFORE_A_RUN.isdisjoint(snapshot.next)


def has_no_run(snapshot: StateSnapshot) -> bool:
    """Whether there is no run that could be changed, at most inputs for one."""
    return begins_anew(snapshot) or "run" not in (snapshot.values or {})


def begun_run(snapshot: StateSnapshot, config: RunnableConfig) -> RunHeader:
    """The run that can be changed.

    Raises:
        RunNotFoundError: There is none, or it has not begun yet.
    """
    header = header_of(snapshot, config)
    if begins_anew(snapshot):
        thread = str(config.get("configurable", {}).get("thread_id"))
        raise RunNotFoundError(
            f"the run of thread {thread!r} has not begun yet", run_id=thread, hint="begin it with invoke(None, config)"
        )
    return header


def refuse_unfinished(snapshot: StateSnapshot, config: RunnableConfig) -> None:
    """Let new inputs only into a thread whose run has ended: LangGraph would discard finished work without a word.

    Raises:
        InvalidInputError: The thread holds an unfinished run.
    """
    if snapshot.next:
        raise InvalidInputError(
            f"thread {config['configurable']['thread_id']!r} holds an unfinished run",
            hint="resume it by passing None as input, or use another thread_id",
        )


def may_hide_nodes(snapshot: StateSnapshot) -> bool:
    """Whether the nodes that are next have all run although LangGraph has not gone on from them.

    It leaves nodes that have run out of the newest snapshot, even when the process died before the next checkpoint.
    """
    values = snapshot.values
    if snapshot.next or not isinstance(values, dict) or "run" not in values:
        return False
    return bool(values["run"]["state"] != RunState.COMPLETED)


def unfinished_run(snapshot: StateSnapshot) -> str | None:
    """Id of the run that LangGraph would go on with from here; None if there is none."""
    values = snapshot.values
    if not snapshot.next or begins_anew(snapshot) or not isinstance(values, dict) or "run" not in values:
        return None
    return RunHeader.model_validate(values["run"]).run_id


def told_by_tasks(
    spec: GraphSpec, snapshot: StateSnapshot, journal: Mapping[str, TaskOutcome] | None = None
) -> StateSnapshot:
    """The snapshot as the module's documentation has it.

    Args:
        spec: The graph.
        snapshot: LangGraph's own.
        journal: Of its run; None for a snapshot of the past.
    """
    if unfinished_run(snapshot) is None:
        return snapshot
    journal = journal or {}
    finished = {task_id: outcome.model_dump(mode="json") for task_id, outcome in journal.items() if outcome.state.ended}
    results = {**finished, **(snapshot.values.get("results") or {})}
    snapshot = snapshot._replace(values={**snapshot.values, "results": results})
    if nodes := tuple(name for name in snapshot.next if name in spec.tasks and _has_its_turn(name, spec, results)):
        return snapshot._replace(next=nodes)
    if snapshot.values["run"]["state"] == RunState.COMPLETED:
        return snapshot._replace(next=("finish",))
    outcomes = outcomes_of(snapshot.values)
    if not (following := startable(spec, outcomes)):
        return snapshot
    return snapshot._replace(next=following, tasks=_entries(snapshot.tasks, following, outcomes, journal))


def startable(spec: GraphSpec, outcomes: Mapping[str, TaskOutcome]) -> tuple[str, ...]:
    """Tasks that a run would start next: they are not completed, and what they wait for is."""
    tasks = RunTasks(spec)
    tasks.show(outcomes)
    return tuple(
        record.id
        for record in tasks.records()
        if not _needs_no_run(outcomes.get(record.id))
        and all(is_completed(outcomes.get(dependency)) for dependency in record.deps)
    )


def _has_its_turn(name: str, spec: GraphSpec, results: Mapping[str, Any]) -> bool:
    """Whether the node of a task has something to do by what the state holds: JSON, for the sake of long histories."""
    is_ready = all(dependency in results for dependency in spec.dag.nodes[name].deps)
    return is_ready and (name not in results or results[name]["state"] != TaskState.COMPLETED)


def is_completed(outcome: TaskOutcome | None) -> bool:
    """Whether the task need not run again."""
    return outcome is not None and outcome.state is TaskState.COMPLETED


def _needs_no_run(outcome: TaskOutcome | None) -> bool:
    """Whether the task has ended for good; one that was skipped although it could start had a false condition."""
    return outcome is not None and outcome.state in {TaskState.COMPLETED, TaskState.SKIPPED}


# --- entries of tasks ------------------------------------------------------------------------------------------------


def _entries(
    nodes: Sequence[PregelTask],
    task_ids: Sequence[str],
    outcomes: Mapping[str, TaskOutcome],
    journal: Mapping[str, TaskOutcome],
) -> tuple[PregelTask, ...]:
    """An entry for each task, and behind them those of LangGraph's nodes that say something which no task's does."""
    asking = [task_id for task_id, outcome in journal.items() if outcome.state is TaskState.READY]
    failed = any(outcomes[task_id].error is not None for task_id in task_ids if task_id in outcomes)
    questions: dict[str | None, list[Interrupt]] = {task_id: [] for task_id in task_ids}
    left = []
    for node in nodes:
        of_nobody: list[Interrupt] = []
        for question in node.interrupts:
            questions.get(_asked_by(question, asking), of_nobody).append(question)
        error = None if failed else node.error
        if of_nobody or error is not None:
            left.append(node._replace(interrupts=tuple(of_nobody), error=error, result=None))
    own = [_entry(task_id, nodes[0], outcomes.get(task_id), tuple(questions[task_id])) for task_id in task_ids]
    return (*own, *left)


def _asked_by(question: Interrupt, asking: Sequence[str]) -> str | None:
    """The task that asks, where it is known; questions about money name the tasks that wait for it."""
    value = question.value
    if isinstance(value, dict) and value.get("type") == "budget_exceeded":
        return next(iter(value.get("waiting") or ()), None)
    return asking[0] if len(asking) == 1 else None


def _entry(task_id: str, node: PregelTask, outcome: TaskOutcome | None, questions: tuple[Interrupt, ...]) -> PregelTask:
    error = None if outcome is None else outcome.error
    return node._replace(
        id=f"{node.id}:{task_id}",
        name=task_id,
        error=None if error is None else TaskFailedError(error.message, task_id=task_id),
        interrupts=questions,
        result=_result_in(node, task_id),
    )


def _result_in(node: PregelTask, task_id: str) -> dict[str, Any] | None:
    """What became of the task in the step that a snapshot of the past stands before."""
    results = node.result.get("results") if isinstance(node.result, dict) else None
    return {"results": {task_id: results[task_id]}} if results and task_id in results else None

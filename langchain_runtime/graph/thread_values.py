"""What a user passes to ``update_state``: results of tasks, or other inputs, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langgraph.graph import START
from pydantic import ValidationError

from langchain_runtime.backends.json_values import unfit
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import TaskOutcome, TaskResult, TaskState, now
from langchain_runtime.graph.made_tasks import check_references
from langchain_runtime.graph.spec import GraphSpec

_NO_TASKS: Final = frozenset({None, START, "prepare"})
"""What may be given as the node of an update that is of no single task."""

Result = TaskResult | TaskOutcome


@dataclass(frozen=True)
class Edit:
    """A change of a run's state.

    Attributes:
        results: By task id.
        inputs: The run's new inputs; None for those it has.
    """

    results: Mapping[str, Result]
    inputs: Mapping[str, Any] | None = None


def read_edit(values: Any, as_node: str | None) -> Edit:
    """Read an update of the state.

    Args:
        values: ``{"results": {task_id: ...}}``, ``{"inputs": {...}}``, or the result of the task ``as_node`` alone.
        as_node: As for ``update_state``.

    Raises:
        InvalidInputError: It holds something else, or something that cannot be kept.
    """
    if isinstance(values, Result):
        if as_node in _NO_TASKS:
            raise InvalidInputError("a result without its task", hint='pass {"results": {task_id: ...}}')
        values = {"results": {as_node: values}}
    if not isinstance(values, Mapping) or (others := sorted(map(str, values.keys() - {"results", "inputs"}))):
        what = type(values).__name__ if not isinstance(values, Mapping) else repr(others[0])
        raise InvalidInputError(
            f"a run's state cannot be updated with {what}",
            hint='pass {"results": {task_id: TaskResult(...)}}; to run tasks again, call rerun_from',
        )
    results = {task_id: _read_result(task_id, value) for task_id, value in (values.get("results") or {}).items()}
    if as_node not in _NO_TASKS and as_node not in results:
        raise InvalidInputError(
            f"as_node={as_node!r} is not the task whose result is given",
            hint=f"leave as_node out: results say whose they are ({', '.join(map(repr, results)) or 'none is given'})",
        )
    return Edit(results, _read_inputs(values.get("inputs")))


def checked_inputs(spec: GraphSpec, edit: Edit) -> dict[str, Any]:
    """The new inputs of a run.

    Raises:
        InvalidInputError: A prompt has a variable that they do not supply.
    """
    inputs = dict(edit.inputs or {})
    spec.run_inputs(inputs)
    return inputs


def edited_outcome(task_id: str, given: Result, old: TaskOutcome | None, spec: GraphSpec) -> TaskOutcome:
    """The outcome of a task with a result by hand: what it took and cost so far stays.

    Raises:
        InvalidDAGError: Tasks that it adds do not fit the graph.
        TaskNotFoundError: Likewise.
    """
    old = old or TaskOutcome(task=task_id, state=TaskState.COMPLETED)
    outcome = old.model_copy(
        update={
            "state": TaskState.COMPLETED,
            "output": given.output,
            "outputs": given.outputs,
            "metadata": {**given.metadata, "edited": True},
            "enqueued": given.enqueued if isinstance(given, TaskOutcome) else old.enqueued,
            "error": None,
            "skipped_because": None,
            "ended_at": now(),
        }
    )
    check_references(outcome, spec)
    return outcome


def _read_result(task_id: str, value: Any) -> Result:
    """A result, or an outcome by what tells one from a result in JSON: it names its task and state."""
    plain = value.model_dump() if isinstance(value, Result) else value
    try:
        is_outcome = isinstance(plain, Mapping) and not plain.keys().isdisjoint({"task", "state"})
        given = TaskOutcome.model_validate(plain) if is_outcome else TaskResult.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{step}: " for step in first["loc"][:1])
        raise _no_result(task_id, f"{place}{first['msg']}") from error
    if problem := unfit({"output": given.output, "outputs": given.outputs, "metadata": given.metadata}):
        raise _no_result(task_id, problem)
    if isinstance(given, TaskOutcome):
        _check_outcome(task_id, given)
    return given


def _check_outcome(task_id: str, given: TaskOutcome) -> None:
    if given.task != task_id:
        raise InvalidInputError(f"the outcome given for task {task_id!r} is of task {given.task!r}")
    if given.state is not TaskState.COMPLETED:
        raise InvalidInputError(
            f"the outcome given for task {task_id!r} is {given.state}; only completed ones can be set",
            hint="to have it done again, call rerun_from",
        )


def _read_inputs(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"a run's inputs are a mapping, not {type(value).__name__}")
    if problem := unfit(dict(value)):
        raise InvalidInputError(f"the inputs cannot be kept: {problem}", hint="give values that JSON has")
    return value


def _no_result(task_id: str, problem: str) -> InvalidInputError:
    return InvalidInputError(
        f"what is given as the result of task {task_id!r} cannot be kept: {problem}",
        hint="give TaskResult(output=...), with values that JSON has",
    )

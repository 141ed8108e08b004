"""Changes of a run that a thread holds: edited outputs, tasks that are to run again, going back in time, other graphs.

Whatever is changed, the same follows: results that rested on what is no more are forgotten, in the journal first and
then in the graph's state, and the run is to go on from what is left. A crash between the two forgets too much in the
one and nothing in the other: the change is made again, and no result is taken for one that it is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END
from langgraph.types import Overwrite, StateSnapshot, StateUpdate

from langchain_runtime.contracts.errors import InvalidDAGError, InvalidInputError
from langchain_runtime.contracts.identifiers import CHILD_SEPARATOR
from langchain_runtime.contracts.run import RunHeader, RunState, TaskOutcome, now
from langchain_runtime.graph.graph_changes import check_same_graph, graph_difference
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.run_view import header_of
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.thread_standing import Standing
from langchain_runtime.graph.thread_state import begins_anew
from langchain_runtime.graph.thread_values import Edit, checked_inputs, edited_outcome

Steps = tuple[tuple[StateUpdate, ...], ...]
"""For LangGraph's ``bulk_update_state``."""

_NOTHING_IS_NEXT: Final = (StateUpdate(None, END),)


@dataclass(frozen=True)
class Revision:
    """What is to be done to the log of memory and to the ledger, in this order, and then to the thread.

    Attributes:
        run_id: The run.
        forget: Tasks whose outcomes and replies are dropped, with the records of what they saw of the run's memory.
        record: Outcomes that were edited.
        steps: Updates of the thread; none where it may stay as it is.
    """

    run_id: str
    forget: tuple[str, ...]
    record: tuple[TaskOutcome, ...] = ()
    steps: Steps = ()


# --- revisions -------------------------------------------------------------------------------------------------------


def goes_on_as_it_is(
    spec: GraphSpec, snapshot: StateSnapshot, config: RunnableConfig, *, newest: bool, native: bool
) -> bool:
    """Whether LangGraph can take the thread up from this snapshot without any ``resumption``.

    Raises:
        RunNotFoundError: The thread holds no run.
    """
    died_in_prepare = snapshot.created_at is not None and "run" not in (snapshot.values or {})
    if begins_anew(snapshot) or died_in_prepare:
        return True
    standing = Standing(spec, header_of(snapshot, config), snapshot, {}, newest=newest, native=native)
    ended_well = not standing.ended_badly and not standing.goes_on_out_of_reach
    return ended_well and (newest or not snapshot.next)


def resumption(standing: Standing) -> Revision:
    """What is to be changed before the run goes on from there.

    A run that ended badly tries its failed tasks again. From a snapshot of the past a run goes on with what that
    snapshot holds: whatever was done since is done, and paid, anew.

    Raises:
        InvalidDAGError: It was started with another graph.
    """
    check_same_graph(standing.header, standing.spec)
    if standing.ended_badly or standing.goes_on_out_of_reach:
        return revision(standing)
    forget = standing.known - standing.completed.keys()
    return Revision(standing.header.run_id, tuple(sorted(forget)))


def edition(standing: Standing, edit: Edit) -> Revision:
    """Results by hand take the place of others, and all that rests on them is done anew.

    Raises:
        InputError: There is no such task, the values do not fit the run, or it was started with another graph.
    """
    check_same_graph(standing.header, standing.spec)
    standing.check_known(edit.results)
    if edit.inputs is not None:
        if standing.outcomes:
            raise InvalidInputError(
                f"run {standing.header.run_id!r} has done {len(standing.outcomes)} of its tasks with the inputs it has",
                hint="start a run with other inputs on a thread of its own, or go back to a snapshot before its first "
                "task: get_state_history(config) has them",
            )
        checked_inputs(standing.spec, edit)
    edited = {
        task_id: edited_outcome(task_id, given, standing.outcomes.get(task_id), standing.spec)
        for task_id, given in edit.results.items()
    }
    return revision(standing, edited=edited, inputs=edit.inputs)


def rerun(standing: Standing, task_ids: Collection[str]) -> Revision:
    """These tasks are done anew, and all that rests on them.

    Raises:
        InvalidInputError: There is no such task, or none was named.
        InvalidDAGError: The run was started with another graph.
    """
    check_same_graph(standing.header, standing.spec)
    if not task_ids:
        raise InvalidInputError("no task was named", hint="name the tasks to run again, e.g. rerun_from(config, 'a')")
    standing.check_known(task_ids)
    return revision(standing, redo=task_ids)


def migration(standing: Standing) -> Revision | None:
    """The run goes on with the graph as it is now; None if it is the same.

    Raises:
        InvalidDAGError: Which tasks have changed is not known.
    """
    spec, header = standing.spec, standing.header
    difference = graph_difference(header, spec)
    if not difference:
        return None
    if not difference.traceable:
        raise InvalidDAGError(
            f"run {header.run_id!r} cannot be taken over into this graph: {difference}",
            hint="finish it with the graph it was started with, or start a new run",
        )
    others = {*difference.added, *difference.changed}
    others |= {
        added.id
        for outcome in standing.outcomes.values()
        for added in outcome.enqueued
        if added.like in others and added.id in standing.tasks
    }
    migrated = header.model_copy(update={"spec_hash": spec.fingerprint, "task_hashes": spec.task_hashes})
    return revision(standing, redo=others, header=migrated)


def revision(
    standing: Standing,
    *,
    redo: Collection[str] = (),
    edited: Mapping[str, TaskOutcome] | None = None,
    inputs: Mapping[str, Any] | None = None,
    header: RunHeader | None = None,
) -> Revision:
    """The run without the results that are to be replaced, and without those that rest on them.

    Args:
        standing: The run.
        redo: Tasks that are done anew.
        edited: Outcomes that take the place of others, by task id.
        inputs: The run's new inputs; None for those it has.
        header: The run's, where it goes over to another graph: then nothing stays of tasks that this one does not have.
    """
    edited, completed = edited or {}, standing.completed
    dropped = _with_all_downstream(standing.tasks, redo, edited) - edited.keys()
    kept = {task_id: outcome for task_id, outcome in completed.items() if task_id not in dropped | edited.keys()}
    forget = {*dropped, *edited} if standing.newest else standing.known - kept.keys()
    if header is not None:
        forget = forget | {task_id for task_id in standing.known if task_id not in standing.tasks}
    results = {task_id: outcome.model_dump(mode="json") for task_id, outcome in {**kept, **edited}.items()}
    update: dict[str, Any] = {
        "results": Overwrite(results),
        "run": _resumed(header or standing.header, dropped & standing.outcomes.keys()).model_dump(mode="json"),
    }
    if inputs is not None:
        update["inputs"] = dict(inputs)
    steps = _steps(standing, update, in_place=dropped.isdisjoint(completed), afresh=header is not None)
    return Revision(standing.header.run_id, tuple(sorted(forget)), tuple(edited.values()), steps)


def _resumed(header: RunHeader, undone: Collection[str]) -> RunHeader:
    """The run under way again; it stands still anew before tasks that are done anew, not before those it stands at."""
    released = [task_id for task_id in header.released if task_id not in undone]
    return header.model_copy(
        update={
            "state": RunState.RUNNING,
            "reason": None,
            "paused_at": [],
            "released": list(dict.fromkeys([*released, *header.paused_at])),
            "updated_at": now(),
        }
    )


# --- what rests on what ----------------------------------------------------------------------------------------------


def _with_all_downstream(tasks: RunTasks, redo: Collection[str], edited: Collection[str]) -> set[str]:
    """Tasks to redo, children of ``for_each`` ones included, and all that rests on them or on edited ones."""
    found = {*redo, *(dep for task_id in redo for dep in tasks.deps_of(task_id) if _is_child(dep, task_id))}
    waiting = [*found, *edited]
    while waiting:
        followers = [task_id for task_id in tasks.next_of(waiting.pop()) if task_id not in found]
        found.update(followers)
        waiting += followers
    return found


def _is_child(task_id: str, of: str) -> bool:
    return task_id.rpartition(CHILD_SEPARATOR)[0] == of


# --- what LangGraph is told ------------------------------------------------------------------------------------------


def _steps(standing: Standing, update: dict[str, Any], *, in_place: bool, afresh: bool) -> Steps:
    """Updates of the thread behind which the run goes on from the graph's beginning, past all that is finished.

    Args:
        standing: The run.
        update: Of the graph's state.
        in_place: Whether nothing that was finished is undone: then nodes that are next may stay so.
        afresh: Whether the nodes are others than they were: what they have told one another counts no more.
    """
    joined, begin = standing.joined, (StateUpdate(update, "prepare"),)
    if in_place and joined and len(joined) == len(standing.snapshot.next) and not standing.goes_on_out_of_reach:
        return ((StateUpdate(update, "finish"),),)
    if standing.native and afresh and standing.spec.tasks:
        return (tuple(StateUpdate({}, task_id) for task_id in standing.spec.tasks), _NOTHING_IS_NEXT, begin)
    if not joined:
        return (begin,)
    # What nodes of this step have written when the process died is applied first, and makes other nodes be next.
    have_run = any(name in standing.outcomes for name in standing.snapshot.next)
    return (_NOTHING_IS_NEXT, _NOTHING_IS_NEXT, begin) if have_run else (_NOTHING_IS_NEXT, begin)

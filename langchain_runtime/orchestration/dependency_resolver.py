"""From a list of tasks to a DAG that is known to be sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    DependencyNotFoundError,
    InvalidDAGError,
    InvalidInputError,
)
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import DAG, DAGNode, Task
from langchain_runtime.orchestration.task_ids import did_you_mean

_SHOWN_OF_A_CYCLE: Final = 10
"""Ids that a message shows of a longer cycle; ``CyclicDependencyError.cycle`` has them all."""

_REBUILD: Final = "build the DAG with DependencyResolver.build"


class DependencyResolver:
    """Builds DAGs and validates them; holds no state, and nothing in it recurses."""

    def build(self, tasks: Sequence[Task]) -> DAG:
        """The graph of ``tasks``, not yet checked for cycles.

        ``deps`` keep the order of each task, repeated ones dropped; ``next`` is in the order of ``tasks``.

        Raises:
            InvalidInputError: ``tasks`` is None.
            InvalidDAGError: An id occurs twice.
            DependencyNotFoundError: A dependency is not among ``tasks``.
        """
        _require_given(tasks, "a list of tasks")
        deps = {task.id: list(dict.fromkeys(task.deps)) for task in tasks}
        if len(deps) < len(tasks):
            repeated = next(task_id for task_id, times in Counter(task.id for task in tasks).items() if times > 1)
            raise InvalidDAGError(f"task id {repeated!r} is used more than once", hint="give every task its own id")
        following: dict[str, list[str]] = {task_id: [] for task_id in deps}
        for task_id, needed in deps.items():
            for dependency in needed:
                if dependency not in following:
                    raise _dependency_not_found(task_id, dependency, deps)
                following[dependency].append(task_id)
        nodes = {
            task_id: trusted(
                DAGNode, {"id": task_id, "deps": needed, "next": [*following[task_id]], "pending": len(needed)}
            )
            for task_id, needed in deps.items()
        }
        return trusted(DAG, {"nodes": nodes, "edges": following})

    def validate(self, dag: DAG) -> None:
        """Check a graph before its run: every link is known on both of its ends, and there is no cycle.

        Raises:
            InvalidInputError: ``dag`` is None.
            CyclicDependencyError: With the cycle.
            InvalidDAGError: ``nodes``, ``edges``, ``deps``, ``next`` and ``pending`` do not agree.
        """
        _require_parts(dag)
        _check_ids(dag)
        topological_order(dag)
        _check_links(dag)


def topological_order(dag: DAG) -> list[str]:
    """All ids, each after its dependencies; in the order of ``dag.nodes`` where dependencies leave a choice.

    Follows ``next``.

    Raises:
        InvalidInputError: ``dag`` is None.
        InvalidDAGError: It has no nodes or edges.
        CyclicDependencyError: There is no such order.
    """
    _require_parts(dag)
    blockers = Counter(successor for node in dag.nodes.values() for successor in node.next or ())
    order = [task_id for task_id in dag.nodes if not blockers[task_id]]
    for task_id in order:  # grows while it is read
        for successor in dag.nodes[task_id].next or ():
            blockers[successor] -= 1
            if not blockers[successor]:
                order.append(successor)
    if len(order) < len(dag.nodes):
        raise _cyclic(_find_cycle(dag, stuck=[task_id for task_id in dag.nodes if blockers[task_id]]))
    return order


def _require_given(value: object, what: str) -> None:
    if value is None:
        raise InvalidInputError(f"{what} is needed, got None")


def _require_parts(dag: DAG) -> None:
    _require_given(dag, "a DAG")
    for part in ("nodes", "edges"):
        if getattr(dag, part) is None:
            raise InvalidDAGError(f"the DAG has no {part}", hint=_REBUILD)


def _dependency_not_found(task_id: str, dependency: str, known: Collection[str]) -> DependencyNotFoundError:
    return DependencyNotFoundError(
        f"task {task_id!r} depends on {dependency!r}, which does not exist",
        task_id=task_id,
        dependency=dependency,
        hint=did_you_mean(dependency, known) or "add the task, or drop the dependency",
    )


def _find_cycle(dag: DAG, *, stuck: Sequence[str]) -> list[str]:
    """A cycle among ``stuck`` (in the order of the nodes), each of which comes after another one of them."""
    before = {successor: task_id for task_id in stuck for successor in dag.nodes[task_id].next}
    path: dict[str, None] = {}
    at = stuck[0]
    while at not in path:
        path[at] = None
        at = before[at]
    walked = list(path)
    cycle = walked[walked.index(at) :][::-1]
    members = set(cycle)
    first = cycle.index(next(task_id for task_id in stuck if task_id in members))
    return [*cycle[first:], *cycle[:first], cycle[first]]


def _cyclic(cycle: Sequence[str]) -> CyclicDependencyError:
    shown = cycle if len(cycle) <= _SHOWN_OF_A_CYCLE else [*cycle[: _SHOWN_OF_A_CYCLE - 2], "...", cycle[-1]]
    return CyclicDependencyError(
        f"tasks wait for one another: {' -> '.join(shown)} ({len(cycle) - 1} in the cycle)",
        cycle=cycle,
        hint="'a -> b' means that b depends on a; drop one of these dependencies",
    )


def _check_ids(dag: DAG) -> None:
    for task_id, node in dag.nodes.items():
        if node.id != task_id:
            raise InvalidDAGError(f"the node under {task_id!r} is called {node.id!r}", hint=_REBUILD)
        for kind, ids in (("deps", node.deps), ("next", node.next), ("edges", dag.edges.get(task_id))):
            unknown = next((other for other in ids or () if other not in dag.nodes), None)
            if unknown is not None:
                raise InvalidDAGError(f"{kind} of {task_id!r} names {unknown!r}, which is no node", hint=_REBUILD)


def _check_links(dag: DAG) -> None:
    if unknown := next((task_id for task_id in dag.edges if task_id not in dag.nodes), None):
        raise InvalidDAGError(f"edges name {unknown!r}, which is no node", hint=_REBUILD)
    following: dict[str, list[str]] = {task_id: [] for task_id in dag.nodes}
    for task_id, node in dag.nodes.items():
        for dependency in node.deps or ():
            following[dependency].append(task_id)
    for task_id, node in dag.nodes.items():
        expected = sorted(following[task_id])
        for kind, ids in (("next", node.next), ("edges", dag.edges.get(task_id))):
            if sorted(ids or ()) != expected:
                raise InvalidDAGError(
                    f"{kind} of {task_id!r} is {list(ids or ())}, but the tasks that depend on it are {expected}",
                    hint=_REBUILD,
                )
        if not len(set(node.deps)) == len(node.deps) == node.pending:
            raise InvalidDAGError(
                f"{task_id!r} has pending {node.pending} and depends on {node.deps}; "
                "before a run, pending is the number of its dependencies, each named once",
                hint=_REBUILD,
            )

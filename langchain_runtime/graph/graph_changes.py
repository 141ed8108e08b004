"""What has become of a graph since a run of it was started."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_runtime.contracts.errors import InvalidDAGError
from langchain_runtime.contracts.run import RunHeader
from langchain_runtime.graph.spec import GraphSpec

_NAMED = 10
"""Tasks of a kind that a text names; the others are counted."""


@dataclass(frozen=True)
class GraphDifference:
    """How a graph differs from the one that a run was started with; ``str`` says it in words.

    Attributes:
        added: Tasks that it had not, in the order of the graph.
        removed: Tasks that it has no more, by name.
        changed: Tasks that are others now (prompt, dependencies, condition, ...), in the order of the graph. Models,
            priorities, retries and the code of bodies do not count.
        traceable: Whether the run noted its tasks; if not, which of them differ is not known.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    traceable: bool = True

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or not self.traceable)

    def __str__(self) -> str:
        if not self.traceable:
            return "it was started before runs noted their tasks, so which of them differ is not known"
        kinds = (
            ("changed", "changed", self.changed),
            ("is new", "are new", self.added),
            ("is gone", "are gone", self.removed),
        )
        parts = [_sentence(ids, singular, plural) for singular, plural, ids in kinds if ids]
        return ", ".join(parts) or "it is the same graph"


def graph_difference(header: RunHeader, spec: GraphSpec) -> GraphDifference:
    """How ``spec`` differs from the graph that the run was started with, or was last migrated to."""
    if header.spec_hash == spec.fingerprint:
        return GraphDifference()
    before, now = header.task_hashes, spec.task_hashes
    if not before:
        return GraphDifference(traceable=False)
    return GraphDifference(
        added=tuple(task_id for task_id in now if task_id not in before),
        removed=tuple(sorted(before.keys() - now.keys())),
        changed=tuple(task_id for task_id in now if task_id in before and before[task_id] != now[task_id]),
    )


def check_same_graph(header: RunHeader, spec: GraphSpec) -> None:
    """Let a run go on only with the graph that it was started with, or was last migrated to.

    Raises:
        InvalidDAGError: It is another one.
    """
    if difference := graph_difference(header, spec):
        raise InvalidDAGError(
            f"run {header.run_id!r} was started with a different graph: {difference}",
            hint="take it over into this graph with migrate(config), resume it with the graph it was started with, or "
            "start a new run",
        )


def _sentence(task_ids: tuple[str, ...], singular: str, plural: str) -> str:
    names = ", ".join(repr(task_id) for task_id in task_ids[:_NAMED])
    more = f" and {len(task_ids) - _NAMED} more" if len(task_ids) > _NAMED else ""
    noun = "task" if len(task_ids) == 1 else "tasks"
    return f"{noun} {names}{more} {singular if len(task_ids) == 1 else plural}"

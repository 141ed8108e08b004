"""Where the run of a thread stands at one of its snapshots, for whoever is to change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from langgraph.types import StateSnapshot

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import RunHeader, RunState, TaskOutcome
from langchain_runtime.graph.growth import RunTasks
from langchain_runtime.graph.run_view import outcomes_of
from langchain_runtime.graph.spec import GraphSpec
from langchain_runtime.graph.thread_state import is_completed
from langchain_runtime.orchestration.task_ids import did_you_mean


@dataclass(frozen=True)
class Standing:
    """A run as one snapshot of its thread has it, to be changed.

    Attributes:
        spec: The graph, as it is now.
        header: The run.
        snapshot: LangGraph's own.
        journal: What the ledger knows of it, of any time.
        newest: Whether the snapshot is the thread's newest: then what the journal knows counts, too.
        native: Whether tasks are nodes of LangGraph's own.
    """

    spec: GraphSpec
    header: RunHeader
    snapshot: StateSnapshot
    journal: Mapping[str, TaskOutcome]
    newest: bool
    native: bool

    @cached_property
    def outcomes(self) -> dict[str, TaskOutcome]:
        """What is known of each task at that time."""
        own = outcomes_of(self.snapshot.values)
        return {**self.journal, **own} if self.newest else own

    @cached_property
    def tasks(self) -> RunTasks:
        """All tasks of the run, those included that joined it at other times."""
        tasks = RunTasks(self.spec)
        tasks.show({**self.journal, **self.outcomes})
        return tasks

    @cached_property
    def completed(self) -> dict[str, TaskOutcome]:
        """What need not be done again."""
        return {
            task_id: outcome
            for task_id, outcome in self.outcomes.items()
            if is_completed(outcome) and task_id in self.tasks
        }

    @cached_property
    def known(self) -> frozenset[str]:
        """Ids of all tasks that are, or were, of this run."""
        return frozenset({*self.journal, *self.outcomes, *(record.id for record in self.tasks.records())})

    @property
    def ended_badly(self) -> bool:
        """Whether the run failed or was aborted."""
        return self.header.state in {RunState.FAILED, RunState.ABORTED}

    @cached_property
    def joined(self) -> list[str]:
        """Nodes that are next because others before them have ended; that outlasts an update, unlike other triggers."""
        dag = self.spec.dag.nodes
        if not self.native:
            return []
        return [name for name in self.snapshot.next if (name in dag and dag[name].deps) or (name == "driver" and dag)]

    @property
    def goes_on_out_of_reach(self) -> bool:
        """Whether LangGraph would go on behind nodes whose tasks are to be tried again, or are not done yet.

        The latter because of a saver that writes in the background: see ``thread_state``.
        """
        if not self.joined:
            return False
        dag, outcomes = self.spec.dag.nodes, outcomes_of(self.snapshot.values)
        has_failed = any(not is_completed(outcome) for outcome in outcomes.values())
        return has_failed or any(dep not in outcomes for name in self.joined if name in dag for dep in dag[name].deps)

    def check_known(self, task_ids: Iterable[str]) -> None:
        """Refuse names of tasks that the run does not have.

        Raises:
            InvalidInputError: There is one.
        """
        for task_id in task_ids:
            if task_id not in self.tasks:
                known = [record.id for record in self.tasks.records()]
                raise InvalidInputError(
                    f"run {self.header.run_id!r} has no task {task_id!r}",
                    hint=did_you_mean(task_id, known) or f"its tasks: {', '.join(known[:10])}",
                )

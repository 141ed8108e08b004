"""The tasks of a run while it grows: those of the graph, children of ``for_each``, and what bodies enqueue.

Growth follows from outcomes, which are durable: a resumed run, and a run that is only looked at, grow the same again.

::

    for_each task is started ──> expand ──> its children run ──> it is started again ──> gather
    body returns ──> accept ──> its outcome is kept ──> enqueue
    run is resumed ──> restore ──> what had joined joins again
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from langchain_runtime.backends.in_process import task_error
from langchain_runtime.contracts.errors import (
    InvalidDAGError,
    InvalidInputError,
    LangChainRuntimeError,
    TaskNotFoundError,
)
from langchain_runtime.contracts.run import Task, TaskOutcome, TaskState, now
from langchain_runtime.graph.conditions import holds
from langchain_runtime.graph.made_tasks import check_references, check_supplies, children_of, enqueued_by
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.orchestration import NewTask


@dataclass(frozen=True)
class Growth:
    """Tasks that join a run together.

    Attributes:
        parent: The task that they come from.
        tasks: In the order they are to start.
    """

    parent: str
    tasks: tuple[NewTask, ...]


@dataclass(frozen=True)
class _Made:
    definition: TaskDefinition
    parent: str
    whose_body: str | None
    deps: tuple[str, ...]


class RunTasks:
    """What the tasks of one run are. For one execution, and for one event loop.

    Wherever outcomes are asked for, those of tasks that nobody knows do no harm.

    Args:
        spec: The graph.
        inputs: Names of the run's inputs.
        check_model: Raises if the run cannot call the model of a prompt that a body added.
    """

    def __init__(
        self,
        spec: GraphSpec,
        *,
        inputs: Iterable[str] = (),
        check_model: Callable[[TaskDefinition], None] = lambda _definition: None,
    ) -> None:
        self._spec = spec
        self._inputs = frozenset(inputs)
        self._check_model = check_model
        self._made: dict[str, _Made] = {}
        self._children: dict[str, list[str]] = {}
        self._followers: dict[str, list[str]] = defaultdict(list)
        self._origins: dict[str, str] = {}
        self._members: dict[str, list[str]] = defaultdict(list)
        self._added_by: dict[str, str] = {}

    # --- looking -----------------------------------------------------------------------------------------------------

    def __contains__(self, task_id: object) -> bool:
        """Whether the task is in the run by now."""
        return task_id in self._spec.tasks or task_id in self._made

    def definition(self, task_id: str) -> TaskDefinition:
        """What the task is; children and enqueued tasks have ``inputs`` of their own."""
        made = self._made.get(task_id)
        return self._spec.tasks[task_id] if made is None else made.definition

    def origin(self, task_id: str) -> str:
        """The graph's own task from which it came, through however many others."""
        return self._origins.get(task_id, task_id)

    def members(self, origin: str) -> tuple[str, ...]:
        """The graph's own task, and everything that came from it so far."""
        return (origin, *self._members.get(origin, ()))

    def whose_body(self, task_id: str) -> str | None:
        """The graph's own task whose body or prompt it runs; None for a prompt that a body wrote."""
        made = self._made.get(task_id)
        return task_id if made is None else made.whose_body

    def deps_of(self, task_id: str) -> tuple[str, ...]:
        """What the task waits for.

        An expanded ``for_each`` task waits for its children, too; a task that a body added, for the one that added it.
        """
        made = self._made.get(task_id)
        deps = tuple(self._spec.dag.nodes[task_id].deps) if made is None else made.deps
        return (*deps, *self._children.get(task_id, ()))

    def next_of(self, task_id: str) -> tuple[str, ...]:
        """The tasks that wait for it."""
        drawn = self._spec.dag.nodes.get(task_id)
        return (*(drawn.next if drawn is not None else ()), *self._followers.get(task_id, ()))

    def records(self) -> list[Task]:
        """A fresh record of every task, all pending; those of the graph first, then the others as they joined."""
        drawn = [each.record(self.deps_of(task_id)) for task_id, each in self._spec.tasks.items()]
        made = self._made.items()
        return drawn + [each.definition.record(self.deps_of(id_), added_by=each.parent) for id_, each in made]

    # --- for_each ----------------------------------------------------------------------------------------------------

    def is_expanded(self, task_id: str) -> bool:
        """Whether the children of the ``for_each`` task are in the run."""
        return task_id in self._children

    def expand(self, task_id: str, outcomes: Mapping[str, TaskOutcome]) -> list[NewTask]:
        """Make the children of a ``for_each`` task whose dependencies are completed and whose condition holds.

        On a resume those that ended earlier join as they ended; what they had added to the run follows by ``grown_by``.

        Raises:
            InvalidInputError: There is no list of items, or too long a one.
        """
        return self._take_children(task_id, children_of(self._spec.tasks[task_id], outcomes), outcomes)

    def gather(self, task_id: str, outcomes: Mapping[str, TaskOutcome]) -> TaskOutcome:
        """The outcome of an expanded task whose children are all completed: theirs, in order.

        It took no time and used nothing: its children did.
        """
        of_children = [outcomes[child] for child in self._children[task_id]]
        names = of_children[0].outputs if of_children else {}
        at = now()
        return TaskOutcome(
            task=task_id,
            state=TaskState.COMPLETED,
            output=[outcome.output for outcome in of_children],
            outputs={
                name: [outcome.outputs[name] for outcome in of_children]
                for name in names
                if all(name in outcome.outputs for outcome in of_children)
            },
            started_at=at,
            ended_at=at,
        )

    # --- enqueued tasks ----------------------------------------------------------------------------------------------

    def accept(self, outcome: TaskOutcome) -> TaskOutcome:
        """Judge a success before it is kept: if the run cannot take what the body added, the task has failed.

        Ids are the task's own from then on, so of two bodies that choose the same one the second fails.
        """
        if not outcome.enqueued:
            return outcome
        try:
            check_references(outcome, self._spec)
            self._check_ids(outcome)
            for definition in enqueued_by(outcome, self._spec):
                check_supplies(definition, self._inputs)
                self._check_callable(definition)
        except LangChainRuntimeError as error:
            refused = {"state": TaskState.FAILED, "error": task_error(error)}
            return outcome.model_copy(update={**refused, "output": None, "outputs": {}, "enqueued": []})
        self._added_by.update({task.id: outcome.task for task in outcome.enqueued})
        return outcome

    def enqueue(self, outcome: TaskOutcome, outcomes: Mapping[str, TaskOutcome]) -> list[NewTask]:
        """Take in what the body of a completed task added, the most urgent first.

        Args:
            outcome: The task's; it was accepted, or comes from the journal.
            outcomes: Of the tasks that ended, in this execution or earlier.

        Raises:
            InvalidDAGError: It does not fit the graph: the run was started with another one.
            TaskNotFoundError: Likewise.
        """
        check_references(outcome, self._spec)
        likes = {task.id: task.like for task in outcome.enqueued}
        new_tasks = []
        for definition in enqueued_by(outcome, self._spec):
            task_id = definition.spec.id
            wanted = (dependency.task for dependency in definition.spec.deps)
            deps = tuple(dict.fromkeys((outcome.task, *wanted)))
            new_tasks.append(self._join(_Made(definition, outcome.task, likes[task_id], deps), outcomes))
        return new_tasks

    def _check_ids(self, outcome: TaskOutcome) -> None:
        for task in outcome.enqueued:
            if (other := self._added_by.get(task.id, outcome.task)) != outcome.task:
                raise InvalidDAGError(
                    f"task {outcome.task!r} added a task {task.id!r}, but {other!r} has added one of that id",
                    hint='make ids from something that only this task has, e.g. runtime.task_id.replace("#", "-")',
                )

    def _check_callable(self, definition: TaskDefinition) -> None:
        if definition.model is not None:
            self._check_model(definition)

    # --- growing again -----------------------------------------------------------------------------------------------

    def restore(self, outcomes: Mapping[str, TaskOutcome]) -> list[Growth]:
        """Let everything join again that joined in earlier executions, parents before those that come from them.

        The children of a ``for_each`` task that has not ended join when it is expanded again.

        Args:
            outcomes: Of the tasks that are not to be run again.

        Raises:
            InvalidDAGError: What a body added does not fit the graph.
            TaskNotFoundError: Likewise.
            LangChainRuntimeError: The run cannot call the model of a task that is still to be done.
        """
        for outcome in outcomes.values():
            self._added_by.update({task.id: outcome.task for task in outcome.enqueued})
        growths = self.grown_by(self._spec.tasks, outcomes)
        for growth in growths:
            for task in growth.tasks:
                if not task.state.ended:
                    self._check_callable(self.definition(task.task_id))
        return growths

    def grown_by(self, task_ids: Iterable[str], outcomes: Mapping[str, TaskOutcome]) -> list[Growth]:
        """What these tasks, which ended earlier, had added to the run; and what those had added, and so on."""
        return self._grow_again(task_ids, outcomes, showing=False)

    def show(self, outcomes: Mapping[str, TaskOutcome]) -> None:
        """Take in everything that belongs to a run whose tasks ended so, also what is still to be done.

        What does not fit the graph is left out.
        """
        self._grow_again(self._spec.tasks, outcomes, showing=True)

    def _grow_again(
        self, task_ids: Iterable[str], outcomes: Mapping[str, TaskOutcome], *, showing: bool
    ) -> list[Growth]:
        growths: list[Growth] = []
        waiting = deque(task_ids)
        while waiting:
            task_id = waiting.popleft()
            if tasks := self._added_again(task_id, outcomes, showing=showing):
                growths.append(Growth(task_id, tuple(tasks)))
                waiting.extend(task.task_id for task in tasks)
        return growths

    def _added_again(self, task_id: str, outcomes: Mapping[str, TaskOutcome], *, showing: bool) -> list[NewTask]:
        if self.definition(task_id).spec.for_each is not None:
            return self._expand_again(task_id, outcomes) if showing or task_id in outcomes else []
        outcome = outcomes.get(task_id)
        if outcome is None or not outcome.enqueued:
            return []
        try:
            return self.enqueue(outcome, outcomes)
        except (InvalidDAGError, TaskNotFoundError):
            if showing:
                return []
            raise

    def _expand_again(self, task_id: str, outcomes: Mapping[str, TaskOutcome]) -> list[NewTask]:
        definition, ended = self._spec.tasks[task_id], outcomes.get(task_id)
        try:
            if not _may_expand(definition, outcomes):
                return []
            children = children_of(definition, outcomes)
        except InvalidInputError:
            return []
        if ended is not None:
            known = [child for child in children if child.spec.id in outcomes]
            # A task that failed may have left some of its children undone. One that completed needs no others, even if
            # its outcome was written by hand; and one of which no child has ended was never expanded.
            children = children if known and ended.state is not TaskState.COMPLETED else known
        return self._take_children(task_id, children, outcomes)

    # --- taking tasks in ---------------------------------------------------------------------------------------------

    def _take_children(
        self, task_id: str, children: Sequence[TaskDefinition], outcomes: Mapping[str, TaskOutcome]
    ) -> list[NewTask]:
        deps = tuple(self._spec.dag.nodes[task_id].deps)
        self._children[task_id] = [child.spec.id for child in children]
        for child in self._children[task_id]:
            self._followers[child].append(task_id)
        return [self._join(_Made(child, task_id, task_id, deps), outcomes) for child in children]

    def _join(self, made: _Made, outcomes: Mapping[str, TaskOutcome]) -> NewTask:
        spec = made.definition.spec
        self._made[spec.id] = made
        self._origins[spec.id] = self.origin(made.parent)
        self._members[self._origins[spec.id]].append(spec.id)
        for dependency in made.deps:
            self._followers[dependency].append(spec.id)
        outcome = outcomes.get(spec.id)
        state = outcome.state if outcome is not None and outcome.state.ended else TaskState.PENDING
        return NewTask(spec.id, deps=made.deps, state=state, model=made.definition.model, retry=spec.retry)


def _may_expand(definition: TaskDefinition, outcomes: Mapping[str, TaskOutcome]) -> bool:
    """Whether a ``for_each`` task has got as far as its items.

    Raises:
        InvalidInputError: Its condition cannot be judged.
    """
    for dependency in definition.spec.deps:
        outcome = outcomes.get(dependency.task)
        if outcome is None or outcome.state is not TaskState.COMPLETED:
            return False
    return definition.spec.when is None or holds(definition.spec.when, outcomes)

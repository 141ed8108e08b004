"""Hands the outputs of direct dependencies over, each under its own name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from langchain_runtime.context.prompt_template import unknown_name
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.task_spec import Dependency, TaskSpec


class ContextRouter:
    """Picks what a task receives from the tasks it depends on; nothing travels further than one edge."""

    def route(self, task: TaskSpec, outcomes: Mapping[str, TaskOutcome]) -> dict[str, JsonValue]:
        """Outputs of completed dependencies under their aliases, in the order of ``task.deps``.

        Dependencies that are unknown or did not complete are left out.

        Raises:
            InvalidInputError: A dependency completed without the named output that the task asks for.
        """
        routed: dict[str, JsonValue] = {}
        for written in task.deps:
            dep = written.resolved(outcomes.keys())
            outcome = outcomes.get(dep.task)
            if outcome is not None and outcome.state is TaskState.COMPLETED:
                routed[dep.alias] = _output(task, dep, outcome)
        return routed


def check_names(task: TaskSpec, input_names: Iterable[str]) -> None:
    """Check, before a run, that no two values would reach ``task`` under one name.

    Args:
        task: With its dependencies resolved.
        input_names: Keys of the run's inputs.

    Raises:
        InvalidInputError: A dependency's alias or the ``for_each`` item clashes with a run input or with one another.
    """
    inputs = set(input_names)
    names = Counter(dep.alias for dep in task.deps)
    if task.for_each is not None:
        names[task.for_each.as_] += 1
    for name, count in names.items():
        if name in inputs:
            raise InvalidInputError(
                f"task {task.id!r}: {name!r} names both a run input and something the task receives",
                hint=f"give the dependency another alias, for example deps={{'{name}_output': ...}}",
            )
        if count > 1:
            raise InvalidInputError(
                f"task {task.id!r} receives {count} values under the name {name!r}",
                hint="give each dependency an alias of its own",
            )


def _output(task: TaskSpec, dep: Dependency, outcome: TaskOutcome) -> JsonValue:
    if dep.output is None:
        return outcome.output
    if dep.output not in outcome.outputs:
        raise unknown_name(
            f"task {task.id!r} asks for output {dep.output!r} of task {dep.task!r}, which has no such output",
            dep.output,
            outcome.outputs,
        )
    return outcome.outputs[dep.output]

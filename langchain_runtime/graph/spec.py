"""A graph as its author described it, checked: what can be refused is refused here, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import JsonValue

from langchain_runtime.backends import TaskBody
from langchain_runtime.context import check_names, variables
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import DAG, RetrySpec, RunPolicy, Task, TaskInput
from langchain_runtime.contracts.task_spec import Dependency, TaskSpec
from langchain_runtime.orchestration import DependencyResolver, topological_order


@dataclass(frozen=True)
class TaskDefinition:
    """One task: its spec, and what JSON cannot carry of it.

    Attributes:
        spec: As written.
        body: What it does; None for a prompt.
        model: Prompts: ``provider:name`` of the model that answers.
        chat_model: Prompts: the model itself where the author passed an object; None opens it by name.
        response_format: Prompts: schema of a structured reply, a JSON Schema or a pydantic class.
        tools: Prompts: tools for the model; makes the task an agent's loop.
    """

    spec: TaskSpec
    body: TaskBody | None = None
    model: str | None = None
    chat_model: BaseChatModel | None = None
    response_format: Any = None
    tools: tuple[Any, ...] = ()

    @property
    def is_single_call(self) -> bool:
        """Whether it makes exactly one model call over a view that is known at dispatch, so a hold can be made then."""
        return self.spec.prompt is not None and self.response_format is None and not self.tools


@dataclass(frozen=True)
class GraphSpec:
    """Every task of a graph, its DAG and its policy; immutable.

    Attributes:
        name: For people.
        policy: How runs are carried out.
        tasks: By id, in the order they were added.
        inputs: Default values of the run's inputs.
    """

    name: str
    policy: RunPolicy
    tasks: Mapping[str, TaskDefinition]
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def checked(
        cls,
        *,
        name: str,
        policy: RunPolicy,
        definitions: Sequence[TaskDefinition],
        inputs: Mapping[str, JsonValue],
    ) -> GraphSpec:
        """Resolve ``task.output`` references and check everything that does not depend on a run's inputs.

        Raises:
            InvalidDAGError: Ids repeat, a dependency is missing, or there is a cycle.
            InvalidInputError: A task or the policy asks for something impossible.
        """
        known = {definition.spec.id for definition in definitions}
        tasks = {d.spec.id: _with_resolved_deps(d, known) for d in definitions}
        for definition in tasks.values():
            _check_task(definition)
        graph = cls(name=name, policy=policy, tasks=tasks, inputs=dict(inputs))
        DependencyResolver().validate(graph.dag)
        return graph

    @cached_property
    def dag(self) -> DAG:
        """The graph of dependencies."""
        return DependencyResolver().build(self.new_tasks())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what the tasks are; a run is resumed only under the same one.

        Models are left out: to go on with another model is a reason to resume.
        """
        left_out = {"model", "priority", "expected_seconds", "metadata", "retry"}
        described = [definition.spec.model_dump(mode="json", exclude=left_out) for definition in self.tasks.values()]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def new_tasks(self) -> list[Task]:
        """Fresh task records, all pending."""
        return [
            Task(
                id=spec.id,
                inputs=TaskInput(prompt=spec.prompt, metadata=spec.metadata),
                deps=list(dict.fromkeys(dependency.task for dependency in spec.deps)),
                model=definition.model,
                priority=spec.priority,
                expected_seconds=spec.expected_seconds,
            )
            for definition in self.tasks.values()
            for spec in (definition.spec,)
        ]

    def run_inputs(self, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Defaults overridden by what the caller gave.

        Raises:
            InvalidInputError: A prompt has a variable that nothing supplies, or an input has the name of a dependency.
        """
        inputs = {**self.inputs, **given}
        for definition in self.tasks.values():
            check_names(definition.spec, inputs)
            _check_variables(definition.spec, inputs)
        return inputs

    @property
    def models(self) -> list[str]:
        """The models that prompts name."""
        return [definition.model for definition in self.tasks.values() if definition.model is not None]

    @cached_property
    def topological_order(self) -> list[str]:
        """Task ids, dependencies first."""
        return topological_order(self.dag)

    @property
    def expected_seconds(self) -> dict[str, float]:
        """Durations that the author gave, by task id."""
        return {
            task_id: definition.spec.expected_seconds
            for task_id, definition in self.tasks.items()
            if definition.spec.expected_seconds is not None
        }

    def retry_of(self, task_id: str) -> RetrySpec:
        """The task's retry rule, or the policy's."""
        return self.tasks[task_id].spec.retry or self.policy.retry


def _with_resolved_deps(definition: TaskDefinition, known: set[str]) -> TaskDefinition:
    deps: tuple[Dependency, ...] = tuple(dependency.resolved(known) for dependency in definition.spec.deps)
    aliases = [dependency.alias for dependency in deps]
    if len(set(aliases)) < len({(d.alias, d.task, d.output) for d in deps}):
        repeated = next(alias for alias in aliases if aliases.count(alias) > 1)
        raise InvalidInputError(
            f"task {definition.spec.id!r} has two dependencies called {repeated!r}",
            hint='give them names: deps={"first": "a.title", "second": "b.title"}',
        )
    spec = definition.spec.model_copy(update={"deps": tuple(dict.fromkeys(deps))})
    return TaskDefinition(**{**definition.__dict__, "spec": spec})


def _check_task(definition: TaskDefinition) -> None:
    spec = definition.spec
    if spec.prompt is None and definition.body is None:
        raise InvalidInputError(f"task {spec.id!r} has nothing to do", hint="give it a prompt or a body")
    if spec.prompt is not None and definition.model is None:
        raise InvalidInputError(
            f"task {spec.id!r} has a prompt but no model", hint='pass model="provider:name" to the task or to RunGraph'
        )
    for name in ("tier", "for_each"):
        if getattr(spec, name) is not None:
            raise InvalidInputError(f"task {spec.id!r}: {name} is not available in this version")
    if spec.when is not None and spec.when.task not in {dependency.task for dependency in spec.deps}:
        raise InvalidInputError(
            f"task {spec.id!r} has a condition on {spec.when.task!r}, which is not one of its dependencies",
            hint=f"add {spec.when.task!r} to its deps",
        )


def _check_variables(spec: TaskSpec, inputs: Mapping[str, JsonValue]) -> None:
    if spec.prompt is None:
        return
    supplied = {*inputs, *(dependency.alias for dependency in spec.deps)}
    if missing := [name for name in variables(spec.prompt) if name not in supplied]:
        raise InvalidInputError(
            f"the prompt of task {spec.id!r} uses {{{missing[0]}}}, which nothing supplies",
            hint="pass it as an input, add it to deps, or write {{ and }} for braces; supplied: "
            + (", ".join(sorted(supplied)) or "nothing"),
        )

"""A graph as its author described it, checked: what can be refused is refused here, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from pydantic import JsonValue

from langchain_runtime.backends import TaskBody
from langchain_runtime.backends.task_body import body_name
from langchain_runtime.context import check_names, variables
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import DAG, RetrySpec, RunPolicy, Task, TaskInput
from langchain_runtime.contracts.task_spec import Dependency, ForEach, TaskSpec
from langchain_runtime.graph.conditions import RESULT_ROOTS
from langchain_runtime.orchestration import DependencyResolver, topological_order

_TASK_HASH_DIGITS: Final = 12
"""Of 64: enough to tell the tasks of one graph apart, and small in every checkpoint."""

_BODY_DIGITS: Final = 16
"""Enough to tell the prompts of one store apart."""


_BLANK: Final = {name: field.default for name, field in Task.model_fields.items()}
"""Of a task that has not run yet."""


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
        inputs: Values for this task alone, over the run's inputs. Like the outputs of dependencies they reach a model
            even if the prompt does not name them.
    """

    spec: TaskSpec
    body: TaskBody | None = None
    model: str | None = None
    chat_model: BaseChatModel | None = None
    response_format: Any = None
    tools: tuple[Any, ...] = ()
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def is_single_call(self) -> bool:
        """Whether it makes one model call over a view that is known at dispatch, so that a hold can be made then.

        Unless something is to be done about what the view lacks: that is known once it is made, see ``TaskJob``.
        """
        return self.spec.prompt is not None and self.response_format is None and not self.tools

    @cached_property
    def digest(self) -> str:
        """What tells bodies apart: for a prompt its template, for others the name of the function or class."""
        if self.spec.prompt is None:
            return body_name(self.body)
        return digest_of_prompt(self.spec.prompt)

    def record(self, deps: Iterable[str], *, added_by: str | None = None) -> Task:
        """A fresh record of the task, pending, that waits for ``deps``; repeated ones count once."""
        inputs = {"prompt": self.spec.prompt, "inputs": dict(self.inputs), "metadata": self.spec.metadata}
        return trusted(
            Task,
            {
                **_BLANK,
                "id": self.spec.id,
                "inputs": trusted(TaskInput, inputs),
                "deps": list(dict.fromkeys(deps)),
                "model": self.model,
                "priority": self.spec.priority,
                "expected_seconds": self.spec.expected_seconds,
                "added_by": added_by,
            },
        )


@dataclass(frozen=True)
class GraphSpec:
    """Every task of a graph, its DAG and its policy; immutable.

    Attributes:
        name: For people.
        policy: How runs are carried out.
        tasks: By id, in the order they were added.
        inputs: Default values of the run's inputs.
        model: ``provider:name`` for prompts that are made at run time and name none; None for no such model.
        chat_model: That model itself where the author passed an object; None opens it by name.
    """

    name: str
    policy: RunPolicy
    tasks: Mapping[str, TaskDefinition]
    inputs: Mapping[str, JsonValue] = field(default_factory=dict)
    model: str | None = None
    chat_model: BaseChatModel | None = None

    @classmethod
    def checked(
        cls,
        *,
        name: str,
        policy: RunPolicy,
        definitions: Sequence[TaskDefinition],
        inputs: Mapping[str, JsonValue],
        model: str | None = None,
        chat_model: BaseChatModel | None = None,
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
            check_names(definition.spec, inputs)
        graph = cls(name=name, policy=policy, tasks=tasks, inputs=dict(inputs), model=model, chat_model=chat_model)
        DependencyResolver().validate(graph.dag)
        return graph

    @cached_property
    def dag(self) -> DAG:
        """The graph of dependencies."""
        return DependencyResolver().build(self.new_tasks())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what the tasks are; a run is resumed only under the same one."""
        return _digest(self.task_hashes)

    @cached_property
    def task_hashes(self) -> dict[str, str]:
        """Short hash of what each task is, by task id, to tell what has changed when the fingerprint differs.

        Models are left out: to go on with another model is a reason to resume.
        """
        left_out = {"model", "priority", "expected_seconds", "metadata", "retry"}
        return {
            task_id: _digest(definition.spec.model_dump(mode="json", exclude=left_out))[:_TASK_HASH_DIGITS]
            for task_id, definition in self.tasks.items()
        }

    def new_tasks(self) -> list[Task]:
        """Fresh task records, all pending."""
        return [
            definition.record(dependency.task for dependency in definition.spec.deps)
            for definition in self.tasks.values()
        ]

    def run_inputs(self, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Defaults overridden by what the caller gave.

        Raises:
            InvalidInputError: A prompt has a variable that nothing supplies, or an input has the name of a dependency.
        """
        inputs = {**self.inputs, **given}
        names = frozenset(inputs)
        if names not in self._fitting_names:
            for definition in self.tasks.values():
                check_names(definition.spec, inputs)
                check_variables(definition.spec, inputs)
            self._fitting_names.add(names)
        return inputs

    @cached_property
    def _fitting_names(self) -> set[frozenset[str]]:
        """Sets of names of inputs that have passed the checks; every run looks twice."""
        return set()

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

    def context_of(self, definition: TaskDefinition) -> ContextPolicy:
        """How the view of a prompt of this graph, or of a run of it, is made to fit."""
        return definition.spec.context or self.policy.context or ContextPolicy()

    def retry_of(self, task_id: str) -> RetrySpec:
        """The task's retry rule, or the policy's."""
        return self.tasks[task_id].spec.retry or self.policy.retry


def digest_of_prompt(prompt: str) -> str:
    """What tells prompts apart, without saying what they are."""
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()[:_BODY_DIGITS]


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
    return replace(definition, spec=spec)


def _check_task(definition: TaskDefinition) -> None:
    spec = definition.spec
    if spec.prompt is None and definition.body is None:
        raise InvalidInputError(f"task {spec.id!r} has nothing to do", hint="give it a prompt or a body")
    if spec.prompt is not None and definition.model is None:
        raise InvalidInputError(
            f"task {spec.id!r} has a prompt but no model", hint='pass model="provider:name" to the task or to RunGraph'
        )
    if spec.tier is not None:
        raise InvalidInputError(f"task {spec.id!r}: tier is not available in this version")
    deps = {dependency.task for dependency in spec.deps}
    if spec.for_each is not None:
        _check_for_each(spec, spec.for_each, deps)
    if spec.when is not None and spec.when.task not in deps:
        raise InvalidInputError(
            f"task {spec.id!r} has a condition on {spec.when.task!r}, which is not one of its dependencies",
            hint=f"add {spec.when.task!r} to its deps",
        )


def _check_for_each(spec: TaskSpec, source: ForEach, deps: Collection[str]) -> None:
    if source.task not in deps:
        raise InvalidInputError(
            f"task {spec.id!r} is to run for each item of {source.task!r}, which is not one of its dependencies",
            hint=f"add {source.task!r} to its deps",
        )
    if source.path.partition(".")[0] not in RESULT_ROOTS:
        raise InvalidInputError(
            f"task {spec.id!r} is to run for each item of {source.path!r}, where no task has a value",
            hint="a path starts with output, or with outputs and the name of one",
        )


def check_variables(spec: TaskSpec, inputs: Iterable[str]) -> None:
    """Check that something supplies every variable of a task's prompt.

    Args:
        spec: With its dependencies resolved.
        inputs: Names of the inputs that the task receives.

    Raises:
        InvalidInputError: The prompt is malformed, or has a variable that nothing supplies.
    """
    if spec.prompt is None:
        return
    supplied = {*inputs, *(dependency.alias for dependency in spec.deps)}
    if spec.for_each is not None:
        supplied.add(spec.for_each.as_)
    if missing := [name for name in variables(spec.prompt) if name not in supplied]:
        raise InvalidInputError(
            f"the prompt of task {spec.id!r} uses {{{missing[0]}}}, which nothing supplies",
            hint="pass it as an input, add it to deps, or write {{ and }} for braces; supplied: "
            + (", ".join(sorted(supplied)) or "nothing"),
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

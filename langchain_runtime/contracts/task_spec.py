"""Tasks as their author wrote them: ``RunGraph.add_task`` and run files make the same specs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.identifiers import ModelID, TaskID
from langchain_runtime.contracts.run import CacheSpec, Milliseconds, RetrySpec


class Dependency(BaseModel):
    """A task whose output is wanted, under a name.

    Attributes:
        alias: Key under which the output is handed over; the task id unless chosen.
        task: Id of the task waited for.
        output: One of its named outputs; None for its main output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str
    task: TaskID
    output: str | None = None

    @classmethod
    def parse(cls, reference: str, *, alias: str | None = None) -> Self:
        """Read ``task`` or ``task.output``; ids may hold dots, so the caller resolves ambiguity with ``known``."""
        return cls(alias=alias or reference, task=reference)

    def resolved(self, known: Collection[str]) -> Dependency:
        """Split ``task.output`` where ``task`` is a known id and the whole is not."""
        if self.output is not None or self.task in known or "." not in self.task:
            return self
        task, _, output = self.task.rpartition(".")
        alias = output if self.alias == self.task else self.alias
        return Dependency(alias=alias, task=task, output=output) if task in known else self


class Condition(BaseModel):
    """Runs a task only if a value in a dependency's result passes; never evaluates code.

    Attributes:
        task: The dependency.
        path: ``output``, ``outputs.name`` or deeper, with dots.
        op: The comparison.
        value: What to compare with; not used by ``exists`` and ``truthy``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskID
    path: str = "output"
    op: Literal["eq", "ne", "lt", "le", "gt", "ge", "contains", "in", "matches", "exists", "truthy"]
    value: JsonValue = None


class ForEach(BaseModel):
    """Runs a task once for each item of a list that a dependency produced.

    Attributes:
        task: The dependency.
        path: Where the list is: ``output``, ``outputs.name`` or deeper, with dots.
        as_: Key under which a child receives its item.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    task: TaskID
    path: str = "output"
    as_: str = Field(default="item", alias="as")


class TaskSpec(BaseModel):
    """One task.

    Attributes:
        id: Unique in the graph.
        prompt: f-string template; variables are keys of the run's inputs, dependency ids and aliases.
        deps: What it waits for.
        run: ``module:attr`` of a callable or Runnable (run files; needs ``--allow-code``).
        model: Overrides the graph's model.
        tier: Picks the model by complexity instead.
        tools: ``module:attr`` of tools for the model (run files; needs ``--allow-code``).
        priority: Larger starts earlier among equals on the critical path.
        max_output_tokens: The author's own cap on the reply.
        expected_seconds: Expected duration, for the critical path.
        timeout_ms: For one attempt; None for the policy's.
        retry: None for the policy's.
        context: None for the policy's.
        when: Run only if it holds.
        for_each: Run once for each item.
        response_format: JSON Schema of a structured reply.
        cache: Take the result of an equal task instead; None never does. ``True`` stands for no limit of age.
        metadata: The author's own notes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: TaskID
    prompt: str | None = None
    deps: tuple[Dependency, ...] = ()
    run: str | None = None
    model: ModelID | None = None
    tier: int | None = Field(default=None, ge=1, le=3)
    tools: tuple[str, ...] = ()
    priority: int = 0
    max_output_tokens: int | None = Field(default=None, ge=1)
    expected_seconds: float | None = Field(default=None, ge=0)
    timeout_ms: Milliseconds | None = None
    retry: RetrySpec | None = None
    context: ContextPolicy | None = None
    when: Condition | None = None
    for_each: ForEach | None = None
    response_format: dict[str, Any] | None = None
    cache: CacheSpec | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("deps", mode="before")
    @classmethod
    def _deps_from_list_or_mapping(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return tuple(Dependency.parse(reference, alias=alias) for alias, reference in value.items())
        if isinstance(value, (list, tuple)):
            return tuple(Dependency.parse(item) if isinstance(item, str) else item for item in value)
        return value

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_from_yes_or_no(cls, value: Any) -> Any:
        return (CacheSpec() if value else None) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.prompt is not None and self.run is not None:
            raise InvalidInputError(f"task {self.id!r} has both a prompt and a body", hint="keep one of them")
        return self

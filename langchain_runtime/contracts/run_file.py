"""The run file: a DAG, its policy and its inputs in YAML or JSON, with a published JSON Schema.

Unknown keys are refused with the nearest valid name, duplicate ids and bad amounts with what to do. ``lcr schema``
prints the schema for editors.
"""

from __future__ import annotations

import difflib
from collections import Counter
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from langchain_runtime.contracts.errors import InvalidDAGError, InvalidInputError
from langchain_runtime.contracts.identifiers import ModelID, check_task_id
from langchain_runtime.contracts.run import RunPolicy
from langchain_runtime.contracts.task_spec import TaskSpec


class RunFile(BaseModel):
    """A whole run as its author wrote it.

    Attributes:
        version: Of this format.
        name: For people.
        model: For every prompt that names none; None leaves it to the command line.
        inputs: Default values of the variables that prompts use.
        policy: How the run is carried out.
        tasks: In any order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str | None = None
    model: ModelID | None = None
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    policy: RunPolicy = RunPolicy()
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_are_valid_and_unique(self) -> Self:
        counts = Counter(check_task_id(task.id) for task in self.tasks)
        if repeated := [task_id for task_id, count in counts.items() if count > 1]:
            raise InvalidDAGError(f"task id {repeated[0]!r} occurs twice", hint="give each task an id of its own")
        return self

    @classmethod
    def parse(cls, data: Any, *, source: str = "run file") -> Self:
        """Read a run file from what YAML or JSON gave.

        Args:
            data: The document as plain Python values.
            source: Its name, for messages.

        Raises:
            InvalidInputError: It does not follow the schema; the message names the place and the nearest valid key.
            InvalidDAGError: A task id occurs twice.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _explained(error, data, source) from None


def run_file_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of run files, for editors and other tools."""
    schema = RunFile.model_json_schema(mode="validation")
    _allow_short_forms(schema["$defs"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "langchain_runtime run file",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _allow_short_forms(definitions: dict[str, Any]) -> None:
    """Describe what authors write; pydantic describes what the validators make of it."""
    definitions["TaskSpec"]["properties"]["deps"] = {
        "description": "tasks to wait for: a list of ids, or a mapping of alias to task or task.output",
        "anyOf": [
            {"type": "array", "items": {"type": "string"}},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ],
        "default": [],
    }
    cache = definitions["TaskSpec"]["properties"]["cache"]
    definitions["TaskSpec"]["properties"]["cache"] = {**cache, "anyOf": [{"type": "boolean"}, *cache["anyOf"]]}
    strategy = definitions["ContextPolicy"]["properties"]["strategy"]
    definitions["ContextPolicy"]["properties"]["strategy"] = {
        "anyOf": [strategy["items"], {"type": "array", "items": strategy["items"], "minItems": 1}],
        "default": "offload",
    }
    definitions["Cost"]["properties"]["amount"] = {
        "description": "decimal amount in main units, quoted",
        "anyOf": [{"type": "string", "pattern": r"^\d+(\.\d{1,9})?$"}, {"type": "integer", "minimum": 1}],
    }


def _explained(error: ValidationError, data: Any, source: str) -> InvalidInputError:
    first = error.errors(include_url=False)[0]
    place = _place(first["loc"], data)
    if first["type"] != "extra_forbidden":
        where = f"{source}: {place}" if place else source
        return InvalidInputError(f"{where}: {first['msg']}", hint="`lcr schema` prints the format")
    key = str(first["loc"][-1])
    nearest = difflib.get_close_matches(key, _valid_keys(first["loc"][:-1]), n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "`lcr schema` prints the format"
    return InvalidInputError(f"{source}: {place}: unknown key {key!r}", hint=hint)


def _place(location: tuple[int | str, ...], data: Any) -> str:
    """A path into the document for people: a task by its id rather than by its number."""
    parts: list[str] = []
    for step in location:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            data = None
        named = isinstance(step, int) and isinstance(data, dict) and "id" in data
        parts.append(f"{data['id']}" if named else str(step))
    return ".".join(parts)


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys that the schema allows at a place."""
    schema = run_file_schema()
    node: dict[str, Any] = schema
    for step in location:
        node = _child(node, step, schema)
    return list(_resolve(node, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in (node, *node.get("anyOf", ())):
        if "$ref" in option:
            resolved: dict[str, Any] = schema["$defs"][option["$ref"].rpartition("/")[2]]
            return resolved
    return node


def _child(node: dict[str, Any], step: int | str, schema: dict[str, Any]) -> dict[str, Any]:
    node = _resolve(node, schema)
    if isinstance(step, int):
        items: dict[str, Any] = node.get("items", {})
        return items
    properties = node.get("properties", {})
    child: dict[str, Any] = properties.get(step) or node.get("additionalProperties") or {}
    return child

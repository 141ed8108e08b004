"""JSON Schemas of what a run takes and gives, from its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from langchain_runtime.context import variables
from langchain_runtime.contracts.run import RunHeader, TaskOutcome
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition

_SHOWN = 5
"""Tasks that a description names."""


def input_schema(spec: GraphSpec) -> dict[str, Any]:
    """Of ``{"inputs": {...}}``: the variables that prompts use and no dependency supplies, and the graph's defaults.

    Functions may read other inputs as well, so more are allowed.
    """
    users: dict[str, list[str]] = {name: [] for name in spec.inputs}
    for task_id, definition in spec.tasks.items():
        for name in _wanted(definition):
            users.setdefault(name, []).append(task_id)
    required = [name for name in users if name not in spec.inputs]
    inputs: dict[str, Any] = {
        "title": "Inputs",
        "description": "Values of the run's variables.",
        "type": "object",
        "properties": {name: _variable(name, task_ids, spec.inputs) for name, task_ids in users.items()},
        "additionalProperties": True,
    }
    whole = {"title": f"{spec.name} input", "type": "object", "properties": {"inputs": inputs}}
    if not required:
        return whole
    inputs["required"] = required
    return {**whole, "required": ["inputs"]}


def output_schema(spec: GraphSpec) -> dict[str, Any]:
    """Of what a run leaves, as JSON: the state of its thread, and what a parent graph receives."""
    kinds, definitions = models_json_schema([(kind, "serialization") for kind in (TaskOutcome, RunHeader)])
    outcome, header = (kinds[kind, "serialization"] for kind in (TaskOutcome, RunHeader))
    results = {
        "title": "Results",
        "description": "How each task ended, by task id.",
        "type": "object",
        "properties": dict.fromkeys(spec.tasks, outcome),
        "additionalProperties": outcome,
    }
    return {
        "title": f"{spec.name} output",
        "type": "object",
        "properties": {"results": results, "run": header},
        "$defs": definitions["$defs"],
    }


def _wanted(definition: TaskDefinition) -> list[str]:
    """Variables of the task's prompt that only the run's inputs can supply."""
    spec = definition.spec
    if spec.prompt is None:
        return []
    supplied = {*definition.inputs, *(dependency.alias for dependency in spec.deps)}
    if spec.for_each is not None:
        supplied.add(spec.for_each.as_)
    return [name for name in variables(spec.prompt) if name not in supplied]


def _variable(name: str, task_ids: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": name}
    if task_ids:
        more = f" and {len(task_ids) - _SHOWN} more" if len(task_ids) > _SHOWN else ""
        schema["description"] = f"Used by the prompt of {', '.join(task_ids[:_SHOWN])}{more}."
    if name in defaults:
        schema["default"] = defaults[name]
    return schema

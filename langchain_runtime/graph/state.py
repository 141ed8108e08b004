"""The graph's state: plain JSON, so that any checkpointer and any parent graph can carry it."""

from __future__ import annotations

from typing import Annotated, Any

from typing_extensions import TypedDict  # before Python 3.12 pydantic makes no schema of typing.TypedDict


def merge_results(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """Later outcomes of a task replace earlier ones; None drops them all."""
    return {} if new is None else {**(old or {}), **new}


class RunInput(TypedDict, total=False):
    """What a caller passes in: values of the variables that prompts and bodies use."""

    inputs: dict[str, Any]


class RunOutput(TypedDict, total=False):
    """What a run leaves: ``TaskOutcome`` by task id, and the ``RunHeader``, both as JSON."""

    results: Annotated[dict[str, Any], merge_results]
    run: dict[str, Any]


class RunGraphState(RunInput, RunOutput, total=False):
    """Everything the graph keeps between its nodes."""

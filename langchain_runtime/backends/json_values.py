"""What a body returned, as JSON."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from langchain_runtime.contracts.errors import TaskResultNotSerializableError
from langchain_runtime.contracts.run import TaskResult


def as_result(value: Any, *, task_id: str) -> TaskResult:
    """Turn what a body returned into a result.

    A ``TaskResult`` stays as it is; a message gives its text; the state of an agent (a mapping with ``messages``) gives
    the text of the last one, its other keys become named outputs; everything else becomes JSON.

    Raises:
        TaskResultNotSerializableError: JSON cannot carry it.
    """
    if isinstance(value, TaskResult):
        return value
    if isinstance(value, BaseMessage):
        return TaskResult(output=str(value.text))
    if isinstance(value, dict) and _ends_in_a_message(value.get("messages")):
        rest = {str(key): to_json(item, task_id=task_id) for key, item in value.items() if key != "messages"}
        return TaskResult(output=str(value["messages"][-1].text), outputs=rest)
    return TaskResult(output=to_json(value, task_id=task_id))


def to_json(value: Any, *, task_id: str) -> JsonValue:
    """The value as plain JSON: pydantic models, dataclasses, dates, enums and messages are converted.

    Raises:
        TaskResultNotSerializableError: JSON cannot carry it.
    """
    try:
        plain: JsonValue = to_jsonable_python(value)
        json.dumps(plain, allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise TaskResultNotSerializableError(
            f"task {task_id!r} returned a {type(value).__name__} that JSON cannot carry: {error}",
            task_id=task_id,
            hint="return a string, number, list, dict or pydantic model, or convert the value in the body",
        ) from error
    return plain


def _ends_in_a_message(messages: Any) -> bool:
    return isinstance(messages, list) and bool(messages) and isinstance(messages[-1], BaseMessage)

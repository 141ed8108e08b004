"""What a body returned or raised, as JSON that journals and checkpoints can keep and read back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from types import NoneType
from typing import Any, Final, cast

from langchain_core.messages import BaseMessage
from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from langchain_runtime.contracts.errors import TaskResultNotSerializableError
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.run import TaskResult
from langchain_runtime.contracts.usage import NO_USAGE

MAX_DEPTH: Final = 100
"""Levels of lists and mappings in a value. Pydantic reads no more than 200 back, and records and checkpoints wrap
what they keep in levels of their own."""

MAX_ERROR_CHARACTERS: Final = 10_000
"""Of the text of an error: it is kept in every checkpoint."""

_WHOLE_NUMBERS: Final = range(-(2**63), 2**64)
"""What LangGraph's checkpoints can hold (msgpack)."""

_SCALARS: Final = frozenset({str, int, float, bool, NoneType})
"""What is JSON already; not their subclasses, which may be enums."""

_SHOWN_OF_A_GROUP: Final = 5
"""Errors of an exception group that its text shows."""

_HINT: Final = "return a string, number, list, dict or pydantic model, or convert the value in the body"


def as_result(value: Any, *, task_id: str) -> TaskResult:
    """Turn what a body returned into a result.

    A ``TaskResult`` stays as it is; a message gives its text; the state of an agent (a mapping with ``messages``) gives
    the text of the last one, its other keys become named outputs; everything else becomes JSON.

    Raises:
        TaskResultNotSerializableError: JSON cannot carry it.
    """
    if isinstance(value, TaskResult):
        # Pydantic has looked at its values; that they are plain JSON is ours to see.
        given = {"output": value.output, "outputs": value.outputs, "metadata": value.metadata}
        plain: Any = to_json(given, task_id=task_id)
        return value if plain == given else value.model_copy(update=plain)
    if isinstance(value, BaseMessage):
        return TaskResult(output=well_formed(str(value.text)))
    if isinstance(value, dict) and _ends_in_a_message(value.get("messages")):
        rest = {str(key): to_json(item, task_id=task_id) for key, item in value.items() if key != "messages"}
        return TaskResult(output=well_formed(str(value["messages"][-1].text)), outputs=rest)
    fields = {
        "output": to_json(value, task_id=task_id),
        "outputs": {},
        "usage": NO_USAGE,
        "model": None,
        "metadata": {},
    }
    return trusted(TaskResult, fields)


def to_json(value: Any, *, task_id: str) -> JsonValue:
    """The value as plain JSON: pydantic models, dataclasses, dates, enums and messages are converted.

    Raises:
        TaskResultNotSerializableError: JSON cannot carry it.
    """
    if type(value) in _SCALARS:  # most outputs are text
        if problem := _unfit_scalar(value):
            raise _not_serializable(value, problem, task_id)
        return cast("JsonValue", value)
    if iterator := _iterator_in(value):
        # Pydantic would read it: the body's code would run in the event loop, perhaps for ever.
        raise _not_serializable(
            value, f"a {iterator} gives its items one by one", task_id, hint="return list(...) of it"
        )
    try:
        plain: JsonValue = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise _not_serializable(value, _bounded(str(error)), task_id) from error
    if problem := unfit(plain):
        raise _not_serializable(value, problem, task_id)
    return plain


def unfit(value: Any) -> str | None:
    """Why a value cannot be kept as JSON as it is and read back; None if it can."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                problem = _unfit_key(item)
            elif isinstance(item, list):
                below.extend(item)
                continue
            else:
                problem = _unfit_scalar(item)
            if problem:
                return problem
        if not below:
            return None
        level = below
    return f"it is nested more than {MAX_DEPTH} levels deep"


def error_text(error: BaseException) -> str:
    """``Type: message`` of whatever was raised, as JSON can carry it: its ``__str__`` may itself raise."""
    text = _plain_text(error)
    if isinstance(error, BaseExceptionGroup):
        text = f"{text}: {'; '.join(map(_plain_text, islice(_leaves(error), _SHOWN_OF_A_GROUP)))}"
    return _bounded(text)


def well_formed(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates, which no encoding can write; pairs become their character."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _iterator_in(value: Any) -> str | None:
    """Type of an iterator in a value or in its lists, mappings and sets; None if there is none."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if hasattr(type(item), "__next__"):
            return type(item).__name__
        if isinstance(item, (dict, list, tuple, set, frozenset)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return None


def _bounded(text: str) -> str:
    if len(text) > MAX_ERROR_CHARACTERS:
        text = f"{text[:MAX_ERROR_CHARACTERS]}... ({len(text):,} characters)"
    return well_formed(text)


def _unfit_key(mapping: dict[Any, Any]) -> str | None:
    for key in mapping:
        if not isinstance(key, str):
            return f"its key {key!r} is no text"
        if problem := _unfit_scalar(key):
            return problem
    return None


def _unfit_scalar(item: Any) -> str | None:
    if isinstance(item, str):
        return None if _can_be_written(item) else f"its text {item[:80]!r} holds half a character (a lone surrogate)"
    if isinstance(item, float):
        return None if math.isfinite(item) else f"{item} is no JSON number"
    if isinstance(item, int):
        return None if item in _WHOLE_NUMBERS else f"a whole number of {item.bit_length()} bits does not fit 64"
    return None if item is None else f"it holds a {type(item).__name__}"


def _can_be_written(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain_text(error: BaseException) -> str:
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException as raised:  # noqa: BLE001 - code of the body, which may raise anything
        message = f"its text cannot be shown, __str__ raised {type(raised).__name__}"
    return f"{name}: {message}" if message else name


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(error.exceptions))
        else:
            yield error


def _not_serializable(value: Any, problem: str, task_id: str, *, hint: str = _HINT) -> TaskResultNotSerializableError:
    return TaskResultNotSerializableError(
        f"task {task_id!r} returned a value ({type(value).__name__}) that JSON cannot carry: {problem}",
        task_id=task_id,
        hint=hint,
    )


def _ends_in_a_message(messages: Any) -> bool:
    return isinstance(messages, list) and bool(messages) and isinstance(messages[-1], BaseMessage)

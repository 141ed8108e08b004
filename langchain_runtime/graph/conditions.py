"""``when``: a comparison with a value in a dependency's result; nothing is evaluated as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run import TaskOutcome
from langchain_runtime.contracts.task_spec import Condition

MISSING: Final = object()
"""What ``look_up`` finds where there is nothing; None is a value."""

RESULT_ROOTS: Final = frozenset({"output", "outputs"})
"""What a path into a result can start with."""

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "contains": operator.contains,
    "in": lambda found, wanted: found in wanted,
    "matches": lambda found, pattern: re.search(pattern, found) is not None,
    "exists": lambda _found, _value: True,
    "truthy": lambda found, _value: bool(found),
}


def holds(condition: Condition, outcomes: Mapping[str, TaskOutcome]) -> bool:
    """Whether the condition holds; a value that is not there never passes.

    Raises:
        InvalidInputError: The values cannot be compared in this way.
    """
    found = look_up(outcomes[condition.task], condition.path)
    if found is MISSING:
        return False
    try:
        return _OPERATORS[condition.op](found, condition.value)
    except (TypeError, re.error) as error:
        raise InvalidInputError(
            f"condition on {condition.task}.{condition.path}: cannot apply {condition.op!r}: {error}"
        ) from error


def look_up(outcome: TaskOutcome, path: str) -> Any:
    """The value at ``path`` in a result, ``MISSING`` if there is none; a number is an index into a list."""
    head, *rest = path.split(".")
    value: Any = getattr(outcome, head) if head in RESULT_ROOTS else MISSING
    for step in rest:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value

"""JSON values in the form in which every store keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue

from langchain_runtime.contracts.errors import InvalidInputError

_NOT_FOR_EVERY_STORE: Final = re.compile(r"\\u0000|[0-9]{19}")
"""In JSON text: NUL, which PostgreSQL refuses, and integers of more than 64 bits, which SQLite's store does."""


def packed(value: JsonValue, *, of: str) -> dict[str, Any]:
    """An item's value that holds a copy of ``value``, as itself where every store can carry it, else as text.

    Args:
        value: Any JSON value.
        of: What it belongs to, for errors.

    Raises:
        InvalidInputError: It is not JSON.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the value for {of} is not JSON: {error}",
            hint="put text, numbers, booleans, None, lists and dictionaries",
        ) from None
    if _NOT_FOR_EVERY_STORE.search(text) or _has_half_pairs(text):
        return {"json": text}
    return {"value": json.loads(text)}


def unpacked(kept: Mapping[str, Any]) -> JsonValue:
    """A copy of what was ``packed``."""
    value: JsonValue = kept.get("value")
    text = kept.get("json")
    if text is None and isinstance(value, (list, dict)):
        text = json.dumps(value)  # stores in memory hand out what they hold
    if text is not None:
        value = json.loads(text)
    return value


def _has_half_pairs(text: str) -> bool:
    """Whether text in it holds half a surrogate pair, as models write them when a reply is cut off."""
    if "\\ud" not in text:
        return False
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False

"""Names of runs, tasks and models: what they may contain, checked in one place.

Ids end up in file names, database keys, thread ids and URLs, so their alphabet is small.
"""

from __future__ import annotations

import re
import reprlib
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from langchain_runtime.contracts.errors import InvalidInputError

RESERVED_TASK_IDS: Final = frozenset({"driver", "prepare", "finish", "pause"})
"""Names of our own graph nodes."""

RESERVED_PREFIX: Final = "__"
"""Starts LangGraph's own names: ``__start__``, ``__end__``, ``__interrupt__`` in its streams."""

CHILD_SEPARATOR: Final = "#"
"""Joins a ``for_each`` task and the index of its child: ``map#0``. Ours alone."""

_HINT: Final = "use 1 to 128 letters, digits, '_', '.' or '-', starting with a letter, digit or '_', without '..'"

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_CHILD_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}({CHILD_SEPARATOR}[0-9]+)*")


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 160
_shown = _repr.repr
"""As ``repr``, but of bounded length: ids come from files that nobody vouches for."""


def _is_safe(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None and ".." not in value


def check_run_id(value: Any) -> str:
    """Return ``value`` if it is a valid run id.

    Raises:
        InvalidInputError: It is not 1 to 128 characters of ``A-Z a-z 0-9 _ . -``, starts with ``.`` or ``-``, or
            holds ``..``.
    """
    if not _is_safe(value, _ID):
        raise InvalidInputError(f"{_shown(value)} is not a valid run id", hint=_HINT)
    return str(value)


def check_task_id(value: Any) -> str:
    """Return ``value`` if it is a valid id for a task that a user names.

    Raises:
        InvalidInputError: As for run ids, or the id is a name of our own nodes or of LangGraph's.
    """
    if not _is_safe(value, _ID) or value in RESERVED_TASK_IDS or value.startswith(RESERVED_PREFIX):
        reserved = ", ".join(sorted(RESERVED_TASK_IDS))
        raise InvalidInputError(
            f"{_shown(value)} is not a valid task id",
            hint=f"{_HINT}; reserved: {reserved}, and whatever starts with {RESERVED_PREFIX!r}",
        )
    return str(value)


def _task_id(value: Any) -> str:
    if not _is_safe(value, _CHILD_ID):
        raise InvalidInputError(f"{_shown(value)} is not a valid task id", hint=_HINT)
    return str(value)


RunID = Annotated[str, BeforeValidator(check_run_id)]
TaskID = Annotated[str, BeforeValidator(_task_id)]
"""A task's id, children of ``for_each`` included."""

ModelID = str
"""``"provider:name"`` as LangChain's ``init_chat_model`` takes it, or ``"extractive"``."""

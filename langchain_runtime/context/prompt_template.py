"""Prompt templates: f-strings in LangChain's form whose variables are plain names.

A whole field name is looked up as it stands, so names may hold dots and dashes (``{weekly-brief.1}``), and a template
can never reach into an object: ``{a.__class__}`` and ``{a[0]}`` are just unknown names. ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import NamedTuple

from pydantic import JsonValue

from langchain_runtime.contracts.errors import InvalidInputError

_BRACES_HINT = "write {{ and }} for braces that are part of the text"


class Part(NamedTuple):
    """A piece of a template: literal text, or the variable ``name``."""

    text: str
    name: str | None = None


def variables(template: str) -> tuple[str, ...]:
    """The names a template uses, each once, in order of first use.

    Raises:
        InvalidInputError: The template is malformed.
    """
    return tuple(dict.fromkeys(part.name for part in parse(template) if part.name is not None))


def check_variables(template: str, available: Iterable[str]) -> None:
    """Check a template before there are values for it.

    Raises:
        InvalidInputError: The template is malformed, or uses a name that is not in ``available``.
    """
    names = list(available)
    for name in variables(template):
        if name not in names:
            raise unknown_name(f"the prompt uses {{{name}}}, which nothing supplies", name, names)


def render(template: str, values: Mapping[str, JsonValue]) -> str:
    """Fill a template in.

    Raises:
        InvalidInputError: The template is malformed, or uses a name that ``values`` does not have.
    """
    check_variables(template, values)
    return "".join(part.text if part.name is None else as_text(values[part.name]) for part in parse(template))


def as_text(value: JsonValue) -> str:
    """A value as a model reads it: text as it is, anything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse(template: str) -> list[Part]:
    """Take a template apart.

    Raises:
        InvalidInputError: A brace is not closed, or a field is empty or holds a conversion or a format.
    """
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidInputError(f"the prompt is malformed: {error}", hint=_BRACES_HINT) from None
    parts: list[Part] = []
    for literal, name, form, conversion in fields:
        if literal:
            parts.append(Part(literal))
        if name is not None:
            parts.append(_field(name, form, conversion))
    return parts


def _field(name: str, form: str | None, conversion: str | None) -> Part:
    if not name:
        raise InvalidInputError("the prompt has an empty {}", hint=f"name a variable, or {_BRACES_HINT}")
    if form or conversion:
        written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        raise InvalidInputError(
            f"the prompt holds {{{written}}}: conversions and formats are not supported",
            hint=f"use a plain name, or {_BRACES_HINT}",
        )
    return Part("", name)


def unknown_name(message: str, name: str, available: Iterable[str]) -> InvalidInputError:
    """The error for a name that does not exist; its hint lists what does, the nearest first."""
    names = list(available)
    listed = "available: " + ", ".join(names) if names else "nothing is available"
    nearest = difflib.get_close_matches(name, names, n=1)
    return InvalidInputError(message, hint=f"did you mean {nearest[0]!r}? {listed}" if nearest else listed)

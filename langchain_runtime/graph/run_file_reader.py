"""Reads YAML and JSON from files that nobody vouches for: no tags, no repeated keys, no bombs.

Both give what JSON has, and nothing else: in YAML, dates, times, ``yes``, ``no`` and ``007`` stay the text that their
author typed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import yaml

from langchain_runtime.backends.json_values import unfit
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run_file import RunFile

MAX_BYTES: Final = 4 * 1024 * 1024
"""Largest file that is read."""

MAX_NODES: Final = 200_000
"""Most values of a YAML document, also once its aliases are written out: a few bytes of them make billions."""

_FORMAT: Final = "`lcr schema` prints the format"
_SHOWN: Final = 300
"""Characters of a parser's complaint that a message shows: it may quote a name as long as the file."""


def read_run_file(path: Path) -> RunFile:
    """Read a run file; ``.json`` as JSON, everything else as YAML.

    Raises:
        InputError: It cannot be read, or is not a valid run file; the message names the place.
    """
    text = _text(path)
    data = _json(text, str(path)) if path.suffix.lower() == ".json" else _yaml(text, str(path))
    if not isinstance(data, dict):
        kind = "nothing" if data is None else type(data).__name__
        raise InvalidInputError(f"{path}: a run file is a mapping with `tasks`, not {kind}", hint=_FORMAT)
    if problem := unfit(data):
        raise InvalidInputError(f"{path}: {problem}", hint="write it as text, in quotes, or leave it out")
    return RunFile.parse(data, source=str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"cannot read {path}: {reason}", hint="give the path of a run file") from None
    if len(raw) > MAX_BYTES:
        raise InvalidInputError(
            f"{path} is larger than {MAX_BYTES // 1024**2} MiB", hint="a run file holds tasks, not data"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None


def _json(text: str, source: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
            _refuse_repeated(repeated, source)
        return mapping

    def no_constant(name: str) -> NoReturn:
        raise InvalidInputError(f"{source}: {name} is not a JSON number", hint="leave it out, or write it in quotes")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidInputError(f"{source}: {place}: {error.msg}", hint="check the JSON at this place") from None
    except ValueError:
        raise _too_many_digits(source) from None
    except RecursionError:
        raise _too_deep(source) from None


def _yaml(text: str, source: str) -> Any:
    try:
        return _Loader(text, source).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (error.problem or error.context or "not YAML")[:_SHOWN]
        raise InvalidInputError(f"{source}: {place}{problem}", hint="check the YAML at this place") from None
    except yaml.reader.ReaderError as error:
        place = f"character {error.position}"
        raise InvalidInputError(f"{source}: {place}: {error.reason}", hint="remove the character") from None
    except ValueError:
        raise _too_many_digits(source) from None
    except RecursionError:
        raise _too_deep(source) from None


def _refuse_repeated(key: str, place: str) -> NoReturn:
    raise InvalidInputError(
        f"{place}: key {key[:_SHOWN]!r} occurs twice", hint="keep one of them: the other would be lost"
    )


def _too_many_digits(source: str) -> InvalidInputError:
    return InvalidInputError(f"{source}: a whole number has too many digits", hint="write it as text, in quotes")


def _too_deep(source: str) -> InvalidInputError:
    return InvalidInputError(f"{source} is nested too deeply", hint="a run file needs no more than a few levels")


_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"

_PLAIN: Final = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", {"~", "n", "N", ""}),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", set("tTfF")),
    ("tag:yaml.org,2002:int", r"-?(0|[1-9][0-9]*)", set("-0123456789")),
    ("tag:yaml.org,2002:float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", set("-0123456789")),
    (_MERGE, r"<<", {"<"}),
)
"""What YAML text without quotes may mean besides itself: the type, how it is written, how that begins."""


class _Size(NamedTuple):
    """Of a node with everything below it, aliases written out."""

    values: int
    characters: int


class _Loader(yaml.SafeLoader):
    """YAML's safe loader for JSON's types, which also refuses what SafeLoader would lose or what would explode."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class's own attribute
        begins: [(kind, re.compile(rf"(?:{pattern})\Z")) for kind, pattern, first in _PLAIN if begins in first]
        for begins in set().union(*(first for _, _, first in _PLAIN))
    }

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.name = source
        self._composed = 0
        self._sizes: dict[int, _Size] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs
        is_alias = isinstance(event, yaml.AliasEvent)
        if getattr(event, "tag", None) is not None:
            self._refuse(event, "tags are not supported", hint="leave it out; text goes into quotes")
        self._composed += 1
        if self._composed > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES} values", hint="a run file holds tasks, not data")
        node = super().compose_node(parent, index)
        assert node is not None  # whatever PyYAML's stubs say
        if not is_alias:
            # Children were composed before: each node is measured once, an alias counts as what it stands for.
            self._sizes[id(node)] = self._size(node)
            self._check_keys(node)
        elif id(node) not in self._sizes:
            self._refuse(event, "an alias inside of what it stands for")
        size = self._sizes[id(node)]
        if size.values > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES} values once aliases are written out")
        if size.characters > MAX_BYTES:
            self._refuse(event, f"more than {MAX_BYTES} characters once aliases are written out")
        return node

    def _size(self, node: yaml.Node) -> _Size:
        if isinstance(node, yaml.ScalarNode):
            return _Size(1, len(node.value))
        below = [self._sizes[id(child)] for child in _children(node)]
        return _Size(1 + sum(size.values for size in below), sum(size.characters for size in below))

    def _check_keys(self, node: yaml.Node) -> None:
        # Here and not while constructing, where `<<` has already brought in keys that a mapping may override.
        if not isinstance(node, yaml.MappingNode):
            return
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in {_TEXT, _MERGE}:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "that is a list or mapping"
                self._refuse(key, f"key {shown[:_SHOWN]} is no text", hint="put it in quotes")
            if key.value in seen:
                _refuse_repeated(key.value, f"{self.name}: line {key.start_mark.line + 1}")
            seen.add(key.value)

    def _refuse(self, at: yaml.Node | yaml.Event, problem: str, *, hint: str = "write it out instead") -> NoReturn:
        assert at.start_mark is not None  # what was parsed has a place
        raise InvalidInputError(f"{self.name}: line {at.start_mark.line + 1}: {problem}", hint=hint)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value)

"""Reads YAML and JSON from files that nobody vouches for: no tags, no repeated keys, no bombs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.run_file import RunFile

MAX_BYTES: Final = 4 * 1024 * 1024
"""Largest file that is read."""

MAX_NODES: Final = 200_000
"""Most values a document may have once its aliases are written out: a few bytes of nested aliases make billions."""


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
    return RunFile.parse(data, source=str(path))


_FORMAT: Final = "`lcr schema` prints the format"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {path}: {error.strerror or error}", hint="give the path of a run file"
        ) from None
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
            keys = [key for key, _ in pairs]
            _refuse_repeated(next(key for key in keys if keys.count(key) > 1), source)
        return mapping

    def no_constant(name: str) -> NoReturn:
        raise InvalidInputError(f"{source}: {name} is not a JSON number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidInputError(f"{source}: {place}: {error.msg}", hint="check the JSON at this place") from None
    except RecursionError:
        raise InvalidInputError(f"{source} is nested too deeply") from None


def _yaml(text: str, source: str) -> Any:
    try:
        return _Loader(text, source).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not YAML"
        raise InvalidInputError(f"{source}: {place}{problem}", hint="check the YAML at this place") from None
    except yaml.reader.ReaderError as error:
        place = f"character {error.position}"
        raise InvalidInputError(f"{source}: {place}: {error.reason}", hint="remove the character") from None
    except RecursionError:
        raise InvalidInputError(f"{source} is nested too deeply") from None


def _refuse_repeated(key: object, place: str) -> NoReturn:
    raise InvalidInputError(f"{place}: key {key!r} occurs twice", hint="keep one of them: the other would be lost")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses repeated keys and documents that explode when aliases are written out."""

    # Dates stay text: a prompt's variable is what its author typed, and JSON has no dates.
    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class's own attribute
        first: [pair for pair in resolvers if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.name = source
        self._expanded: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias and id(node) not in self._expanded:
            self._refuse(node, "an alias inside of what it stands for")
        if not is_alias:
            # Children were composed before: each node is counted once, an alias at the size of what it stands for.
            self._expanded[id(node)] = 1 + sum(self._expanded[id(child)] for child in _children(node))
            self._refuse_repeated_keys(node)
        if self._expanded[id(node)] > MAX_NODES:
            self._refuse(node, f"more than {MAX_NODES} values once aliases are written out")
        return node

    def _refuse_repeated_keys(self, node: yaml.Node) -> None:
        # Here and not while constructing, where `<<` has already brought in keys that a mapping may override.
        keys = (
            [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if isinstance(node, yaml.MappingNode)
            else []
        )
        seen: set[str] = set()
        for key in keys:
            if key.value in seen:
                _refuse_repeated(key.value, f"{self.name}: line {key.start_mark.line + 1}")
            seen.add(key.value)

    def _refuse(self, node: yaml.Node, problem: str) -> NoReturn:
        raise InvalidInputError(f"{self.name}: line {node.start_mark.line + 1}: {problem}", hint="write it out instead")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []

"""Rules of the house that import-linter cannot express: it sees an external package as one module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import langchain_runtime

PACKAGE = Path(langchain_runtime.__file__).parent
ALLOWED = {
    "contracts": ("langchain_core.messages", "langchain_core.exceptions"),
    "cost": ("langchain_core.messages", "langchain_core.exceptions"),
    "ledgers": (),
    "orchestration": (),
}
LANGCHAIN = ("langchain", "langchain_core", "langgraph", "langsmith")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_low_layer_imports_of_langchain_only_what_it_may(layer):
    files = sorted((PACKAGE / layer).rglob("*.py"))
    assert files
    offending = {
        (path.name, module)
        for path in files
        for module in _imports(path)
        if module.partition(".")[0] in LANGCHAIN and not module.startswith(ALLOWED[layer])
    }
    assert not offending


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_fits_a_readers_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 430

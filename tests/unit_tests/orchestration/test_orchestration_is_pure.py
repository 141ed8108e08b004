import ast
from pathlib import Path

from langchain_runtime import orchestration

ALLOWED = {"__future__", "bisect", "collections", "dataclasses", "difflib", "functools", "heapq", "itertools", "math",
           "random", "re", "statistics", "threading", "types", "typing"}  # fmt: skip


def test_orchestration_imports_nothing_that_does_io_or_reads_a_clock():
    folder = Path(orchestration.__file__).parent
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                own = name.startswith(("langchain_runtime.contracts", "langchain_runtime.orchestration"))
                assert own or name.split(".")[0] in ALLOWED, f"{module.name} imports {name}"

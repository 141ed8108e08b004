"""Ready jobs, built with the public API only: a brief that cites its documents."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_runtime.pipelines.brief import brief_file, brief_graph
    from langchain_runtime.pipelines.documents import Corpus, Document, load_folder, load_installed

__all__ = ["Corpus", "Document", "brief_file", "brief_graph", "load_folder", "load_installed"]

_HOMES = {
    "Corpus": "documents",
    "Document": "documents",
    "brief_file": "brief",
    "brief_graph": "brief",
    "load_folder": "documents",
    "load_installed": "documents",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Ready jobs, built with the public API only: a brief that cites its documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.pipelines.brief import brief_file, brief_graph
    from langchain_runtime.pipelines.documents import Corpus, Document, load_folder, load_installed

__all__ = ["Corpus", "Document", "brief_file", "brief_graph", "load_folder", "load_installed"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Corpus": "documents",
        "Document": "documents",
        "brief_file": "brief",
        "brief_graph": "brief",
        "load_folder": "documents",
        "load_installed": "documents",
    },
)

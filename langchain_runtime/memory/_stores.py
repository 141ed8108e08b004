"""Where memory keeps conversations, and under which names."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, Passage, store_namespace
from langchain_runtime.contracts.errors import InvalidInputError

PROCESS_STORE: Final = InMemoryStore()
"""Shared by all histories of this process that were not given a store; ends with it."""


class FreshArchive(Archive):
    """An archive that several objects write, here or in other processes: every search sees what they wrote."""

    def search(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """As ``Archive.search``."""
        self.refresh()
        return super().search(query, limit=limit, handle=handle)

    async def asearch(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Async twin of ``search``."""
        self.refresh()
        return await super().asearch(query, limit=limit, handle=handle)


def namespace_of(kind: str, name: str, *labels: str) -> tuple[str, ...]:
    """The namespace of something that users name as they like: two names never share one.

    Stores refuse labels that are empty or hold dots or NUL, and SQLite half surrogate pairs.

    Raises:
        InvalidInputError: ``name`` is no text.
    """
    if not isinstance(name, str):
        raise InvalidInputError(
            f"an id of {kind} is text, got {type(name).__name__}",
            hint="pass str(...) of what tells conversations apart",
        )
    label = f"id={quote(name, safe='', errors='surrogatepass')}"
    return store_namespace("lcr", kind, label, *labels)

"""What the models of a run's tasks do not see: one archive for each task."""

from __future__ import annotations

from langchain_core.messages import BaseMessage
from langgraph.store.base import BaseStore

from langchain_runtime.context.archive import Archive
from langchain_runtime.context.lexical_index import Passage


def task_archive(store: BaseStore, run_id: str, task_id: str) -> Archive:
    """The archive of what did not fit into the first view of a task; others see nothing of it."""
    return Archive(store, ("lcr", run_id, "evicted", task_id))


class TalkArchive(Archive):
    """The archive of a task that goes on in turns: what leaves the view of a turn is kept apart.

    Everything is found by its handle, but a search of everything looks only at what the first view lacks. So it finds
    the same when a task that was killed does its turns again, and no copy that was recalled before is found in place of
    its source.

    Args:
        store: The run's.
        run_id: The run.
        task_id: The task.
    """

    def __init__(self, store: BaseStore, run_id: str, task_id: str) -> None:
        super().__init__(store, ("lcr", run_id, "turns", task_id))
        self._first = task_archive(store, run_id, task_id)

    def recall(self, handle: str) -> list[BaseMessage]:
        """As ``Archive``'s."""
        return super().recall(handle) if super().has(handle) else self._first.recall(handle)

    async def arecall(self, handle: str) -> list[BaseMessage]:
        """Async twin of ``recall``."""
        return await super().arecall(handle) if await super().ahas(handle) else await self._first.arecall(handle)

    def has(self, handle: str) -> bool:
        """As ``Archive``'s."""
        return super().has(handle) or self._first.has(handle)

    async def ahas(self, handle: str) -> bool:
        """Async twin of ``has``."""
        return await super().ahas(handle) or await self._first.ahas(handle)

    def handles(self) -> list[str]:
        """As ``Archive``'s; those of the first view first."""
        return list(dict.fromkeys([*self._first.handles(), *super().handles()]))

    async def ahandles(self) -> list[str]:
        """Async twin of ``handles``."""
        return list(dict.fromkeys([*await self._first.ahandles(), *await super().ahandles()]))

    def search(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """As ``Archive``'s; without a handle, in what the first view lacks."""
        if handle is not None and super().has(handle):
            return _alone(handle, super().recall(handle)).search(query, limit=limit)
        return self._first.search(query, limit=limit, handle=handle)

    async def asearch(self, query: str, *, limit: int = 8, handle: str | None = None) -> list[Passage]:
        """Async twin of ``search``."""
        if handle is not None and await super().ahas(handle):
            return _alone(handle, await super().arecall(handle)).search(query, limit=limit)
        return await self._first.asearch(query, limit=limit, handle=handle)

    def refresh(self) -> None:
        """As ``Archive``'s."""
        self._first.refresh()
        super().refresh()


def _alone(handle: str, messages: list[BaseMessage]) -> Archive:
    """An archive of these only, so that the order of what is found does not depend on what else is kept by now."""
    from langgraph.store.memory import InMemoryStore  # noqa: PLC0415 - importing it takes long

    archive = Archive(InMemoryStore(), ("lcr",))
    archive.put({handle: messages})
    return archive

"""A checkpointer that does not keep twice what the journal keeps, and that sync runs can use from async code.

LangGraph saves what every task returns, with a commit of its own each: the journal in the ledger has it by then. And
bodies are async, also under ``invoke``: a graph in a body uses the async methods of its parent's checkpointer, which a
checkpointer for sync runs may not have.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from functools import wraps
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver


class Journaled(dict[str, Any]):
    """What a task of a run returns to LangGraph: its outcome, which the journal has."""


Writes = Sequence[tuple[str, Any]]


class JournaledSaver(BaseCheckpointSaver[Any]):
    """Everything goes to ``saver``, except what tasks of a run returned.

    Questions to humans and their answers, errors, checkpoints, and all that graphs and tasks inside of a body write
    are kept as without it.

    Args:
        saver: The user's.
        journaled: Whether the journal keeps what tasks return.
        sync: Whether the run is a sync one.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], *, journaled: bool = True, sync: bool = False) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver
        self._journaled = journaled
        self._sync = sync
        # Whatever else a saver can do, now or in a later release, it does itself.
        own = vars(JournaledSaver)
        methods = {name for name in dir(saver) if not name.startswith("_") and name not in own}
        self.__dict__.update((name, method) for name in methods if callable(method := getattr(saver, name)))
        if sync:
            self.__dict__.update(_in_threads(saver, methods))
        if journaled:
            # LangGraph looks at the signatures: older savers take no task_path.
            self.__dict__["put_writes"] = _leaving_out_journaled(saver.put_writes)
            self.__dict__["aput_writes"] = _aleaving_out_journaled(self.__dict__["aput_writes"])

    @property
    def config_specs(self) -> list[Any]:
        """The saver's."""
        return self.saver.config_specs

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> BaseCheckpointSaver[Any]:
        """The same over a copy of the saver that reads these types, too."""
        saver = self.saver.with_allowlist(extra_allowlist)
        return JournaledSaver(saver, journaled=self._journaled, sync=self._sync)


def _in_threads(saver: BaseCheckpointSaver[Any], methods: Collection[str]) -> dict[str, Callable[..., Any]]:
    """Async methods made of their sync twins."""
    made: dict[str, Callable[..., Any]] = {}
    for name in methods:
        if name.startswith("a") and name[1:] in methods:
            method, twin = getattr(saver, name), getattr(saver, name[1:])
            made[name] = (_each_in_a_thread if inspect.isasyncgenfunction(method) else _in_a_thread)(method, twin)
    return made


def _in_a_thread(method: Callable[..., Any], twin: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(twin, *args, **kwargs)

    return call


def _each_in_a_thread(method: Callable[..., Any], twin: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for item in await asyncio.to_thread(lambda: list(twin(*args, **kwargs))):
            yield item

    return call


def _leaving_out_journaled(put_writes: Callable[..., None]) -> Callable[..., None]:
    @wraps(put_writes)
    def put(config: RunnableConfig, writes: Writes, *args: Any, **kwargs: Any) -> None:
        if not _are_journaled(writes):
            put_writes(config, writes, *args, **kwargs)

    return put


def _aleaving_out_journaled(
    aput_writes: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., Coroutine[Any, Any, None]]:
    @wraps(aput_writes)
    async def put(config: RunnableConfig, writes: Writes, *args: Any, **kwargs: Any) -> None:
        if not _are_journaled(writes):
            await aput_writes(config, writes, *args, **kwargs)

    return put


def _are_journaled(writes: Writes) -> bool:
    return all(isinstance(value, Journaled) for _, value in writes)

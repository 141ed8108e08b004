"""A checkpointer that does not keep twice what the journal keeps.

LangGraph saves what every task returns, with a commit of its own each: the journal in the ledger has it by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
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
    """

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver
        # Whatever else a saver can do, now or in a later release, it does itself.
        own = vars(JournaledSaver)
        methods = {name for name in dir(saver) if not name.startswith("_") and name not in own}
        self.__dict__.update((name, method) for name in methods if callable(method := getattr(saver, name)))
        # LangGraph looks at the signatures: older savers take no task_path.
        self.__dict__["put_writes"] = _leaving_out_journaled(saver.put_writes)
        self.__dict__["aput_writes"] = _aleaving_out_journaled(saver.aput_writes)

    @property
    def config_specs(self) -> list[Any]:
        """The saver's."""
        return self.saver.config_specs

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> BaseCheckpointSaver[Any]:
        """The same over a copy of the saver that reads these types, too."""
        return JournaledSaver(self.saver.with_allowlist(extra_allowlist))


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

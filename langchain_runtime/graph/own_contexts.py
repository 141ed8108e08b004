"""What LangGraph gives a task to run in, for bodies that run without a LangGraph task of their own.

A body must not be able to tell: graphs that it calls keep their state in the same place of the checkpointer, questions
to a human have the same ids, and ``runtime.execution_info`` names the task. So one LangGraph task is called for each
execution of a run, as a pattern: it tells what LangGraph gives a task, and whether we know how that follows from the
task's name. Where we do not, every body gets its LangGraph task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from itertools import count
from typing import Any, Final, Generic, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.runtime import Runtime
from xxhash import xxh3_128_hexdigest

from langchain_runtime.graph.langgraph_tasks import LangGraphTask

# LangGraph's keys of ``config["configurable"]``. The names are private.
_TASK_ID: Final = "__pregel_task_id"
_SCRATCHPAD: Final = "__pregel_scratchpad"
_RUNTIME: Final = "__pregel_runtime"
_CALL: Final = "__pregel_call"
_NAMESPACE: Final = "checkpoint_ns"

_PUSHED: Final = "__pregel_push"
"""How LangGraph marks tasks that a node calls."""

_PATTERN: Final = "driver"
"""Name of the pattern: no task of a run can have it."""


T = TypeVar("T")


class OwnContexts:
    """Makes the config of any task of a run as LangGraph would make it; see ``learned``.

    Args:
        pattern: The config of a LangGraph task.
    """

    def __init__(self, pattern: RunnableConfig) -> None:
        self._pattern = pattern
        self._configurable = pattern["configurable"]
        self._metadata = pattern["metadata"]
        runtime: Runtime[Any] = self._configurable[_RUNTIME]
        assert runtime.execution_info is not None  # LangGraph has set it for the pattern
        self._runtime, self._info = _Variants(runtime), _Variants(runtime.execution_info)
        self._scratchpads = _Variants(self._configurable[_SCRATCHPAD])
        self._parent, _, _ = str(self._configurable[_NAMESPACE]).rpartition("|")
        self._step = str(self._metadata["langgraph_step"])
        self._path = _as_text(self._metadata["langgraph_path"][1])
        self._checkpoint = bytes.fromhex(runtime.execution_info.checkpoint_id.replace("-", ""))

    @classmethod
    async def learned(cls, langgraph_task: LangGraphTask) -> OwnContexts | None:
        """Look at a LangGraph task that the node that runs calls; None where LangGraph is not as we know it."""
        found: list[RunnableConfig] = []

        async def look() -> dict[str, Any]:
            found.append(get_config())
            return {}

        await langgraph_task(_PATTERN, {}, look)
        try:
            contexts = cls(found[0])
            made = contexts.config_of(_PATTERN, 0)["configurable"]
        except (AttributeError, LookupError, TypeError, ValueError):
            return None
        is_same = all(made[key] == contexts._configurable[key] for key in (_NAMESPACE, _TASK_ID))
        return contexts if is_same else None

    def config_of(self, task_id: str, number: int, *, call: Callable[..., Any] | None = None) -> RunnableConfig:
        """The config of a task's body.

        Args:
            task_id: The task.
            number: Of the call, see ``call_ids``.
            call: What calls LangGraph tasks in the body; None for LangGraph's own.
        """
        namespace = f"{self._parent}|{task_id}"
        own_id = self._id_of(namespace, task_id, number)
        namespace = f"{namespace}:{own_id}"
        configurable = {
            **self._configurable,
            _TASK_ID: own_id,
            _NAMESPACE: namespace,
            _SCRATCHPAD: self._scratchpad(),
            _RUNTIME: self._runtime.with_(execution_info=self._info.with_(task_id=own_id, checkpoint_ns=namespace)),
        }
        if call is not None:
            configurable[_CALL] = call
        path = (*self._metadata["langgraph_path"][:2], number, True)
        metadata = {"langgraph_node": task_id, "langgraph_path": path, "langgraph_checkpoint_ns": namespace}
        return {**self._pattern, "configurable": configurable, "metadata": {**self._metadata, **metadata}}

    def _id_of(self, namespace: str, task_id: str, number: int) -> str:
        parts = (namespace, self._step, task_id, _PUSHED, self._path, str(number))
        digits = xxh3_128_hexdigest(self._checkpoint + "".join(parts).encode())
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _scratchpad(self) -> Any:
        """LangGraph's bookkeeping of one task: nothing was asked or answered yet."""
        return self._scratchpads.with_(
            call_counter=count().__next__,
            interrupt_counter=count().__next__,
            subgraph_counter=count().__next__,
            get_null_resume=_no_answer,
            resume=[],
        )


class _Variants(Generic[T]):
    """Copies of a dataclass's instance with other values, as ``dataclasses.replace`` makes them; every task has three.

    Args:
        pattern: The instance.
    """

    def __init__(self, pattern: T) -> None:
        self._type = type(pattern)
        self._values = {each.name: getattr(pattern, each.name) for each in fields(pattern) if each.init}  # type: ignore[arg-type]  # a dataclass

    def with_(self, **values: Any) -> T:
        return self._type(**{**self._values, **values})


def _no_answer(_consume: bool = False) -> None:
    """Answers go to the tasks that have asked, which have LangGraph tasks."""


def _as_text(path: Any) -> str:
    """A place in LangGraph's tree of tasks, as it goes into the ids of tasks."""
    if isinstance(path, (tuple, list)):
        return f"~{', '.join(map(_as_text, path))}"
    return f"{path:010d}" if isinstance(path, int) else str(path)

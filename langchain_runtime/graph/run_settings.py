"""What a caller asks of one execution of a run, read from their config once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.types import Command

from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import RunObserver

RUN_ID: Final = "run_id"
"""Key of ``config["configurable"]``: the new run's id. Not read inside a parent graph: it is the parent's there."""
BUDGETS: Final = "budgets"
"""Key of ``config["configurable"]``: more budgets for this run to charge."""
CONTINUE_RUN: Final = "continue_run"
"""Key of ``config["configurable"]``: take up a run whose journal exists although its checkpoint does not."""

_SETTINGS: Final = "__lcr_settings"
"""Key of ``config["configurable"]`` under which our nodes find the settings; LangGraph keeps such keys to itself."""

_BLIND_TO_TASKS: Final = frozenset({"values", "custom"})
"""Modes of streaming in which LangGraph tasks leave no trace."""

_PARENT_TASK: Final = "__pregel_task_id"
"""Key under which LangGraph tells what runs inside a node which task that is."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of one execution.

    Attributes:
        run_id: Of a new run; None makes one.
        budgets: Charged besides the run's and the graph's own.
        continue_run: Whether a run may be taken up that has a journal and no checkpoint.
        keep_failures: The run goes on after an answer, so what has failed is not bought again.
        max_parallelism: What the caller wrote as ``max_concurrency``; None for the policy's.
        stop_before: Tasks before which the run is to stand still.
        stop_after: Tasks after which it is to stand still.
        nested: Whether a parent graph runs this one.
        shown: LangGraph's modes of what the caller streams or prints.
        journaled: Whether LangGraph is to keep nothing of what tasks return, because the journal does.
        drainable: Whether anybody can ask it to stop at the next occasion, with LangGraph's run control.
        key: A new object for each execution.
    """

    run_id: str | None = None
    budgets: tuple[Budget, ...] = ()
    continue_run: bool = False
    keep_failures: bool = False
    max_parallelism: int | None = None
    stop_before: frozenset[str] = frozenset()
    stop_after: frozenset[str] = frozenset()
    nested: bool = False
    shown: frozenset[str] = frozenset()
    journaled: bool = False
    drainable: bool = False
    key: object = field(default_factory=object)

    @property
    def shows_tasks(self) -> bool:
        """Whether somebody may see which LangGraph tasks there are; a parent graph's streams are not known here."""
        return self.nested or not self.shown <= _BLIND_TO_TASKS

    @property
    def shows_events(self) -> bool:
        """Whether somebody may receive what is written to the ``custom`` stream."""
        return self.nested or "custom" in self.shown


def read_settings(
    given: Any,
    config: RunnableConfig | None,
    *,
    stop_before: frozenset[str],
    stop_after: frozenset[str],
    has_control: bool,
    shown: frozenset[str],
    journaled: bool,
) -> RunSettings:
    """The settings of an execution.

    Args:
        given: The graph's input.
        config: The caller's.
        stop_before: As for ``RunSettings``.
        stop_after: As for ``RunSettings``.
        has_control: Whether the caller keeps a run control.
        shown: As for ``RunSettings``.
        journaled: As for ``RunSettings``, outside of parent graphs: those have a checkpointer of their own.

    Raises:
        InvalidInputError: ``max_concurrency`` lets nothing start.
    """
    configurable = _effective_configurable(config)
    bound = (config or {}).get("max_concurrency")
    if bound is not None and not (isinstance(bound, int) and bound >= 1):
        raise InvalidInputError(
            f"max_concurrency must be a whole number, 1 or more, got {bound!r}", hint="leave it out for the policy's"
        )
    nested = _PARENT_TASK in configurable  # also when a function of the user's calls us in a node of theirs
    return RunSettings(
        run_id=None if nested else configurable.get(RUN_ID),
        budgets=tuple(configurable.get(BUDGETS) or ()),
        continue_run=not nested and bool(configurable.get(CONTINUE_RUN)),
        keep_failures=isinstance(given, Command),
        max_parallelism=None if nested else bound,
        stop_before=stop_before,
        stop_after=stop_after,
        nested=nested,
        shown=shown,
        journaled=journaled and not nested,
        drainable=has_control or nested,
    )


def with_settings(config: RunnableConfig | None, settings: RunSettings) -> RunnableConfig:
    """The config under which LangGraph runs the graph."""
    config = {**(config or {})}
    config.pop("max_concurrency", None)
    config["configurable"] = {**(config.get("configurable") or {}), _SETTINGS: settings}
    return config


def settings_of(config: RunnableConfig) -> RunSettings:
    """What ``with_settings`` put there."""
    settings: RunSettings = config["configurable"][_SETTINGS]
    return settings


def has_handlers(config: RunnableConfig) -> bool:
    """Whether callbacks listen to what runs under this config of a node: traces, token streams, a user's own.

    Handlers that say ``blind_to_tasks = True`` do not count: they need not hear of each task as a chain.
    """
    return not all(getattr(handler, "blind_to_tasks", False) for handler in _handlers(config))


def is_node(config: RunnableConfig | None) -> bool:
    """Whether LangGraph itself called us, as a node of a parent graph, and keeps what we return in its state."""
    return _PARENT_TASK in ((config or {}).get("configurable") or {})


def task_names(given: str | Sequence[str] | None, known: Mapping[str, Any]) -> frozenset[str] | None:
    """What a caller wrote as ``interrupt_before`` or ``interrupt_after``; None where nothing was given.

    Raises:
        InvalidInputError: There is no such task.
    """
    if given is None:
        return None
    names = frozenset(known) if given == "*" else frozenset([given] if isinstance(given, str) else given)
    if unknown := sorted(names - known.keys()):
        raise InvalidInputError(
            f"cannot interrupt at {unknown[0]!r}: there is no such task", hint='name tasks of the graph, or "*" for all'
        )
    return names


def _effective_configurable(config: RunnableConfig | None) -> Mapping[str, Any]:
    """As LangGraph merges it: a config that names a thread of its own stands alone, others refine the ambient one."""
    explicit = (config or {}).get("configurable") or {}
    ambient = (var_child_runnable_config.get() or {}).get("configurable") or {}
    return explicit if explicit.get("thread_id") is not None else {**ambient, **explicit}


def observers_of(config: RunnableConfig) -> list[RunObserver]:
    """The callback handlers that hear a run's lifecycle events, each once."""
    handlers = _handlers(config)
    return list({id(handler): handler for handler in handlers if isinstance(handler, RunObserver)}.values())


def _handlers(config: RunnableConfig) -> list[BaseCallbackHandler]:
    callbacks = config.get("callbacks")
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []

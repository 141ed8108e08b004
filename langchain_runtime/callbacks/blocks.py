"""Handlers for all calls in a block of code, without handing callbacks around."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

_log = logging.getLogger(__name__)


class _Blocks(BaseCallbackHandler):
    """Passes on to the handlers of all blocks around a call, outermost first.

    LangChain takes one handler from a context variable. What a nested block inherits from the outer one may come
    twice: the handlers know each call by its id.
    """

    run_inline = True
    raise_error = True

    def __init__(self, handlers: tuple[BaseCallbackHandler, ...]) -> None:
        self.handlers = handlers

    def on_chat_model_start(self, *args: Any, **event: Any) -> None:
        self._tell(lambda handler: handler.on_chat_model_start(*args, **event))

    def on_llm_start(self, *args: Any, **event: Any) -> None:
        self._tell(lambda handler: handler.on_llm_start(*args, **event))

    def on_llm_end(self, *args: Any, **event: Any) -> None:
        self._tell(lambda handler: handler.on_llm_end(*args, **event))

    def on_llm_error(self, *args: Any, **event: Any) -> None:
        self._tell(lambda handler: handler.on_llm_error(*args, **event))

    def _tell(self, event: Callable[[BaseCallbackHandler], Any]) -> None:
        for handler in self.handlers:
            try:
                event(handler)
            except Exception:  # as LangChain does it
                if handler.raise_error:
                    raise
                _log.exception("%s failed, and the call goes on", type(handler).__name__)


@cache
def _current_blocks() -> ContextVar[_Blocks | None]:
    """The variable that LangChain looks at before each call; registered once, since it cannot be taken back."""
    blocks: ContextVar[_Blocks | None] = ContextVar("langchain_runtime_blocks", default=None)
    register_configure_hook(blocks, inheritable=True)
    return blocks


@contextmanager
def heard_by(handler: BaseCallbackHandler) -> Iterator[None]:
    """Let ``handler`` hear of every model call in the block, beside the handlers of the blocks around it.

    Chains, agents, asyncio tasks and LangChain's thread pools are followed, a raw ``threading.Thread`` only through
    ``contextvars.copy_context().run``.
    """
    blocks = _current_blocks()
    outer = blocks.get()
    token = blocks.set(_Blocks((*(outer.handlers if outer is not None else ()), handler)))
    try:
        yield
    finally:
        blocks.reset(token)


@contextmanager
def refusals_not_logged() -> Iterator[None]:
    """Keep LangChain from logging the errors that handlers of blocks raise on purpose: their caller shows them."""
    logger = logging.getLogger("langchain_core.callbacks.manager")

    def is_other(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and record.args[:1] == (_Blocks.__name__,))

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)

"""Sync code from async code, in daemon threads of our own.

asyncio's default executor joins its threads at exit and cannot let go of a body that never returns: an abort of a 4 s
body came back after 4 s. A daemon thread is left behind at once; the caller is told when it really ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from langchain_runtime.backends.json_values import error_text

T = TypeVar("T")


def run_in_daemon_thread(function: Callable[[], T], *, name: str, on_end: Callable[[], None]) -> asyncio.Future[T]:
    """Run ``function`` in a new daemon thread, in a copy of the current context.

    Args:
        function: What to run.
        name: The thread's name.
        on_end: Called in the loop's thread when the function has really ended, also after a cancel.

    Returns:
        A future of its result. Cancelling the future lets go of the thread; it does not stop it.

    Raises:
        RuntimeError: The system gives no more threads; ``on_end`` has been called.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def report(error: BaseException | None, result: Any) -> None:
        on_end()
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(_safe_to_await(error))

    def work() -> None:
        error: BaseException | None = None
        result: T | None = None
        try:
            result = context.run(function)
        except BaseException as caught:  # noqa: BLE001 - a body may raise anything; it is the awaiting side's to judge
            error = caught
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(report, error, result)

    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        on_end()
        raise
    return future


def _safe_to_await(error: BaseException) -> BaseException:
    """``StopIteration`` cannot be set on a future, and ``KeyboardInterrupt`` or ``SystemExit`` would end the loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"the body raised {error_text(error)}")
    wrapped.__cause__ = error
    return wrapped

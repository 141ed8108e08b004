"""An event loop in a thread of its own, for sync callers of async code.

The calling thread may have a running loop (a notebook's). What ignores its cancellation is left behind: it ends, or
does not, in a daemon thread that nobody waits for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """A loop that runs until it is left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._died_of: BaseException | None = None
        threading.Thread(target=self._work, name="lcr-driver", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the loop, in the context of the calling thread, and wait for it.

        Ctrl-C while waiting cancels it. What stops the loop itself, ``SystemExit`` or ``KeyboardInterrupt``, ends the
        work, too, and is raised.
        """
        ended = threading.Event()

        async def watched() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait()
            elif self._died_of is not None:
                raise self._died_of from None
            raise

    def leave(self) -> None:
        """Cancel what is left in the loop, and do not wait for it."""
        if self._died_of is None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            self._died_of = error
        if left := asyncio.all_tasks(self._loop):
            for task in left:
                task.cancel()
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def run_in_own_loop(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run one coroutine in a loop of its own; see ``OwnLoop.run``."""
    loop = OwnLoop()
    try:
        return loop.run(start())
    finally:
        loop.leave()

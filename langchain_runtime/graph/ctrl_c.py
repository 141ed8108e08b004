"""Ctrl-C under ``invoke`` and ``stream``.

LangGraph waits for the node that runs before it lets a ``KeyboardInterrupt`` out, and one of ours may be a whole run.
So the run is told first, as ``asyncio.run`` tells the task that it runs.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_ctrl_c(act: Callable[[], object]) -> Iterator[None]:
    """Call ``act`` when Ctrl-C is pressed in this block, and then raise ``KeyboardInterrupt`` as usual.

    Only in the main thread, where signals arrive, and where nobody else has taken Ctrl-C over.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        act()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

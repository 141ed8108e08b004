"""The conversations that this process has in hand: the ones used last, by their keys."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from langchain_runtime.context.conversation_context import ConversationContext
from langchain_runtime.contracts.errors import InvalidInputError


class ConversationCache:
    """Keeps the contexts of the conversations used last. Safe to share between threads.

    A conversation that was dropped costs one reading of its messages when it comes back, and nothing else: its boundary
    is kept elsewhere.

    Args:
        max_size: Conversations to keep at most.

    Raises:
        InvalidInputError: ``max_size`` is below 1.
    """

    def __init__(self, max_size: int = 128) -> None:
        if max_size < 1:
            raise InvalidInputError(f"a cache of {max_size} conversations holds none", hint="give it at least 1")
        self._max_size = max_size
        self._contexts: OrderedDict[Hashable, ConversationContext] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._contexts)

    def find(self, key: Hashable) -> ConversationContext | None:
        """The context under ``key``, which counts as a use; None if it is not here."""
        with self._lock:
            context = self._contexts.get(key)
            if context is not None:
                self._contexts.move_to_end(key)
            return context

    def get(self, key: Hashable, make: Callable[[], ConversationContext]) -> ConversationContext:
        """The context under ``key``, made if it is not here; whoever asks for one key shares one context.

        Args:
            key: Tells conversations apart.
            make: Makes the context; called under the lock, so it must not wait for anything.
        """
        with self._lock:
            context = self._contexts.get(key)
            if context is None:
                context = self._contexts[key] = make()
            self._contexts.move_to_end(key)
            while len(self._contexts) > self._max_size:
                self._contexts.popitem(last=False)
            return context

"""How many tokens a text has, remembered while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tiktoken

_CHUNK: Final = 40_000
"""Characters encoded at once: tiktoken is quadratic in runs without white space."""

_ROOM: Final = 8_000_000
"""Characters of text that are kept: some long conversations, without a server's memory filling up with them."""

_ENTRY: Final = 200
"""Characters that an entry weighs beside its text."""


class TokenCounts:
    """Counts by encoding and text, least recently used ones forgotten first; safe to share between threads.

    Args:
        room: Characters of text that may be kept.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    def count(self, encoding: tiktoken.Encoding, text: str) -> int:
        """Tokens of ``text``; names of special tokens in it are text like any other."""
        key = (encoding.name, text)
        with self._lock:
            known = self._counts.get(key)
            if known is not None:
                self._counts.move_to_end(key)
                return known
        chunks = (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))
        count = sum(len(encoding.encode_ordinary(chunk)) for chunk in chunks)
        self._keep(key, count)
        return count

    def _keep(self, key: tuple[str, str], count: int) -> None:
        with self._lock:
            if key not in self._counts:
                self._counts[key] = count
                self._room -= len(key[1]) + _ENTRY
            while self._room < 0:
                (_, forgotten), _ = self._counts.popitem(last=False)
                self._room += len(forgotten) + _ENTRY

"""A session's messages in a store, each an item of its own, so that nobody who appends can undo what others append."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import BaseMessage
from langgraph.store.base import BaseStore, Item, PutOp
from pydantic import ValidationError

from langchain_runtime.context.message_records import decode_messages, encode_messages
from langchain_runtime.contracts.context import Boundary
from langchain_runtime.contracts.plans import Plan, Step

_FIRST_PAGE: Final = 10_000
"""Items asked for at first: a store's own default is 10."""

_BATCH: Final = 5_000
"""Items written at once: SQLite binds 32,766 values in a statement (sqlite.org/limits.html), and an item takes 5."""

_KEY: Final = "boundary"


class SessionLog:
    """Messages in the order they were added, and a boundary, under one namespace of a store. Safe between threads.

    Args:
        store: Keeps them.
        namespace: Of the session, as ``namespace_of`` makes it; everything below it is the session's.

    Attributes:
        boundary: Where the boundary of the session's view is kept.
    """

    def __init__(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        self._store = store
        self._namespace = namespace
        self._messages = (*namespace, "messages")
        self._known: dict[str, BaseMessage] = {}
        self.boundary = BoundaryFile(store, namespace)

    def read(self) -> Plan[list[BaseMessage]]:
        """All messages, oldest first."""
        items = yield from self._items(self._messages)
        known = self._known
        # Only what is new is decoded: a conversation is read at each turn.
        self._known = {item.key: known.get(item.key) or decode_messages(item.value)[0] for item in items}
        return [self._known[key] for key in sorted(self._known)]

    def append(self, messages: Sequence[BaseMessage]) -> Plan[None]:
        """Add messages after all that are known here, up to 5,000 of them all or none.

        Raises:
            InvalidInputError: A message holds an object that cannot be kept; nothing was added.
        """
        values = [encode_messages([message]) for message in messages]
        latest = max(self._known, default="")
        writes = []
        for value in values:
            latest = _CLOCK.key_after(latest)
            writes.append(PutOp(self._messages, latest, value, index=False))
        yield from self._write(writes)

    def clear(self) -> Plan[None]:
        """Delete everything of the session, its archive included."""
        items = yield from self._items(self._namespace)
        yield from self._write([PutOp(item.namespace, item.key, None) for item in items])
        self._known = {}

    def _items(self, namespace: tuple[str, ...]) -> Plan[list[Item]]:
        limit = _FIRST_PAGE
        # Page by page is no way while others write: pages would overlap, or miss items.
        while len(items := (yield Step(self._store, "search", (namespace,), {"limit": limit}))) == limit:
            limit *= 2
        return list(items)

    def _write(self, writes: list[PutOp]) -> Plan[None]:
        for start in range(0, len(writes), _BATCH):
            yield Step(self._store, "batch", (writes[start : start + _BATCH],))


class BoundaryFile:
    """Where the boundary of one conversation is kept.

    Args:
        store: Keeps it.
        namespace: Of the conversation.
    """

    def __init__(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        self._store = store
        self._namespace = (*namespace, "view")

    def read(self) -> Plan[Boundary]:
        """The boundary; one at the beginning where none is kept, or none that this version understands."""
        item = yield Step(self._store, "get", (self._namespace, _KEY))
        try:
            return Boundary() if item is None else Boundary.model_validate(json.loads(item.value["json"]))
        except ValidationError:
            return Boundary()

    def write(self, boundary: Boundary) -> Plan[None]:
        """Keep ``boundary`` in place of the one before."""
        value = {"json": json.dumps(boundary.model_dump())}
        yield Step(self._store, "put", (self._namespace, _KEY, value), {"index": False})


class _Clock:
    """Makes keys that sort by time and never meet: numbers that only grow, by the clock, and a random part."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def key_after(self, known: str) -> str:
        """A new key that sorts after ``known``, even if another machine made that by a clock that is ahead."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns(), int(known.partition("-")[0] or 0) + 1)
            return f"{self._last:020}-{secrets.token_hex(4)}"


_CLOCK: Final = _Clock()

"""Whole namespaces of a LangGraph store, which shows ten items if it is not told otherwise, and long batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langgraph.store.base import BaseStore, Item, ListNamespacesOp, MatchCondition, PutOp, SearchOp

from langchain_runtime.contracts.plans import Plan, Step

_PAGE: Final = 10_000
"""Asked for at once; if that was not all, twice as much: pages of a list that changes meanwhile would miss items."""
_AT_ONCE: Final = 1_000
"""Writes in one batch at most: databases limit the parameters of a statement."""


def all_items(store: BaseStore, prefix: tuple[str, ...]) -> Plan[list[Item]]:
    """Every item in a namespace and those under it, in the order that the store likes."""
    limit = _PAGE
    while True:
        (items,) = yield Step(store, "batch", ([SearchOp(prefix, limit=limit, refresh_ttl=False)],))
        if len(items) < limit:
            return list(items)
        limit *= 2


def write_all(store: BaseStore, writes: Sequence[PutOp]) -> Plan[None]:
    """Carry out any number of writes, in batches; each batch is done whole or not at all."""
    for start in range(0, len(writes), _AT_ONCE):
        yield Step(store, "batch", (writes[start : start + _AT_ONCE],))


def own_items(store: BaseStore, namespace: tuple[str, ...]) -> Plan[list[Item]]:
    """Every item in a namespace, without those under it."""
    items = yield from all_items(store, namespace)
    return [item for item in items if item.namespace == namespace]


def all_namespaces(store: BaseStore, prefix: tuple[str, ...]) -> Plan[list[tuple[str, ...]]]:
    """Every namespace that begins like this and was written to."""
    limit, under = _PAGE, (MatchCondition("prefix", prefix),)
    while True:
        (found,) = yield Step(store, "batch", ([ListNamespacesOp(under, limit=limit)],))
        if len(found) < limit:
            return list(found)
        limit *= 2

"""``KeyValueStore``: LangChain's key-value interface to JSON values in a LangGraph store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from langchain_core.stores import BaseStore as LangChainStore
from langgraph.store.base import BaseStore, GetOp, PutOp

from langchain_runtime.context import store_namespace
from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.store_access import own_items, write_all
from langchain_runtime.context.stored_json import packed, unpacked
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out

V = TypeVar("V")

_AT_ONCE: Final = 1_000
"""Keys in one batch at most: databases limit the parameters of a statement."""


class KeyValueStore(LangChainStore[str, V], Generic[V]):
    """One namespace of a LangGraph store as a store of LangChain's, for whatever takes one.

    Values are any JSON; they are copied in and out, and not embedded. Safe to share between threads.

    Args:
        store: The store.
        namespace: Whose keys these are; nothing else should be kept in it. Labels may hold dots.

    Raises:
        InvalidInputError: Stores accept no such namespace.
    """

    def __init__(self, store: BaseStore, namespace: Sequence[str]) -> None:
        if isinstance(namespace, str) or not namespace or not all(namespace) or namespace[0] == "langgraph":
            raise InvalidInputError(
                f"{namespace!r} is no namespace for keys",
                hint="pass a tuple of labels that are not empty, e.g. ('app', 'cache'); 'langgraph' is LangGraph's own",
            )
        self._store = AnyStore.over(store)
        self._namespace = store_namespace(*namespace)

    def mget(self, keys: Sequence[str]) -> list[V | None]:
        """The values of ``keys``; None for each that is missing."""
        return carry_out(self._mget(keys))

    async def amget(self, keys: Sequence[str]) -> list[V | None]:
        """Async twin of ``mget``."""
        return await acarry_out(self._mget(keys))

    def mset(self, key_value_pairs: Sequence[tuple[str, V]]) -> None:
        """Set keys; of those that occur twice, the last value counts.

        Raises:
            InvalidInputError: JSON cannot carry a value; nothing was written.
        """
        carry_out(self._mset(key_value_pairs))

    async def amset(self, key_value_pairs: Sequence[tuple[str, V]]) -> None:
        """Async twin of ``mset``."""
        await acarry_out(self._mset(key_value_pairs))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop keys, which need not be there."""
        carry_out(write_all(self._store, [PutOp(self._namespace, key, None) for key in keys]))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Async twin of ``mdelete``."""
        await acarry_out(write_all(self._store, [PutOp(self._namespace, key, None) for key in keys]))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Keys that begin with ``prefix``, or all, as they are when the first is asked for."""
        yield from carry_out(self._keys(prefix))

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Async twin of ``yield_keys``."""
        for key in await acarry_out(self._keys(prefix)):
            yield key

    def _mget(self, keys: Sequence[str]) -> Plan[list[V | None]]:
        values: list[V | None] = []
        for start in range(0, len(keys), _AT_ONCE):
            wanted = [GetOp(self._namespace, key) for key in keys[start : start + _AT_ONCE]]
            items = yield Step(self._store, "batch", (wanted,))
            values += [None if item is None else cast("V", unpacked(item.value)) for item in items]
        return values

    def _mset(self, pairs: Sequence[tuple[str, Any]]) -> Plan[None]:
        values = [(key, packed(value, of=f"key {key!r}")) for key, value in pairs]
        return write_all(self._store, [PutOp(self._namespace, key, value, index=False) for key, value in values])

    def _keys(self, prefix: str | None) -> Plan[list[str]]:
        items = yield from own_items(self._store, self._namespace)
        return [item.key for item in items if item.key.startswith(prefix or "")]

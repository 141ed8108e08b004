"""What each task of a run saw of the run's memory and did to it, so that what is done again is done alike.

A body that is executed again after a crash, or with a human's answer, would otherwise read what others have written
meanwhile, ask its model something else, and pay again; and what it adds to a counter would count twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from langgraph.store.base import BaseStore, GetOp, Item, PutOp
from pydantic import JsonValue

from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.archive import store_namespace
from langchain_runtime.context.store_access import all_items, all_namespaces, own_items, write_all
from langchain_runtime.context.stored_json import packed, unpacked
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Plan, acarry_out, carry_out

_VIEWS: Final = "views"
_BODY: Final = "body-"
_ENDED: Final = "ended"


class MemoryLog:
    """Records of the memory of runs, on a LangGraph store. Safe to share between threads.

    Args:
        store: The one that the runs' memory is in.
    """

    def __init__(self, store: BaseStore) -> None:
        self._store = AnyStore.over(store)

    async def asnapshot(self, run_id: str, task_id: str, attempt: int, snapshot: Mapping[str, JsonValue]) -> None:
        """Keep the memory that the prompt of an attempt shows."""
        # As text: some databases order the keys of objects anew, and the prompt shows them in order.
        kept = {"json": json.dumps(dict(snapshot))}
        await self._store.abatch([PutOp(_namespace(run_id, task_id, _VIEWS), str(attempt), kept, index=False)])

    async def arecorded(self, run_id: str, task_id: str, attempt: int) -> dict[str, JsonValue]:
        """What ``asnapshot`` kept for an attempt; empty if nothing."""
        wanted = GetOp(_namespace(run_id, task_id, _VIEWS), str(attempt), refresh_ttl=False)
        item = cast("Item | None", (await self._store.abatch([wanted]))[0])
        return {} if item is None else cast("dict[str, JsonValue]", unpacked(item.value))

    def of_body(self, run_id: str, task_id: str) -> BodyLog:
        """The log for one execution of a task's body."""
        return BodyLog(self._store, run_id, task_id)

    def forget(self, run_id: str, task_ids: Collection[str]) -> None:
        """Drop everything about these tasks, which are to be done as if for the first time."""
        carry_out(self._forget(run_id, task_ids))

    async def aforget(self, run_id: str, task_ids: Collection[str]) -> None:
        """Async twin of ``forget``."""
        await acarry_out(self._forget(run_id, task_ids))

    def _forget(self, run_id: str, task_ids: Collection[str]) -> Plan[None]:
        if not task_ids:
            return
        root, logs = _namespace(run_id), {_namespace(run_id, task_id) for task_id in task_ids}
        for namespace in (yield from all_namespaces(self._store, root)):
            if namespace[: len(root) + 1] in logs:
                items = yield from own_items(self._store, namespace)
                yield from write_all(self._store, [PutOp(namespace, item.key, None) for item in items])


class BodyLog:
    """What a task's body does with memory in one execution. Safe to share between threads.

    Operations are known by what they are and by how often the execution did the same before, so that the threads of a
    body may do different things in any order. What an execution recorded that did not come to its end, since the
    process died or a human was asked, the next one finds. An attempt that has ended is marked so: the next one begins
    a log of its own, and what a thread of the ended one was just recording is found by nobody. (Numbers of attempts
    cannot tell them apart: they begin anew in each process.)

    The log is read at the first operation; a body that has none costs nothing.

    Args:
        store: The one that the memory is in.
        run_id: The run.
        task_id: The task.
    """

    def __init__(self, store: AnyStore, run_id: str, task_id: str) -> None:
        self.store = store
        self._run_id = run_id
        self._task_id = task_id
        self._earlier: _Execution | None = None
        self._count: Counter[str] = Counter()
        self._recorded: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def was_used(self) -> bool:
        """Whether the body did anything with memory."""
        return self._earlier is not None

    def find(self, *operation: JsonValue) -> Plan[Place]:
        """The place of the next operation that these facts describe.

        Raises:
            InvalidInputError: The body is over.
        """
        described = json.dumps(operation)
        with self._lock:
            if self._closed:
                raise InvalidInputError(
                    "the run's memory is out of reach for a body that has ended",
                    hint="use it before the body returns, and wait for threads of its own that do",
                )
            occurrence = self._count[described]
            self._count[described] += 1
        # Threads that come here at once find the same: what one of them records is under no key of another.
        if self._earlier is None:
            task = _namespace(self._run_id, self._task_id)
            self._earlier = _last(task, (yield from all_items(self.store, task)))
        key = hashlib.sha256(f"{occurrence} {described}".encode()).hexdigest()
        known = self._earlier.records.get(key)
        return Place(self._earlier.namespace, key, known is not None, None if known is None else unpacked(known))

    def entry(self, place: Place, value: JsonValue = None) -> PutOp:
        """The write that records an operation and what it gave."""
        with self._lock:
            self._recorded.add(place.key)
        return PutOp(place.namespace, place.key, packed(value, of="a record"), index=False)

    def close(self) -> None:
        """Let no more operations in: the body is over, or was given up while its thread goes on."""
        with self._lock:
            self._closed = True

    def end(self) -> Plan[None]:
        """Mark the attempt as ended, with a result or so that another one begins anew; its records go."""
        if self._earlier is not None:
            namespace, records = self._earlier
            gone = [PutOp(namespace, key, None) for key in {*records, *self._recorded}]
            yield from write_all(self.store, [PutOp(namespace, _ENDED, {}, index=False), *gone])


class Place(NamedTuple):
    """One operation of a body.

    Attributes:
        namespace: Of the log.
        key: In the log.
        is_recorded: Whether an earlier execution has done it.
        value: A copy of what it gave then.
    """

    namespace: tuple[str, ...]
    key: str
    is_recorded: bool
    value: JsonValue


class _Execution(NamedTuple):
    """An attempt: where its log is, and what it recorded before."""

    namespace: tuple[str, ...]
    records: Mapping[str, Mapping[str, Any]]


def _last(task: tuple[str, ...], items: Iterable[Item]) -> _Execution:
    attempts: dict[int, dict[str, dict[str, Any]]] = {1: {}}
    for item in items:
        label = item.namespace[-1]
        if label.startswith(_BODY):
            attempts.setdefault(int(label.removeprefix(_BODY)), {})[item.key] = item.value
    number = max(attempts)
    if _ENDED in attempts[number]:
        number += 1
    return _Execution((*task, f"{_BODY}{number}"), attempts.get(number, {}))


def _namespace(run_id: str, *labels: str) -> tuple[str, ...]:
    return store_namespace("lcr", run_id, "memory-log", *labels)

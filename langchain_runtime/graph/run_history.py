"""Keeps what finished runs took in the graph's store, for the plans and the priorities of later ones.

One item per execution of a run, written once and never changed, so that processes that finish runs at the same time
do not lose each other's figures. An item holds figures and digests, no text.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from langgraph.store.base import BaseStore, Item, PutOp, SearchOp

from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.context.archive import store_namespace
from langchain_runtime.contracts.history import NO_TOKENS, TaskSample
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import Plan, Step
from langchain_runtime.contracts.run import now
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.orchestration import Durations, PastRuns, durations_of

_ROOT: Final = "langchain_runtime_history"
_VERSION: Final = 1
_RUNS_KEPT: Final = 20
"""Of each graph name: enough for averages, and old ones describe prompts and models of long ago."""
_RUNS_FOR_PRIORITIES: Final = 3
"""Of the latest runs: reading more would take longer than better guesses of durations save."""

_RUNS_OF_OTHERS: Final = 50
"""Of all graphs together, read where a graph has not enough of its own."""
_PAGE: Final = 1_000
"""Asked for at once, far more than are kept."""
_TOKEN_KINDS: Final = tuple(TokenUsage.model_fields)


class RunHistory:
    """The figures of earlier runs. Plans name the store's operations, so that sync and async callers share them.

    Args:
        store: The graph's.
    """

    def __init__(self, store: BaseStore) -> None:
        self._store = AnyStore.over(store)
        self._durations: dict[str, Durations] = {}

    def past_runs(self, graph: str, *, others: bool = False) -> Plan[PastRuns]:
        """What earlier runs took.

        Args:
            graph: Runs of graphs of this name.
            others: Also runs of graphs of other names: the same prompts and models may be in them.
        """
        items = yield from self._own_items(graph)
        if others:
            items += yield from self._items((_ROOT,), limit=_RUNS_OF_OTHERS)
        unique = {(*item.namespace, item.key): item for item in items}
        return PastRuns(sample for item in unique.values() for sample in _samples_in(item))

    def durations(self, graph: str, *, before: datetime | None = None) -> Plan[Sequence[Durations]]:
        """How long tasks took in the latest runs: what a planner orders its tasks by.

        Args:
            graph: Runs of graphs of this name.
            before: Only those that ended earlier; None for all.
        """
        items = yield from self._own_items(graph)
        if before is None:
            items = items[:_RUNS_FOR_PRIORITIES]
            # Items never change; what is known of those that are read in every run is kept.
            self._durations = {item.key: self._durations_in(item) for item in items}
            return list(self._durations.values())
        earlier = [item for item in items if datetime.fromisoformat(item.value["at"]) < before]
        return [self._durations_in(item) for item in earlier[:_RUNS_FOR_PRIORITIES]]

    def add(self, graph: str, run_id: str, samples: Sequence[TaskSample]) -> Plan[None]:
        """Keep what an execution of a run took; the oldest of the graph are forgotten."""
        if not samples:
            return
        namespace = _namespace(graph)
        key = f"{run_id}:{uuid.uuid4().hex[:8]}"
        outdated = (yield from self._own_items(graph))[_RUNS_KEPT - 1 :]
        writes = [PutOp(item.namespace, item.key, None) for item in outdated]
        yield Step(self._store, "batch", ([*writes, PutOp(namespace, key, _as_value(samples), index=False)],))
        self._durations[key] = durations_of(samples)

    def _own_items(self, graph: str) -> Plan[list[Item]]:
        """The newest first."""
        namespace = _namespace(graph)
        items = yield from self._items(namespace, limit=_PAGE)
        own = [item for item in items if item.namespace == namespace]  # not of graphs whose names begin like this
        return sorted(own, key=lambda item: str(item.value["at"]), reverse=True)

    def _items(self, prefix: tuple[str, ...], *, limit: int) -> Plan[list[Item]]:
        (found,) = yield Step(self._store, "batch", ([SearchOp(prefix, limit=limit, refresh_ttl=False)],))
        return [item for item in found if item.value.get("version") == _VERSION]

    def _durations_in(self, item: Item) -> Durations:
        known = self._durations.get(item.key)
        return durations_of(_samples_in(item)) if known is None else known


def _namespace(graph: str) -> tuple[str, ...]:
    return store_namespace(_ROOT, graph)


def _as_value(samples: Iterable[TaskSample]) -> dict[str, Any]:
    """Rows, with bodies and models by number: thousands of tasks share a few.

    As text: a store in memory would hold tens of thousands of lists, for the garbage collector to look at.
    """
    bodies: dict[str, int] = {}
    models: dict[str | None, int] = {}
    rows = [
        [
            sample.task,
            bodies.setdefault(sample.body, len(bodies)),
            models.setdefault(sample.model, len(models)),
            round(sample.seconds, 6),
            [getattr(sample.tokens, kind) for kind in _TOKEN_KINDS] if sample.tokens.total else None,
            None if sample.cost is None else [sample.cost.nano, sample.cost.currency],
            sample.received,
            sample.read or None,
            sample.written,
            sample.items,
        ]
        for sample in samples
    ]
    text = json.dumps({"bodies": list(bodies), "models": list(models), "rows": rows}, separators=(",", ":"))
    return {"version": _VERSION, "at": now().isoformat(), "samples": text}


def _samples_in(item: Item) -> Iterator[TaskSample]:
    kept = json.loads(item.value["samples"])
    bodies, models = kept["bodies"], kept["models"]
    for task, body, model, seconds, tokens, cost, received, read, written, items in kept["rows"]:
        yield TaskSample(
            task=task,
            body=bodies[body],
            model=models[model],
            seconds=seconds,
            tokens=NO_TOKENS if tokens is None else TokenUsage(**dict(zip(_TOKEN_KINDS, tokens, strict=True))),
            cost=None if cost is None else Cost.from_nano(*cost),
            received=received,
            read=read or {},
            written=written,
            items=items,
            run=item.key,
        )

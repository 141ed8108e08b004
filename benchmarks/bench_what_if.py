"""Whether ``what_if`` tells the truth: replays of real runs, under their own settings and under others.

Task graphs made by others, each scaled so that it takes a second, as prompts that a scripted model with a price answers
after as long a sleep. Each is run with 4 and with 8 tasks at a time, and asked about under its own settings and under
those of the other run. A run's makespan is taken from its record, as its report tells it, and once more with a
stopwatch around the call, which also sees the graph begin and end: some 20 ms, which count in a run of a second. That
a replay is its record exactly is by design, so the runs under other settings tell more.

Peer, where the settings are others: what a person reckons, that the run takes as much longer as there are fewer slots.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from types import ModuleType
from typing import Any

from harness import Figure, beside_the_clone, load
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.run import Run
from langchain_runtime.cost import CostCalculator, ModelCatalog
from langchain_runtime.graph import WhatIf
from langchain_runtime.graph.list_prices import ListPrices
from langchain_runtime.graph.what_if import what_if
from langchain_runtime.testing import ScriptedChatModel

OWN = "`what_if` of a run under its own settings reproduces its makespan and cost within 3 %"
SECONDS = 1.0
SLOTS = (4, 8)
GRAPHS = 10
MOST_TASKS = 120
"""Larger graphs of a second have tasks of a few milliseconds, which say more about the executor than about a replay."""

CATALOG = ModelCatalog({"models": {"scripted:sleepy": {"input": "2.50", "output": "10", "cache_read": "0.25"}}})
PRICES = ListPrices(CATALOG, CostCalculator(CATALOG))
Graph = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    """A run that was carried out.

    Attributes:
        record: Of it.
        stopwatch: Seconds that the call took.
    """

    record: Run
    stopwatch: float

    @property
    def seconds(self) -> float:
        return asked(self).before.makespan_seconds


class Sleepy(ScriptedChatModel):
    """Answers a prompt ``<number> <seconds>`` after so long, and reads and writes tokens by the number."""

    def __init__(self) -> None:
        super().__init__(model="sleepy", script=_answer)

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(float(messages[-1].text.split()[-1]))
        return await super()._agenerate(messages, *args, **kwargs)


def _answer(messages: Any) -> AIMessage:
    number = int(messages[-1].text.split()[-2])
    read, wrote = 500 + 37 * number, 50 + 13 * number
    details = {"cache_read": read // 3}
    usage = UsageMetadata(
        input_tokens=read, output_tokens=wrote, total_tokens=read + wrote, input_token_details=details
    )
    return AIMessage(content="done", usage_metadata=usage)


def carried_out(graph: Graph, slots: int, scale: float) -> Ran:
    """Run the graph for real."""
    described = RunGraph(RunPolicy(max_parallelism=slots), model=Sleepy(), name=str(graph["id"]))
    for i, (duration, before) in enumerate(zip(graph["dur"], graph["pred"], strict=True)):
        seconds = duration * scale
        deps = [f"t{dep}" for dep in before]
        described.add_task(f"t{i}", prompt=f"{i} {seconds}", deps=deps, expected_seconds=seconds)
    compiled = described.compile(checkpointer=InMemorySaver(), catalog=CATALOG)
    config: Any = {"configurable": {"thread_id": "1"}}

    async def once() -> float:
        started = time.perf_counter()
        await compiled.ainvoke({"inputs": {}}, config)
        return time.perf_counter() - started

    gc.collect()  # or it happens in one of the runs, and takes a tenth of it
    stopwatch = asyncio.run(once())
    return Ran(compiled.get_run(config), stopwatch)


def asked(ran: Ran, **settings: Any) -> WhatIf:
    return what_if(ran.record, PRICES, **settings)


def off(said: float, real: float) -> float:
    """Percent."""
    return 100 * abs(said / real - 1)


def chosen(dagbench: ModuleType, count: int) -> list[Graph]:
    """As many of each set, from small to large."""
    graphs: list[Graph] = []
    for name in dagbench.SETS:
        suitable = [graph for graph in dagbench.load(name) if 1 < len(graph["dur"]) <= MOST_TASKS]
        suitable.sort(key=lambda graph: len(graph["dur"]))
        graphs += suitable[:: max(1, len(suitable) // 3)][:3]
    return sorted(graphs, key=lambda graph: len(graph["dur"]))[-count:]


def measure(quick: bool) -> Iterator[Figure]:
    tool = beside_the_clone("tools/dagbench.py")
    if tool is None or beside_the_clone("data/scheduling") is None:
        return
    dagbench = load(tool)
    graphs = chosen(dagbench, 3 if quick else GRAPHS)
    carried_out(graphs[0], SLOTS[0], 0)  # the first run of a process loads what all others find
    runs = []
    for graph in graphs:
        scale = SECONDS / dagbench.makespan(graph, SLOTS[0], "cpf")
        runs.append({slots: carried_out(graph, slots, scale) for slots in SLOTS})
    every = [ran for by_slots in runs for ran in by_slots.values()]
    yield from under_their_own(every, f"{len(every)} runs of {len(graphs)} DAGs")
    yield from under_others(runs)


def under_their_own(every: list[Ran], which: str) -> Iterator[Figure]:
    answers = [asked(ran) for ran in every]
    from_record = [off(each.replayed.makespan_seconds, each.before.makespan_seconds) for each in answers]
    from_stopwatch = [
        off(each.replayed.makespan_seconds, ran.stopwatch) for each, ran in zip(answers, every, strict=True)
    ]
    costs = [
        off(float(each.replayed.cost.amount), float(ran.record.usage.cost.amount))
        for each, ran in zip(answers, every, strict=True)
        if each.replayed.cost is not None and ran.record.usage.cost is not None
    ]
    for what, errors in (
        ("makespan is off its record", from_record),
        ("makespan is off a stopwatch", from_stopwatch),
        ("cost is off the bill", costs),
    ):
        for word, summary in (("at most", max), ("on average", fmean)):
            yield Figure(
                claim=f"replay of {which} under their own settings: {what}, {word}",
                ours=summary(errors),
                unit="%",
                bound=3 if errors is not from_stopwatch or summary is fmean else None,
                must_hold=OWN,
            )


def under_others(runs: list[dict[int, Ran]]) -> Iterator[Figure]:
    for has, wants in (SLOTS, SLOTS[::-1]):
        ours, reckoned = [], []
        for by_slots in runs:
            real = by_slots[wants].seconds
            ours.append(off(asked(by_slots[has], max_parallelism=wants).after.makespan_seconds, real))
            reckoned.append(off(by_slots[has].seconds * has / wants, real))
        for word, summary in (("at most", max), ("on average", fmean)):
            yield Figure(
                claim=f"`what_if` of {len(runs)} runs on {has} slots is off real ones on {wants}, {word}",
                ours=summary(ours),
                unit="%",
                peer=summary(reckoned),
                against="work spread over the slots",
            )

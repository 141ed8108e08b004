"""How long a DAG takes: our planner in virtual time on task graphs, and some in real time.

Four sets of graphs were made by others. A fifth one is random, and its tasks take as long as recorded calls of models.
Peers, computed in the same run by the data's own tool: the best of four list schedules (critical path first with two
tie-breaks, hops, first come first served), supersteps (a barrier after each level, as a StateGraph runs), and the
optimum where one is known. Figures are means of our makespan / the peer's, graph by graph. Sleeping tasks run
in several rounds, of which the fastest counts: the machine may have been busy in the others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from statistics import fmean
from types import ModuleType
from typing import Any

from harness import Figure, beside_the_clone, best_of, load

from langchain_runtime import RunGraph
from langchain_runtime.contracts.run import DAG, RunPolicy, Task
from langchain_runtime.orchestration import Attempt, DependencyResolver, ParallelExecutor, simulate

LIST_SCHEDULES = ("cpf", "cpf_mis", "hops", "fifo")
REAL_SECONDS, REAL_SLOTS = 2.0, 4
NEAR_THE_BEST = "Makespan within 1.02 of the best list schedule, within 1.01 of published optima (means)"
REAL = "Real runs within 5 % of virtual time; the plan's makespan within 10 % of the real one"
Graph = dict[str, Any]
Ratios = dict[str, list[float]]


def build(graph: Graph) -> DAG:
    tasks = [Task(id=f"t{i}", deps=[f"t{p}" for p in before]) for i, before in enumerate(graph["pred"])]
    resolver = DependencyResolver()
    dag = resolver.build(tasks)
    resolver.validate(dag)
    return dag


def our_makespan(graph: Graph, dag: DAG, slots: int, *, durations_known: bool = True) -> float:
    seconds = {f"t{i}": float(duration) for i, duration in enumerate(graph["dur"])}
    planner = ParallelExecutor(
        dag,
        policy=RunPolicy(max_parallelism=slots),
        expected_seconds=seconds if durations_known else None,
    )
    return simulate(planner, lambda task_id, _: Attempt(seconds[task_id])).makespan


def compare(dagbench: ModuleType, graphs: Iterable[tuple[Graph, DAG]], slots: int) -> Ratios:
    """Our makespan over each peer's, graph by graph."""
    ratios: Ratios = {"list": [], "blind": [], "optimum": [], "supersteps": []}
    for graph, dag in graphs:
        ours = our_makespan(graph, dag, slots)
        best = min(dagbench.makespan(graph, slots, schedule) for schedule in LIST_SCHEDULES)
        ratios["list"].append(ours / best)
        ratios["blind"].append(our_makespan(graph, dag, slots, durations_known=False) / best)
        ratios["supersteps"].append(ours / dagbench.makespan(graph, slots, "bsp"))
        if optimum := graph["opt"].get(str(slots)):
            ratios["optimum"].append(ours / optimum)
    return ratios


def in_real_time(graph: Graph, dag: DAG) -> tuple[float, float, float]:
    """Seconds that sleeping tasks take on ``RunGraph``, in virtual time, and by ``plan()``."""
    scale = REAL_SECONDS / our_makespan(graph, dag, REAL_SLOTS)

    def sleeping(seconds: float):
        async def body(_: Any) -> None:
            await asyncio.sleep(seconds)

        return body

    runs = RunGraph(RunPolicy(max_parallelism=REAL_SLOTS))
    for i, (duration, before) in enumerate(zip(graph["dur"], graph["pred"], strict=True)):
        seconds = duration * scale
        runs.add_task(f"t{i}", sleeping(seconds), deps=[f"t{p}" for p in before], expected_seconds=seconds)
    compiled = runs.compile()

    async def once() -> float:
        started = time.perf_counter()
        await compiled.ainvoke({"inputs": {}})
        return time.perf_counter() - started

    return asyncio.run(once()), REAL_SECONDS, compiled.plan().makespan_seconds


def of_model_calls(count: int, milliseconds: list[float]) -> Iterator[Graph]:
    """Random DAGs: each task waits for up to three of the twenty before it and takes as long as some recorded call."""
    chance = random.Random(0)
    for number in range(count):
        size = chance.randint(10, 120)
        before = [
            sorted({chance.randrange(max(0, i - 20), i) for _ in range(chance.randint(0, 3))}) if i else []
            for i in range(size)
        ]
        after: list[list[int]] = [[] for _ in range(size)]
        for i, those in enumerate(before):
            for dep in those:
                after[dep].append(i)
        yield {
            "id": f"random-{number}",
            "dur": [chance.choice(milliseconds) for _ in range(size)],
            "pred": before,
            "succ": after,
            "opt": {},
        }


def measure(quick: bool) -> Iterator[Figure]:
    tool = beside_the_clone("tools/dagbench.py")
    if tool is None or beside_the_clone("data/scheduling") is None:
        return
    dagbench = load(tool)
    sets = {
        name: [(graph, build(graph)) for graph in list(dagbench.load(name))[:: 5 if quick else 1]]
        for name in dagbench.SETS
    }
    random_ones = of_model_calls(40 if quick else 200, dagbench.latencies())
    model_calls = {"random DAGs of recorded model calls": [(graph, build(graph)) for graph in random_ones]}
    for name, graphs in (sets | model_calls).items():
        yield from of_a_set(f"{name} ({len(graphs)} graphs)", dagbench, graphs, (4, 8) if quick else (2, 4, 8, 16))
    yield from really([graphs[len(graphs) // 2] for graphs in sets.values()], 1 if quick else 3)


def of_a_set(
    name: str, dagbench: ModuleType, graphs: list[tuple[Graph, DAG]], slots: tuple[int, ...]
) -> Iterator[Figure]:
    by_slots = [compare(dagbench, graphs, count) for count in slots]
    worst = max(fmean(ratios["list"]) for ratios in by_slots)
    everywhere = {key: [ratio for ratios in by_slots for ratio in ratios[key]] for key in by_slots[0]}
    claim = f"makespan of {name}"
    yield Figure(
        claim=f"{claim}, worst of {slots[0]} to {slots[-1]} slots",
        ours=worst,
        unit="x",
        peer=1,
        against="best list schedule",
        bound=1.02,
        must_hold=NEAR_THE_BEST,
    )
    if optima := everywhere["optimum"]:
        yield Figure(
            claim=f"{claim}, {len(optima):,} optima known",
            ours=fmean(optima),
            unit="x",
            peer=1,
            against="optimum",
            bound=1.01,
            must_hold=NEAR_THE_BEST,
        )
    for key, what, peer in (
        ("supersteps", claim, "supersteps"),
        ("blind", f"{claim}, durations unknown", "best list schedule, durations known"),
    ):
        yield Figure(claim=what, ours=fmean(everywhere[key]), unit="x", peer=1, against=peer)


def really(graphs: list[tuple[Graph, DAG]], rounds: int) -> Iterator[Figure]:
    for graph, dag in graphs:
        ((real, virtual, planned),) = best_of(rounds, lambda graph=graph, dag=dag: in_real_time(graph, dag))
        claim = f"{graph['id']}: {len(graph['dur'])} sleeping tasks on {REAL_SLOTS} slots"
        yield Figure(claim=claim, ours=real, unit="s", peer=virtual, against="virtual time", bound=1.05, must_hold=REAL)
        yield Figure(
            claim=f"{claim}, the plan is off by",
            ours=100 * abs(planned - real) / real,
            unit="%",
            bound=10,
            must_hold=REAL,
        )

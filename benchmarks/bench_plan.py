"""Whether ``plan()`` tells the truth: makespans against sleeping runs, expected cost against a provider's bill.

*Time.* Task graphs made by others: ten random ones, ten real workflows, and ten small plans whose tasks take as long as
recorded calls of models; on 2, 4 and 8 slots in turn, each scaled so that it takes 0.5 to 1 s. Peers, from the same
run: what a person reckons without a simulation, and, where durations are learnt, the mean of the earlier makespans.

*Cost.* Graphs of prompts, carried out by real clients against a provider on loopback that counts and bills by itself
and whose replies are never equally long. Peer: the mean of the three earlier bills.

Where chance has its part in a run, no plan can foretell it. So what is real is the mean of several further runs. The
next one alone is compared, too, with the mean of the several as its peer: that is how far off foresight would be.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle, groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from bench_dag import body, diamonds
from harness import FOLDER, Figure, beside_the_clone, best_of, load

from langchain_runtime import RunGraph, RunPolicy

TESTS = str(FOLDER.parent / "tests" / "integration_tests")
if TESTS not in sys.path:
    sys.path.append(TESTS)

from planned_runs import EARLIER, MODELS, SCENES, rehearsal  # noqa: E402 - is found there

KNOWN = "`plan`: makespan within 10 % of the real one on 30 DAGs with known durations"
LEARNT = "`plan`: makespan within 25 % of the real one with durations learnt from three earlier runs"
COST = "`plan`: expected cost within 10 % of the bill after three runs, and never a bill above the worst case"

SLOTS = (2, 4, 8)
TARGETS = (0.5, 0.75, 1.0)
"""Seconds that a run shall take: the first at which the sleeps are long, or the last."""

LONG = 0.035
"""Seconds of a long sleep, on average."""

SHORT, FEW = 0.005, 0.05
"""A sleep of fewer seconds is short. Short ones hold at most such a share of the work."""

NEXT, NEXT_PAID = 4, 10
"""Runs that plans of durations and of costs from earlier ones are compared with."""

SIGMA = 0.25
"""Of the log-normal factor by which a duration differs in every run."""

WORK, CRITICAL, LARGER = "work / slots", "critical path", "the larger of work / slots and critical path"

Graph = dict[str, Any]


# --- time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A task graph at its scale.

    Attributes:
        name: Of the graph in its set.
        deps: Task id -> what it waits for.
        seconds: Task id -> how long it takes.
        slots: Tasks at a time.
        reckoned: Seconds of a run by the estimates that need no simulation.
    """

    name: str
    deps: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]
    slots: int
    reckoned: Mapping[str, float]


class Sleeper:
    """A case whose tasks sleep.

    Args:
        case: Which.
        durations_known: Whether the graph says how long its tasks take.
    """

    def __init__(self, case: Case, *, durations_known: bool) -> None:
        late()  # measures now, while nothing else is under way
        self._case = case
        self._seconds = case.seconds
        graph = RunGraph(RunPolicy(max_parallelism=case.slots), name=case.name)
        for task_id, deps in case.deps.items():
            told = case.seconds[task_id] if durations_known else None
            graph.add_task(task_id, self._body(task_id), deps=deps, expected_seconds=told)
        self.compiled = graph.compile()

    def _body(self, task_id: str) -> Any:
        async def body(_: Any) -> None:
            await asyncio.sleep(self._seconds[task_id] - late())

        return body

    def run(self) -> float:
        """Seconds that a run takes."""

        async def once() -> float:
            started = time.perf_counter()
            await self.compiled.ainvoke({"inputs": {}})
            return time.perf_counter() - started

        return asyncio.run(once())

    def noisy_run(self, number: int) -> float:
        """Seconds that a run takes in which chance lengthens or shortens every sleep."""
        self._seconds = {
            task_id: seconds * math.exp(random.Random(f"{self._case.name} {number} {task_id}").gauss(0, SIGMA))
            for task_id, seconds in self._case.seconds.items()
        }
        return self.run()


@cache
def late() -> float:
    """Seconds by which a sleep of this machine is longer than asked for: 2 ms are a tenth of some tasks."""

    async def measured() -> float:
        started = time.perf_counter()
        await asyncio.sleep(LONG)
        return time.perf_counter() - started - LONG

    async def several() -> list[float]:
        return [await measured() for _ in range(20)]

    return median(asyncio.run(several()))


def cases(dagbench: ModuleType) -> list[Case]:
    """Ten of each kind; where a set has several of a family, the first that suits."""
    milliseconds = dagbench.latencies(kind="json")
    plans = [graph for name in ("asynchow", "nestful") for graph in largest(dagbench.load(name), 5)]
    for graph in plans:
        chance = random.Random(graph["id"])
        graph["dur"] = [chance.choice(milliseconds) for _ in graph["dur"]]
    family = itemgetter("family")
    workflows = [graph for graph in dagbench.load("wfinstances") if family(graph) != "helloworld"]
    alike = [
        *([graph] for graph in list(dagbench.load("stg50"))[::18]),
        *(list(graphs) for _, graphs in groupby(sorted(workflows, key=family), family)),
        *([graph] for graph in plans),
    ]
    suitable = (
        next((case for graph in graphs if (case := scaled(dagbench, graph, slots))), None)
        for graphs, slots in zip(alike, cycle(SLOTS), strict=False)
    )
    return [case for case in suitable if case is not None]


def largest(graphs: Iterator[Graph], count: int) -> list[Graph]:
    return sorted(graphs, key=lambda graph: len(graph["dur"]), reverse=True)[:count]


def scaled(dagbench: ModuleType, graph: Graph, slots: int) -> Case | None:
    """The graph at its target; None where too much of it would be short sleeps."""
    durations = graph["dur"]
    makespan, work, longest = dagbench.makespan(graph, slots, "cpf"), sum(durations), dagbench.critical_path(graph)
    long_enough = (target for target in TARGETS if work / len(durations) * target / makespan >= LONG)
    scale = next(long_enough, TARGETS[-1]) / makespan
    if sum(seconds for seconds in durations if seconds * scale < SHORT) > FEW * work:
        return None
    by_work, by_path = work / slots * scale, longest * scale
    return Case(
        name=graph["id"],
        deps={f"t{i}": [f"t{p}" for p in before] for i, before in enumerate(graph["pred"])},
        seconds={f"t{i}": seconds * scale for i, seconds in enumerate(durations)},
        slots=slots,
        reckoned={WORK: by_work, CRITICAL: by_path, LARGER: max(by_work, by_path)},
    )


def off(said: float, real: float) -> float:
    """Per cent."""
    return 100 * abs(said / real - 1)


def known_durations(chosen: list[Case], rounds: int) -> Iterator[Figure]:
    """Against the fastest of some rounds: the machine may have been busy in the others."""
    ours: list[float] = []
    others: dict[str, list[float]] = {WORK: [], CRITICAL: [], LARGER: []}
    for case in chosen:
        sleeper = Sleeper(case, durations_known=True)
        planned = sleeper.compiled.plan().makespan_seconds
        real = min(sleeper.run() for _ in range(rounds))
        ours.append(off(planned, real))
        for name, seconds in case.reckoned.items():
            others[name].append(off(seconds, real))
    claim = f"makespan of {len(chosen)} DAGs with known durations: `plan` is off by"
    yield Figure(
        claim=f"{claim}, at most",
        ours=max(ours),
        unit="%",
        peer=max(others[LARGER]),
        against=LARGER,
        bound=10,
        absolute=True,
        must_hold=KNOWN,
    )
    for name, errors in others.items():
        yield Figure(
            claim=f"{claim}, on average", ours=fmean(ours), unit="%", peer=fmean(errors), against=name, must_hold=KNOWN
        )


def learnt_durations(chosen: list[Case], further: int) -> Iterator[Figure]:
    """Against the mean of several further runs, and against the first of them."""
    planned, earlier, real = [], [], []
    for case in chosen:
        sleeper = Sleeper(case, durations_known=False)
        earlier.append(fmean(sleeper.noisy_run(number) for number in range(EARLIER)))
        planned.append(sleeper.compiled.plan().makespan_seconds)
        real.append([sleeper.noisy_run(EARLIER + number) for number in range(further)])
    claim = f"makespan of {len(chosen)} DAGs, durations of three runs (sigma {SIGMA}): `plan` is off"
    yield from beside_chance(claim, planned, earlier, real, of="makespans", bound=25, must_hold=LEARNT)


def beside_chance(
    claim: str,
    planned: list[float],
    earlier: list[float],
    real: list[list[float]],
    *,
    of: str,
    bound: float,
    must_hold: str,
) -> Iterator[Figure]:
    """How far plans are off from what comes.

    Args:
        claim: Begins the lines.
        planned: What each plan said.
        earlier: What a person would have said: the mean of the runs that it learnt from.
        real: What the next runs came to, run by run.
        of: What is compared.
        bound: Per cent.
        must_hold: As of a figure.
    """
    means, first = [fmean(each) for each in real], [each[0] for each in real]
    foresight = f"mean of the next {len(real[0])} {of}"
    for comes, name, peer, against in (
        (means, foresight, earlier, f"mean of the earlier {of}"),
        (first, "next one alone", means, foresight),
    ):
        ours = [off(*pair) for pair in zip(planned, comes, strict=True)]
        others = [off(*pair) for pair in zip(peer, comes, strict=True)]
        for summary, word in ((max, "at most"), (fmean, "on average")):
            by_chance = comes is first and summary is max
            yield Figure(
                claim=f"{claim} from the {name}, {word}",
                ours=summary(ours),
                unit="%",
                peer=summary(others),
                against=against,
                bound=None if by_chance else bound,
                absolute=True,
                must_hold=must_hold,
            )


# --- cost ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bills:
    """What a graph of prompts cost with one provider's model, and what was expected.

    Attributes:
        unlearnt: Expected for the first run, with nothing to go by.
        expected: Expected after three runs, for inputs that none of them had.
        earlier: Bills of the three, the first first.
        next: Bills of further runs with the planned inputs; their replies differ.
        of_worst: The largest share of its worst case that a bill has reached.
    """

    unlearnt: float
    expected: float
    earlier: list[float]
    next: list[float]
    of_worst: float


async def billed(scene: str, api: str) -> Bills:
    """Costs in USD."""
    with TemporaryDirectory() as folder, rehearsal(scene, api, Path(folder)) as stage:
        plans, bills = [], []
        for number in range(EARLIER):
            plans.append(stage.plan(number))
            bills.append(await stage.run(number))
        plans += [stage.plan(EARLIER)] * NEXT_PAID
        bills += [await stage.run(EARLIER, season) for season in range(NEXT_PAID)]
    expected = [float(plan.expected_cost.amount) for plan in plans]
    of_worst = max(float(bill / plan.worst_cost.amount) for plan, bill in zip(plans, bills, strict=True))
    paid = [float(bill) for bill in bills]
    return Bills(expected[0], expected[EARLIER], paid[:EARLIER], paid[EARLIER:], of_worst)


def costs(every: list[Bills]) -> Iterator[Figure]:
    claim = f"cost of {len(every)} graphs of prompts after three runs: `plan` is off"
    expected = [each.expected for each in every]
    earlier = [fmean(each.earlier) for each in every]
    real = [each.next for each in every]
    yield from beside_chance(claim, expected, earlier, real, of="bills", bound=10, must_hold=COST)
    yield Figure(
        claim=f"a bill / its worst case, the largest of {len(every) * (EARLIER + len(real[0]))}",
        ours=max(each.of_worst for each in every),
        unit="x",
        bound=1,
        must_hold=COST,
    )
    for word, summary in (("least", min), ("most", max)):
        share = summary(each.unlearnt / each.earlier[0] for each in every)
        yield Figure(claim=f"what `plan` expects of a first run / its bill, {word}", ours=share, unit="x")


# --- what a plan costs -----------------------------------------------------------------------------------------------


def layers_of_prompts(size: int) -> Any:
    """A hundred in each layer, each after two of the layer before."""
    graph = RunGraph(RunPolicy(max_parallelism=16), model="gpt-4o-mini", inputs={"topic": "dogs"})
    for task_id, (deps, _) in diamonds(size, width=100).items():
        received = " ".join(f"{{{dep}}}" for dep in deps)
        graph.add_task(task_id, prompt=f"Say something about {{topic}}, given this: {received}", deps=deps)
    return graph.compile()


def layers_of_functions(size: int) -> Any:
    """The same DAG, of functions that do nothing."""
    graph = RunGraph(RunPolicy(max_parallelism=16))
    for task_id, (deps, delay) in diamonds(size, width=100).items():
        graph.add_task(task_id, body(delay), deps=deps)
    return graph.compile()


def cpu_seconds(compiled: Any) -> float:
    """Of a plan."""
    started = time.process_time()
    compiled.plan()
    return time.process_time() - started


def own_cost(small: int, rounds: int) -> Iterator[Figure]:
    sizes = (small, 10 * small)
    least = best_of(rounds, *(partial(cpu_seconds, layers_of_prompts(size)) for size in sizes))
    for size, seconds in zip(sizes, least, strict=True):
        yield Figure(claim=f"CPU of a plan of {size:,} prompts in layers", ours=seconds, unit="s")
    at_small, at_large = (1e6 * seconds / size for size, seconds in zip(sizes, least, strict=True))
    yield Figure(
        claim=f"CPU of a plan of {sizes[1]:,} prompts, a task",
        ours=at_large,
        unit="us",
        peer=at_small,
        against=f"ours at {small:,}",
    )
    known = layers_of_functions(small)
    for _ in range(EARLIER):
        asyncio.run(known.ainvoke({"inputs": {}}))
    (seconds,) = best_of(rounds, partial(cpu_seconds, known))
    yield Figure(claim=f"CPU of a plan of {small:,} functions in layers, after three runs", ours=seconds, unit="s")


def measure(quick: bool) -> Iterator[Figure]:
    tool = beside_the_clone("tools/dagbench.py")
    if tool is not None and beside_the_clone("data/scheduling") is not None:
        every = cases(load(tool))
        gc.collect()
        gc.freeze()  # a collection that walks all these graphs takes 0.1 s, in the middle of some run
        yield from known_durations(every[:: 10 if quick else 1], 1 if quick else 2)
        yield from learnt_durations(every[:: 15 if quick else 1], 2 if quick else NEXT)
    apis = list(MODELS)[: 1 if quick else None]
    yield from costs([asyncio.run(billed(scene, api)) for scene in SCENES for api in apis])
    yield from own_cost(100 if quick else 1_000, 1 if quick else 2)

"""How long a DAG takes: our planner in virtual time on four sets of task graphs made by others.

Run: python benchmarks/makespan.py [--quick]

Must hold: makespan <= 1.02 of the best list schedule (mean of each set), and <= 1.01 of the published optimum on the
Standard Task Graph Set, durations known. Peers, computed in the same run by the data's own tool: the best of four list
schedules (critical path first with two tie-breaks, hops, first come first served), supersteps ("bsp": a barrier after
each level, as a StateGraph runs), and the optimum where one is published. "blind" is our planner without durations.

Needs ../shared/data/scheduling and ../shared/tools/dagbench.py beside the project.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from langchain_runtime.contracts.run import DAG, RunPolicy, Task
from langchain_runtime.orchestration import Attempt, DependencyResolver, ParallelExecutor, simulate

LOADER = Path(__file__).resolve().parents[2] / "shared" / "tools" / "dagbench.py"
LIST_SCHEDULES = ("cpf", "cpf_mis", "hops", "fifo")
AGAINST_LIST, AGAINST_OPTIMUM = 1.02, 1.01
Graph = dict[str, Any]


def load_dagbench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dagbench", LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def compare(dagbench: ModuleType, graphs: Iterable[tuple[Graph, DAG]], slots: int) -> dict[str, list[float]]:
    """Ratios graph by graph: our makespan over each peer's."""
    ratios: dict[str, list[float]] = {"list": [], "blind": [], "bound": [], "optimum": [], "bsp": []}
    for graph, dag in graphs:
        ours = our_makespan(graph, dag, slots)
        best = min(dagbench.makespan(graph, slots, schedule) for schedule in LIST_SCHEDULES)
        ratios["list"].append(ours / best)
        ratios["blind"].append(our_makespan(graph, dag, slots, durations_known=False) / best)
        ratios["bound"].append(ours / dagbench.lower_bound(graph, slots))
        ratios["bsp"].append(ours / dagbench.makespan(graph, slots, "bsp"))
        if optimum := graph["opt"].get(str(slots)):
            ratios["optimum"].append(ours / optimum)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every fifth graph, 4 and 8 slots")
    quick = parser.parse_args().quick
    if not LOADER.exists():
        sys.exit(f"no task graphs here: {LOADER.name} is not where it is expected")
    dagbench = load_dagbench()

    def verdict(figure: float, bound: float) -> str:
        return f"{figure:.4f} <= {bound}: {'held' if figure <= bound else 'not held'}"

    print("mean of our makespan / peer's   (max in brackets)")
    print(f"{'set':12} slots graphs  {'best list':>15}  {'optimum':>20}  lower bound  supersteps  blind / best list")
    worst_list, optima = 0.0, []
    show: Callable[[list[float]], str] = lambda row: f"{fmean(row):.4f} ({max(row):.3f})" if row else "-"  # noqa: E731
    for name in dagbench.SETS:
        graphs = [(graph, build(graph)) for graph in list(dagbench.load(name))[:: 5 if quick else 1]]
        for slots in (4, 8) if quick else (2, 4, 8, 16):
            ratios = compare(dagbench, graphs, slots)
            worst_list = max(worst_list, fmean(ratios["list"]))
            optima += ratios["optimum"] if name == "stg50" else []
            optimum = f"{show(ratios['optimum'])} n={len(ratios['optimum'])}" if ratios["optimum"] else "-"
            print(
                f"{name:12} {slots:5} {len(graphs):6}  {show(ratios['list']):>15}  {optimum:>20}"
                f"  {fmean(ratios['bound']):11.4f}  {fmean(ratios['bsp']):10.3f}  {fmean(ratios['blind']):17.4f}"
            )
    print(f"makespan / best list schedule, worst set: {verdict(worst_list, AGAINST_LIST)}")
    print(f"makespan / published optimum, stg50, n={len(optima)}: {verdict(fmean(optima), AGAINST_OPTIMUM)}")


if __name__ == "__main__":
    main()

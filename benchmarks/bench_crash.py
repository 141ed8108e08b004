"""What kill -9 costs: finished work that is done again, replies that are bought again, and books that are wrong.

The crash tests' run (prompts, bodies that call a model twice, functions, branches that end together) is killed at
random moments, spread over its length, and taken up again by the next process, on SQLite and with the client of OpenAI
against a provider on loopback. LangGraph's StateGraph and functional API do the same work, are killed at the same
moments and resume as their documentation says.

Finished is what the journal says for ours, and a node that had returned for the others.
"""

from __future__ import annotations

import asyncio
import operator
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

from bench_dag import by_hand
from harness import FOLDER, Figure
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph

TESTS = str(FOLDER.parent / "tests" / "integration_tests")
if TESTS not in sys.path:
    sys.path.append(TESTS)

import crash_runs as crash  # noqa: E402 - is found there
from loopback_provider import serving  # noqa: E402

KILLED = "kill -9 at 20 random moments and more: nothing finished is done again, no settled reply is bought again"
RUNS, KILLS = 4, 6
"""Runs, and kills of each."""

Work = Callable[[str, Mapping[str, Any]], Any]
"""Does a task, given the outputs of what it depends on."""


# --- the peers' processes --------------------------------------------------------------------------------------------


class State(TypedDict):
    results: Annotated[dict[str, str], operator.or_]


def state_graph(work: Work, saver: BaseCheckpointSaver[Any]) -> Any:
    builder = StateGraph(State)
    for task_id in crash.LANES:

        async def node(state: State, task_id: str = task_id) -> State:
            return {"results": {task_id: await work(task_id, state["results"])}}

        builder.add_node(task_id, node)
    for task_id, (_, deps) in crash.LANES.items():
        builder.add_edge(deps or START, task_id)
    return builder.compile(checkpointer=saver)


def functional(work: Work, saver: BaseCheckpointSaver[Any]) -> Any:
    tasks = {task_id: task(name=task_id)(partial(work, task_id)) for task_id in crash.LANES}
    dag = {task_id: (deps, 0.0) for task_id, (_, deps) in crash.LANES.items()}

    @entrypoint(checkpointer=saver)
    async def flow(_: Any) -> dict[str, Any]:
        return {"results": await by_hand(dag, lambda task_id, results: tasks[task_id](dict(results)))}

    return flow


PEERS: Mapping[str, Callable[[Work, BaseCheckpointSaver[Any]], Any]] = {
    "StateGraph": state_graph,
    "functional API": functional,
}


def carry_on(order: crash.Order, report: Any) -> None:
    """As ``crash_runs.carry_on``, of the peer that is the order's scene."""
    try:
        report.send(("ended", asyncio.run(resumed(order, crash.Stage(order, report)))))
    except BaseException:
        report.send(("failed", traceback.format_exc()))
        raise


async def resumed(order: crash.Order, stage: crash.Stage) -> dict[str, str]:
    async with AsyncSqliteSaver.from_conn_string(str(order.site.checkpoints)) as saver:
        graph = PEERS[order.scene](partial(work, stage), saver)
        begun = (await graph.aget_state(crash.CONFIG)).created_at is not None
        output = await graph.ainvoke(None if begun else {"results": {}}, crash.CONFIG)
        return output["results"]


async def work(stage: crash.Stage, task_id: str, results: Mapping[str, Any]) -> str:
    kind, deps = crash.LANES[task_id]
    inputs = {dep: results[dep] for dep in deps}
    if kind == "rest":
        return await crash.rest(stage, task_id, inputs)
    if kind == "note":
        return await asyncio.to_thread(crash.note, stage, task_id, inputs)
    stage.begin(task_id)
    reply = crash.digest(inputs)
    for number in range(2 if kind == "talk" else 1):
        reply = (await stage.model.ainvoke(f"{reply} {crash.question(task_id)}")).text
        stage.end(f"reply-{number}-{task_id}")
    stage.end(task_id)
    return reply


# --- seen from outside -----------------------------------------------------------------------------------------------


@contextmanager
def place(latency: float = crash.LATENCY) -> Iterator[tuple[crash.Site, Any]]:
    with tempfile.TemporaryDirectory() as name, serving(Path(name) / "provider.jsonl", latency=latency) as provider:
        yield crash.Site(Path(name), provider.base_url), provider


def ours(seeds: range) -> Iterator[crash.Story]:
    for seed in seeds:
        with place() as (site, provider):
            yield crash.tell(crash.Order(site), provider, crash.moments(random.Random(seed), KILLS))


def theirs(scene: str, seeds: range) -> Counter[str]:
    """Nodes that ran again after they had returned, replies bought again that had arrived, requests served again."""
    again: Counter[str] = Counter()
    for seed in seeds:
        with place() as (site, provider):
            order = crash.Order(site, scene)
            when = crash.moments(random.Random(seed), KILLS)
            for _ in crash.kill_at(when, carry_on, order, provider):
                pass
            with crash.Execution(carry_on, crash.Order(site, scene, number=len(when))) as last:
                last.wait_for("ended")
            trail, served = crash.Trail.of(site), crash.Served.by(provider)
            again["finished"] += trail.run_again()
            again["bought"] += sum(count - 1 for reply, count in trail.left().items() if reply.startswith("reply-"))
            again["served"] += served.requests.total() - served.different.total()
    return again


def measure(quick: bool) -> Iterator[Figure]:
    seeds = range(1 if quick else RUNS)
    with place(latency=0) as (site, provider):
        whole = crash.tell(crash.Order(site), provider, [])
    stories = list(ours(seeds))
    again = Counter(
        finished=sum(len(story.run_again()) for story in stories),
        bought=sum(story.bought_again().total() for story in stories),
        served=sum(story.asked_again() for story in stories),
    )
    kills = sum(len(story.kills) for story in stories)
    yield Figure(
        claim=f"processes killed, in {len(stories)} runs of {len(crash.LANES)} tasks",
        ours=kills,
        unit="kills",
        bound=KILLS if quick else 20,
        at_least=True,
        must_hold=KILLED,
    )
    peers = {scene: theirs(scene, seeds) for scene in PEERS}
    for key, claim, bound in (
        ("finished", "finished tasks run again", 0),
        ("bought", "replies bought again that had been settled, or had arrived", 0),
        ("served", "requests served again, those under way at a kill included", None),
    ):
        for scene, counted in peers.items():
            yield Figure(
                claim=f"{kills} kills: {claim}",
                ours=again[key],
                unit="times",
                peer=counted[key],
                against=scene,
                bound=bound,
                absolute=True,
                must_hold=KILLED,
            )
    yield Figure(
        claim=f"{kills} kills: outputs that differ from those of an undisturbed run",
        ours=sum(story.outputs[task_id] != whole.outputs[task_id] for story in stories for task_id in crash.LANES),
        unit="tasks",
        bound=0,
        must_hold=KILLED,
    )
    yield Figure(
        claim=f"{kills} kills: calls charged at their worst case, most of one kill ({crash.SLOTS} slots)",
        ours=max(left.books.under_way() for story in stories for left in story.kills),
        unit="calls",
        bound=crash.SLOTS,
        must_hold=KILLED,
    )
    yield Figure(
        claim=f"{kills} kills: the provider's bill / the ledger's amount, at most",
        ours=max(float(story.bill / story.books.spent) for story in stories),
        unit="x",
        bound=1,
        must_hold=KILLED,
    )

"""What ``plan()`` says, and what then happens: bills of a provider on loopback, schedules, and what runs have told."""

import random
from decimal import Decimal
from math import ceil, inf
from statistics import fmean
from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore
from loopback_provider import serving
from loopback_tills import MODELS, client
from planned_runs import EARLIER, SCENES, USUAL_TOKENS, rehearsal

from langchain_runtime.contracts.run import RunPolicy, TaskResult
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.graph import CompiledRunGraph, RunGraph

ALMOST_ALIKE = 0.05
"""Sigma of the lengths of replies: what is tested is the plan, not chance."""

NEXT = 3
"""Runs that a plan is compared with."""

WITHIN = 1.05
"""How much longer than the fastest run one may take whose parallelism is suggested."""

ROUNDING = 1e-6
"""Seconds."""


# --- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("scene", SCENES)
async def test_after_three_runs_a_plan_expects_what_the_provider_will_bill(tmp_path, scene, api):
    with rehearsal(scene, api, tmp_path, sigma=ALMOST_ALIKE) as stage:
        for number in range(EARLIER):
            plan = stage.plan(number)
            assert await stage.run(number) <= plan.worst_cost.amount
        plan = stage.plan(EARLIER)
        bills = [await stage.run(EARLIER, season) for season in range(NEXT)]
    assert plan.expected_cost.amount == pytest.approx(sum(bills) / NEXT, rel=Decimal("0.1"))
    assert max(bills) <= plan.worst_cost.amount


async def test_what_is_expected_of_each_task_is_what_the_provider_counts(tmp_path):
    words = {"summaries": "Summarise", "merged": "Merge", "title": "Name"}
    with rehearsal("map-reduce", "chat", tmp_path, sigma=ALMOST_ALIKE) as stage:
        for number in range(EARLIER):
            await stage.run(number)
        before = len(stage.provider.requests)
        plan = stage.plan(EARLIER)
        assert len(stage.provider.requests) == before, "a plan asks nobody"
        await stage.run(EARLIER)
        rows = stage.provider.requests[before:]
    planned = {task.id: task for task in plan.tasks if task.model is not None}
    assert planned.keys() == words.keys()
    for task_id, word in words.items():
        own = [row for row in rows if row["prompt"].startswith(f'user: "{word} ')]
        task = planned[task_id]
        assert task.items == len(own)
        assert task.expected.input == pytest.approx(sum(row["input"] for row in own), rel=0.1)
        assert task.expected.output == pytest.approx(sum(row["output"] for row in own), rel=0.1)
        assert task.expected_cost.nano == pytest.approx(sum(row["nano"] for row in own), rel=0.1)
        assert task.worst.input >= max(row["input"] for row in own)
        assert task.worst.output >= max(row["output"] for row in own)
        assert task.worst_cost.nano >= sum(row["nano"] for row in own)
    assert sum(task.expected_cost.nano for task in planned.values()) == plan.expected_cost.nano
    assert sum(task.worst_cost.nano for task in planned.values()) == plan.worst_cost.nano


async def test_runs_in_supersteps_teach_the_same(tmp_path):
    plans = []
    for mode in ("dataflow", "supersteps"):
        folder = tmp_path / mode
        folder.mkdir()
        with rehearsal("chain", "chat", folder, mode=mode) as stage:
            for number in range(EARLIER):
                await stage.run(number)
            plans.append(stage.plan(EARLIER))
    dataflow, supersteps = plans
    assert [task.samples for task in dataflow.tasks] == [EARLIER] * len(dataflow.tasks)
    assert [(task.id, task.expected, task.samples) for task in dataflow.tasks] == [
        (task.id, task.expected, task.samples) for task in supersteps.tasks
    ]
    assert dataflow.expected_cost == supersteps.expected_cost


async def test_the_history_is_in_the_store(tmp_path):
    store = InMemoryStore()
    with rehearsal("chain", "chat", tmp_path, store=store) as stage:
        fresh = stage.plan(EARLIER)
        for number in range(EARLIER):
            await stage.run(number)
        learnt = stage.plan(EARLIER)
        assert await stage.compiled.aplan(stage.scene.inputs(EARLIER)) == learnt
    assert {task.samples for task in fresh.tasks} == {0}
    assert {task.samples for task in learnt.tasks} == {EARLIER}
    with rehearsal("chain", "chat", tmp_path, store=store) as later:
        assert later.plan(EARLIER) == learnt
    with rehearsal("chain", "chat", tmp_path, store=InMemoryStore()) as elsewhere:
        assert elsewhere.plan(EARLIER) == fresh


async def test_another_model_is_not_expected_to_write_what_this_one_wrote(tmp_path):
    store = InMemoryStore()
    with rehearsal("chain", "chat", tmp_path, store=store) as stage:
        await stage.run(0)
        assert {task.samples for task in stage.plan(0).tasks} == {1}
    with rehearsal("chain", "messages", tmp_path, store=store) as stage:
        assert {task.samples for task in stage.plan(0).tasks} == {0}


async def test_what_a_plan_is_not_told_of_a_list_it_takes_from_earlier_runs(tmp_path):
    with rehearsal("map-reduce", "chat", tmp_path, sigma=ALMOST_ALIKE) as stage:
        for number in range(EARLIER):
            await stage.run(number)
        inputs = stage.scene.inputs(0)
        untold = stage.compiled.plan(inputs)
        usual = round(fmean(map(stage.scene.parts, range(EARLIER))))
        assert untold == stage.compiled.plan(inputs, items={"summaries": usual})
        twice = stage.compiled.plan(inputs, items={"summaries": 2 * usual})
    once, doubled = ({task.id: task for task in plan.tasks} for plan in (untold, twice))
    assert once["summaries"].items == usual
    assert doubled["summaries"].items == 2 * usual
    assert doubled["merged"].expected.input == pytest.approx(
        once["merged"].expected.input + usual * USUAL_TOKENS["Summarise"], rel=0.1
    )


@pytest.mark.parametrize("source", ["part of the output", "named output"])
async def test_of_a_large_output_only_what_the_prompt_reads_counts(tmp_path, source):
    words = "the river and the road to town " * 10
    book = TaskResult(output={"parts": [words] * 4, "appendix": words * 100}, outputs={"title": words})
    with serving(tmp_path / "provider.jsonl") as provider:
        graph = RunGraph(model=client(provider, "chat")).add_task("book", lambda _: book)
        if source == "named output":
            graph.add_task("said", prompt="Say {title}", deps={"title": "book.title"})
        else:
            each = ForEach(task="book", path="output.parts", as_="part")
            graph.add_task("said", prompt="Say {part}", deps=["book"], for_each=each)
        app = graph.compile()
        await app.ainvoke({"inputs": {}})
        [_, said] = app.plan().tasks
        assert said.expected.input == sum(row["input"] for row in provider.requests)


# --- time ------------------------------------------------------------------------------------------------------------


class Dag:
    """Tasks in a topological order, some of which wait for some of the ten before them."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.seconds = [round(chance.lognormvariate(0, 1), 3) for _ in range(chance.randint(5, 60))]
        self.deps = [
            sorted({chance.randrange(max(0, i - 10), i) for _ in range(chance.randint(0, 3))}) if i else []
            for i in range(len(self.seconds))
        ]

    @property
    def work(self) -> float:
        return sum(self.seconds)

    @property
    def longest_path(self) -> float:
        ends: list[float] = []
        for seconds, deps in zip(self.seconds, self.deps, strict=True):
            ends.append(seconds + max((ends[dep] for dep in deps), default=0))
        return max(ends)

    def compiled(self, slots: int, *, told: bool = True, **options: Any) -> CompiledRunGraph:
        """A graph of functions that do nothing, whatever it is told of their durations."""
        graph = RunGraph(RunPolicy(max_parallelism=slots))
        for i, (seconds, deps) in enumerate(zip(self.seconds, self.deps, strict=True)):
            names = [f"t{dep}" for dep in deps]
            graph.add_task(f"t{i}", lambda _: None, deps=names, expected_seconds=seconds if told else None)
        return graph.compile(**options)


@pytest.mark.parametrize("seed", range(30))
def test_a_makespan_is_one_that_a_greedy_schedule_can_have(seed):
    dag = Dag(seed)
    app = dag.compiled(1)
    makespans = {}
    for slots in (1, 2, 3, 5, 8, 1_000):
        plan = app.plan(max_parallelism=slots)
        assert plan.max_parallelism == slots
        assert plan.critical_seconds == pytest.approx(dag.longest_path)
        assert plan.makespan_range == (plan.makespan_seconds, plan.makespan_seconds), "nothing varies"
        least = max(dag.longest_path, dag.work / slots)
        most = dag.work / slots + (1 - 1 / slots) * dag.longest_path  # Graham, "Bounds on multiprocessing", 1966
        assert least - ROUNDING <= plan.makespan_seconds <= most + ROUNDING
        makespans[slots] = plan.makespan_seconds
    assert makespans[1] == pytest.approx(dag.work)
    assert makespans[1_000] == pytest.approx(dag.longest_path)


@pytest.mark.parametrize("seed", range(30))
def test_the_suggested_parallelism_is_the_least_that_is_nearly_as_fast_as_any(seed):
    dag = Dag(seed)
    app = dag.compiled(4)
    plan = app.plan()
    suggested = plan.suggested_parallelism
    with_it, with_one_less = (
        app.plan(max_parallelism=slots).makespan_seconds if slots else inf for slots in (suggested, suggested - 1)
    )
    assert with_it == pytest.approx(plan.suggested_seconds)
    assert with_it <= WITHIN * dag.longest_path + ROUNDING
    assert with_one_less > WITHIN * dag.longest_path


@pytest.mark.parametrize("seed", range(10))
async def test_a_plan_lists_the_tasks_in_the_order_in_which_they_start(seed):
    app = Dag(seed).compiled(1)
    plan = app.plan()
    tasks = (await app.ainvoke({"inputs": {}}))["run"].tasks
    assert [task.id for task in plan.tasks] == sorted(tasks, key=lambda task_id: tasks[task_id].started_at)


@pytest.mark.parametrize(("items", "slots"), [(1, 4), (8, 4), (9, 4), (7, 1), (0, 4)])
def test_the_items_of_a_list_share_the_slots(items, slots):
    graph = RunGraph(RunPolicy(max_parallelism=slots))
    graph.add_task("list", lambda _: [], expected_seconds=1)
    graph.add_task("each", lambda _: None, deps=["list"], for_each=ForEach(task="list", as_="item"), expected_seconds=2)
    graph.add_task("end", lambda _: None, deps=["each"], expected_seconds=3)
    plan = graph.compile().plan(items={"each": items})
    assert plan.makespan_seconds == 1 + 2 * ceil(items / slots) + 3
    assert plan.critical_seconds == 1 + 2 * min(items, 1) + 3


async def test_durations_that_nobody_told_are_those_of_earlier_runs():
    app = Dag(1).compiled(3, told=False)
    assumed = app.plan()
    runs = [(await app.ainvoke({"inputs": {}}))["run"].tasks for _ in range(EARLIER)]
    learnt = app.plan()
    assert {task.samples for task in assumed.tasks} == {0}
    for task in learnt.tasks:
        took = [(run[task.id].ended_at - run[task.id].started_at).total_seconds() for run in runs]
        assert min(took) - ROUNDING <= task.seconds <= max(took) + ROUNDING
        assert task.samples == EARLIER
    low, high = learnt.makespan_range
    assert low <= learnt.makespan_seconds <= high < assumed.makespan_seconds
    assert app.plan() == learnt, "the same plan twice"

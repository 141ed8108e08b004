"""``for_each``: one task for each item of a list that is known only at run time."""

import asyncio
from collections import Counter

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import CacheSpec, RetrySpec, RunState, TaskResult
from langchain_runtime.contracts.run_file import RunFile
from langchain_runtime.contracts.task_spec import Condition, ForEach
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

THREAD = {"configurable": {"thread_id": "1", "run_id": "r"}}

# One dollar a thousand tokens either way.
CATALOG = {"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


async def run(graph, given=None, *, sync=False, config=THREAD):
    if sync:
        return await asyncio.to_thread(graph.invoke, given, config)
    return await graph.ainvoke(given, config)


def outputs(output):
    return {task_id: result.output for task_id, result in output["results"].items()}


def states(run_):
    return {task_id: str(task.state) for task_id, task in run_.tasks.items()}


def mapping(items, body, policy=None, **of_map):
    """A list, a function for each item, and what comes after it."""
    return (
        RunGraph(policy)
        .add_task("list", lambda _: items)
        .add_task("map", body, deps=["list"], for_each=ForEach(task="list"), **of_map)
        .add_task("after", lambda inputs: inputs["map"], deps=["map"])
    )


def echo(**fields):
    """A model that says what it was asked last."""
    return ScriptedChatModel(provider="test", model="m", script=lambda messages: str(messages[-1].content), **fields)


class Flaky:
    """Fails for the items that are broken, and counts its calls by item."""

    def __init__(self, *broken):
        self.calls, self.broken = Counter(), set(broken)

    def __call__(self, inputs):
        self.calls[inputs["item"]] += 1
        if inputs["item"] in self.broken:
            raise ValueError("boom")
        return inputs["item"] * 10


# --- what runs -------------------------------------------------------------------------------------------------------


@both_modes
@sync_and_async
async def test_each_item_is_handled_by_a_task_of_its_own_and_the_outputs_are_in_order(mode, sync):
    seen = []

    async def body(inputs):
        seen.append(inputs)
        await asyncio.sleep(0)
        return inputs["item"] * inputs["factor"]

    graph = mapping([1, 2, 3], body).compile(mode=mode)
    output = await run(graph, {"inputs": {"factor": 10}}, sync=sync)
    assert outputs(output) == {
        "list": [1, 2, 3],
        "map#0": 10,
        "map#1": 20,
        "map#2": 30,
        "map": [10, 20, 30],
        "after": [10, 20, 30],
    }
    assert sorted(seen, key=lambda inputs: inputs["item"]) == [
        {"factor": 10, "list": [1, 2, 3], "item": item} for item in (1, 2, 3)
    ]
    assert output["run"].state is RunState.COMPLETED
    assert set(states(output["run"]).values()) == {"completed"}
    assert output["run"].dag.nodes["map"].deps == ["list", "map#0", "map#1", "map#2"]
    assert {node.pending for node in output["run"].dag.nodes.values()} == {0}


@both_modes
async def test_prompts_see_their_item_and_not_the_list(mode):
    model = echo()
    graph = (
        RunGraph(model=model)
        .add_task("list", lambda _: [{"n": 1}, "two"])
        .add_task("map", prompt="{who}: {item}", deps=["list"], for_each=ForEach(task="list"))
        .compile(mode=mode)
    )
    output = await run(graph, {"inputs": {"who": "Ann"}})
    assert outputs(output)["map"] == ['Ann: {"n":1}', "Ann: two"]
    assert {len(call.messages) for call in model.calls} == {1}


async def test_an_item_that_the_prompt_does_not_name_reaches_the_model_in_a_message_before_it():
    model = echo()
    graph = (
        RunGraph(model=model)
        .add_task("list", lambda _: ["a cat", "a dog"])
        .add_task("map", prompt="Draw it.", deps=["list"], for_each=ForEach(task="list", as_="animal"))
        .compile()
    )
    await run(graph, {"inputs": {}})
    shown = sorted([str(message.content) for message in call.messages] for call in model.calls)
    assert [len(messages) for messages in shown] == [2, 2]
    assert ["a cat" in shown[0][0], "a dog" in shown[1][0]] == [True, True]
    assert [messages[-1] for messages in shown] == ["Draw it.", "Draw it."]


@both_modes
async def test_the_outputs_of_children_are_a_list_to_run_over_again(mode):
    graph = (
        RunGraph(model=echo())
        .add_task("list", lambda _: [1, 2])
        .add_task("map", lambda i: TaskResult(output=i["item"], outputs={"twice": i["item"] * 2}), deps=["list"],
                  for_each=ForEach(task="list"))
        .add_task("prompt", prompt="<{n}>", deps=["map"], for_each=ForEach(task="map", path="outputs.twice", as_="n"))
        .add_task("over_prompts", lambda i: i["item"] + "!", deps=["prompt"], for_each=ForEach(task="prompt"))
        .compile(mode=mode)
    )  # fmt: skip
    found = outputs(await run(graph, {"inputs": {}}))
    assert found["prompt"] == ["<2>", "<4>"]
    assert found["over_prompts"] == ["<2>!", "<4>!"]


@both_modes
@sync_and_async
async def test_an_empty_list_is_no_work_and_an_empty_list(mode, sync):
    body = Flaky()
    output = await run(mapping([], body).compile(mode=mode), {"inputs": {}}, sync=sync)
    assert outputs(output) == {"list": [], "map": [], "after": []}
    assert not body.calls
    assert output["run"].state is RunState.COMPLETED


async def test_a_condition_that_does_not_hold_leaves_no_children():
    when = Condition(task="list", path="output.0", op="gt", value=5)
    output = await run(mapping([1, 2], Flaky(), when=when).compile(), {"inputs": {}})
    assert states(output["run"]) == {"list": "completed", "map": "skipped", "after": "skipped"}


async def test_what_is_no_list_fails_the_task_and_says_what_is_there():
    with pytest.raises(RunFailedError) as caught:
        await run(mapping({"rows": [1]}, Flaky()).compile(), {"inputs": {}})
    assert states(caught.value.run) == {"list": "completed", "map": "failed", "after": "skipped"}
    error = caught.value.run.tasks["map"].error
    assert "'output' of task 'list', which is no list but a mapping with the keys rows" in error.message
    assert (error.code, error.retryable) == ("invalid_input", False)


async def test_a_child_is_tried_again_as_its_task_says():
    body = Flaky(1)

    def mended(inputs):
        if body.calls[1]:
            body.broken.clear()
        return body(inputs)

    retry = RetrySpec(max_attempts=2, initial_interval_ms=0)
    output = await run(mapping([1, 2], mended, retry=retry).compile(), {"inputs": {}})
    assert outputs(output)["map"] == [10, 20]
    assert [output["run"].tasks[task_id].attempts for task_id in ("map#0", "map#1")] == [2, 1]


async def test_equal_items_of_a_cached_task_are_worked_on_once():
    body = Flaky()
    policy = RunPolicy(max_parallelism=1)
    output = await run(
        mapping([1, 2, 1], lambda inputs: body({"item": inputs["item"]}), policy, cache=CacheSpec()).compile(),
        {"inputs": {}},
    )
    assert outputs(output)["map"] == [10, 20, 10]
    assert body.calls == {1: 1, 2: 1}


async def test_children_are_announced():
    graph = mapping([1, 2], Flaky()).compile()
    events = [event async for event in graph.astream({"inputs": {}}, THREAD, stream_mode="custom")]
    [added] = [event for event in events if event["kind"] == "tasks_added"]
    assert (added["parent"], added["tasks"]) == ("map", ["map#0", "map#1"])
    ready = [event["task"] for event in events if event["kind"] == "task_ready"]
    assert {"map#0", "map#1"} <= set(ready)
    finished = [event["task"] for event in events if event["kind"] == "task_finished"]
    assert sorted(finished) == ["after", "list", "map", "map#0", "map#1"]
    assert finished.index("map") > max(finished.index("map#0"), finished.index("map#1"))


def test_a_plan_can_be_made_although_the_items_are_not_known():
    graph = RunGraph(model=echo()).add_task("list", lambda _: [1])
    graph.add_task("map", prompt="{item}", deps=["list"], for_each=ForEach(task="list"))
    plan = graph.compile(catalog=ModelCatalog(CATALOG)).plan()
    assert [task.id for task in plan.tasks] == ["list", "map"]


def test_a_run_file_says_it_in_the_same_words():
    run_file = RunFile.parse(
        {
            "model": "test:m",
            "inputs": {"b": "", "a": ""},
            "tasks": [
                {"id": "names", "run": "builtins:sorted"},
                {
                    "id": "greetings",
                    "prompt": "Hello {name}!",
                    "deps": ["names"],
                    "for_each": {"task": "names", "path": "output", "as": "name"},
                },
            ],
        }
    )
    graph = RunGraph.from_run_file(run_file, allow_code=True).compile(models={"test:m": echo()})
    assert outputs(graph.invoke({"inputs": {}}))["greetings"] == ["Hello a!", "Hello b!"]


# --- failures --------------------------------------------------------------------------------------------------------


@both_modes
@sync_and_async
async def test_a_child_that_fails_takes_its_task_along_and_not_its_siblings(mode, sync):
    body = Flaky(2)
    with pytest.raises(RunFailedError, match="'map#1': ValueError: boom") as caught:
        await run(mapping([1, 2, 3], body).compile(mode=mode), {"inputs": {}}, sync=sync)
    assert states(caught.value.run) == {
        "list": "completed",
        "map": "skipped",
        "after": "skipped",
        "map#0": "completed",
        "map#1": "failed",
        "map#2": "completed",
    }
    assert caught.value.run.tasks["map"].skipped_because == "map#1"
    assert caught.value.results["map#2"].output == 30
    assert "3 of 6 tasks are finished" in caught.value.hint


async def test_fail_fast_cancels_the_siblings_that_run_and_starts_no_others():
    started, cancelled = asyncio.Event(), []

    async def body(inputs):
        if inputs["item"] == "bad":
            await started.wait()
            raise ValueError("boom")
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(inputs["item"])
            raise

    policy = RunPolicy(on_task_failure="fail_fast", max_parallelism=2)
    graph = mapping(["slow", "bad", "late"], body, policy).compile()
    with pytest.raises(RunFailedError) as caught:
        await run(graph, {"inputs": {}})
    assert cancelled == ["slow"]
    found = states(caught.value.run)
    assert (found["map#0"], found["map#1"], found["map#2"]) == ("failed", "failed", "pending")
    assert caught.value.run.tasks["map#0"].error.code == "task_cancelled"


@both_modes
@sync_and_async
async def test_a_resume_runs_only_the_child_that_failed_and_what_follows(mode, sync):
    body = Flaky(2)
    graph = mapping([1, 2, 3], body).compile(mode=mode, checkpointer=InMemorySaver(), ledger=InMemoryLedger())
    with pytest.raises(RunFailedError):
        await run(graph, {"inputs": {}}, sync=sync)
    body.broken.clear()
    output = await run(graph, sync=sync)
    assert outputs(output)["after"] == [10, 20, 30]
    assert body.calls == {1: 1, 2: 2, 3: 1}
    assert output["run"].state is RunState.COMPLETED
    assert await run(graph, sync=sync) is not None, "a completed run can be asked again"
    assert body.calls == {1: 1, 2: 2, 3: 1}


async def test_another_process_sees_and_resumes_the_children(tmp_path):
    saver, books = InMemorySaver(), tmp_path / "ledger.db"
    body = Flaky(2)
    policy = RunPolicy(max_parallelism=1, on_task_failure="fail_fast")

    def graph():
        return mapping([1, 2, 3], body, policy).compile(checkpointer=saver, ledger=SqliteLedger(books))

    with pytest.raises(RunFailedError):
        await run(graph(), {"inputs": {}})
    seen = await graph().aget_run(THREAD)
    assert states(seen)["map#0"] == "completed"
    assert states(seen)["map#1"] == "failed"
    assert states(seen)["map"] == "skipped"
    assert states(seen)["map#2"] == "pending"
    assert seen.tasks["map#2"].inputs.inputs == {"item": 3}
    body.broken.clear()
    output = await run(graph())
    assert outputs(output)["map"] == [10, 20, 30]
    assert body.calls == {1: 1, 2: 2, 3: 1}


# --- money -----------------------------------------------------------------------------------------------------------


async def test_children_share_the_budget_of_their_run_and_pay_for_themselves():
    items = [f"item {number}" for number in range(4)]

    def graph(policy):
        described = RunGraph(policy, model=echo()).add_task("list", lambda _: items)
        described.add_task(
            "map", prompt="{item}", deps=["list"], for_each=ForEach(task="list"), max_output_tokens=1_000
        )
        return described

    ledger = InMemoryLedger()
    free = graph(RunPolicy(budget_limit=Cost.usd(1_000))).compile(ledger=ledger, catalog=ModelCatalog(CATALOG))
    whole = (await run(free, {"inputs": {}}))["run"]
    worst = max(reservation.hold.nano for reservation in ledger.reservations("r"))
    # Two at a time at most; what they really cost leaves room for the next ones.
    tight = RunPolicy(budget_limit=Cost.from_nano(2 * worst + whole.usage.cost.nano), on_exceed="raise")
    books = InMemoryLedger()
    run_ = (await run(graph(tight).compile(ledger=books, catalog=ModelCatalog(CATALOG)), {"inputs": {}}))["run"]
    assert run_.state is RunState.COMPLETED
    children = [run_.tasks[f"map#{number}"] for number in range(4)]
    assert run_.usage.cost == sum((child.actual_use.cost for child in children), Cost.usd(0))
    assert run_.tasks["map"].actual_use.cost is None
    assert run_.tasks["map"].actual_use.tokens.output == 0
    assert books.balance("run:r").held_nano == 0
    assert books.balance("run:r").spent == whole.usage.cost

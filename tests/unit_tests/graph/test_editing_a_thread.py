"""Edited results, tasks that run again, old checkpoints and other graphs: what is forgotten, and what stays."""

import asyncio
import random

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END
from langgraph.types import StateUpdate, interrupt

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.budget import Hold, Settlement
from langchain_runtime.contracts.errors import (
    InvalidDAGError,
    InvalidInputError,
    RunFailedError,
    RunNotFoundError,
    TaskNotFoundError,
)
from langchain_runtime.contracts.run import RunHeader, RunState, TaskOutcome, TaskResult, TaskState
from langchain_runtime.contracts.task_spec import Condition, ForEach
from langchain_runtime.graph.graph_changes import GraphDifference, graph_difference
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

CONFIG = {"configurable": {"thread_id": "1"}}
PRICES = {"scripted:m": "openai:gpt-4o-mini"}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])


class Chain:
    """a -> b -> c -> d, with x beside b; each task puts its name behind what it gets, and is noted."""

    def __init__(self, **bodies):
        self.calls = []
        self.graph = RunGraph(RunPolicy(max_parallelism=1))
        for name, deps in (("a", []), ("b", ["a"]), ("x", ["a"]), ("c", ["b"]), ("d", ["c", "x"])):
            self.graph.add_task(name, bodies.get(name) or self.body(name), deps=deps)

    def body(self, name):
        def run(inputs):
            self.calls.append(name)
            return "+".join(inputs.values()) + name

        return run

    def ran(self):
        calls, self.calls = sorted(self.calls), []
        return calls


def outputs(output):
    return {task_id: result.output for task_id, result in output["results"].items()}


WHOLE = {"a": "a", "b": "ab", "x": "ax", "c": "abc", "d": "abc+axd"}


def fails(inputs):
    raise ValueError("boom")


async def finished(way, mode="dataflow", **bodies):
    chain = Chain(**bodies)
    graph = way.compile(chain.graph, mode=mode)
    assert outputs(await way.invoke(graph, {"inputs": {}})) == WHOLE
    chain.ran()
    return chain, graph


# --- edited results --------------------------------------------------------------------------------------------------


@both_modes
async def test_what_rests_on_an_edited_result_is_done_anew_and_nothing_else(way, mode):
    chain, graph = await finished(way, mode)
    before = await way.run(graph)
    config = await way.update(graph, {"results": {"b": TaskResult(output="B")}})
    assert (await way.state(graph)).next == ("c",)
    assert (await way.state(graph, config)).next == ("c",)
    output = await way.invoke(graph, None)
    assert outputs(output) == {"a": "a", "b": "B", "x": "ax", "c": "Bc", "d": "Bc+axd"}
    assert chain.ran() == ["c", "d"]
    assert (output["run"].id, output["run"].state) == (before.id, RunState.COMPLETED)
    assert output["results"]["b"].metadata == {"edited": True}
    assert (await way.run(graph)).tasks["c"].outputs.output == "Bc"
    assert outputs(await way.invoke(graph, None)) == outputs(output)
    assert chain.ran() == []


@both_modes
async def test_the_config_that_an_edit_returns_can_be_gone_on_with(way, mode):
    chain, graph = await finished(way, mode)
    config = await way.update(graph, {"results": {"c": TaskResult(output="C")}})
    assert outputs(await way.invoke(graph, None, config))["d"] == "C+axd"
    assert chain.ran() == ["d"]


@both_modes
async def test_a_result_by_hand_takes_the_place_of_a_failure(way, mode):
    chain = Chain(b=fails)
    graph = way.compile(chain.graph, mode=mode)
    with pytest.raises(RunFailedError):
        await way.invoke(graph, {"inputs": {}})
    assert chain.ran() == ["a", "x"]
    await way.update(graph, {"results": {"b": TaskResult(output="B")}})
    output = await way.invoke(graph, None)
    assert outputs(output)["d"] == "Bc+axd"
    assert chain.ran() == ["c", "d"]
    task = output["run"].tasks["b"]
    assert (task.state, task.attempts, task.error) == (TaskState.COMPLETED, 1, None)


async def test_an_edit_of_a_run_that_died_keeps_what_only_the_journal_knows(way, deadly):
    chain = Chain(c=deadly)
    graph = await way.left_by_another_process(chain.graph, deadly)
    assert chain.ran() == ["a", "b"]  # the longest way first
    await way.update(graph, {"results": {"x": TaskResult(output="X")}})
    assert outputs(await way.invoke(graph, None))["d"] == "survived+Xd"
    assert chain.ran() == ["d"]


async def test_in_supersteps_too(way, deadly):
    chain = Chain(c=deadly)
    graph = await way.left_by_another_process(chain.graph, deadly, mode="supersteps")
    chain.ran()
    await way.update(graph, {"results": {"a": TaskResult(output="A")}})
    assert (await way.state(graph)).next == ("b", "x")
    assert outputs(await way.invoke(graph, None))["d"] == "survived+Axd"
    assert chain.ran() == ["b", "d", "x"]


@both_modes
@pytest.mark.parametrize("edited", ["a", "b", "x"])
async def test_a_run_that_stands_still_goes_on_after_an_edit_without_stopping_there_again(way, mode, edited):
    chain = Chain()
    graph = way.compile(chain.graph, mode=mode)
    await way.invoke(graph, {"inputs": {}}, interrupt_before=["c"])
    assert chain.ran() == ["a", "b", "x"]
    await way.update(graph, {"results": {edited: TaskResult(output="!")}})
    output = await way.invoke(graph, None, interrupt_before=["c"])
    if mode == "supersteps" and edited == "a":  # LangGraph comes to c anew, since b was undone
        assert output["run"].state is RunState.RUNNING
        output = await way.invoke(graph, None, interrupt_before=["c"])
    assert output["run"].state is RunState.COMPLETED
    assert chain.ran() == {"a": ["b", "c", "d", "x"], "b": ["c", "d"], "x": ["c", "d"]}[edited]


@both_modes
async def test_a_run_stops_again_before_tasks_that_it_does_anew(way, mode):
    chain = Chain()
    graph = way.compile(chain.graph, mode=mode, interrupt_before=["c"])
    await way.invoke(graph, {"inputs": {}})
    await way.invoke(graph, None)
    chain.ran()
    await way.rerun(graph, "b")
    assert (await way.invoke(graph, None))["run"].state is RunState.RUNNING
    assert chain.ran() == ["b"]
    assert (await way.invoke(graph, None))["run"].state is RunState.COMPLETED
    assert chain.ran() == ["c", "d"]


@both_modes
async def test_a_task_that_has_not_run_can_be_given_its_result(way, mode):
    chain = Chain()
    graph = way.compile(chain.graph, mode=mode)
    await way.invoke(graph, {"inputs": {}}, interrupt_before=["b", "x"])
    chain.ran()
    await way.update(graph, {"results": {"c": TaskResult(output="C"), "b": TaskResult(output="B")}})
    assert outputs(await way.invoke(graph, None))["d"] == "C+axd"
    assert chain.ran() == ["d", "x"]


@both_modes
async def test_a_question_is_answered_by_giving_the_result(way, mode):
    chain = Chain(b=lambda inputs: interrupt("sure?"))
    graph = way.compile(chain.graph, mode=mode)
    await way.invoke(graph, {"inputs": {}})
    await way.update(graph, {"results": {"b": TaskResult(output="B")}})
    snapshot = await way.state(graph)
    assert (snapshot.interrupts, snapshot.next) == ((), ("c",))
    assert outputs(await way.invoke(graph, None))["d"] == "Bc+axd"


OLD = TaskOutcome(task="b", state=TaskState.COMPLETED, output="B", outputs={"k": 1})


@pytest.mark.parametrize(
    ("values", "as_node"),
    [
        ({"results": {"b": TaskResult(output="B", outputs={"k": 1})}}, None),
        ({"results": {"b": TaskResult(output="B", outputs={"k": 1}).model_dump(mode="json")}}, "b"),
        ({"results": {"b": {"output": "B", "outputs": {"k": 1}}}}, None),
        ({"results": {"b": OLD}}, None),
        ({"results": {"b": OLD.model_dump(mode="json")}}, "b"),
        (TaskResult(output="B", outputs={"k": 1}), "b"),
        (OLD, "b"),
    ],
    ids=["result", "result-json", "part", "outcome", "outcome-json", "bare-result", "bare-outcome"],
)
async def test_a_result_is_given_as_object_or_json(values, as_node):
    chain = Chain()
    graph = chain.graph.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG)
    await graph.aupdate_state(CONFIG, values, as_node=as_node)
    output = await graph.ainvoke(None, CONFIG)
    result = output["results"]["b"]
    assert (result.output, result.outputs, result.metadata) == ("B", {"k": 1}, {"edited": True})
    assert outputs(output)["d"] == "Bc+axd"


async def test_an_outcome_as_the_state_shows_it_can_be_edited_and_passed_back():
    graph = Chain().graph.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG)
    outcome = (await graph.aget_state(CONFIG)).values["results"]["b"]
    await graph.aupdate_state(CONFIG, {"results": {"b": {**outcome, "output": "B"}}})
    assert outputs(await graph.ainvoke(None, CONFIG))["d"] == "Bc+axd"


@pytest.mark.parametrize(
    ("values", "as_node", "text"),
    [
        ({"results": {"aa": TaskResult(output=1)}}, None, "has no task 'aa'"),
        ({"results": {"b": TaskResult(output=float("nan"))}}, None, "'b' cannot be kept: nan is no JSON number"),
        ({"results": {"b": {"output": object()}}}, None, "'b' cannot be kept: output: "),
        ({"results": {"b": "text"}}, None, "'b' cannot be kept: "),
        ({"results": {"b": {"result": 1}}}, None, "'b' cannot be kept: result: "),
        ({"results": {"b": OLD.model_copy(update={"state": TaskState.FAILED})}}, None, "is failed; only completed"),
        ({"results": {"c": OLD}}, None, "given for task 'c' is of task 'b'"),
        ({"run": {}}, None, "cannot be updated with 'run'"),
        ({"results": {}, "messages": []}, None, "cannot be updated with 'messages'"),
        (None, None, "cannot be updated with NoneType"),
        (None, "b", "cannot be updated with NoneType"),
        (TaskResult(output=1), None, "a result without its task"),
        ({"results": {"b": TaskResult(output=1)}}, "c", "as_node='c' is not the task"),
        ({"results": {"b": TaskResult(output=1)}}, "driver", "as_node='driver' is not the task"),
        ({"inputs": {"n": 1}}, None, "has done 5 of its tasks"),
        ({"inputs": [1]}, None, "inputs are a mapping, not list"),
        ({"inputs": {"n": {1}}}, None, "inputs cannot be kept"),
        ({"inputs": {"n": float("inf")}}, None, "inputs cannot be kept: inf is no JSON number"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_nothing_is_forgotten(values, as_node, text):
    chain = Chain()
    ledger = InMemoryLedger()
    graph = chain.graph.compile(checkpointer=InMemorySaver(), ledger=ledger)
    output = await graph.ainvoke({"inputs": {}}, CONFIG)
    before = ledger.outcomes(output["run"].id), len(list(graph.get_state_history(CONFIG)))
    with pytest.raises(InvalidInputError, match=text) as caught:
        await graph.aupdate_state(CONFIG, values, as_node=as_node)
    assert caught.value.hint or "of task" in text or "mapping" in text
    assert (ledger.outcomes(output["run"].id), len(list(graph.get_state_history(CONFIG)))) == before


async def test_an_unknown_task_is_answered_with_the_nearest_or_with_those_there_are():
    graph = RunGraph().add_task("outline", lambda inputs: 1).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG)
    with pytest.raises(InvalidInputError) as caught:
        graph.rerun_from(CONFIG, "outlines")
    assert caught.value.hint == "did you mean 'outline'?"
    with pytest.raises(InvalidInputError) as caught:
        graph.rerun_from(CONFIG, "zzz")
    assert caught.value.hint == "its tasks: outline"


async def test_a_run_that_is_under_way_is_not_changed():
    started, release = asyncio.Event(), asyncio.Event()

    async def waits(inputs):
        started.set()
        await release.wait()
        return "b"

    graph = Chain(b=waits).graph.compile(checkpointer=InMemorySaver())
    under_way = asyncio.create_task(graph.ainvoke({"inputs": {}}, CONFIG))
    await started.wait()
    for change in (
        graph.aupdate_state(CONFIG, {"results": {"a": TaskResult(output="A")}}),
        graph.arerun_from(CONFIG, "a"),
        graph.amigrate(CONFIG),
    ):
        with pytest.raises(InvalidInputError, match="under way"):
            await change
    release.set()
    assert outputs(await under_way)["d"] == "bc+axd"


async def test_a_thread_without_a_run_has_nothing_to_change(way):
    graph = way.compile(Chain().graph)
    with pytest.raises(RunNotFoundError):
        await way.update(graph, {"results": {"a": TaskResult(output=1)}})
    with pytest.raises(RunNotFoundError):
        await way.rerun(graph, "a")
    with pytest.raises(RunNotFoundError):
        await way.migrate(graph)


async def test_a_change_that_the_checkpointer_could_not_keep_is_made_again(full_saver):
    chain = Chain()
    graph = chain.graph.compile(checkpointer=full_saver)
    await graph.ainvoke({"inputs": {}}, CONFIG)
    chain.ran()
    full_saver.full = True
    with pytest.raises(OSError, match="full"):
        await graph.aupdate_state(CONFIG, {"results": {"b": TaskResult(output="B")}})
    full_saver.full = False
    assert outputs(await graph.ainvoke(None, CONFIG)) == WHOLE
    await graph.aupdate_state(CONFIG, {"results": {"b": TaskResult(output="B")}})
    assert outputs(await graph.ainvoke(None, CONFIG))["d"] == "Bc+axd"
    assert chain.ran() == ["c", "d"]


# --- inputs ----------------------------------------------------------------------------------------------------------


def greeting():
    return (
        RunGraph(inputs={"n": 1}).add_task("a", lambda inputs: inputs["n"]).add_task("b", lambda i: i["a"], deps=["a"])
    )


@both_modes
async def test_inputs_can_be_given_to_a_thread_before_its_run(way, mode):
    graph = way.compile(greeting(), mode=mode)
    await way.update(graph, {"inputs": {"n": 5}})
    with pytest.raises(RunNotFoundError):
        await way.update(graph, {"results": {"a": TaskResult(output=1)}})
    await way.update(graph, {"inputs": {"n": 7}})
    assert outputs(await way.invoke(graph, None)) == {"a": 7, "b": 7}


@both_modes
async def test_inputs_can_be_changed_until_a_task_is_done_and_in_a_checkpoint_before_that(way, mode):
    graph = way.compile(greeting(), mode=mode)
    await way.invoke(graph, {"inputs": {"n": 5}}, interrupt_before=["a"])
    await way.update(graph, {"inputs": {"n": 6}})
    output = await way.invoke(graph, None)
    assert outputs(output) == {"a": 6, "b": 6}
    with pytest.raises(InvalidInputError, match="has done 2 of its tasks") as caught:
        await way.update(graph, {"inputs": {"n": 7}})
    assert "get_state_history" in caught.value.hint
    before = [snapshot for snapshot in await way.history(graph) if snapshot.next == ("a",)][-1]
    await way.update(graph, {"inputs": {"n": 8}}, before.config)
    again = await way.invoke(graph, None)
    assert outputs(again) == {"a": 8, "b": 8}
    assert again["run"].id == output["run"].id


async def test_inputs_that_prompts_cannot_do_with_are_refused():
    graph = RunGraph(model="extractive").add_task("a", prompt="{who}?").compile(checkpointer=InMemorySaver())
    with pytest.raises(InvalidInputError, match="who"):
        graph.update_state(CONFIG, {"inputs": {"whom": "dogs"}})


async def test_inputs_that_wait_for_a_second_run_are_not_taken_for_those_of_the_first(way):
    graph = way.compile(RunGraph(model="extractive").add_task("a", prompt="Who is {who}? {who} is a dog."))
    first = await way.invoke(graph, {"inputs": {"who": "Rex"}})
    with pytest.raises(InvalidInputError):
        await way.invoke(graph, {"inputs": {}})
    with pytest.raises(RunNotFoundError, match="not begun"):
        await way.rerun(graph, "a")
    await way.update(graph, {"inputs": {"who": "Lassie"}})
    second = await way.invoke(graph, None)
    assert "Lassie" in second["results"]["a"].output
    assert second["run"].id != first["run"].id


# --- running again ---------------------------------------------------------------------------------------------------


def paid(**options):
    model = ScriptedChatModel(script=[f"reply {n}" for n in range(20)], model_name="m")
    graph = RunGraph(RunPolicy(max_parallelism=1, **options), model=model)
    graph.add_task("a", prompt="first").add_task("b", prompt="then {a}", deps=["a"]).add_task("c", prompt="and")
    return model, graph


@both_modes
async def test_tasks_run_again_are_bought_again_in_the_same_run(way, mode):
    model, graph = paid(budget_limit={"amount": "1.00", "currency": "USD"})
    compiled = way.compile(graph, mode=mode, price_as=PRICES)
    first = await way.invoke(compiled, {"inputs": {}})
    assert len(model.calls) == 3
    spent = way.ledger.balance(f"run:{first['run'].id}").spent_nano
    await way.rerun(compiled, "a")
    assert (await way.state(compiled)).next == ("a",)
    again = await way.invoke(compiled, None)
    assert len(model.calls) == 5
    assert again["run"].id == first["run"].id
    assert again["results"]["c"] == first["results"]["c"]
    assert {again["results"][task].output for task in "ab"}.isdisjoint({first["results"][task].output for task in "ab"})
    balance = way.ledger.balance(f"run:{first['run'].id}")
    assert balance.spent_nano > spent
    assert again["run"].usage.cost.nano == balance.spent_nano
    assert sum(task.actual_use.cost.nano for task in again["run"].tasks.values()) == balance.spent_nano


async def test_an_edit_keeps_what_the_result_before_it_cost(way):
    _, graph = paid()
    compiled = way.compile(graph, price_as=PRICES)
    first = await way.invoke(compiled, {"inputs": {}})
    await way.update(compiled, {"results": {"a": TaskResult(output="mine")}})
    second = await way.invoke(compiled, None)
    assert second["results"]["a"].usage == first["results"]["a"].usage
    assert second["results"]["a"].model == first["results"]["a"].model
    assert second["run"].usage.cost > first["run"].usage.cost


async def test_running_again_stays_within_the_runs_budget(way):
    model, graph = paid(budget_limit={"amount": "1.00", "currency": "USD"}, on_exceed="raise")
    compiled = way.compile(graph, price_as=PRICES, raise_on_failure=False)
    first = await way.invoke(compiled, {"inputs": {}})
    scope = f"run:{first['run'].id}"
    way.ledger.set_limit(scope, way.ledger.balance(scope).spent_nano)
    await way.rerun(compiled, "a")
    again = await way.invoke(compiled, None)
    assert again["run"].tasks["a"].error.code == "budget_exceeded"
    assert len(model.calls) == 3
    assert again["run"].usage.cost == first["run"].usage.cost


@both_modes
async def test_several_tasks_of_a_failed_run_are_done_again(way, mode):
    chain = Chain(c=fails)
    graph = way.compile(chain.graph, mode=mode)
    with pytest.raises(RunFailedError):
        await way.invoke(graph, {"inputs": {}})
    chain.ran()
    await way.rerun(graph, "x", "b")
    assert (await way.state(graph)).next == ("b", "x")
    with pytest.raises(RunFailedError):
        await way.invoke(graph, None)
    assert chain.ran() == ["b", "x"]


async def test_running_again_wants_a_task():
    graph = Chain().graph.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG)
    with pytest.raises(InvalidInputError, match="no task was named"):
        graph.rerun_from(CONFIG)


class Growing:
    """source -> map (for each) -> total; starter adds a task of its own."""

    def __init__(self):
        self.items, self.calls = [1, 2, 3], []
        self.graph = (
            RunGraph(RunPolicy(max_parallelism=1))
            .add_task("source", self.note("source", lambda inputs: self.items))
            .add_task(
                "map",
                self.note("map", lambda inputs: inputs["item"] * 10),
                deps=["source"],
                for_each=ForEach(task="source"),
            )
            .add_task("total", self.note("total", lambda inputs: sum(inputs["map"])), deps=["map"])
            .add_task("double", self.note("double", lambda inputs: inputs.get("n", 0) * 2))
            .add_task("starter", self.start)
        )

    def note(self, name, body):
        def run(inputs, runtime):
            self.calls.append(runtime.task_id)
            return body(inputs)

        return run

    def start(self, inputs, runtime):
        self.calls.append("starter")
        runtime.enqueue("more", like="double", inputs={"n": 4})
        return "started"

    def ran(self):
        calls, self.calls = sorted(self.calls), []
        return calls


@both_modes
@pytest.mark.parametrize(
    ("task_id", "ran"),
    [
        ("map", ["map#0", "map#1", "map#2", "total"]),
        ("map#1", ["map#1", "total"]),
        ("source", ["map#0", "map#1", "map#2", "source", "total"]),
        ("starter", ["more", "starter"]),
        ("more", ["more"]),
        ("total", ["total"]),
    ],
)
async def test_tasks_that_joined_a_run_are_done_again_with_what_they_came_from(mode, task_id, ran):
    growing = Growing()
    graph = growing.graph.compile(checkpointer=InMemorySaver(), mode=mode)
    first = outputs(await graph.ainvoke({"inputs": {}}, CONFIG))
    assert (first["total"], first["more"]) == (60, 8)
    growing.ran()
    await graph.arerun_from(CONFIG, task_id)
    assert outputs(await graph.ainvoke(None, CONFIG)) == first
    assert growing.ran() == ran


@both_modes
@pytest.mark.parametrize(
    ("task_id", "result", "ran", "expected"),
    [
        ("source", [5], ["map#0", "total"], {"map": [50], "total": 50}),
        ("map", [7, 8], ["total"], {"total": 15}),
        ("map#1", 100, ["total"], {"map": [10, 100, 30], "total": 140}),
        ("more", 9, [], {"more": 9}),
        ("starter", "mine", ["more"], {"more": 8}),
    ],
)
async def test_results_of_tasks_that_joined_a_run_are_edited(mode, task_id, result, ran, expected):
    growing = Growing()
    graph = growing.graph.compile(checkpointer=InMemorySaver(), mode=mode)
    await graph.ainvoke({"inputs": {}}, CONFIG)
    growing.ran()
    await graph.aupdate_state(CONFIG, {"results": {task_id: TaskResult(output=result)}})
    found = outputs(await graph.ainvoke(None, CONFIG))
    assert {key: found[key] for key in expected} == expected
    assert growing.ran() == ran


async def test_an_edited_outcome_may_add_other_tasks_that_fit():
    growing = Growing()
    graph = growing.graph.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG)
    growing.ran()
    outcome = graph.get_state(CONFIG).values["results"]["starter"]
    fewer = {**outcome, "enqueued": [{"id": "other", "like": "double", "inputs": {"n": 50}}]}
    await graph.aupdate_state(CONFIG, {"results": {"starter": fewer}})
    found = outputs(await graph.ainvoke(None, CONFIG))
    assert (found["other"], "more" in found) == (100, False)
    assert growing.ran() == ["other"]
    misfit = {**outcome, "enqueued": [{"id": "other", "like": "nothing"}]}
    with pytest.raises(TaskNotFoundError, match="nothing"):
        await graph.aupdate_state(CONFIG, {"results": {"starter": misfit}})


# --- old checkpoints -------------------------------------------------------------------------------------------------


def at(history, *following):
    """The oldest snapshot from which these tasks come next."""
    return [snapshot for snapshot in history if set(snapshot.next) == set(following)][-1].config


@both_modes
async def test_from_an_old_checkpoint_a_run_goes_on_with_what_that_holds(way, mode):
    chain, graph = await finished(way, mode)
    await way.update(graph, {"results": {"a": TaskResult(output="A")}})
    await way.invoke(graph, None)
    chain.ran()
    history = await way.history(graph)
    assert outputs(await way.invoke(graph, None, at(history, "a"))) == WHOLE
    assert chain.ran() == sorted("abcdx")
    edited = [
        snapshot for snapshot in history if set(snapshot.next) == {"b", "x"} and snapshot.metadata["source"] == "update"
    ]
    found = outputs(await way.invoke(graph, None, edited[0].config))
    assert (found["a"], found["d"]) == ("A", "Abc+Axd")
    assert chain.ran() == ["b", "c", "d", "x"]
    assert outputs(await way.invoke(graph, None)) == found
    assert chain.ran() == []


async def test_each_superstep_can_be_gone_back_to(way):
    chain, graph = await finished(way, "supersteps")
    history = await way.history(graph)
    for following, ran in ((("d",), ["d"]), (("c",), ["c", "d"]), (("b", "x"), ["b", "c", "d", "x"])):
        assert outputs(await way.invoke(graph, None, at(history, *following))) == WHOLE
        assert chain.ran() == ran


@both_modes
async def test_going_back_buys_anew_what_was_bought_since(way, mode):
    model, graph = paid()
    compiled = way.compile(graph, mode=mode, price_as=PRICES)
    first = await way.invoke(compiled, {"inputs": {}})
    again = await way.invoke(compiled, None, at(await way.history(compiled), "a", "c"))
    assert len(model.calls) == 6
    assert set(outputs(again).values()).isdisjoint(outputs(first).values())
    assert way.ledger.balance(f"run:{first['run'].id}").spent_nano == again["run"].usage.cost.nano


async def test_the_newest_checkpoint_is_no_past_however_it_is_named(way, deadly):
    chain = Chain(c=deadly)
    graph = await way.left_by_another_process(chain.graph, deadly)
    chain.ran()
    newest = (await way.state(graph)).config
    assert outputs(await way.invoke(graph, None, newest))["d"] == "survived+axd"
    assert chain.ran() == ["d", "x"]


@both_modes
async def test_a_failed_run_is_gone_back_to_and_tried_again(way, mode):
    broken = [True]

    def flaky(inputs):
        if broken[0]:
            raise ValueError("boom")
        return inputs["b"] + "c"

    chain = Chain(c=flaky)
    graph = way.compile(chain.graph, mode=mode)
    with pytest.raises(RunFailedError):
        await way.invoke(graph, {"inputs": {}})
    failed = (await way.state(graph)).config
    broken[0] = False
    assert outputs(await way.invoke(graph, None)) == WHOLE
    assert chain.ran() == sorted("abdx")
    assert outputs(await way.invoke(graph, None, failed)) == WHOLE
    assert chain.ran() == ["d"]


@both_modes
async def test_where_a_run_had_ended_there_is_nothing_to_do(way, mode):
    chain, graph = await finished(way, mode)
    ended = (await way.state(graph)).config
    await way.rerun(graph, "d")
    output = await way.invoke(graph, None, ended)
    assert outputs(output) == WHOLE
    assert chain.ran() == []
    assert way.ledger.outcomes(output["run"].id).keys() == {"a", "b", "x", "c"}


@both_modes
async def test_from_before_the_run_a_new_run_begins_with_the_same_inputs(way, mode):
    graph = way.compile(greeting(), mode=mode)
    first = await way.invoke(graph, {"inputs": {"n": 3}})
    second = await way.invoke(graph, None, at(await way.history(graph), "prepare"))
    assert outputs(second) == {"a": 3, "b": 3}
    assert second["run"].id != first["run"].id


@both_modes
async def test_an_old_checkpoint_is_edited(way, mode):
    chain, graph = await finished(way, mode)
    old = at(await way.history(graph), "a")
    await way.update(graph, {"results": {"x": TaskResult(output="X")}}, old)
    assert outputs(await way.invoke(graph, None)) == {**WHOLE, "x": "X", "d": "abc+Xd"}
    assert chain.ran() == ["a", "b", "c", "d"]


async def test_tasks_of_an_old_checkpoint_are_run_again(way):
    chain, graph = await finished(way, "supersteps")
    old = at(await way.history(graph), "d")
    await way.rerun(graph, "c", config=old)
    assert outputs(await way.invoke(graph, None)) == WHOLE
    assert chain.ran() == ["c", "d"]


async def test_langgraphs_own_copies_and_ends_of_threads_work(way):
    _, graph = await finished(way)
    copied = await way.update(graph, None, at(await way.history(graph), "a"), as_node="__copy__")
    assert (await way.state(graph, copied)).next == ("a",)
    await way.update(graph, None, as_node=END)
    assert (await way.state(graph)).next == ()


# --- supersteps that were left in the middle -------------------------------------------------------------------------


async def test_a_superstep_behind_a_failed_task_is_gone_on_with(way, deadly):
    broken = [True]

    def flaky(inputs):
        if broken[0]:
            raise ValueError("boom")
        return "mended"

    graph = await way.left_by_another_process(
        RunGraph()
        .add_task("start", lambda inputs: 0)
        .add_task("flaky", flaky, deps=["start"])
        .add_task("fine", lambda inputs: 1, deps=["start"])
        .add_task("never", lambda inputs: 2, deps=["start"], when=Condition(task="start", op="truthy"))
        .add_task("after", lambda inputs: inputs["flaky"] + "!", deps=["flaky"])
        .add_task("last", deadly, deps=["fine"])
        .add_task("end", lambda inputs: inputs["last"], deps=["last", "after"]),
        deadly,
        mode="supersteps",
    )
    broken[0] = False
    output = await way.invoke(graph, None)
    assert outputs(output) == {
        "start": 0,
        "flaky": "mended",
        "fine": 1,
        "after": "mended!",
        "last": "survived",
        "end": "survived",
    }
    assert output["run"].tasks["never"].state is TaskState.SKIPPED


def fill_up(saver):
    """A body after which no checkpoint is kept; once."""
    fills = [True]

    def body(inputs):
        saver.full = fills.pop() if fills else False
        return "full"

    return body


@pytest.mark.parametrize(
    ("edited", "ran", "expected"),
    [
        (None, ["c", "d"], "abc+fulld"),
        ("a", ["b", "c", "d"], "!bc+fulld"),
        ("b", ["c", "d"], "!c+fulld"),
        ("c", ["d"], "!+fulld"),
        ("d", ["c"], "!"),
    ],
)
async def test_a_superstep_that_has_run_but_has_no_checkpoint_is_gone_on_from(full_saver, edited, ran, expected):
    chain = Chain(x=fill_up(full_saver))
    graph = chain.graph.compile(checkpointer=full_saver, mode="supersteps")
    with pytest.raises(OSError, match="full"):
        await graph.ainvoke({"inputs": {}}, CONFIG, durability="sync")
    assert chain.ran() == ["a", "b"]
    assert (await graph.aget_state(CONFIG)).next == ("c",)
    with pytest.raises(InvalidInputError, match="unfinished"):
        await graph.ainvoke({"inputs": {}}, CONFIG)
    full_saver.full = False
    if edited is not None:
        await graph.aupdate_state(CONFIG, {"results": {edited: TaskResult(output="!")}})
    output = await graph.ainvoke(None, CONFIG)
    assert (output["run"].state, outputs(output)["d"]) == (RunState.COMPLETED, expected)
    assert chain.ran() == ran


async def test_a_failed_driver_that_has_no_checkpoint_is_tried_again(full_saver):
    chain = Chain(b=fill_up(full_saver), x=fails)
    graph = chain.graph.compile(checkpointer=full_saver)
    with pytest.raises(OSError, match="full"):
        await graph.ainvoke({"inputs": {}}, CONFIG, durability="sync")
    full_saver.full = False
    assert chain.ran() == ["a", "c"]
    assert graph.get_state(CONFIG).next == (await graph.aget_state(CONFIG)).next == ("x",)
    with pytest.raises(InvalidInputError, match="unfinished"):
        graph.invoke({"inputs": {}}, CONFIG)
    graph.update_state(CONFIG, {"results": {"x": TaskResult(output="X")}})
    assert outputs(graph.invoke(None, CONFIG))["d"] == "fullc+Xd"
    assert chain.ran() == ["d"]


# --- any graph, any edit ---------------------------------------------------------------------------------------------


class RandomGraph:
    """Tasks that put together what they get, so that a result tells its whole history."""

    def __init__(self, rng, mode):
        self.ran = []
        size = rng.randint(2, 10)
        self.deps = {n: sorted(rng.sample(range(n), k=min(n, rng.choice([0, 1, 2, 2])))) for n in range(size)}
        graph = RunGraph(RunPolicy(max_parallelism=rng.randint(1, 4)))
        for n, deps in self.deps.items():
            graph.add_task(f"t{n}", self.body, deps=[f"t{dep}" for dep in deps])
        self.graph = graph.compile(mode=mode, checkpointer=InMemorySaver())

    def body(self, inputs, runtime):
        self.ran.append(runtime.task_id)
        return f"{runtime.task_id}({','.join(inputs.values())})"


@both_modes
@pytest.mark.parametrize("chunk", range(4))
async def test_after_any_edit_every_result_is_what_a_fresh_run_would_give(mode, chunk):
    for seed in range(chunk * 10, chunk * 10 + 10):
        rng = random.Random(seed)
        tasks = RandomGraph(rng, mode)
        graph, size = tasks.graph, len(tasks.deps)
        stops = [f"t{rng.randrange(size)}"] if rng.random() < 0.5 else []
        await graph.ainvoke({"inputs": {}}, CONFIG, interrupt_before=stops)
        by_hand = {}
        for _ in range(3):
            task_id = f"t{rng.randrange(size)}"
            redone = downstream(tasks.deps, int(task_id[1:]))
            by_hand = {task: text for task, text in by_hand.items() if int(task[1:]) not in redone}
            if rng.random() < 0.5:
                by_hand[task_id] = f"edit{rng.randrange(99)}"
                await graph.aupdate_state(CONFIG, {"results": {task_id: TaskResult(output=by_hand[task_id])}})
            else:
                await graph.arerun_from(CONFIG, task_id)
            tasks.ran.clear()
            output = await graph.ainvoke(None, CONFIG)
            assert outputs(output) == evaluated(tasks.deps, by_hand), f"seed {seed}"
            assert len(tasks.ran) == len(set(tasks.ran)), f"seed {seed}"
            assert graph.get_state(CONFIG).next == ()


def downstream(deps, start):
    found = {start}
    for n in range(start, len(deps)):
        if found.intersection(deps[n]):
            found.add(n)
    return found


def evaluated(deps, known):
    results = {}
    for n in range(len(deps)):
        results[f"t{n}"] = known.get(f"t{n}") or f"t{n}({','.join(results[f't{dep}'] for dep in deps[n])})"
    return results


# --- other graphs ----------------------------------------------------------------------------------------------------


def version(number, calls=None):
    """From version 1 to 2 b changes, new comes and gone goes; from 1 to 3 nothing changes that counts."""
    calls = [] if calls is None else calls
    graph = RunGraph(RunPolicy(max_parallelism=1))

    def add(name, deps=(), **options):
        graph.add_task(name, lambda inputs: calls.append(name) or f"{name}{number}", deps=deps, **options)

    add("a", priority=number)
    add("z")
    add("b", ["a", "z"] if number == 2 else ["a"])
    add("c", ["b"])
    add("y", ["a"], metadata={"version": number})
    add("new" if number == 2 else "gone", ["y"])
    add("end", ["c", "y"])
    return graph


async def test_a_run_is_taken_over_into_a_changed_graph_with_all_that_still_holds(way):
    for before, after in (("dataflow", "dataflow"), ("supersteps", "supersteps"), ("dataflow", "supersteps")):
        config = {"configurable": {"thread_id": f"{before}-{after}"}}
        first = await way.invoke(way.compile(version(1), mode=before), {"inputs": {}}, config)
        calls = []
        changed = way.compile(version(2, calls), mode=after)
        with pytest.raises(InvalidDAGError, match="task 'b' changed, task 'new' is new, task 'gone' is gone") as caught:
            await way.rerun(changed, "a", config=config)
        assert "migrate" in caught.value.hint
        with pytest.raises(InvalidDAGError):
            await way.update(changed, {"results": {"a": TaskResult(output=1)}}, config)
        await way.migrate(changed, config)
        assert (await way.state(changed, config)).next == ("b", "new")
        output = await way.invoke(changed, None, config)
        assert sorted(calls) == ["b", "c", "end", "new"]
        assert outputs(output) == {"a": "a1", "z": "z1", "y": "y1", "b": "b2", "c": "c2", "new": "new2", "end": "end2"}
        assert output["run"].id == first["run"].id
        assert "gone" not in way.ledger.outcomes(output["run"].id)


@both_modes
async def test_a_graph_that_is_the_same_in_all_that_counts_has_nothing_to_take_over(way, mode):
    await way.invoke(way.compile(version(1), mode=mode), {"inputs": {}})
    same = way.compile(version(3), mode=mode)
    present = (await way.state(same)).config
    assert await way.migrate(same) == present
    assert outputs(await way.invoke(same, None))["end"] == "end1"


@both_modes
async def test_a_run_that_was_left_in_the_middle_is_taken_over(way, mode):
    await way.invoke(way.compile(version(1), mode=mode), {"inputs": {}}, interrupt_before=["c"])
    calls = []
    changed = way.compile(version(2, calls), mode=mode)
    await way.migrate(changed)
    output = await way.invoke(changed, None)
    assert output["run"].state is RunState.COMPLETED
    assert sorted(calls) == ["b", "c", "end", "new"]


async def test_what_unfinished_tasks_have_bought_stays_theirs_if_they_are_the_same():
    ledger, saver = InMemoryLedger(), InMemorySaver()
    graph = version(1).compile(ledger=ledger, checkpointer=saver)
    output = await graph.ainvoke({"inputs": {}}, CONFIG, interrupt_before=["c", "y"])
    for task_id in ("c", "y"):
        hold = Hold(scopes=(), nano=0, holder="me", sent=True, run_id=output["run"].id, task_id=task_id)
        ledger.reserve(hold)
        ledger.settle(Settlement(reservation_id=hold.id, nano=0, reply_key=task_id, reply=b"bought"))
    await version(2).compile(ledger=ledger, checkpointer=saver).amigrate(CONFIG)
    assert (ledger.replay("c"), ledger.replay("y")) == (None, b"bought")


async def test_tasks_that_joined_a_run_are_taken_over_unless_what_they_came_from_has_changed():
    def growing(calls, *, items_prompt="x", like_deps=()):
        def note(inputs, runtime):
            calls.append(runtime.task_id)
            return inputs.get("item", 0)

        def start(inputs, runtime):
            calls.append("starter")
            runtime.enqueue("more", like="double")

        return (
            RunGraph()
            .add_task("source", lambda inputs: [1, 2])
            .add_task("z", lambda inputs: 1)
            .add_task("map", note, deps=["source"], for_each=ForEach(task="source"), metadata={"p": items_prompt})
            .add_task("double", note, deps=like_deps)
            .add_task("starter", start)
        )

    ledger, saver = InMemoryLedger(), InMemorySaver()
    await growing([]).compile(ledger=ledger, checkpointer=saver).ainvoke({"inputs": {}}, CONFIG)
    calls = []
    changed = growing(calls, items_prompt="y", like_deps=["z"]).compile(ledger=ledger, checkpointer=saver)
    await changed.amigrate(CONFIG)
    output = await changed.ainvoke(None, CONFIG)
    assert output["run"].state is RunState.COMPLETED
    assert sorted(calls) == ["double", "more"]


async def test_a_run_that_did_not_note_its_tasks_cannot_be_taken_over():
    saver = InMemorySaver()
    graph = version(1).compile(checkpointer=saver)
    await graph.ainvoke({"inputs": {}}, CONFIG)
    header = RunHeader.model_validate(graph.get_state(CONFIG).values["run"])
    old = header.model_copy(update={"task_hashes": {}}).model_dump(mode="json")
    graph.bulk_update_state(CONFIG, [[StateUpdate({"run": old}, "finish")]])
    assert graph.migrate(CONFIG) == graph.get_state(CONFIG).config
    with pytest.raises(InvalidDAGError, match="which of them differ is not known") as caught:
        version(2).compile(checkpointer=saver).migrate(CONFIG)
    assert "start a new run" in caught.value.hint


def header_of(graph):
    spec = graph.compile()._execution.spec
    return RunHeader(run_id="r", spec_hash=spec.fingerprint, task_hashes=spec.task_hashes)


def difference(before, after):
    return graph_difference(header_of(before), after.compile()._execution.spec)


def test_what_has_become_of_a_graph_is_said_in_words():
    found = difference(version(1), version(2))
    assert found == GraphDifference(added=("new",), removed=("gone",), changed=("b",))
    assert str(found) == "task 'b' changed, task 'new' is new, task 'gone' is gone"
    assert str(difference(version(1), version(3))) == "it is the same graph"
    assert not difference(version(1), version(3))


def test_many_tasks_are_counted():
    def graph(*names):
        made = RunGraph()
        for name in names:
            made.add_task(name, lambda inputs: 1)
        return made

    many = [f"t{number}" for number in range(12)]
    text = str(difference(graph(*many, "u", "v"), graph("w", "x")))
    assert text.startswith("tasks 'w', 'x' are new, tasks 't0', 't1', 't10', 't11'")
    assert text.endswith("and 4 more are gone")

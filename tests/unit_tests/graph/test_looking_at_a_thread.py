"""What ``get_state`` and its kin say of a run: told by tasks, with what the journal knows."""

from typing import Any, TypedDict

import jsonschema
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError, RunNotFoundError, TaskFailedError
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.task_spec import Condition, ForEach
from langchain_runtime.testing import ScriptedChatModel

CONFIG = {"configurable": {"thread_id": "1"}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])


def chain(last, **options):
    """a, then b and x, then c, then d."""
    return (
        RunGraph(**options)
        .add_task("a", lambda inputs: "A")
        .add_task("b", lambda inputs: f"{inputs['a']}B", deps=["a"])
        .add_task("x", lambda inputs: f"{inputs['a']}X", deps=["a"])
        .add_task("c", last, deps=["b", "x"])
        .add_task("d", lambda inputs: f"{inputs['c']}{inputs['x']}", deps=["c", "x"])
    )


def outputs(snapshot):
    return {task_id: outcome["output"] for task_id, outcome in snapshot.values["results"].items()}


def names(snapshot):
    return [task.name for task in snapshot.tasks]


# --- unfinished runs -------------------------------------------------------------------------------------------------


async def test_a_run_that_died_shows_what_the_journal_knows_and_what_comes_next(way, deadly):
    graph = await way.left_by_another_process(chain(deadly), deadly)
    snapshot = await way.state(graph)
    assert outputs(snapshot) == {"a": "A", "b": "AB", "x": "AX"}
    assert snapshot.next == ("c",)
    assert names(snapshot)[0] == "c"
    assert (await way.run(graph)).tasks["b"].state is TaskState.COMPLETED
    await way.invoke(graph, None)
    snapshot = await way.state(graph)
    assert (snapshot.next, snapshot.tasks, outputs(snapshot)["d"]) == ((), (), "survivedAX")


async def test_in_supersteps_langgraphs_own_snapshot_says_the_same(way, deadly):
    graph = await way.left_by_another_process(chain(deadly), deadly, mode="supersteps")
    snapshot = await way.state(graph)
    assert (snapshot.next, names(snapshot)) == (("c",), ["c"])
    assert outputs(snapshot) == {"a": "A", "b": "AB", "x": "AX"}


async def test_a_checkpoint_that_is_asked_for_holds_no_results_of_later_times(way, deadly):
    graph = await way.left_by_another_process(chain(deadly), deadly)
    newest = await way.state(graph)
    addressed = await way.state(graph, newest.config)
    assert (outputs(addressed), addressed.next) == ({}, ("a",))
    assert (await way.run(graph, newest.config)).tasks["a"].state is TaskState.PENDING
    history = await way.history(graph)
    assert [snapshot.next for snapshot in history] == [("c",), ("prepare",), ("__start__",)]
    assert outputs(history[0]) == outputs(newest)
    assert "results" not in history[1].values or history[1].values["results"] == {}


async def test_only_the_newest_snapshot_of_a_history_is_folded_however_it_is_cut(way, deadly):
    graph = await way.left_by_another_process(chain(deadly), deadly)
    await way.rerun(graph, "b")
    newest, died, *_ = await way.history(graph)
    assert (newest.next, outputs(newest)) == (("b",), {"a": "A", "x": "AX"})
    assert (died.next, outputs(died)) == (("a",), {})
    for options in ({"before": newest.config, "limit": 1}, {"filter": {"source": "loop"}, "limit": 1}):
        (snapshot,) = await way.history(graph, **options)
        assert (snapshot.next, outputs(snapshot)) == (("a",), {})


@both_modes
async def test_a_failed_run_names_what_it_will_try_again_with_the_error(way, mode):
    def fails(inputs):
        raise ValueError("boom")

    graph = way.compile(chain(fails), mode=mode)
    with pytest.raises(RunFailedError):
        await way.invoke(graph, {"inputs": {}})
    snapshot = await way.state(graph)
    assert (snapshot.next, names(snapshot)) == (("c",), ["c"])
    assert isinstance(snapshot.tasks[0].error, TaskFailedError)
    assert (str(snapshot.tasks[0].error), snapshot.tasks[0].error.task_id) == ("ValueError: boom", "c")
    assert snapshot.values["results"]["d"]["state"] == "skipped"


@both_modes
async def test_a_run_that_has_ended_has_nothing_next_even_if_it_failed(mode):
    def fails(inputs):
        raise ValueError("boom")

    graph = chain(fails).compile(checkpointer=InMemorySaver(), raise_on_failure=False, mode=mode)
    await graph.ainvoke({"inputs": {}}, CONFIG)
    snapshot = await graph.aget_state(CONFIG)
    assert (snapshot.next, snapshot.tasks) == ((), ())
    assert snapshot.values["results"]["c"]["error"]["message"] == "ValueError: boom"


@both_modes
async def test_a_run_that_stands_still_names_the_tasks_before_which_it_does(way, mode):
    graph = way.compile(chain(lambda inputs: "C"), mode=mode)
    await way.invoke(graph, {"inputs": {}}, interrupt_before=["b", "x"])
    snapshot = await way.state(graph)
    assert (snapshot.next, names(snapshot)) == (("b", "x"), ["b", "x"])
    assert outputs(snapshot) == {"a": "A"}
    assert [task.error for task in snapshot.tasks] == [None, None]


async def test_what_is_left_of_a_run_whose_tasks_are_all_done_is_its_end():
    graph = RunGraph().add_task("a", lambda inputs: 1).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"inputs": {}}, CONFIG, interrupt_after=["a"])
    assert graph.get_state(CONFIG).next == ("pause",)
    await graph.ainvoke(None, CONFIG, interrupt_after=["a"])
    assert [snapshot.next for snapshot in graph.get_state_history(CONFIG)][:2] == [(), ("finish",)]


async def test_a_task_whose_condition_did_not_hold_is_not_next_again(way, deadly):
    graph = await way.left_by_another_process(
        RunGraph()
        .add_task("a", lambda inputs: 1)
        .add_task("never", lambda inputs: 2, deps=["a"], when=Condition(task="a", op="gt", value=1))
        .add_task("last", deadly, deps=["a"]),
        deadly,
    )
    assert (await way.state(graph)).next == ("never", "last")  # skips are not in the journal: it is judged again
    failing = (
        RunGraph()
        .add_task("a", lambda inputs: 1)
        .add_task("never", lambda inputs: 2, deps=["a"], when=Condition(task="a", op="gt", value=1))
        .add_task("fails", lambda inputs: 1 / 0, deps=["a"])
        .compile(checkpointer=InMemorySaver())
    )
    with pytest.raises(RunFailedError):
        await failing.ainvoke({"inputs": {}}, CONFIG)
    assert failing.get_state(CONFIG).next == ("fails",)


async def test_tasks_that_joined_the_run_are_next_by_their_names(way, deadly):
    async def each(inputs):
        return await deadly(inputs) if inputs["item"] == 3 else inputs["item"]

    def adds(inputs, runtime):
        runtime.enqueue("added", prompt="never answered: {list}", deps={"list": "list"}, model="extractive")

    graph = await way.left_by_another_process(
        RunGraph(RunPolicy(max_parallelism=1))
        .add_task("list", lambda inputs: [1, 2, 3, 4], expected_seconds=9)
        .add_task("map", each, deps=["list"], for_each=ForEach(task="list"), expected_seconds=9)
        .add_task("sum", lambda inputs: sum(inputs["map"]), deps=["map"])
        .add_task("adds", adds),
        deadly,
    )
    snapshot = await way.state(graph)
    assert outputs(snapshot) == {"list": [1, 2, 3, 4], "map#0": 1, "map#1": 2}
    assert set(snapshot.next) == {"map#2", "map#3", "adds"}


# --- questions -------------------------------------------------------------------------------------------------------


@both_modes
async def test_a_question_is_on_the_task_that_asks(way, mode):
    graph = way.compile(
        RunGraph()
        .add_task("a", lambda inputs: 1)
        .add_task("asks", lambda inputs: interrupt("sure?"), deps=["a"])
        .add_task("other", lambda inputs: 2, deps=["a"]),
        mode=mode,
    )
    await way.invoke(graph, {"inputs": {}})
    snapshot = await way.state(graph)
    assert snapshot.next == ("asks",)
    asked = {task.name: [question.value for question in task.interrupts] for task in snapshot.tasks}
    assert asked["asks"] == ["sure?"]
    assert [question.value for question in snapshot.interrupts] == ["sure?"]
    assert outputs(snapshot)["other"] == 2
    await way.invoke(graph, Command(resume="yes"))
    assert outputs(await way.state(graph))["asks"] == "yes"


async def test_questions_of_several_tasks_are_all_there_though_nobody_knows_whose_is_which():
    graph = (
        RunGraph()
        .add_task("left", lambda inputs: interrupt("left?"))
        .add_task("right", lambda inputs: interrupt("right?"))
        .compile(checkpointer=InMemorySaver())
    )
    await graph.ainvoke({"inputs": {}}, CONFIG)
    snapshot = await graph.aget_state(CONFIG)
    assert snapshot.next == ("left", "right")
    of_tasks = [question for task in snapshot.tasks for question in task.interrupts]
    assert sorted(question.value for question in of_tasks) == ["left?", "right?"]
    assert all(question in of_tasks for question in snapshot.interrupts)


@both_modes
async def test_a_question_about_money_is_on_a_task_that_waits_for_it(way, mode):
    model = ScriptedChatModel(script=["word"], model_name="m", cycle=True)
    policy = RunPolicy(budget_limit={"amount": "0.000001", "currency": "USD"}, on_exceed="interrupt")
    graph = way.compile(
        RunGraph(policy, model=model).add_task("free", lambda inputs: 1).add_task("paid", prompt="say"),
        mode=mode,
        price_as={"scripted:m": "openai:gpt-4o-mini"},
    )
    await way.invoke(graph, {"inputs": {}})
    snapshot = await way.state(graph)
    asked = {task.name: [question.value["type"] for question in task.interrupts] for task in snapshot.tasks}
    assert asked["paid"] == ["budget_exceeded"]
    assert snapshot.next == ("paid",)


# --- threads in other places -----------------------------------------------------------------------------------------


async def test_a_thread_without_a_run_is_as_langgraph_shows_it(way):
    graph = way.compile(RunGraph().add_task("a", lambda inputs: 1))
    snapshot = await way.state(graph)
    assert (snapshot.values, snapshot.next, await way.history(graph)) == ({}, (), [])
    with pytest.raises(RunNotFoundError):
        await way.run(graph)


async def test_a_second_run_that_was_refused_shows_no_task_of_the_first(way):
    graph = way.compile(RunGraph(model="extractive").add_task("a", prompt="{who}?"))
    await way.invoke(graph, {"inputs": {"who": "dogs"}})
    with pytest.raises(InvalidInputError, match="who"):
        await way.invoke(graph, {"inputs": {}})
    snapshot = await way.state(graph)
    assert (snapshot.next, names(snapshot)) == (("prepare",), ["prepare"])


@both_modes
async def test_a_parent_shows_the_tasks_of_a_child_that_waits(mode):
    class State(TypedDict, total=False):
        inputs: dict[str, Any]
        results: dict[str, Any]
        run: dict[str, Any]

    child = (
        RunGraph()
        .add_task("a", lambda inputs: 1)
        .add_task("asks", lambda inputs: interrupt("sure?"), deps=["a"])
        .compile(mode=mode)
    )
    parent = StateGraph(State)
    parent.add_node("work", child)
    parent.add_edge(START, "work")
    parent.add_edge("work", END)
    compiled = parent.compile(checkpointer=InMemorySaver())
    await compiled.ainvoke({"inputs": {}}, CONFIG)
    (task,) = (await compiled.aget_state(CONFIG, subgraphs=True)).tasks
    assert task.state.next == ("asks",)
    assert outputs(task.state) == {"a": 1}


# --- schemas and drawings --------------------------------------------------------------------------------------------


def brief():
    return (
        RunGraph(model="extractive", inputs={"tone": "dry", "unused": [1]}, name="brief")
        .add_task("outline", prompt="Outline {topic} in a {tone} tone.")
        .add_task(
            "facts",
            prompt="Facts for {outline} on {topic}: {item}",
            deps=["outline", "list"],
            for_each=ForEach(task="list"),
        )
        .add_task("list", lambda inputs: inputs["anything"])
    )


def test_the_input_schema_names_what_prompts_need_and_the_defaults():
    graph = brief().compile()
    schema = graph.get_input_jsonschema()
    jsonschema.Draft202012Validator.check_schema(schema)
    inputs = schema["properties"]["inputs"]
    assert schema["required"] == ["inputs"]
    assert inputs["required"] == ["topic"]
    assert inputs["properties"]["tone"] == {
        "title": "tone",
        "description": "Used by the prompt of outline.",
        "default": "dry",
    }
    assert inputs["properties"]["unused"] == {"title": "unused", "default": [1]}
    assert inputs["properties"]["topic"]["description"] == "Used by the prompt of outline, facts."
    jsonschema.validate({"inputs": {"topic": "dogs", "anything": [1]}}, schema)
    for refused in ({}, {"inputs": {}}, {"inputs": {"tone": "dry"}}, {"inputs": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(refused, schema)


def test_a_graph_that_needs_no_inputs_requires_none():
    schema = RunGraph().add_task("a", lambda inputs: 1).compile().get_input_jsonschema()
    jsonschema.validate({}, schema)
    assert schema["properties"]["inputs"]["properties"] == {}


def test_a_variable_of_many_prompts_names_some_of_them():
    graph = RunGraph(model="extractive")
    for number in range(7):
        graph.add_task(f"t{number}", prompt="{who}")
    described = graph.compile().get_input_jsonschema()["properties"]["inputs"]["properties"]["who"]["description"]
    assert described == "Used by the prompt of t0, t1, t2, t3, t4 and 2 more."


@both_modes
async def test_what_a_run_leaves_fits_the_output_schema(mode):
    graph = chain(lambda inputs: "C").compile(mode=mode, checkpointer=InMemorySaver())
    schema = graph.get_output_jsonschema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]["results"]["properties"]) == ["a", "b", "x", "c", "d"]
    await graph.ainvoke({"inputs": {}}, CONFIG)
    values = graph.get_state(CONFIG).values
    jsonschema.validate({"results": values["results"], "run": values["run"]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"results": {"a": {"state": "lost"}}}, schema)


def state_graph_with(node):
    parent = StateGraph(dict)
    parent.add_node("work", node)
    parent.add_edge(START, "work")
    parent.add_edge("work", END)
    return parent.compile()


@both_modes
@pytest.mark.parametrize("wrapped", [False, True])
async def test_under_a_parents_xray_each_task_is_a_node(mode, wrapped):
    child = chain(lambda inputs: "C").compile(mode=mode)
    node = child.as_node(inputs=lambda state: {}, output="d") if wrapped else child
    parent = state_graph_with(node)
    assert set(parent.get_graph().nodes) == {"__start__", "work", "__end__"}
    for drawn in (parent.get_graph(xray=True), await parent.aget_graph(xray=1)):
        assert set(drawn.nodes) == {"__start__", "__end__", *(f"work:{name}" for name in "abxcd")}
        edges = {(edge.source, edge.target) for edge in drawn.edges}
        assert {("__start__", "work:a"), ("work:a", "work:b"), ("work:d", "__end__")} <= edges


@both_modes
def test_the_graph_draws_its_tasks_and_dependencies(mode):
    graph = (
        RunGraph().add_task("weekly-brief.1", lambda inputs: 1).add_task("b", lambda inputs: 2, deps=["weekly-brief.1"])
    ).compile(mode=mode)
    text = graph.get_graph(xray=True).draw_mermaid()
    assert "weekly-brief.1" in text
    assert not {"driver", "prepare", "finish"} & set(graph.get_graph().nodes)
    assert "graph TD" in text


async def test_the_run_of_an_old_checkpoint_is_as_it_stood_there(way):
    graph = way.compile(chain(lambda inputs: "C"), mode="supersteps")
    await way.invoke(graph, {"inputs": {}})
    then = next(snapshot for snapshot in await way.history(graph) if snapshot.next == ("c",))
    run = await way.run(graph, then.config)
    assert {task_id for task_id, task in run.tasks.items() if task.state is TaskState.COMPLETED} == {"a", "b", "x"}
    assert (await way.run(graph)).state is RunState.COMPLETED

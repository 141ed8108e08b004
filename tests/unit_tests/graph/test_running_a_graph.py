"""What a run does: order, hand-over, states, streams, and the graph's face to LangGraph."""

import asyncio
import json
import threading
import time
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError
from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.run import RunPolicy, RunState, TaskResult, TaskState
from langchain_runtime.contracts.task_spec import Condition, ForEach
from langchain_runtime.graph import RunGraph
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel


def echo(name):
    return lambda inputs: f"ok:{name}"


def chain(*names):
    graph = RunGraph()
    for before, name in zip([None, *names], names, strict=False):
        graph.add_task(name, echo(name), deps=[before] if before else [])
    return graph


class Recorder:
    """Bodies that note when they start and what they were given."""

    def __init__(self):
        self.order, self.inputs = [], {}

    def body(self, name):
        def run(inputs):
            self.order.append(name)
            self.inputs[name] = inputs
            return f"ok:{name}"

        return run


def recorded(edges):
    recorder, graph = Recorder(), RunGraph()
    for name, deps in edges.items():
        graph.add_task(name, recorder.body(name), deps=deps)
    return recorder, graph.compile()


@pytest.mark.parametrize(
    ("edges", "first", "last"),
    [
        pytest.param({"A": [], "B": ["A"], "C": ["B"]}, "A", "C", id="R1"),
        pytest.param({"A": [], "B": [], "C": ["A", "B"]}, None, "C", id="R2"),
        pytest.param({"A": [], "B": ["A"], "C": ["A"], "D": ["B", "C"]}, "A", "D", id="R3"),
        pytest.param({"A": []}, "A", "A", id="R4"),
        pytest.param({"A": [], "B": ["A"]}, "A", "B", id="S6"),
    ],
)
def test_every_task_runs_once_after_its_dependencies_and_receives_their_outputs(edges, first, last):
    recorder, graph = recorded(edges)
    output = graph.invoke({"inputs": {}})
    assert output["run"].state is RunState.COMPLETED
    assert sorted(recorder.order) == sorted(edges)
    assert recorder.order[0] == (first or recorder.order[0])
    assert recorder.order[-1] == last
    for name, deps in edges.items():
        assert recorder.inputs[name] == {dep: f"ok:{dep}" for dep in deps}


def test_a_graph_without_tasks_completes_at_once_R5():
    output = RunGraph().compile().invoke({"inputs": {}})
    assert output["run"].state is RunState.COMPLETED
    assert output["results"] == {}
    assert output["run"].usage.tokens.total == 0


async def test_each_task_of_the_run_carries_its_result_R6():
    output = await chain("A", "B", "C").compile().ainvoke({"inputs": {}})
    tasks = output["run"].tasks
    assert {name: task.outputs.output for name, task in tasks.items()} == {n: f"ok:{n}" for n in "ABC"}
    assert all(task.state is TaskState.COMPLETED and task.attempts == 1 for task in tasks.values())
    assert all(task.started_at <= task.ended_at for task in tasks.values())


async def test_invoke_ainvoke_stream_and_astream_give_the_same_results():
    graph = chain("A", "B").compile()
    expected = {"A": TaskResult(output="ok:A"), "B": TaskResult(output="ok:B")}
    assert graph.invoke({"inputs": {}})["results"] == expected
    assert (await graph.ainvoke({"inputs": {}}))["results"] == expected
    for last in (
        list(graph.stream({"inputs": {}}, stream_mode="values"))[-1],
        [chunk async for chunk in graph.astream({"inputs": {}}, stream_mode="values")][-1],
    ):
        assert {name: outcome["output"] for name, outcome in last["results"].items()} == {"A": "ok:A", "B": "ok:B"}


async def test_invoke_works_where_a_loop_is_already_running():
    assert chain("A").compile().invoke({"inputs": {}})["results"]["A"].output == "ok:A"


async def test_a_fast_branch_does_not_wait_for_a_slow_one_Z12():
    released = asyncio.Event()
    seen: list[str] = []

    async def slow(inputs):
        await released.wait()
        return 1

    async def last(inputs):
        seen.append("fast branch ended")
        released.set()
        return 2

    graph = RunGraph().add_task("slow", slow).add_task("fast", echo("fast")).add_task("next", last, deps=["fast"])
    async with asyncio.timeout(10):
        await graph.compile().ainvoke({"inputs": {}})
    assert seen == ["fast branch ended"]


async def test_more_tasks_than_slots_never_run_at_once_Z13():
    running, peak = 0, 0

    async def body(inputs):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.005)
        running -= 1

    graph = RunGraph(RunPolicy(max_parallelism=3))
    for number in range(12):
        graph.add_task(f"t{number}", body)
    await graph.compile().ainvoke({"inputs": {}})
    assert peak == 3


@pytest.mark.parametrize("given", [1, 2])
def test_a_callers_max_concurrency_lowers_the_parallelism_and_does_not_deadlock(given):
    peak, lock, running = [0], threading.Lock(), [0]

    def body(inputs):
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    graph = RunGraph()
    for number in range(6):
        graph.add_task(f"t{number}", body)
    compiled = graph.compile()
    compiled.invoke({"inputs": {}}, {"max_concurrency": given})
    asyncio.run(compiled.ainvoke({"inputs": {}}, {"max_concurrency": given}))
    assert peak[0] == given


async def test_tasks_start_in_the_order_of_their_priority_Z14():
    recorder, graph = Recorder(), RunGraph(RunPolicy(max_parallelism=1))
    for name, priority in (("a", 0), ("b", 5), ("c", 1)):
        graph.add_task(name, recorder.body(name), priority=priority)
    await graph.compile().ainvoke({"inputs": {}})
    assert recorder.order == ["b", "c", "a"]


async def test_lifecycle_events_are_streamed_in_order_and_kept_in_the_journal():
    graph = chain("A", "B").compile()
    config = {"configurable": {"run_id": "r1"}}
    streamed = [parse_event(event) async for event in graph.astream({"inputs": {}}, config, stream_mode="custom")]
    kinds = [(event.kind, getattr(event, "task", None)) for event in streamed]
    assert kinds == [
        ("run_started", None),
        ("task_ready", "A"),
        ("task_started", "A"),
        ("task_ready", "B"),
        ("task_finished", "A"),
        ("task_started", "B"),
        ("task_finished", "B"),
        ("run_ended", None),
    ]
    journal = [event for _, event in graph._execution.services.ledger.events("r1")]
    assert journal == streamed


async def test_task_streams_carry_the_names_of_tasks():
    names = [
        chunk["name"]
        async for chunk in chain("A", "B").compile().astream({"inputs": {}}, stream_mode="tasks")
        if "input" in chunk
    ]
    assert names == ["prepare", "driver", "A", "B", "finish"]


def test_the_picture_shows_one_node_for_each_task():
    graph = (
        RunGraph().add_task("a", echo("a")).add_task("b", echo("b"), deps=["a"]).add_task("c", echo("c"), deps=["a"])
    )
    picture = graph.compile().get_graph()
    assert sorted(picture.nodes) == ["__end__", "__start__", "a", "b", "c"]
    assert {(edge.source, edge.target) for edge in picture.edges} == {
        ("__start__", "a"),
        ("a", "b"),
        ("a", "c"),
        ("b", "__end__"),
        ("c", "__end__"),
    }
    assert "a --> b" in picture.draw_mermaid()


async def test_the_graph_is_a_node_of_a_parent_graph():
    class Parent(TypedDict, total=False):
        inputs: dict[str, Any]
        results: dict[str, Any]
        seen: str

    def look(state: Parent) -> Parent:
        json.dumps(state["results"])
        return {"seen": state["results"]["B"]["output"]}

    builder = StateGraph(Parent)
    builder.add_node("dag", chain("A", "B").compile())
    builder.add_node("look", look)
    builder.add_edge(START, "dag")
    builder.add_edge("dag", "look")
    builder.add_edge("look", END)
    parent = builder.compile()
    assert parent.invoke({"inputs": {}})["seen"] == "ok:B"
    assert (await parent.ainvoke({"inputs": {}}, {"max_concurrency": 1}))["seen"] == "ok:B"


async def test_the_graph_fits_a_parent_with_a_state_of_its_own():
    class Parent(TypedDict, total=False):
        topic: str
        title: str
        B: str

    dag = (
        RunGraph().add_task("A", lambda inputs: inputs["x"]).add_task("B", lambda inputs: inputs["A"] + "!", deps=["A"])
    )
    compiled = dag.compile()
    for output, expected in (("B", {"B": "tea!"}), ({"title": "A"}, {"title": "tea"})):
        builder = StateGraph(Parent)
        builder.add_node("dag", compiled.as_node(inputs=lambda state: {"x": state["topic"]}, output=output))
        builder.add_edge(START, "dag")
        builder.add_edge("dag", END)
        parent = builder.compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        assert parent.invoke({"topic": "tea"}, config) == {"topic": "tea", **expected}
        assert await parent.ainvoke({"topic": "tea"}, config) == {"topic": "tea", **expected}
    with pytest.raises(InvalidInputError, match="'nope'"):
        compiled.as_node(inputs=dict, output="nope")


def test_batch_runs_each_input_as_a_run_of_its_own():
    graph = RunGraph().add_task("t", lambda inputs: inputs["x"] + 1).compile()
    outputs = graph.batch([{"inputs": {"x": number}} for number in range(3)])
    assert [output["results"]["t"].output for output in outputs] == [1, 2, 3]
    assert len({output["run"].id for output in outputs}) == 3


async def test_one_compiled_graph_serves_several_runs_at_once_Z22():
    graph = RunGraph().add_task("t", lambda inputs: inputs["x"]).add_task("u", lambda i: i["t"], deps=["t"]).compile()
    outputs = await asyncio.gather(*(graph.ainvoke({"inputs": {"x": number}}) for number in range(8)))
    assert [output["results"]["u"].output for output in outputs] == list(range(8))


async def test_a_body_may_be_a_runnable_an_async_function_or_take_the_runtime():
    seen = {}

    async def with_runtime(inputs, runtime):
        await runtime.memory.aput("colour", "blue")
        seen["runtime"] = (runtime.run_id, runtime.task_id, runtime.attempt)
        return TaskResult(output="main", outputs={"title": "T"})

    def reads_memory(inputs, runtime):
        return [runtime.memory.get("colour"), inputs["heading"]]

    graph = (
        RunGraph()
        .add_task("first", with_runtime)
        .add_task("second", reads_memory, deps={"heading": "first.title"})
        .add_task("third", RunnableLambda(lambda inputs: {"got": inputs["second"]}), deps=["second"])
    )
    output = await graph.compile().ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
    assert seen["runtime"] == ("r", "first", 1)
    assert output["results"]["third"].output == {"got": ["blue", "T"]}


async def test_a_prompt_names_inputs_and_dependencies_and_others_reach_the_model_as_context():
    model = ScriptedChatModel(script=lambda messages: f"{len(messages)} messages")
    graph = (
        RunGraph(model=model, inputs={"topic": "tea"})
        .add_task("named", lambda inputs: "NAMED")
        .add_task("other", lambda inputs: "OTHER")
        .add_task("ask", prompt="About {topic}: {named}", deps=["named", "other"])
    )
    output = await graph.compile().ainvoke({"inputs": {}})
    context, prompt = model.calls[0].messages
    assert "OTHER" in context.text
    assert prompt.text == "About tea: NAMED"
    assert output["results"]["ask"].output == "2 messages"


async def test_what_was_compacted_is_what_the_model_receives_Z10():
    model = ScriptedChatModel(script=("fine",))
    graph = (
        RunGraph(model=model)
        .add_task("big", lambda inputs: "word " * 20_000)
        .add_task(
            "ask",
            prompt="Sum it up.",
            deps=["big"],
            context=ContextPolicy(max_tokens=400, strategy="truncate", truncate_to=100),
        )
    )
    compiled = graph.compile()
    await compiled.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
    assert sum(len(message.text) for message in model.calls[0].messages) < 3_000
    events = [event for _, event in compiled._execution.services.ledger.events("r")]
    compacted = next(event for event in events if event.kind == "context_compacted")
    assert compacted.tokens_after <= 400 < compacted.tokens_before


async def test_a_condition_that_does_not_hold_skips_the_task_and_what_depends_on_it():
    graph = (
        RunGraph()
        .add_task("check", lambda inputs: {"risk": 0.2})
        .add_task(
            "act", echo("act"), deps=["check"], when=Condition(task="check", path="output.risk", op="gt", value=0.5)
        )
        .add_task("after", echo("after"), deps=["act"])
        .add_task(
            "calm", echo("calm"), deps=["check"], when=Condition(task="check", path="output.risk", op="le", value=0.5)
        )
    )
    run = (await graph.compile().ainvoke({"inputs": {}}))["run"]
    assert {name: str(task.state) for name, task in run.tasks.items()} == {
        "check": "completed",
        "act": "skipped",
        "after": "skipped",
        "calm": "completed",
    }
    assert run.tasks["after"].skipped_because == "act"
    assert run.state is RunState.COMPLETED


async def test_structured_replies_become_json_objects():
    model = ScriptedChatModel(script=({"name": "tea", "cups": 2},))
    schema = {"title": "Order", "description": "an order", "type": "object", "properties": {"name": {"type": "string"}}}
    graph = RunGraph(model=model).add_task("order", prompt="Order tea.", response_format=schema)
    output = await graph.compile().ainvoke({"inputs": {}})
    assert output["results"]["order"].output == {"name": "tea", "cups": 2}


async def test_a_body_that_json_cannot_carry_fails_by_name_and_the_rest_is_kept():
    graph = RunGraph().add_task("bad", lambda inputs: object()).add_task("good", echo("good"))
    with pytest.raises(RunFailedError) as caught:
        await graph.compile().ainvoke({"inputs": {}})
    assert caught.value.run.tasks["bad"].error.code == "result_not_serializable"
    assert "'bad'" in caught.value.run.tasks["bad"].error.message
    assert caught.value.results == {"good": TaskResult(output="ok:good")}


def test_a_plan_says_that_it_does_not_know_how_long_a_list_will_be():
    graph = (
        RunGraph(model="extractive")
        .add_task("list", lambda _: ["a", "b"])
        .add_task("each", prompt="About {item}.", deps=["list"], for_each=ForEach(task="list"))
    )
    plan = graph.compile().plan()
    assert [task.id for task in plan.tasks] == ["list", "each"]
    assert any("one item: each" in warning for warning in plan.warnings)

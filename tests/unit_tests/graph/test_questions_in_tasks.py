"""``interrupt()`` inside a task's body: each answer finds the task that asked, on every resume and in both modes."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command, interrupt

from langchain_runtime import RunGraph, RunPolicy
from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.contracts.run import RetrySpec, RunState, TaskState
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

THREAD = {"configurable": {"thread_id": "1"}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False])


async def run(graph, given, *, sync=False, config=THREAD):
    if sync:
        return await asyncio.to_thread(graph.invoke, given, config)
    return await graph.ainvoke(given, config)


def asking(question, calls=None):
    def body(_):
        if calls is not None:
            calls.append(question)
        return interrupt(question)

    return body


def outputs(output):
    return {task_id: result.output for task_id, result in output["results"].items()}


def questions(output):
    asked = output["__interrupt__"]
    assert len({question.id for question in asked}) == len(asked)
    return {question.value: question.id for question in asked}


@both_modes
@sync_and_async
async def test_several_questions_are_answered_one_by_one_in_any_order(mode, sync):
    calls = []
    graph = (
        RunGraph(RunPolicy(max_parallelism=2))
        .add_task("first", lambda _: calls.append("first"))
        .add_task("left", asking("left?", calls), deps=["first"])
        .add_task("right", asking("right?", calls), deps=["first"])
        .add_task("other", lambda _: "went on", deps=["first"])
        .add_task("both", lambda inputs: f"{inputs['left']} {inputs['right']}", deps=["left", "right"])
        .compile(mode=mode, checkpointer=InMemorySaver())
    )
    output = await run(graph, {"inputs": {}}, sync=sync)
    assert set(questions(output)) == {"left?", "right?"}
    assert outputs(output) == {"first": None, "other": "went on"}
    assert output["run"].tasks["left"].state is TaskState.READY
    output = await run(graph, Command(resume={questions(output)["right?"]: "R"}), sync=sync)
    assert set(questions(output)) == {"left?"}
    assert outputs(output)["right"] == "R"
    output = await run(graph, Command(resume="L"), sync=sync)
    assert output["run"].state is RunState.COMPLETED
    assert outputs(output)["both"] == "L R"
    assert (calls.count("first"), calls.count("right?"), calls.count("left?")) == (1, 2, 3)


@both_modes
async def test_all_questions_are_answered_at_once(mode):
    graph = RunGraph()
    for number in range(6):
        graph.add_task(f"t{number}", asking(f"{number}?"))
    compiled = graph.compile(mode=mode, checkpointer=InMemorySaver())
    asked = questions(await run(compiled, {"inputs": {}}))
    output = await run(compiled, Command(resume={asked[f"{n}?"]: n * n for n in range(6)}))
    assert outputs(output) == {f"t{n}": n * n for n in range(6)}


@both_modes
@sync_and_async
async def test_a_task_asks_more_than_once(mode, sync):
    def body(_):
        return [interrupt("name?"), interrupt("age?")]

    graph = RunGraph().add_task("t", body).compile(mode=mode, checkpointer=InMemorySaver())
    assert set(questions(await run(graph, {"inputs": {}}, sync=sync))) == {"name?"}
    assert set(questions(await run(graph, Command(resume="Ada"), sync=sync))) == {"age?"}
    assert outputs(await run(graph, Command(resume=36), sync=sync)) == {"t": ["Ada", 36]}


@both_modes
async def test_a_question_of_a_second_attempt_is_answered_to_that_attempt(mode):
    seen = []

    async def body(_, runtime):
        seen.append(runtime.attempt)
        if len(seen) == 1:
            raise ValueError("the first attempt fails")
        return interrupt("again?")

    graph = RunGraph(RunPolicy(retry=RetrySpec(max_attempts=2, initial_interval_ms=0))).add_task("t", body)
    compiled = graph.compile(mode=mode, checkpointer=InMemorySaver())
    await run(compiled, {"inputs": {}})
    assert outputs(await run(compiled, Command(resume="yes"))) == {"t": "yes"}
    assert len(seen) == 3


@both_modes
@sync_and_async
async def test_the_answer_comes_in_another_process(mode, sync, tmp_path):
    calls = []

    def opened(connection):
        return (
            RunGraph()
            .add_task("before", lambda _: calls.append("before"))
            .add_task("ask", asking("ok?"), deps=["before"])
            .compile(mode=mode, checkpointer=connection, ledger=SqliteLedger(tmp_path / "ledger.db"))
        )

    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        await asyncio.to_thread(opened(saver).invoke, {"inputs": {}}, THREAD)
    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        output = await asyncio.to_thread(opened(saver).invoke, Command(resume="fine"), THREAD)
    assert outputs(output) == {"before": None, "ask": "fine"}
    assert calls == ["before"]


@both_modes
async def test_money_and_a_question_are_asked_together(mode):
    model = ScriptedChatModel(script=["word " * 3], model_name="m", cycle=True)
    graph = (
        RunGraph(RunPolicy(budget_limit={"amount": "0.000001", "currency": "USD"}, on_exceed="interrupt"), model=model)
        .add_task("paid", prompt="say something")
        .add_task("ask", asking("ok?"))
        .compile(
            mode=mode,
            checkpointer=InMemorySaver(),
            price_as={"scripted:m": "openai:gpt-4o-mini"},
        )
    )
    output = await run(graph, {"inputs": {}})
    asked = {
        question.value if isinstance(question.value, str) else question.value["type"]: question.id
        for question in output["__interrupt__"]
    }
    assert set(asked) == {"ok?", "budget_exceeded"}
    output = await run(graph, Command(resume={asked["ok?"]: "yes", asked["budget_exceeded"]: {"add": "1.00"}}))
    assert output["run"].state is RunState.COMPLETED
    assert outputs(output)["ask"] == "yes"


@both_modes
@sync_and_async
async def test_an_agent_inside_a_task_has_its_tool_call_approved(mode, sync):
    sent = []

    @tool
    def send(text: str) -> str:
        """Send a text."""
        sent.append(text)
        return "sent"

    call = {"name": "send", "args": {"text": "hello"}, "id": "c1", "type": "tool_call"}
    model = ScriptedChatModel(script=[AIMessage("", tool_calls=[call]), AIMessage("done")])
    agent = create_agent(model, [send], middleware=[HumanInTheLoopMiddleware(interrupt_on={"send": True})])
    graph = (
        RunGraph()
        .add_task("mail", (lambda _: {"messages": [("user", "send hello")]}) | agent)
        .add_task("after", lambda inputs: inputs["mail"], deps=["mail"])
        .compile(mode=mode, checkpointer=InMemorySaver())
    )
    output = await run(graph, {"inputs": {}}, sync=sync)
    assert output["__interrupt__"][0].value["action_requests"][0]["name"] == "send"
    assert sent == []
    output = await run(graph, Command(resume={"decisions": [{"type": "approve"}]}), sync=sync)
    assert outputs(output)["after"] == "done"
    assert sent == ["hello"]


async def test_without_a_checkpointer_a_question_is_an_error_that_says_what_to_do():
    graph = RunGraph().add_task("asks", asking("may I?")).compile()
    with pytest.raises(RunFailedError) as caught:
        await graph.ainvoke({"inputs": {}})
    error = caught.value.run.tasks["asks"].error
    assert (error.code, error.retryable) == ("invalid_input", False)
    assert "checkpointer" in error.message


async def test_a_question_is_told_in_the_journal():
    ledger = InMemoryLedger()
    graph = RunGraph().add_task("asks", asking("may I?")).compile(checkpointer=InMemorySaver(), ledger=ledger)
    output = await run(graph, {"inputs": {}})
    kinds = [event.kind for _, event in ledger.events(output["run"].id)]
    assert "task_suspended" in kinds

"""Our graph inside others: as a node, as a tool, inside a task; in both modes, with its checkpoints and questions."""

import asyncio
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from langchain_runtime import Budget, RunGraph, RunPolicy, budget_scope
from langchain_runtime.contracts.run import RunState
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

THREAD = {"configurable": {"thread_id": "1"}}

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
sync_and_async = pytest.mark.parametrize("sync", [True, False])


async def run(graph, given, config=None, *, sync=False, **kwargs):
    if sync:
        return await asyncio.to_thread(graph.invoke, given, config, **kwargs)
    return await graph.ainvoke(given, config, **kwargs)


class State(TypedDict, total=False):
    inputs: dict[str, Any]
    results: dict[str, Any]
    run: dict[str, Any]
    text: str


class Numbers(TypedDict, total=False):
    a: int
    b: int
    a2: int
    b2: int


def double(mode, **options):
    return RunGraph().add_task("double", lambda inputs: inputs["n"] * 2).compile(mode=mode, **options)


@both_modes
@sync_and_async
async def test_as_a_plain_node_it_shares_the_parents_keys_as_json(mode, sync):
    parent = StateGraph(State)
    parent.add_node("work", double(mode))
    parent.add_node("tell", lambda state: {"text": f"got {state['results']['double']['output']}"})
    parent.add_edge(START, "work")
    parent.add_edge("work", "tell")
    parent.add_edge("tell", END)
    compiled = parent.compile(checkpointer=InMemorySaver())
    output = await run(compiled, {"inputs": {"n": 21}}, THREAD, sync=sync)
    assert output["text"] == "got 42"
    assert output["run"]["state"] == "completed"


@both_modes
@sync_and_async
async def test_two_nodes_of_one_parent_are_two_runs_even_under_a_run_id(mode, sync):
    child = double(mode)

    def node(key):
        return child.as_node(inputs=lambda state: {"n": state[key]}, output={f"{key}2": "double"})

    parent = StateGraph(Numbers)
    parent.add_node("first", node("a"))
    parent.add_node("second", node("b"))
    parent.add_edge(START, "first")
    parent.add_edge("first", "second")
    merged = parent.compile()
    config = {"configurable": {"run_id": "mine"}, "max_concurrency": 1}
    if not sync:
        config.pop("max_concurrency")  # under async LangGraph's own gate would keep the parent from its child
    assert (await run(merged, {"a": 1, "b": 5}, config, sync=sync))["b2"] == 10


@both_modes
@sync_and_async
async def test_a_question_in_a_nested_task_reaches_the_parent_and_its_answer_comes_back(mode, sync):
    calls = []

    def ask(_):
        calls.append("ask")
        return interrupt("really?")

    child = (
        RunGraph()
        .add_task("first", lambda _: calls.append("first"))
        .add_task("ask", ask, deps=["first"])
        .compile(mode=mode, ledger=InMemoryLedger())
    )
    parent = StateGraph(State)
    parent.add_node("work", child)
    parent.add_edge(START, "work")
    parent.add_edge("work", END)
    compiled = parent.compile(checkpointer=InMemorySaver())
    output = await run(compiled, {"inputs": {}}, THREAD, sync=sync)
    assert [question.value for question in output["__interrupt__"]] == ["really?"]
    output = await run(compiled, Command(resume="yes"), THREAD, sync=sync)
    assert output["results"]["ask"]["output"] == "yes"
    assert calls == ["first", "ask", "ask"]


@both_modes
@sync_and_async
async def test_as_a_tool_it_answers_an_agent(mode, sync):
    graph = RunGraph().add_task("double", lambda inputs: inputs["n"] * 2).compile(mode=mode)

    @tool
    def doubled(n: int) -> int:
        """Double a number."""
        return graph.invoke({"inputs": {"n": n}})["results"]["double"].output

    @tool
    async def adoubled(n: int) -> int:
        """Double a number."""
        return (await graph.ainvoke({"inputs": {"n": n}}))["results"]["double"].output

    used = doubled if sync else adoubled
    call = {"name": used.name, "args": {"n": 21}, "id": "c1", "type": "tool_call"}
    model = ScriptedChatModel(script=[AIMessage("", tool_calls=[call]), AIMessage("it is 42")])
    output = await run(create_agent(model, [used]), {"messages": [("user", "double 21")]}, sync=sync)
    answers = [message.text for message in output["messages"] if isinstance(message, ToolMessage)]
    assert answers == ["42"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@both_modes
@sync_and_async
async def test_langchains_own_as_tool_works(mode, sync):
    made = double(mode).as_tool(name="double", description="Double a number.", arg_types={"inputs": dict})
    given = {"inputs": {"n": 4}}
    output = await (asyncio.to_thread(made.invoke, given) if sync else made.ainvoke(given))
    assert output["results"]["double"].output == 8


@both_modes
async def test_a_run_in_a_task_charges_the_runs_around_it(mode):
    ledger = InMemoryLedger()
    model = ScriptedChatModel(script=["word"], model_name="m", cycle=True)
    prices = {"scripted:m": "openai:gpt-4o-mini"}
    inner = RunGraph(model=model).add_task("ask", prompt="say").compile(mode=mode, ledger=ledger, price_as=prices)
    policy = RunPolicy(budget_limit={"amount": "1.00", "currency": "USD"})
    outer = RunGraph(policy).add_task("inner", (lambda _: {"inputs": {}}) | inner).compile(mode=mode, ledger=ledger)
    with budget_scope(Budget.usd("2.00", scope="user:1"), ledger=ledger):
        output = await outer.ainvoke({"inputs": {}})
    run_of_outer = ledger.balance(f"run:{output['run'].id}")
    assert run_of_outer.spent_nano == ledger.balance("user:1").spent_nano > 0


@both_modes
async def test_settings_of_the_outer_run_do_not_leak_into_the_inner_one(mode):
    most, running = 0, 0

    async def body(_):
        nonlocal most, running
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.01)
        running -= 1

    inner = RunGraph()
    for number in range(4):
        inner.add_task(f"t{number}", body)
    nested = inner.compile(mode=mode)
    outer = (
        RunGraph()
        .add_task("inner", (lambda _: {"inputs": {}}) | nested)
        .compile(mode=mode, checkpointer=InMemorySaver())
    )
    config = {"configurable": {"thread_id": "1", "run_id": "outer"}, "max_concurrency": 1}
    output = await outer.ainvoke({"inputs": {}}, config)
    assert output["run"].state is RunState.COMPLETED
    assert output["run"].id == "outer"
    assert most == 4

"""Rows of an earlier implementation's behaviour that concern whole runs: kept, or fixed where they were defects."""

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError, UnknownModelError
from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy, TaskResult, TaskState
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.testing import ScriptedChatModel

CATALOG = {"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}}


def model(**fields):
    return ScriptedChatModel(provider="test", model="m", **fields)


async def failure_of(graph, task_id, **compile_options):
    with pytest.raises(RunFailedError) as caught:
        await graph.compile(catalog=ModelCatalog(CATALOG), **compile_options).ainvoke({"inputs": {}})
    return caught.value.run.tasks[task_id].error, caught.value.run


async def test_a_body_of_the_users_own_is_called_once_and_its_output_passed_through_F10():
    calls = []
    graph = RunGraph().add_task("t", lambda inputs: calls.append(1) or "custom output").compile()
    assert (await graph.ainvoke({"inputs": {}}))["results"]["t"].output == "custom output"
    assert len(calls) == 1


async def test_the_text_of_what_a_body_raised_is_kept_F11_Q20():
    def body(inputs):
        raise LookupError("no such shelf")

    error, _ = await failure_of(RunGraph().add_task("t", body), "t")
    assert (error.code, error.message) == ("task_failed", "LookupError: no such shelf")


async def test_every_field_of_a_result_is_returned_unchanged_F17():
    given = TaskResult(output="text", outputs={"key1": "value1"}, metadata={"note": [1]})
    output = await RunGraph().add_task("t", lambda inputs: given).compile().ainvoke({"inputs": {}})
    assert output["results"]["t"] == given


async def test_a_body_that_returns_nothing_is_no_failure_Q8():
    run = (await RunGraph().add_task("t", lambda inputs: None).compile().ainvoke({"inputs": {}}))["run"]
    assert run.tasks["t"].state is TaskState.COMPLETED


async def test_an_output_reaches_every_dependent_once_Q12_G12():
    chat_model = model()
    graph = (
        RunGraph(model=chat_model)
        .add_task("t1", lambda inputs: "ONCE")
        .add_task("t2", prompt="Say {t1}", deps=["t1"])
        .add_task("t3", prompt="Go on.", deps=["t1"])
    )
    await graph.compile().ainvoke({"inputs": {}})
    texts = ["\n".join(message.text for message in call.messages) for call in chat_model.calls]
    assert sorted(text.count("ONCE") for text in texts) == [1, 1]


async def test_a_view_that_cannot_fit_fails_its_task_with_a_code_Q16_Q17():
    chat_model = model()
    graph = RunGraph(model=chat_model).add_task(
        "t", prompt="word " * 500, context=ContextPolicy(max_tokens=50, strategy="fail")
    )
    error, _ = await failure_of(graph, "t")
    assert error.code == "context_overflow"
    assert chat_model.calls == []


async def test_an_input_that_cannot_be_bounded_fails_its_task_with_a_code_Q18():
    async def body(inputs):
        image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
        return (await guarded.ainvoke([HumanMessage([image])])).text

    from langchain_runtime import with_budget
    from langchain_runtime.ledgers import InMemoryLedger

    ledger, inner = InMemoryLedger(), model()
    guarded = with_budget(inner, None, ledger=ledger, catalog=ModelCatalog(CATALOG))
    error, _ = await failure_of(RunGraph(RunPolicy(budget_limit=Cost.usd(9))).add_task("t", body), "t", ledger=ledger)
    assert error.code == "estimation_failed"
    assert inner.calls == []


async def test_an_unknown_model_is_refused_before_anything_runs_Q19():
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(1)), model="openai:no-such-model").add_task("t", prompt="Hi")
    with pytest.raises(UnknownModelError):
        await graph.compile().ainvoke({"inputs": {}})


async def test_a_missing_named_output_fails_the_dependent_and_not_its_source_Q22():
    graph = (
        RunGraph().add_task("source", lambda inputs: "x").add_task("dependent", lambda inputs: 1, deps=["source.title"])
    )
    error, run = await failure_of(graph, "dependent")
    assert error.code == "invalid_input"
    assert "title" in error.message
    assert run.tasks["source"].state is TaskState.COMPLETED


async def test_spend_above_the_limit_is_recorded_and_the_output_kept_Z3_L6():
    chat_model = model(script=("word " * 5_000,), obeys_cap=False)
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(2)), model=chat_model).add_task(
        "t", prompt="Hi", max_output_tokens=1_100
    )
    output = await graph.compile(catalog=ModelCatalog(CATALOG)).ainvoke({"inputs": {}})
    usage = output["run"].usage
    assert usage.tokens.output == 5_000
    assert usage.cost == Cost.from_nano(usage.tokens.total * 10**6)
    assert output["results"]["t"].output.startswith("word")


async def test_a_body_gets_a_copy_of_its_inputs_Z23():
    seen = []

    def meddles(inputs):
        inputs["topic"] = "changed"

    graph = RunGraph().add_task("a", meddles).add_task("b", lambda inputs: seen.append(inputs["topic"]), deps=["a"])
    await graph.compile().ainvoke({"inputs": {"topic": "tea"}})
    assert seen == ["tea"]


@pytest.mark.parametrize("run_id", ["x/../../../evil", "../evil", "a/b", ".hidden", "x" * 200])
async def test_a_run_id_with_a_path_in_it_is_refused_Z24(run_id):
    graph = RunGraph().add_task("t", lambda inputs: 1).compile()
    with pytest.raises(InvalidInputError, match="run id"):
        await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": run_id}})


async def test_status_is_live_while_the_first_tasks_run_Z26_Q11():
    started, release = asyncio.Event(), asyncio.Event()

    async def body(inputs):
        started.set()
        await release.wait()

    graph = (
        RunGraph()
        .add_task("quick", lambda inputs: 1)
        .add_task("slow", body, deps=["quick"])
        .compile(checkpointer=InMemorySaver())
    )
    config = {"configurable": {"thread_id": "t", "run_id": "r"}}
    events = []

    async def follow():
        async for event in graph.astream({"inputs": {}}, config, stream_mode="custom"):
            events.append(parse_event(event))

    following = asyncio.create_task(follow())
    await started.wait()
    run = await graph.aget_run(config)
    assert run.tasks["quick"].state is TaskState.COMPLETED
    assert ("task_started", "slow") in {(event.kind, getattr(event, "task", None)) for event in events}
    release.set()
    await following


async def test_tasks_read_and_write_memory_during_a_run_P8():
    chat_model = model()

    async def writes(inputs, runtime):
        await runtime.memory.aput("mood", "cheerful")

    graph = RunGraph(model=chat_model).add_task("w", writes).add_task("p", prompt="Say ok.", deps=["w"])
    await graph.compile().ainvoke({"inputs": {}})
    assert any("cheerful" in message.text for message in chat_model.calls[0].messages)

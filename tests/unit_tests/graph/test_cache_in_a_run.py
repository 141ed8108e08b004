"""``add_task(cache=...)``: results of equal tasks in runs."""

import asyncio
import threading

import pytest
from langgraph.cache.sqlite import SqliteCache
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import CacheSpec, RunPolicy, RunState, TaskState
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import ScriptedChatModel

CATALOG = ModelCatalog({"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}})
POLICY = RunPolicy(budget_limit=Cost.usd(100))


def model(**fields):
    return ScriptedChatModel(provider="test", model="m", **fields)


def prompts(chat_model, *texts, **options):
    graph = RunGraph(POLICY, model=chat_model)
    for number, text in enumerate(texts):
        graph.add_task(f"t{number}", prompt=text, **{"cache": True, **options})
    return graph


def config(run_id):
    return {"configurable": {"run_id": run_id}}


class Held:
    """An async body that waits until it is let go, and counts how often it was begun."""

    def __init__(self):
        self.begun, self.started, self.go = 0, asyncio.Event(), asyncio.Event()

    async def __call__(self, inputs):
        self.begun += 1
        self.started.set()
        await self.go.wait()
        return {"sum": sum(inputs.get("numbers", []))}


async def test_equal_prompts_of_one_run_are_answered_by_one_call_and_paid_once():
    chat_model, ledger = model(), InMemoryLedger()
    graph = prompts(chat_model, "Say ok.", "Say ok.", "Say ok.", "Say no.").compile(ledger=ledger, catalog=CATALOG)
    output = await graph.ainvoke({"inputs": {}}, config("r"))
    run, results = output["run"], output["results"]
    assert run.state is RunState.COMPLETED
    assert len(chat_model.calls) == 2
    assert {result.output for result in results.values()} == {"ok"}
    taken = [task_id for task_id, result in results.items() if result.metadata.get("cached")]
    assert len(taken) == 2
    for task_id in taken:
        assert results[task_id].usage == Usage()
        assert results[task_id].model == "test:m"
        assert run.tasks[task_id].attempts == 1
    assert len(ledger.reservations("r")) == 2
    assert run.usage.cost == ledger.balance("run:r").spent
    assert {key: outcome.state for key, outcome in ledger.outcomes("r").items()} == dict.fromkeys(
        ("t0", "t1", "t2", "t3"), TaskState.COMPLETED
    )


async def test_an_earlier_run_has_done_the_work():
    chat_model, ledger = model(script=["first", "second"]), InMemoryLedger()
    graph = prompts(chat_model, "Say {what}.").compile(ledger=ledger, catalog=CATALOG)
    outputs = [
        (await graph.ainvoke({"inputs": {"what": what}}, config(f"r{number}")))["results"]["t0"]
        for number, what in enumerate(["this", "that", "this"])
    ]
    assert [result.output for result in outputs] == ["first", "second", "first"]
    assert [result.metadata.get("cached", False) for result in outputs] == [False, False, True]
    assert ledger.reservations("r2") == []


async def test_a_prompt_with_a_reply_format_is_taken_as_the_object_that_it_is():
    schema = {"title": "Order", "description": "An order.", "type": "object", "properties": {"n": {"type": "integer"}}}
    chat_model = model(script=[{"n": 2}])
    graph = prompts(chat_model, "Order.", "Order.", response_format=schema).compile(catalog=CATALOG)
    results = (await graph.ainvoke({"inputs": {}}))["results"]
    assert [result.output for result in results.values()] == [{"n": 2}] * 2
    assert len(chat_model.calls) == 1


async def test_without_cache_nothing_is_taken():
    chat_model = model()
    graph = prompts(chat_model, "Say ok.", "Say ok.", cache=False).compile(catalog=CATALOG)
    for _ in range(2):
        await graph.ainvoke({"inputs": {}})
    assert len(chat_model.calls) == 4


async def test_two_runs_at_once_share_the_work_of_a_body_and_another_input_is_other_work():
    body = Held()
    graph = RunGraph().add_task("t", body, cache=True).compile()
    runs = [asyncio.create_task(graph.ainvoke({"inputs": {"numbers": numbers}})) for numbers in ([1, 2], [1, 2], [3])]
    while body.begun < 2:
        await asyncio.sleep(0)
    body.go.set()
    results = [output["results"]["t"].output for output in await asyncio.gather(*runs)]
    assert results == [{"sum": 3}, {"sum": 3}, {"sum": 3}]
    assert body.begun == 2


async def test_a_run_that_is_aborted_leaves_the_work_to_another_that_waits_for_it():
    body = Held()
    graph = RunGraph().add_task("t", body, cache=True).compile(raise_on_failure=False)
    first = asyncio.create_task(graph.ainvoke({"inputs": {}}, config("first")))
    await body.started.wait()
    second = asyncio.create_task(graph.ainvoke({"inputs": {}}, config("second")))
    waiting = graph._execution.services.cache._under_way
    while not any(waiting.values()):
        await asyncio.sleep(0)
    assert graph.abort("first")
    assert (await first)["run"].state is RunState.ABORTED
    body.go.set()
    output = await second
    assert output["run"].state is RunState.COMPLETED
    assert not output["results"]["t"].metadata.get("cached")
    assert body.begun == 2


async def test_a_run_that_stops_waiting_does_not_stop_the_one_that_works():
    body = Held()
    graph = RunGraph().add_task("t", body, cache=True).compile(raise_on_failure=False)
    first = asyncio.create_task(graph.ainvoke({"inputs": {}}, config("first")))
    await body.started.wait()
    second = asyncio.create_task(graph.ainvoke({"inputs": {}}, config("second")))
    while not any(graph._execution.services.cache._under_way.values()):
        await asyncio.sleep(0)
    graph.abort("second")
    stopped = (await second)["run"]
    assert stopped.state is RunState.ABORTED
    body.go.set()
    assert (await first)["run"].state is RunState.COMPLETED
    assert body.begun == 1


def test_sync_runs_in_threads_share_the_work():
    begun, go, done = [], threading.Event(), []

    def body(inputs):
        begun.append(1)
        go.wait(30)
        return 1

    graph = RunGraph().add_task("t", body, cache=True).compile()
    threads = [threading.Thread(target=lambda: done.append(graph.invoke({"inputs": {}}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    under_way = graph._execution.services.cache._under_way
    while sum(len(waiting) for waiting in list(under_way.values())) < 3:
        threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert begun == [1]
    assert sorted(output["results"]["t"].metadata.get("cached", False) for output in done) == [False, True, True, True]


async def test_a_task_that_fails_is_tried_by_each_of_its_equals():
    begun = []

    def body(inputs):
        begun.append(1)
        raise ValueError("boom")

    graph = RunGraph().add_task("t", body, cache=True).compile(raise_on_failure=False)
    outputs = await asyncio.gather(*(graph.ainvoke({"inputs": {}}) for _ in range(3)))
    assert {output["run"].tasks["t"].error.message for output in outputs} == {"ValueError: boom"}
    assert len(begun) == 3


async def test_each_over_equal_items_does_the_work_once():
    begun = []

    def shout(inputs):
        begun.append(inputs["item"])
        return inputs["item"].upper()

    graph = RunGraph().add_task("words", lambda inputs: ["a", "b", "a", "a"])
    graph.add_task("shout", shout, deps=["words"], for_each=ForEach(task="words"), cache=True)
    graph.add_task("whisper", lambda inputs: inputs["shout"], deps=["shout"])
    output = await graph.compile().ainvoke({"inputs": {}})
    assert output["results"]["whisper"].output == ["A", "B", "A", "A"]
    assert sorted(begun) == ["a", "b"]


async def test_graphs_share_results_through_a_file(tmp_path):
    chat_models = [model(), model()]
    for chat_model in chat_models:
        graph = prompts(chat_model, "Say ok.", cache=CacheSpec(ttl_seconds=3600))
        await graph.compile(cache=SqliteCache(path=str(tmp_path / "cache.db")), catalog=CATALOG).ainvoke({"inputs": {}})
    assert [len(chat_model.calls) for chat_model in chat_models] == [1, 0]


async def test_what_was_taken_is_kept_by_its_own_run():
    body, broken = Held(), [True]
    body.go.set()

    def later(inputs):
        if broken[0]:
            raise ValueError("boom")
        return inputs["t"]

    graph = RunGraph().add_task("t", body, cache=True).add_task("later", later, deps=["t"])
    graph = graph.compile(checkpointer=InMemorySaver(), raise_on_failure=False)
    for thread in ("a", "b"):
        await graph.ainvoke({"inputs": {}}, {"configurable": {"thread_id": thread, "run_id": thread}})
    graph._execution.services.cache._cache.clear()
    broken[0] = False
    output = await graph.ainvoke(None, {"configurable": {"thread_id": "b"}})
    assert output["results"]["later"].output == {"sum": 0}
    assert output["results"]["t"].metadata["cached"]
    assert body.begun == 1


def test_a_senseless_cache_is_refused():
    with pytest.raises(InvalidInputError, match="cache"):
        RunGraph().add_task("t", len, cache="yes")

"""Rows of an earlier implementation: how whole runs behave. Kept, decided anew, or fixed where it was defective.

``docs/reference_rows.md`` lists all rows with their tests.
"""

import asyncio
import threading

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import ValidationError

from langchain_runtime.context import ContextBuilder, ContextCompactor, ContextRouter, MemoryManager
from langchain_runtime.contracts.budget import Settlement
from langchain_runtime.contracts.context import ContextBundle, ContextPolicy
from langchain_runtime.contracts.errors import (
    CurrencyMismatchError,
    DependencyNotFoundError,
    InvalidInputError,
    LedgerUnavailableError,
    RunCompletedError,
    RunFailedError,
    RunNotFoundError,
    UnknownModelError,
)
from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RetrySpec, RunPolicy, RunState, TaskOutcome, TaskResult, TaskState
from langchain_runtime.contracts.task_spec import TaskSpec
from langchain_runtime.cost import BudgetEnforcer, ModelCatalog, TokenEstimator
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger
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
    async with asyncio.timeout(5):  # until the stream has brought it, though the task still runs
        while ("task_started", "slow") not in {(event.kind, getattr(event, "task", None)) for event in events}:
            await asyncio.sleep(0.01)
    release.set()
    await following


async def test_tasks_read_and_write_memory_during_a_run_P8():
    chat_model = model()

    async def writes(inputs, runtime):
        await runtime.memory.aput("mood", "cheerful")

    graph = RunGraph(model=chat_model).add_task("w", writes).add_task("p", prompt="Say ok.", deps=["w"])
    await graph.compile().ainvoke({"inputs": {}})
    assert any("cheerful" in message.text for message in chat_model.calls[0].messages)


# --- the factory -----------------------------------------------------------------------------------------------------


def test_a_graph_compiles_with_nothing_but_its_tasks_S1():
    """Kept: everything else has a default."""
    graph = RunGraph().add_task("A", lambda inputs: "ok:A").compile()
    assert graph.invoke({"inputs": {}})["run"].state is RunState.COMPLETED


def test_a_task_with_nothing_to_do_is_refused_instead_of_pretending_F21_S2():
    """Decided: there is no default body that answers "executed: <id>" and charges for it."""
    with pytest.raises(InvalidInputError, match="task 'A' has nothing to do"):
        RunGraph().add_task("A").compile()


def test_a_catalogue_and_a_budget_may_be_in_euro_S3():
    """Kept."""
    prices = {"models": {"test:m": {"input": "1000", "output": "1000", "currency": "EUR", "max_output_tokens": 4096}}}
    graph = RunGraph(RunPolicy(budget_limit=Cost("100", "EUR")), model=model()).add_task("A", prompt="Hi")
    usage = graph.compile(catalog=ModelCatalog(prices)).invoke({"inputs": {}})["run"].usage
    assert usage.cost == Cost.from_nano(usage.tokens.total * 10**6, "EUR")


def test_another_currency_alone_does_not_relabel_prices_S4():
    """Decided: list prices are in dollars, and stay dollars."""
    graph = RunGraph(RunPolicy(budget_limit=Cost("100", "EUR")), model=model()).add_task("A", prompt="Hi")
    with pytest.raises(CurrencyMismatchError):
        graph.compile(catalog=ModelCatalog(CATALOG)).invoke({"inputs": {}})


def test_a_single_task_completes_with_its_output_and_its_tokens_S5():
    """Kept."""
    graph = RunGraph(model=model(script=("word " * 99 + "ok:A",))).add_task("A", prompt="Hi")
    run = graph.compile().invoke({"inputs": {}})["run"]
    assert run.state is RunState.COMPLETED
    assert run.tasks["A"].outputs.output.endswith("ok:A")
    assert run.usage.tokens.output == 100


# --- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2])
async def test_an_outcome_that_cannot_be_recorded_fails_its_task_with_the_ledgers_code_Q21(attempts):
    """Fixed: the code is the cause's, not ``budget_exceeded`` whatever the cause; it is worth another try."""

    class Hiccups(InMemoryLedger):
        refused = False

        async def arecord_outcome(self, run_id, outcome):
            if outcome.state is TaskState.COMPLETED and not self.refused:
                self.refused = True
                raise LedgerUnavailableError("the ledger is locked")
            await super().arecord_outcome(run_id, outcome)

    retry = RetrySpec(max_attempts=attempts, initial_interval_ms=1)
    graph = RunGraph().add_task("t", lambda inputs: "done", retry=retry)
    run = (await graph.compile(ledger=Hiccups(), raise_on_failure=False).ainvoke({"inputs": {}}))["run"]
    if attempts == 1:
        assert (run.state, run.tasks["t"].error.code) == (RunState.FAILED, "ledger_unavailable")
    else:
        assert (run.state, run.tasks["t"].outputs.output) == (RunState.COMPLETED, "done")


async def test_a_task_that_took_too_long_has_one_code_everywhere_Z27():
    """Fixed: ``task_timeout`` for task, event and run."""
    ledger = InMemoryLedger()
    graph = RunGraph().add_task("t", lambda inputs: threading.Event().wait(), timeout_ms=20).compile(ledger=ledger)
    with pytest.raises(RunFailedError, match="'t' did not end within 20 ms") as caught:
        await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
    [ended] = [event for _, event in ledger.events("r") if event.kind == "task_finished"]
    assert caught.value.run.tasks["t"].error.code == ended.error.code == ledger.outcome("r", "t").error.code
    assert ended.error.code == "task_timeout"


async def test_resuming_without_anything_to_resume_is_refused_F1():
    """Kept: no run is an error."""
    graph = RunGraph().add_task("t", lambda inputs: 1).compile(checkpointer=InMemorySaver())
    with pytest.raises(RunNotFoundError):
        await graph.ainvoke(None, {"configurable": {"thread_id": "nobody's"}})


async def test_a_run_is_not_scheduled_before_it_began_nor_after_it_ended_C2_D2():
    """Decided: a run that has ended is refused by its id, as what it is; nothing says so of a run that waits."""
    graph = RunGraph().add_task("t", lambda inputs: 1).compile()
    config = {"configurable": {"run_id": "r"}}
    await graph.ainvoke({"inputs": {}}, config)
    with pytest.raises(RunCompletedError, match="carried out before"):
        await graph.ainvoke({"inputs": {}}, config)


# --- context and money -----------------------------------------------------------------------------------------------


def completed(task, output):
    return TaskOutcome(task=task, state=TaskState.COMPLETED, output=output)


def test_routing_makes_a_new_mapping_and_writes_into_nothing_O6_O7_O9_O11():
    """Decided: there is no target to create, overwrite or preserve; each call gives the mapping of what it is given."""
    task = TaskSpec(id="t", prompt="Say {t1}.", deps=["t1"], metadata={"own": "key"})
    before = task.model_dump()
    assert ContextRouter().route(task, {"t1": completed("t1", "old")}) == {"t1": "old"}
    assert ContextRouter().route(task, {"t1": completed("t1", "new")}) == {"t1": "new"}
    assert task.model_dump() == before


async def test_prompt_and_inputs_reach_a_body_as_they_were_given_O11():
    """Kept."""
    seen = []
    graph = RunGraph().add_task("t1", lambda inputs: "one").add_task("t2", seen.append, deps=["t1"])
    await graph.compile().ainvoke({"inputs": {"topic": "tea", "other": [1]}})
    assert seen == [{"topic": "tea", "other": [1], "t1": "one"}]


@pytest.mark.parametrize("build", ["compile", "as_node"])
def test_a_source_or_target_that_is_not_there_is_refused_before_the_run_O3_O4_M11(build):
    """Fixed: refused when the graph is made, not when its turn has come."""
    graph = RunGraph().add_task("t1", lambda inputs: 1)
    if build == "compile":
        with pytest.raises(DependencyNotFoundError, match="'t3'"):
            graph.add_task("t2", lambda inputs: 1, deps=["t3"]).compile()
    else:
        with pytest.raises(InvalidInputError, match="no task 't3'"):
            graph.compile().as_node(inputs=lambda state: {}, output="t3")


NOTHING = {
    "K1": lambda: BudgetEnforcer(InMemoryLedger()).admit(None, [], shrink=lambda nano, tokens: None),
    "L1": lambda: InMemoryLedger().settle(None),
    "M10": lambda: ContextBuilder().build(None, inputs={}, routed={}, memory={}, tools={}),
    "N1": lambda: ContextCompactor().compact(None, ContextPolicy()),
    "N18-memory": lambda: ContextBundle(memory=None),
    "N18-tools": lambda: ContextBundle(tools=None),
    "O2": lambda: ContextRouter().route(None, {}),
    "P5-put": lambda: MemoryManager().put(None, "key", "value"),
    "P5-get": lambda: MemoryManager().get(None, "key"),
}


@pytest.mark.parametrize("call", NOTHING.values(), ids=NOTHING.keys())
def test_nothing_where_our_types_want_something_is_never_taken_for_something_K1_L1_M10_N1_N18_O2_P5(call):
    """Decided: type checkers refuse it; at run time it is an error of Python's, and no row of its own."""
    with pytest.raises((AttributeError, TypeError, ValidationError)):
        call()


def test_the_size_of_a_token_is_never_zero_N17():
    """Decided: refused instead of replaced by 4 (G10)."""
    with pytest.raises(InvalidInputError):
        ContextCompactor(TokenEstimator(bytes_per_token=0))


@pytest.mark.parametrize("currency", ["", None])
def test_every_amount_has_a_currency_and_it_is_the_dollar_unless_said_otherwise_K9_K10_L3(currency):
    """Decided: an amount without a currency matches none, so there is none."""
    assert Cost("10").currency == "USD"
    with pytest.raises(InvalidInputError, match="currency"):
        Cost("10", currency)


def test_what_is_settled_is_in_the_currency_of_its_hold_L7():
    """Fixed: a settlement cannot name another one, and a hold in another one is refused (K8)."""
    with pytest.raises(ValidationError, match="currency"):
        Settlement(reservation_id="x", nano=5, currency="EUR")

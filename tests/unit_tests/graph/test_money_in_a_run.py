"""A run and its budget: what is reserved, what is spent, what is refused, and who is asked."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.errors import (
    CurrencyMismatchError,
    RunAbortedError,
    RunFailedError,
    UnknownModelError,
    UnpricedModelError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunPolicy, RunState
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

# One dollar a thousand tokens either way: a call's worst case is its input bound plus its cap, in tenths of a cent.
CATALOG = {"models": {"test:m": {"input": "1000", "output": "1000", "max_output_tokens": 4096}}}
CAP = 1_000

both_modes = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])


def model(**fields):
    return ScriptedChatModel(provider="test", model="m", **fields)


def worst_case(prompt="Say ok."):
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(1000)), model=model()).add_task(
        "t", prompt=prompt, max_output_tokens=CAP
    )
    ledger = InMemoryLedger()
    graph.compile(ledger=ledger, catalog=ModelCatalog(CATALOG)).invoke(
        {"inputs": {}}, {"configurable": {"run_id": "w"}}
    )
    return ledger.reservations("w")[0].hold.nano


def prompts(count, policy, chat_model):
    graph = RunGraph(policy, model=chat_model)
    for number in range(count):
        graph.add_task(f"t{number}", prompt="Say ok.", max_output_tokens=CAP, priority=count - number)
    return graph


def limit(calls, spent=0):
    return Cost.from_nano(round(worst_case() * calls) + spent)


async def test_every_call_is_reserved_at_its_worst_case_and_settled_at_its_usage():
    ledger = InMemoryLedger()
    graph = prompts(2, RunPolicy(budget_limit=Cost.usd(100)), model()).compile(
        ledger=ledger, catalog=ModelCatalog(CATALOG)
    )
    run = (await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))["run"]
    balance = ledger.balance("run:r")
    assert balance.held_nano == 0
    assert balance.spent == run.usage.cost == sum((t.actual_use.cost for t in run.tasks.values()), Cost.usd(0))
    assert 0 < balance.spent_nano < worst_case()
    assert run.usage.tokens.output == 2
    reserved = [task.estimated_use.cost.nano for task in run.tasks.values()]
    assert reserved == [reservation.hold.nano for reservation in ledger.reservations("r")]


async def test_the_hold_made_at_dispatch_is_the_only_one_for_a_prompt():
    ledger = InMemoryLedger()
    graph = prompts(1, RunPolicy(budget_limit=Cost.usd(100)), model()).compile(
        ledger=ledger, catalog=ModelCatalog(CATALOG)
    )
    await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}})
    assert len(ledger.reservations("r")) == 1


async def test_the_cap_that_was_priced_is_the_cap_that_is_sent():
    chat_model = model(script=("word " * 5_000,))
    budget = Cost.from_nano(worst_case() + 100_000_000)
    graph = RunGraph(RunPolicy(budget_limit=budget), model=chat_model).add_task("t", prompt="Say ok.")
    output = await graph.compile(catalog=ModelCatalog(CATALOG)).ainvoke({"inputs": {}})
    sent = chat_model.calls[0].kwargs["max_tokens"]
    assert 1_024 <= sent < 4_096
    assert output["run"].usage.tokens.output == sent
    assert output["results"]["t"].metadata["lcr_capped"]
    assert output["run"].usage.cost <= budget


async def test_tasks_wait_for_one_another_instead_of_failing_while_money_is_only_held():
    together, peak = [0], [0]

    async def hook(call_no, chunk_no):
        if chunk_no == 0:
            together[0] += 1
            peak[0] = max(peak[0], together[0])
            await asyncio.sleep(0.01)
            together[0] -= 1

    chat_model = model(hook=hook)
    policy = RunPolicy(budget_limit=limit(2), on_exceed="raise", max_parallelism=6)
    run = (await prompts(6, policy, chat_model).compile(catalog=ModelCatalog(CATALOG)).ainvoke({"inputs": {}}))["run"]
    assert run.state is RunState.COMPLETED
    assert peak[0] <= 2
    assert len(chat_model.calls) == 6


async def test_when_money_has_run_out_the_task_fails_and_what_fits_has_run_R7_Q5():
    policy = RunPolicy(budget_limit=limit(1), on_exceed="raise", max_parallelism=1)
    chat_model = model(script=("word " * (CAP - 1),))
    with pytest.raises(RunFailedError) as caught:
        await prompts(3, policy, chat_model).compile(catalog=ModelCatalog(CATALOG)).ainvoke({"inputs": {}})
    run = caught.value.run
    assert {name: str(task.state) for name, task in run.tasks.items()} == {
        "t0": "completed",
        "t1": "failed",
        "t2": "failed",
    }
    assert run.tasks["t1"].error.code == "budget_exceeded"
    assert f"run:{run.id}" in run.tasks["t1"].error.message
    assert len(chat_model.calls) == 1
    assert run.usage.cost <= policy.budget_limit


async def test_warn_blocks_nothing_and_says_what_would_have_been_refused():
    ledger = InMemoryLedger()
    graph = prompts(2, RunPolicy(budget_limit=Cost.usd("0.000001"), on_exceed="warn"), model()).compile(
        ledger=ledger, catalog=ModelCatalog(CATALOG)
    )
    run = (await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))["run"]
    assert run.state is RunState.COMPLETED
    refused = [event for _, event in ledger.events("r") if event.kind == "budget_refused"]
    assert [event.action for event in refused] == ["warn", "warn"]


async def test_warn_blocks_a_model_that_nobody_knows_no_more_than_any_other():
    chat_model = ScriptedChatModel(model="unheard-of", max_tokens=CAP)
    graph = prompts(1, RunPolicy(budget_limit=Cost.usd("1"), on_exceed="warn"), chat_model).compile()
    run = (await graph.ainvoke({"inputs": {}}))["run"]
    assert run.state is RunState.COMPLETED
    assert run.usage.cost is None


@both_modes
async def test_a_human_tops_up_twice_and_every_task_is_bought_once(mode):
    chat_model = model(script=("word " * (CAP - 1),))
    policy = RunPolicy(budget_limit=limit(1), on_exceed="interrupt", max_parallelism=4)
    ledger = InMemoryLedger()
    graph = prompts(4, policy, chat_model).compile(
        ledger=ledger, catalog=ModelCatalog(CATALOG), checkpointer=InMemorySaver(), mode=mode
    )
    config = {"configurable": {"thread_id": "t", "run_id": "r"}}
    output = await graph.ainvoke({"inputs": {}}, config)
    question = output["__interrupt__"][0].value
    assert question["type"] == "budget_exceeded"
    assert (question["scope"], question["currency"], question["waiting"]) == ("run:r", "USD", ["t1", "t2", "t3"])
    assert Cost(question["limit"]) == policy.budget_limit
    more = str(Cost.from_nano(worst_case()).amount)
    output = await graph.ainvoke(Command(resume={"add": more}), config)
    assert output["__interrupt__"][0].value["waiting"] == ["t2", "t3"]
    output = await graph.ainvoke(Command(resume={"add": "1000"}), config)
    assert output["run"].state is RunState.COMPLETED
    assert len(chat_model.calls) == 4
    balance = ledger.balance("run:r")
    assert balance.spent == output["run"].usage.cost
    assert balance.limit == policy.budget_limit + Cost(more) + Cost.usd(1000)


@both_modes
async def test_a_human_may_end_the_run_instead(mode):
    policy = RunPolicy(budget_limit=limit(1), on_exceed="interrupt", max_parallelism=1)
    graph = prompts(2, policy, model(script=("word " * (CAP - 1),))).compile(
        catalog=ModelCatalog(CATALOG), checkpointer=InMemorySaver(), mode=mode
    )
    config = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"inputs": {}}, config)
    with pytest.raises(RunAbortedError) as caught:
        await graph.ainvoke(Command(resume={"stop": True}), config)
    assert caught.value.reason == "stopped"
    assert list(caught.value.results) == ["t0"]


@pytest.mark.parametrize("answer", ["yes please", {"add": 0.5}, {"add": "-1"}, {"add": "much"}, None], ids=str)
@both_modes
async def test_after_an_answer_of_no_use_the_question_is_asked_again(answer, mode):
    policy = RunPolicy(budget_limit=Cost.usd("0.01"), on_exceed="interrupt")
    graph = prompts(1, policy, model()).compile(catalog=ModelCatalog(CATALOG), checkpointer=InMemorySaver(), mode=mode)
    config = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"inputs": {}}, config)
    question = (await graph.ainvoke(Command(resume={"not": answer}), config))["__interrupt__"][0].value
    assert "cannot use the answer" in question["problem"]
    question = (await graph.ainvoke(Command(resume=answer or "no"), config))["__interrupt__"][0].value
    assert str(answer or "no") in question["problem"]
    assert question["needs"]
    run = (await graph.ainvoke(Command(resume={"add": "10"}), config))["run"]
    assert run.state is RunState.COMPLETED


async def test_calls_charge_the_run_the_graphs_budgets_and_every_enclosing_scope():
    ledger = InMemoryLedger()
    budgets = [Budget.usd(100, scope="tenant"), Budget.usd(50, scope="user")]
    graph = prompts(1, RunPolicy(), model()).compile(ledger=ledger, catalog=ModelCatalog(CATALOG), budgets=budgets[:1])
    with budget_scope(Budget.usd(10, scope="block"), ledger=ledger) as block:
        await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r", "budgets": budgets[1:]}})
    spent = ledger.balance("run:r").spent
    assert spent.nano > 0
    assert [ledger.balance(name).spent for name in ("tenant", "user", "block")] == [spent] * 3
    assert block.spent == spent


async def test_model_calls_of_a_function_body_charge_the_run():
    inner, ledger = model(), InMemoryLedger()

    async def body(inputs):
        return (await budgeted.ainvoke("hello")).text

    from langchain_runtime.chat_models import with_budget

    budgeted = with_budget(inner, None, ledger=ledger, catalog=ModelCatalog(CATALOG))
    graph = (
        RunGraph(RunPolicy(budget_limit=Cost.usd(100)))
        .add_task("t", body)
        .compile(ledger=ledger, catalog=ModelCatalog(CATALOG))
    )
    run = (await graph.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))["run"]
    assert ledger.balance("run:r").spent == run.usage.cost == run.tasks["t"].actual_use.cost
    assert run.usage.cost.nano > 0


async def test_a_model_without_a_price_runs_without_a_limit_and_its_cost_is_unknown():
    graph = RunGraph(model=ScriptedChatModel(provider="nobody", model="new")).add_task("t", prompt="Say ok.")
    run = (await graph.compile().ainvoke({"inputs": {}}))["run"]
    assert run.usage.tokens.output == 1
    assert run.usage.cost is None
    assert run.tasks["t"].actual_use.cost is None


@pytest.mark.parametrize(
    ("policy", "chat_model", "catalog", "error"),
    [
        (RunPolicy(budget_limit=Cost.usd(1)), "openai:gpt-nope", {}, UnknownModelError),
        (
            RunPolicy(budget_limit=Cost.usd(1)),
            "acme:free",
            {"models": {"acme:free": {"context_window": 9}}},
            UnpricedModelError,
        ),
        (RunPolicy(budget_limit=Cost("1", "EUR")), "test:m", CATALOG, CurrencyMismatchError),
        (RunPolicy(), "no-provider", {}, UnknownModelError),
    ],
    ids=["H6 Z25", "unpriced", "Z7", "no provider"],
)
async def test_a_run_that_could_not_be_charged_is_refused_before_anything_runs(policy, chat_model, catalog, error):
    ran = []
    graph = (
        RunGraph(policy, model=chat_model).add_task("first", lambda inputs: ran.append(1)).add_task("t", prompt="Hi")
    )
    with pytest.raises(error):
        await graph.compile(catalog=ModelCatalog(catalog)).ainvoke({"inputs": {}})
    assert ran == []


@both_modes
async def test_a_call_that_can_be_capped_waits_for_what_its_siblings_hold(mode):
    """The first of them holds all there is, under a smaller cap; the others need not fail for that."""
    policy = RunPolicy(budget_limit=limit(0.9), on_exceed="cap", min_output_tokens=10)
    graph = prompts(3, policy, model()).compile(catalog=ModelCatalog(CATALOG), mode=mode)
    output = await graph.ainvoke({"inputs": {}})
    assert output["run"].state is RunState.COMPLETED
    assert output["run"].usage.cost <= policy.budget_limit
    assert graph.plan().over_budget[0].then == "capped"


async def test_a_plan_spends_nothing_and_agrees_with_the_limit():
    chat_model = model()
    graph = prompts(3, RunPolicy(budget_limit=Cost.usd(1)), chat_model).add_task("sum", lambda inputs: 1, deps=["t0"])
    plan = graph.compile(catalog=ModelCatalog(CATALOG)).plan()
    assert chat_model.calls == []
    assert [task.id for task in plan.tasks] == ["t0", "t1", "sum", "t2"]  # two worst cases fit, the third has to wait
    assert plan.worst_cost > plan.expected_cost > Cost.usd(0)
    assert plan.worst_cost >= Cost.from_nano(3 * CAP * 10**6)
    assert "above the limit" in plan.to_text()


@both_modes
async def test_a_top_up_does_not_buy_a_failed_task_again(mode):
    calls = []

    def fails(inputs):
        calls.append(1)
        raise ValueError("boom")

    policy = RunPolicy(budget_limit=limit(1), on_exceed="interrupt", max_parallelism=1)
    graph = (
        prompts(2, policy, model(script=("word " * (CAP - 1),)))
        .add_task("bad", fails, priority=99)
        .compile(catalog=ModelCatalog(CATALOG), checkpointer=InMemorySaver(), mode=mode, raise_on_failure=False)
    )
    config = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"inputs": {}}, config)
    run = (await graph.ainvoke(Command(resume={"add": "1000"}), config))["run"]
    assert {name: str(task.state) for name, task in run.tasks.items()} == {
        "t0": "completed",
        "t1": "completed",
        "bad": "failed",
    }
    assert len(calls) == 1

"""``on_exceed="downgrade"``: a prompt that does not fit is answered by the next cheaper model that does."""

import asyncio
from collections import Counter

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Hold, Scope
from langchain_runtime.contracts.errors import RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunPolicy, RunState
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.report import RunReport
from langchain_runtime.testing import ScriptedChatModel

# USD per million tokens, either way. With a cap of 1,000 a call of `large` can cost a little more than a dollar.
PRICES = {"test:large": 1000, "test:middle": 100, "test:small": 10, "other:small": 10, "extractive": 1}
CATALOG = ModelCatalog(
    {
        "models": {
            name: {"input": str(price), "output": str(price), "max_output_tokens": 4096, "context_window": 100_000}
            for name, price in PRICES.items()
        }
    }
)
CAP = 1_000
LADDER = ("test:large", "test:middle", "test:small")
LONG = "word " * (CAP - 1)


class OtherChatModel(ScriptedChatModel):
    """Another provider's class."""


def scripted(name, **fields):
    return ScriptedChatModel(provider="test", model=name, **fields)


def team(**fields):
    return {f"test:{name}": scripted(name, **fields) for name in ("large", "middle", "small")}


def policy(limit, **fields):
    limit = None if limit is None else Cost.usd(limit)
    return RunPolicy(**{"budget_limit": limit, "on_exceed": "downgrade", "ladder": LADDER, **fields})


def prompts(count, run_policy, model="test:large"):
    graph = RunGraph(run_policy, model=model)
    for number in range(count):
        graph.add_task(f"t{number:02}", prompt="Say ok.", max_output_tokens=CAP, priority=count - number)
    return graph


def config(**more):
    return {"configurable": {"thread_id": "r", "run_id": "r", **more}}


async def run_of(graph, *, ledger=None, models=None, **options):
    compiled = graph.compile(
        ledger=ledger or InMemoryLedger(), catalog=CATALOG, models=models, raise_on_failure=False, **options
    )
    return await compiled.ainvoke({"inputs": {}}, config())


def calls(models):
    return {name.partition(":")[2]: len(model.calls) for name, model in models.items()}


def models_of(run):
    return {task_id: task.model for task_id, task in run.tasks.items()}


def refusals(ledger):
    events = [event for _, event in ledger.events("r") if event.kind == "budget_refused"]
    return [(event.task, event.action) for event in events]


# --- down the ladder -------------------------------------------------------------------------------------------------


async def test_where_only_the_cheaper_model_fits_it_answers_and_everything_names_it():
    models, ledger = team(), InMemoryLedger()
    output = await run_of(prompts(2, policy("0.50")), ledger=ledger, models=models)
    run = output["run"]
    assert run.state is RunState.COMPLETED
    assert calls(models) == {"large": 0, "middle": 2, "small": 0}
    assert models_of(run) == {"t00": "test:middle", "t01": "test:middle"}
    assert {result.model for result in output["results"].values()} == {"test:middle"}
    assert {outcome.model for outcome in ledger.outcomes("r").values()} == {"test:middle"}
    assert {reservation.hold.model for reservation in ledger.reservations("r")} == {"test:middle"}
    named = {event.model for _, event in ledger.events("r") if hasattr(event, "model")}
    assert named == {"test:middle"}
    assert run.usage.cost == ledger.balance("run:r").spent < Cost.usd("0.50")


async def test_each_step_down_is_told_once_and_the_report_shows_it():
    ledger = InMemoryLedger()
    run = (await run_of(prompts(1, policy("0.05")), ledger=ledger, models=team()))["run"]
    assert refusals(ledger) == [("t00", "downgrade")] * 2
    assert models_of(run) == {"t00": "test:small"}
    report = RunReport(run, balance=ledger.balance("run:r"), events=[event for _, event in ledger.events("r")])
    assert "a call was moved to a cheaper model by budget run:r\n    t00 (2 times)" in report.to_text()
    assert report.to_json()["tasks"]["t00"]["model"] == "test:small"


async def test_the_task_that_no_model_can_do_fails_as_under_raise_and_nothing_is_sent():
    models, ledger = team(), InMemoryLedger()
    run = (await run_of(prompts(1, policy("0.001")), ledger=ledger, models=models))["run"]
    assert run.state is RunState.FAILED
    assert run.tasks["t00"].error.code == "budget_exceeded"
    assert "a call of test:small needs up to" in run.tasks["t00"].error.message
    assert refusals(ledger) == [("t00", "downgrade"), ("t00", "downgrade"), ("t00", "raise")]
    assert calls(models) == {"large": 0, "middle": 0, "small": 0}
    assert ledger.balance("run:r").spent_nano == ledger.balance("run:r").held_nano == 0
    assert run.tasks["t00"].attempts == 1


async def test_one_after_the_other_takes_the_best_model_that_still_fits():
    models = team(script=(LONG,))
    run_policy = policy("1.20", max_parallelism=1)
    run = (await run_of(prompts(6, run_policy), models=models))["run"]
    assert [task.model.partition(":")[2] for task in run.tasks.values()] == ["large", "middle", *["small"] * 4]
    assert run.usage.cost <= run_policy.budget_limit


async def test_the_whole_worst_case_is_tried_on_each_model_and_no_reply_is_shortened():
    models = team()
    await run_of(prompts(1, policy("0.50", min_output_tokens=1)), models=models)
    assert models["test:middle"].calls[0].kwargs["max_tokens"] == CAP


async def test_a_task_starts_from_its_own_place_on_the_ladder():
    models = team()
    graph = prompts(1, policy("100"), model="test:middle").add_task("own", prompt="Say ok.", model="test:small")
    run = (await run_of(graph, models=models))["run"]
    assert models_of(run) == {"t00": "test:middle", "own": "test:small"}


async def test_a_task_whose_model_is_not_on_the_ladder_stays_there():
    ledger = InMemoryLedger()
    other = OtherChatModel(provider="other", model="small")
    run = (await run_of(prompts(1, policy("0.000001"), model=other), ledger=ledger, models=team()))["run"]
    assert run.tasks["t00"].error.code == "budget_exceeded"
    assert refusals(ledger) == [("t00", "raise")]


async def test_a_prompt_moves_to_another_class_of_another_provider():
    large, small = scripted("large"), OtherChatModel(provider="other", model="small")
    graph = prompts(1, policy("0.50", ladder=()), model=large)
    output = await run_of(graph, ladder=[large, small])
    assert (len(large.calls), len(small.calls)) == (0, 1)
    assert output["results"]["t00"].model == "other:small"


async def test_the_offline_model_can_be_the_last_step():
    graph = prompts(0, policy("0.003", ladder=("test:large", "extractive")))
    document = '<document id="dogs">\nDogs bark at night and guard the house well.\n</document>'
    graph.add_task("t", prompt=f"{document}\nQuestion: What do dogs do at night?", max_output_tokens=CAP)
    output = await run_of(graph, models=team())
    assert output["results"]["t"].model == "extractive"
    assert "Dogs bark" in output["results"]["t"].output


async def test_any_object_that_knows_what_is_below_is_a_ladder():
    class ByName:
        def below(self, model):
            return "test:small" if model == "test:large" else None

    output = await run_of(prompts(1, policy("0.50", ladder=())), models=team(), ladder=ByName())
    assert output["results"]["t00"].model == "test:small"


async def test_what_compile_is_given_stands_before_the_ladder_of_the_policy():
    output = await run_of(prompts(1, policy("0.50")), models=team(), ladder=["test:large", "test:small"])
    assert output["results"]["t00"].model == "test:small"


async def test_a_budget_of_the_graph_may_wish_it_too():
    run_policy = policy(None, on_exceed="raise")
    tenant = Budget.usd("0.50", scope="tenant", on_exceed="downgrade")
    ledger = InMemoryLedger()
    output = await run_of(prompts(1, run_policy), ledger=ledger, models=team(), budgets=[tenant])
    assert output["results"]["t00"].model == "test:middle"
    assert refusals(ledger) == [("t00", "downgrade")]


async def test_a_budget_that_only_raises_does_not_keep_a_run_from_moving():
    tenant = Budget.usd("0.50", scope="tenant", on_exceed="raise")
    output = await run_of(prompts(1, policy("100")), models=team(), budgets=[tenant])
    assert output["results"]["t00"].model == "test:middle"


async def test_a_human_is_asked_only_when_the_ladder_has_come_to_its_end():
    tenant = Budget.usd("0.001", scope="tenant", on_exceed="downgrade")
    models, ledger = team(), InMemoryLedger()
    graph = prompts(1, policy(None, on_exceed="interrupt")).compile(
        ledger=ledger, catalog=CATALOG, models=models, budgets=[tenant], checkpointer=InMemorySaver()
    )
    output = await graph.ainvoke({"inputs": {}}, config())
    assert output["__interrupt__"][0].value["scope"] == "tenant"
    assert refusals(ledger) == [("t00", "downgrade"), ("t00", "downgrade"), ("t00", "interrupt")]
    output = await graph.ainvoke(Command(resume={"add": "100"}), config())
    assert output["run"].state is RunState.COMPLETED
    assert sum(calls(models).values()) == 1


# --- waiting before moving -------------------------------------------------------------------------------------------


async def test_a_task_waits_for_its_siblings_rather_than_take_a_lesser_model():
    models, ledger = team(), InMemoryLedger()
    run = (await run_of(prompts(6, policy("1.20", max_parallelism=6)), ledger=ledger, models=models))["run"]
    assert calls(models) == {"large": 6, "middle": 0, "small": 0}
    assert run.state is RunState.COMPLETED
    assert {action for _, action in refusals(ledger)} == {"wait"}


async def test_waiting_is_told_once_however_often_it_is_tried_in_vain():
    release = asyncio.Event()

    async def hook(call_no, chunk_no):
        if call_no == 0:
            await release.wait()

    ledger = InMemoryLedger()
    graph = prompts(2, policy("1.20", max_parallelism=8), model="test:large")
    for number in range(5):  # each end lets the waiting task try again
        graph.add_task(f"tick{number}", lambda inputs: 1, deps=[f"tick{number - 1}"] if number else [])
    graph.add_task("last", lambda inputs: release.set(), deps=["tick4"])
    output = await run_of(graph, ledger=ledger, models=team(hook=hook))
    assert output["run"].state is RunState.COMPLETED
    assert refusals(ledger) == [("t01", "wait")]


async def test_patience_that_is_at_an_end_takes_the_lesser_model():
    release = asyncio.Event()

    async def hold(call_no, chunk_no):
        await release.wait()

    async def let_go(call_no, chunk_no):
        release.set()

    models = team() | {"test:large": scripted("large", hook=hold), "test:middle": scripted("middle", hook=let_go)}
    run_policy = policy("1.50", wait_timeout_ms=0, max_parallelism=2)
    run = (await run_of(prompts(2, run_policy), models=models))["run"]
    assert models_of(run) == {"t00": "test:large", "t01": "test:middle"}


async def test_money_that_another_process_holds_is_not_waited_for():
    ledger = InMemoryLedger()
    ledger.open_scope(Scope.of(Budget.usd("1.20", scope="tenant")))
    ledger.reserve(Hold(scopes=("tenant",), nano=10**9, holder="another process"))
    tenant = Budget.usd("1.20", scope="tenant", on_exceed="raise")
    output = await run_of(prompts(1, policy("100")), ledger=ledger, models=team(), budgets=[tenant])
    assert output["results"]["t00"].model == "test:middle"


# --- what a moved task is given --------------------------------------------------------------------------------------


@pytest.fixture
def narrow():
    """``test:middle`` with a window of 2,000 tokens."""
    models = {
        name: {"input": str(price), "output": str(price), "max_output_tokens": 4096, "context_window": 100_000}
        for name, price in PRICES.items()
    }
    models["test:middle"]["context_window"] = 2_000
    return ModelCatalog({"models": models})


async def test_the_view_is_made_anew_for_the_window_of_the_model(narrow):
    models, ledger = team(), InMemoryLedger()
    graph = RunGraph(policy("1.50"), model="test:large")
    graph.add_task("facts", lambda inputs: "fact " * 6_000)
    graph.add_task("t", prompt="Say ok.", deps=["facts"], max_output_tokens=200)
    compiled = graph.compile(ledger=ledger, catalog=narrow, models=models)
    await compiled.ainvoke({"inputs": {}}, config())
    [call] = models["test:middle"].calls
    assert sum(len(message.text) for message in call.messages) < 2_000 * 5
    [compacted] = [event for _, event in ledger.events("r") if event.kind == "context_compacted"]
    assert compacted.tokens_after <= 2_000 < compacted.tokens_before


async def test_a_model_whose_window_is_too_small_is_passed_over(narrow):
    models = team()
    graph = RunGraph(policy("3"), model="test:large", inputs={"text": "x " * 4_000})
    graph.add_task("t", prompt="Say ok. {text}", max_output_tokens=200)
    compiled = graph.compile(catalog=narrow, models=models)
    output = await compiled.ainvoke({"inputs": {}}, config())
    assert output["results"]["t"].model == "test:small"
    assert calls(models) == {"large": 0, "middle": 0, "small": 1}


async def test_the_next_try_of_a_moved_task_stays_on_its_model():
    models = team() | {"test:middle": scripted("middle", script=(ConnectionResetError("reset"), "ok"))}
    ledger = InMemoryLedger()
    retry = RetrySpec(max_attempts=2, initial_interval_ms=0)
    run = (await run_of(prompts(1, policy("0.50", retry=retry)), ledger=ledger, models=models))["run"]
    assert (run.tasks["t00"].model, run.tasks["t00"].attempts) == ("test:middle", 2)
    assert refusals(ledger) == [("t00", "downgrade")]


async def test_ceilings_of_a_model_hold_for_tasks_that_were_moved_to_it():
    together, peak, pairs = [0], [0], asyncio.Barrier(2)

    async def hook(call_no, chunk_no):
        together[0] += 1
        peak[0] = max(peak[0], together[0])
        await pairs.wait()
        together[0] -= 1

    models = team() | {"test:middle": scripted("middle", hook=hook)}
    run_policy = policy("0.90", per_model={"test:middle": ModelLimits(parallelism=2)}, max_parallelism=8)
    graph = prompts(5, run_policy).add_task("native", prompt="Say ok.", model="test:middle", max_output_tokens=CAP)
    run = (await run_of(graph, models=models))["run"]
    assert calls(models) == {"large": 0, "middle": 6, "small": 0}
    assert run.state is RunState.COMPLETED
    assert peak[0] == 2


# --- many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_twenty_tasks_never_pass_the_limit_and_use_what_there_is(kind, tmp_path):
    ledger = InMemoryLedger() if kind == "memory" else SqliteLedger(tmp_path / "ledger.db")
    most = []

    async def hook(call_no, chunk_no):
        await asyncio.sleep(0)
        balance = await ledger.abalance("run:r")
        most.append(balance.spent_nano + balance.held_nano)

    models = team(script=(LONG,), hook=hook)
    run_policy = policy("4.00", max_parallelism=20)
    run = (await run_of(prompts(20, run_policy), ledger=ledger, models=models))["run"]
    limit = run_policy.budget_limit
    served = Counter(task.model for task in run.tasks.values())
    assert run.state is RunState.COMPLETED
    # Nobody moves while a sibling's hold is all that stands in the way: each model is used until it is out of reach.
    assert served == {"test:large": 3, "test:middle": 9, "test:small": 8}
    assert {f"test:{name}": count for name, count in calls(models).items()} == served
    assert max(most) <= limit.nano
    balance = ledger.balance("run:r")
    assert balance.spent == run.usage.cost == sum((t.actual_use.cost for t in run.tasks.values()), Cost.usd(0))
    assert balance.spent_nano <= limit.nano
    assert (balance.held_nano, balance.overdrawn_nano) == (0, 0)
    assert len(ledger.reservations("r")) == 20
    ledger.close()


# --- calls that the graph does not make ------------------------------------------------------------------------------


async def test_a_body_whose_model_has_no_ladder_fails_with_the_refusal():
    model = scripted("large")
    ledger = InMemoryLedger()
    budgeted = with_budget(model, None, ledger=ledger, catalog=CATALOG)

    async def body(inputs):
        return (await budgeted.ainvoke("Say ok.", max_tokens=CAP)).text

    graph = RunGraph(policy("0.50", ladder=())).add_task("t", body)
    with pytest.raises(RunFailedError, match="does not fit budget 'run:r'") as caught:
        await graph.compile(ledger=ledger, catalog=CATALOG).ainvoke({"inputs": {}}, config())
    assert caught.value.run.tasks["t"].error.code == "budget_exceeded"
    assert model.calls == []


async def test_a_body_whose_model_has_a_ladder_of_its_own_goes_down_that():
    model, ledger = scripted("large"), InMemoryLedger()
    budgeted = with_budget(model, None, ledger=ledger, catalog=CATALOG, ladder=LADDER)

    async def body(inputs):
        return (await budgeted.ainvoke("Say ok.", max_tokens=CAP)).text

    run = (await run_of(RunGraph(policy("0.50", ladder=())).add_task("t", body), ledger=ledger))["run"]
    assert run.state is RunState.COMPLETED
    assert {reservation.hold.model for reservation in ledger.reservations("r")} == {"test:middle"}
    assert len(model.calls) == 1


async def test_a_prompt_with_a_reply_format_is_moved_by_its_wrapper_within_its_provider():
    models = team(script=({"title": "ok"},))
    ledger = InMemoryLedger()
    schema = {"title": "answer", "type": "object", "properties": {"title": {"type": "string"}}}
    ladder = ("test:large", "other:small", "test:small")
    graph = RunGraph(policy("0.50", ladder=ladder), model="test:large")
    graph.add_task("t", prompt="Say ok.", response_format=schema)
    output = await run_of(graph, ledger=ledger, models=models)
    assert output["results"]["t"].output == {"title": "ok"}
    assert {reservation.hold.model for reservation in ledger.reservations("r")} == {"test:small"}

"""What a finished run would have taken and cost under other settings, on records made by hand and on real runs."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_runtime import Cost, RunGraph, RunPolicy, Usage
from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError
from langchain_runtime.contracts.run import ModelLimits, Run, RunState, Task, TaskResult, TaskState
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import CostCalculator, ModelCatalog
from langchain_runtime.graph.list_prices import ListPrices, other_prices
from langchain_runtime.graph.what_if import what_if
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

T0 = datetime(2026, 11, 23, tzinfo=UTC)
BIG, SMALL, FREE = "acme:big", "acme:small", "acme:unpriced"
OVERLAY = {
    "models": {
        BIG: {"input": "10", "output": "30", "cache_read": "1"},
        SMALL: {"input": "1", "output": "3", "tiers": [{"above": 5000, "input": "2", "output": "6"}]},
        "acme:euro": {"input": "1", "output": "1", "currency": "EUR"},
    }
}
CATALOG = ModelCatalog(OVERLAY)
PRICES = ListPrices(CATALOG, CostCalculator(CATALOG))
TOKENS = TokenUsage(input=1000, output=100)
BIG_COST, SMALL_COST = Cost.usd("0.013"), Cost.usd("0.0013")


def usage(cost=BIG_COST, tokens=TOKENS):
    return Usage(tokens=tokens, cost=cost)


def ran(task_id, start, end, *deps, **fields):
    given = {"id": task_id, "deps": list(deps), "model": BIG, "actual_use": usage(), "attempts": 1, **fields}
    times = {"started_at": T0 + timedelta(seconds=start), "ended_at": T0 + timedelta(seconds=end)}
    return Task(**{"state": TaskState.COMPLETED, **times, **given})


def run_of(*tasks, state=RunState.COMPLETED, **policy):
    used = sum((task.actual_use for task in tasks if task.actual_use is not None), Usage())
    given = {"max_parallelism": 2, **policy}
    return Run(id="r1", state=state, policy=RunPolicy(**given), tasks={task.id: task for task in tasks}, usage=used)


@pytest.fixture
def run():
    """Two slots, 48 s: four calls of 12 s one after the other two at a time, then 24 s."""
    calls = [ran(f"call{i}", 12 * (i // 2), 12 * (i // 2 + 1)) for i in range(4)]
    return run_of(*calls, ran("end", 24, 48, *(call.id for call in calls), model=SMALL, actual_use=usage(SMALL_COST)))


def ask(run, **asked):
    return what_if(run, PRICES, **asked)


def says(found, words):
    return any(words in sentence for sentence in found.assumptions)


# --- the answer ------------------------------------------------------------------------------------------------------


def test_a_question_without_other_settings_replays_the_run(run):
    found = ask(run)
    assert found.before == found.replayed == found.after
    assert (found.before.makespan_seconds, found.before.cost) == (48, Cost.usd("0.0533"))
    assert (found.tasks, found.changes, found.assumptions) == ((), (), ())
    assert found.to_text().splitlines() == [
        "run r1 took 48 s and 0.0533 USD, 2 at a time",
        "replayed as it was: 48 s and 0.0533 USD",
        "",
        "critical path: call1 > call3 > end",
    ]


def test_more_at_a_time_is_faster_and_costs_as_much(run):
    found = ask(run, max_parallelism=4)
    assert (found.after.max_parallelism, found.after.makespan_seconds, found.after.cost) == (4, 36, found.before.cost)
    assert (found.tasks, found.assumptions) == ((), ())
    assert "with 4 at a time: 36 s and 0.0533 USD" in str(found)
    assert ask(run, max_parallelism=1).after.makespan_seconds == 72


def test_another_model_costs_what_the_same_tokens_do(run):
    found = ask(run, models={BIG: SMALL}, seconds_on=lambda task, model: 6.0 if model == SMALL else None)
    assert found.after.cost == Cost.usd("0.0065")
    assert found.after.makespan_seconds == 36
    assert [task.id for task in found.tasks] == ["call0", "call1", "call2", "call3"]
    changed = found.tasks[0]
    assert (changed.model_before, changed.model_after) == (BIG, SMALL)
    assert (changed.seconds_before, changed.seconds_after) == (12, 6)
    assert (changed.cost_before, changed.cost_after) == (BIG_COST, SMALL_COST)
    text = found.to_text()
    assert "with acme:small instead of acme:big on 4 tasks: 36 s and 0.0065 USD" in text
    assert "call0  acme:big -> acme:small  12 -> 6  0.013 USD -> 0.0013 USD" in text
    assert says(found, "another model is taken to read and write as many tokens")


def test_a_duration_that_nobody_knows_stays_as_it_was(run):
    found = ask(run, models={BIG: SMALL})
    assert found.after.makespan_seconds == 48
    assert says(found, "how fast acme:small answers is not known: 4 tasks last as long as they did")


def test_what_is_not_known_is_not_zero(run):
    found = ask(run, models={"call0": FREE})
    assert found.after.cost is None
    assert [task.cost_after for task in found.tasks] == [None]
    assert says(found, "no price is known for acme:unpriced")
    assert "at unknown cost" in str(found)


def test_other_prices_price_the_same_tokens(run, tmp_path):
    asked = {"models": {SMALL: {"input": "2", "output": "6"}}}
    found = ask(run, prices=asked)
    assert found.after.cost == Cost.usd("0.0546")  # only what the overlay names
    assert [(task.id, str(task.cost_after)) for task in found.tasks] == [("end", "0.0026 USD")]
    assert "with other prices: 48 s and 0.0546 USD" in str(found)
    file = tmp_path / "prices.yaml"
    file.write_text('models: {"acme:small": {input: "2", output: "6"}}')
    assert ask(run, prices=file).after == ask(run, prices=str(file)).after == found.after
    catalog = ModelCatalog({"models": {BIG: {"input": "1", "output": "1"}}})
    assert ask(run, prices=catalog, models={SMALL: BIG}).after.cost == Cost.usd("0.0055")
    assert ask(run, prices=catalog).after.cost is None


def test_other_prices_and_models_go_together(run):
    found = ask(run, models={BIG: FREE}, prices={"models": {FREE: {"input": "0", "output": "1"}}})
    assert found.after.cost == Cost.usd("0.0017")
    assert found.changes == ("acme:unpriced instead of acme:big on 4 tasks", "other prices")


# --- which tasks -----------------------------------------------------------------------------------------------------


def moved(found):
    return {task.id: task.model_after for task in found.tasks}


def test_a_tasks_own_entry_wins(run):
    assert moved(ask(run, models={BIG: SMALL, "call1": FREE, "call2": BIG})) == {
        "call0": SMALL,
        "call1": FREE,
        "call3": SMALL,
    }


def test_models_may_be_chosen_by_a_function(run):
    found = ask(run, models=lambda task: SMALL if task.id in {"call0", "end"} else None)
    assert moved(found) == {"call0": SMALL}


def test_names_without_a_provider_are_completed(run):
    assert moved(ask(run, models={"big": "gpt-4o-mini"}))["call0"] == "openai:gpt-4o-mini"


def test_children_are_moved_by_their_parents_name():
    nothing = {"actual_use": Usage(), "outputs": TaskResult()}
    run = run_of(
        ran("map", 2, 2, "map#0", "map#1", **nothing),
        ran("map#0", 0, 1, added_by="map"),
        ran("map#1", 1, 2, added_by="map", actual_use=Usage(), outputs=TaskResult(metadata={"cached": True})),
        ran("more", 1, 2, "map#0", added_by="map#0"),
    )
    assert moved(ask(run, models={"map": SMALL})) == {"map#0": SMALL}
    assert moved(ask(run, models={BIG: SMALL})) == {"map#0": SMALL, "more": SMALL}
    assert ask(run, models={BIG: SMALL}).after.cost == Cost.usd("0.0026")


# --- what is said ----------------------------------------------------------------------------------------------------


def test_functions_keep_their_cost():
    run = run_of(ran("f", 0, 1, model=None), ran("p", 1, 2, "f"))
    found = ask(run, models={BIG: SMALL})
    assert found.after.cost == Cost.usd("0.0143")
    assert says(found, "call models themselves, so their cost is kept as it was: f")
    assert not says(ask(run, max_parallelism=3), "call models themselves")


def test_a_run_that_failed_is_replayed_as_far_as_it_got():
    skipped = Task(id="c", deps=["b"], state=TaskState.SKIPPED)
    run = run_of(ran("a", 0, 2), ran("b", 2, 3, "a", state=TaskState.FAILED), skipped, state=RunState.FAILED)
    found = ask(run, models={"b": SMALL}, seconds_on=lambda *_: 9.0)
    assert says(found, "the run failed: the 2 tasks that ran are replayed")
    assert found.after.makespan_seconds == 3  # it fails as fast
    assert found.after.cost == Cost.usd("0.0143")
    aborted = run_of(ran("a", 0, 2), state=RunState.ABORTED)
    assert says(ask(aborted), "the run was aborted: the 1 task that ran")


def test_waits_attempts_and_pauses_are_said():
    run = run_of(ran("a", 0, 10), ran("b", 4, 5, "x"), ran("c", 1_000, 1_001, attempts=2))
    found = ask(run)
    assert found.before == found.replayed
    assert found.before.makespan_seconds == 11
    assert says(found, "in 2 parts; 16 min 30 s between them")
    assert says(found, "1 task began late although the policy had a slot, 4 s in all")
    assert says(found, "tried more than once, and taken to have held their slots meanwhile: c")


def test_tokens_that_reach_a_tier_are_priced_by_it_and_said():
    run = run_of(ran("a", 0, 1, actual_use=usage(Cost.usd("0.10"), TokenUsage(input=10_000))))
    found = ask(run, models={"a": SMALL})
    assert found.after.cost == Cost.usd("0.02")
    assert says(found, "priced as one call each, which is dearer for such long input if they were several: a")


def test_cached_tokens_have_their_own_rate():
    run = run_of(ran("a", 0, 1, model=SMALL, actual_use=usage(Cost.usd("1"), TokenUsage(input=2000, cache_read=1000))))
    assert ask(run, models={"a": BIG}).after.cost == Cost.usd("0.011")


def test_a_call_without_counted_tokens_has_no_price_elsewhere():
    run = run_of(ran("a", 0, 1, actual_use=usage(tokens=TokenUsage())))
    found = ask(run, models={"a": SMALL})
    assert (found.replayed.cost, found.after.cost) == (BIG_COST, None)
    assert says(found, "no tokens are recorded, so the cost is not known: a")


def test_two_currencies_are_not_added_up(run):
    assert ask(run, models={"call0": "acme:euro"}).after.cost is None
    assert ask(run, models={BIG: "acme:euro", SMALL: "acme:euro"}).after.cost == Cost("0.0055", "EUR")


def test_a_budget_that_would_not_have_sufficed_is_said():
    run = run_of(ran("a", 0, 1, model=SMALL, actual_use=usage(SMALL_COST)), budget_limit=Cost.usd("0.01"))
    assert says(ask(run, models={"a": BIG}), "the run's budget of 0.01 USD would not have allowed it")
    assert not says(ask(run, max_parallelism=1), "budget")


def test_what_a_price_of_today_makes_of_the_run_is_in_the_replay():
    run = run_of(ran("a", 0, 1, actual_use=usage(Cost.usd("0.02"))), ran("b", 0, 1, model=FREE, actual_use=usage(None)))
    found = ask(run)
    assert (found.before.cost, found.replayed.cost, found.after.cost) == (Cost.usd("0.02"), BIG_COST, Cost.usd("0.02"))
    assert says(found, "of unknown cost, and in no total: b")


def test_a_long_answer_is_cut():
    run = run_of(*(ran(f"t{i}", i, i + 1, *([f"t{i - 1}"] if i else [])) for i in range(40)))
    text = ask(run, models={BIG: SMALL}).to_text()
    assert "  and 20 more tasks" in text
    assert "t5 > ... 28 more ... > t34" in text


# --- ceilings of models ----------------------------------------------------------------------------------------------


def test_a_models_own_parallelism_is_asked_about(run):
    found = ask(run, per_model={BIG: ModelLimits(parallelism=1)})
    assert found.after.makespan_seconds == 72
    assert "with parallelism 1 for acme:big: 1 min 12 s" in str(found)


def test_requests_per_minute_are_asked_about():
    run = run_of(*(ran(f"t{i}", 0, 1) for i in range(4)), max_parallelism=4)
    found = ask(run, per_model={BIG: {"rpm": 2}})
    assert found.after.makespan_seconds == pytest.approx(61, abs=0.1)  # two at once, one more every 30 s
    assert found.changes == ("rpm 2 for acme:big",)


def test_waits_for_a_limit_do_not_count_when_the_limit_is_asked_about():
    limited = {BIG: ModelLimits(rpm=2)}
    run = run_of(ran("a", 0, 3), ran("b", 2, 4), max_parallelism=4, per_model=limited)
    assert ask(run).after.makespan_seconds == 4
    assert ask(run, per_model={BIG: {"rpm": 60}}).after.makespan_seconds == 3
    lifted = ask(run, per_model={BIG: {}})
    assert lifted.after.makespan_seconds == 3
    assert lifted.changes == ("no ceilings for acme:big",)
    assert not lifted.assumptions


# --- bad questions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"models": {"cal0": SMALL}}, "neither a task nor a model 'cal0'", "did you mean 'call0'?"),
        ({"models": {"zzz": SMALL}}, "neither a task nor a model 'zzz'", "its models: acme:big, acme:small"),
        ({"models": {"call0": 5}}, "cannot be put on a int", "name the model"),
        ({"models": SMALL}, "must be a mapping or a function", "task ids on the left"),
        ({"max_parallelism": 0}, "1 or more, got 0", "leave it out"),
        ({"max_parallelism": True}, "got True", "leave it out"),
        ({"max_parallelism": 2.5}, "got 2.5", "leave it out"),
        ({"per_model": {"acme:bog": {"rpm": 5}}}, "names 'acme:bog', which no task", "did you mean 'acme:big'?"),
        ({"per_model": {BIG: {"rpm": 0}}}, "rpm: Input should be greater than or equal to 1", "parallelism"),
        ({"prices": 5}, "prices cannot be a int", "ModelCatalog"),
        ({"prices": {"models": {BIG: {"input": "x", "output": "1"}}}}, "not a decimal number", "0.50"),
        ({"prices": "nowhere.yaml"}, "cannot read the catalogue overlay nowhere.yaml", None),
    ],
)
def test_a_bad_question_is_refused(run, asked, message, hint):
    with pytest.raises(InvalidInputError, match=message) as caught:
        ask(run, **asked)
    assert hint is None or hint in caught.value.hint


def test_a_model_without_provider_that_nobody_knows_is_refused(run):
    with pytest.raises(UnknownModelError, match="'nope' is not a model"):
        ask(run, models={BIG: "nope"})


def test_a_task_without_a_call_cannot_be_moved():
    run = run_of(ran("f", 0, 1, model=None), Task(id="late", model=BIG), state=RunState.ABORTED)
    for task_id in ("f", "late"):
        with pytest.raises(InvalidInputError, match=f"task '{task_id}' of run 'r1' called no model of its own"):
            ask(run, models={task_id: SMALL})


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PENDING])
def test_a_run_that_has_not_ended_is_refused(state):
    with pytest.raises(InvalidInputError, match=f"run 'r1' is {state.value}") as caught:
        ask(run_of(ran("a", 0, 1), state=state))
    assert "resume it" in caught.value.hint


# --- prices ----------------------------------------------------------------------------------------------------------


def test_prices_of_another_model_are_taken_where_the_graph_says_so():
    prices = ListPrices(CATALOG, CostCalculator(CATALOG), {"scripted:a": BIG})
    assert prices.cost(TOKENS, "scripted:a") == BIG_COST
    by_model = other_prices({"models": {BIG: {"input": "1", "output": "0"}}}, prices)
    assert by_model.cost(TOKENS, "scripted:a") == Cost.usd("0.001")
    own = other_prices({"models": {"scripted:a": {"input": "2", "output": "0"}}}, prices)
    assert (own.cost(TOKENS, "scripted:a"), own.cost(TOKENS, BIG)) == (Cost.usd("0.002"), BIG_COST)
    limits_only = other_prices({"models": {BIG: {"max_output_tokens": 5}}}, prices)
    assert limits_only.cost(TOKENS, BIG) == BIG_COST
    assert not limits_only.names(BIG)


# --- real runs -------------------------------------------------------------------------------------------------------


def answering(name):
    return ScriptedChatModel(script=["three short words"], model=name)


async def test_a_real_run_is_replayed_from_its_record():
    async def items(_inputs):
        await asyncio.sleep(0.01)
        return [1, 2, 3]

    async def more(_inputs, runtime):
        runtime.enqueue("joined", prompt="Say {word}", inputs={"word": "yes"})
        return "ok"

    graph = RunGraph(RunPolicy(max_parallelism=2), model=answering("m"))
    graph.add_task("list", items)
    graph.add_task("each", prompt="About {item}", deps=["list"], for_each=ForEach(task="list"))
    graph.add_task("grow", more, deps=["each"])
    catalog = ModelCatalog({"models": {"scripted:m": {"input": "10", "output": "20"}}})
    compiled = graph.compile(checkpointer=InMemorySaver(), catalog=catalog)
    config = {"configurable": {"thread_id": "1"}}
    await compiled.ainvoke({"inputs": {}}, config)
    run = await compiled.aget_run(config)
    assert run.tasks["each#1"].added_by == "each"
    assert run.tasks["joined"].added_by == "grow"
    assert run.tasks["list"].added_by is None

    prices = ListPrices(catalog, CostCalculator(catalog))
    found = what_if(
        run, prices, models={"scripted:m": SMALL}, prices={"models": {SMALL: {"input": "1", "output": "2"}}}
    )
    assert found.before.cost == found.replayed.cost == run.usage.cost
    assert {task.id for task in found.tasks} == {"each#0", "each#1", "each#2", "joined"}
    assert found.after.cost == Cost.from_nano(run.usage.cost.nano // 10)
    assert found.critical_path[0] == "list"
    assert found.critical_path[-1] == "joined"
    assert what_if(Run.model_validate_json(run.model_dump_json()), prices) == what_if(run, prices)


async def test_a_run_that_was_resumed_is_replayed_with_what_it_tried_again(tmp_path):
    broken = True

    async def flaky(_inputs):
        if broken:
            raise ValueError("not yet")
        return "ok"

    def compiled():
        graph = RunGraph(RunPolicy(max_parallelism=2), name="flaky")
        graph.add_task("a", flaky).add_task("b", lambda _: 1).add_task("c", lambda _: 2, deps=["a", "b"])
        return graph.compile(checkpointer=saver, ledger=ledger, raise_on_failure=False)

    saver, ledger = InMemorySaver(), SqliteLedger(tmp_path / "ledger.db")
    config = {"configurable": {"thread_id": "1"}}
    await compiled().ainvoke({"inputs": {}}, config)
    failed = what_if(await compiled().aget_run(config), PRICES)
    assert says(failed, "the run failed: the 2 tasks that ran are replayed")
    assert failed.after.cost is None
    broken = False
    await compiled().ainvoke(None, config)
    found = what_if(await compiled().aget_run(config), PRICES, max_parallelism=1)
    assert found.state is RunState.COMPLETED
    assert found.critical_path[-1] == "c"
    await ledger.aclose()

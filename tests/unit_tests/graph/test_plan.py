"""What a plan says before anything is spent, with and without earlier runs."""

import asyncio

import pytest
from langchain_core.tools import tool
from langgraph.store.memory import InMemoryStore

from langchain_runtime import with_budget
from langchain_runtime.adapters.account import budget_scope
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError, UnpricedModelError
from langchain_runtime.contracts.history import TaskSample
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.plans import carry_out
from langchain_runtime.contracts.run import ModelLimits, RetrySpec, RunPolicy
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.graph import RunGraph
from langchain_runtime.graph.expectations import ASSUMED_OUTPUT_TOKENS
from langchain_runtime.graph.run_history import RunHistory
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing.scripted_chat_model import ScriptedChatModel

# One dollar a million tokens either way.
CATALOG = ModelCatalog(
    {
        "models": {
            "test:m": {"input": "1", "output": "1", "max_output_tokens": 4096, "context_window": 100_000},
            "test:small": {"input": "1", "output": "1", "max_output_tokens": 4096},
        }
    }
)


def model(*replies, **fields):
    return ScriptedChatModel(provider="test", model="m", script=replies or ("ok",), **fields)


def compiled(graph, **options):
    return graph.compile(catalog=CATALOG, **options)


def by_id(plan):
    return {task.id: task for task in plan.tasks}


def nothing(inputs):
    return 1


def micro_usd(amount):
    """So many tokens at the catalogue's price."""
    return Cost.from_nano(amount * 1_000)


# --- without earlier runs --------------------------------------------------------------------------------------------


def test_a_first_plan_counts_the_prompt_and_assumes_the_reply():
    graph = RunGraph(model=model()).add_task("t", prompt="Say something about {topic}.")
    short, long = (compiled(graph).plan({"topic": topic}).tasks[0] for topic in ("dogs", "dogs " * 1000))
    assert short.expected.output == long.expected.output == ASSUMED_OUTPUT_TOKENS
    assert 900 < long.expected.input - short.expected.input < 1100
    assert (short.samples, short.expected_cost) == (0, micro_usd(short.expected.total))


def test_the_worst_case_is_a_full_reply_in_every_attempt():
    graph = RunGraph(RunPolicy(retry=RetrySpec(max_attempts=3)), model=model())
    task = compiled(graph.add_task("t", prompt="Hi", max_output_tokens=500)).plan().tasks[0]
    assert task.worst.output == 500
    assert task.worst_cost == micro_usd(3 * (task.worst.input + 500))


def test_a_cap_of_ours_is_only_reckoned_with_where_a_budget_sets_one():
    catalog = ModelCatalog({"models": {"test:m": {"input": "1", "output": "1", "max_output_tokens": 64_000}}})
    for limit, most in ((None, 64_000), (Cost.usd(1), 16_384)):
        graph = RunGraph(RunPolicy(budget_limit=limit), model=model()).add_task("t", prompt="Hi")
        assert graph.compile(catalog=catalog).plan().tasks[0].worst.output == most


def test_what_a_dependency_may_write_is_in_the_worst_case_of_what_reads_it():
    graph = RunGraph(model=model())
    graph.add_task("a", prompt="Write.", max_output_tokens=1000).add_task("b", prompt="Sum up {a}.", deps=["a"])
    tasks = by_id(compiled(graph).plan())
    alone = compiled(RunGraph(model=model()).add_task("b", prompt="Sum up .")).plan().tasks[0]
    assert tasks["b"].worst.input >= alone.worst.input + 1000
    assert tasks["b"].expected.input >= alone.expected.input + ASSUMED_OUTPUT_TOKENS


def test_behind_a_function_a_prompt_may_fill_its_whole_window():
    graph = RunGraph(model=model()).add_task("f", lambda inputs: "x").add_task("b", prompt="{f}", deps=["f"])
    plan = compiled(graph).plan()
    assert by_id(plan)["b"].worst.input == 200_000  # twice, since views are cut by an estimate
    limited = RunGraph(model=model()).add_task("f", lambda inputs: "x")
    limited.add_task("b", prompt="{f}", deps=["f"], context=ContextPolicy(max_tokens=2_000))
    assert by_id(compiled(limited).plan())["b"].worst.input == 4_000
    without_window = RunGraph(model=ScriptedChatModel(provider="test", model="small"))
    without_window.add_task("f", lambda inputs: "x").add_task("b", prompt="{f}", deps=["f"])
    plan = compiled(without_window).plan()
    assert (by_id(plan)["b"].worst, plan.worst_cost) == (None, None)
    assert "no bound" in plan.to_text()


def test_an_agent_has_no_bound_and_the_plan_says_so():
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    plan = compiled(RunGraph(model=model()).add_task("agent", prompt="Find out.", tools=[look_up])).plan()
    assert (plan.tasks[0].worst_cost, plan.worst_cost) == (None, None)
    assert plan.expected_cost is not None
    assert any("agents make as many calls as they like" in warning for warning in plan.warnings)


def test_the_schemas_of_tools_and_replies_are_counted():
    plain = compiled(RunGraph(model=model()).add_task("t", prompt="Hi")).plan().tasks[0]
    schema = {"title": "Facts", "type": "object", "properties": {f"fact_{n}": {"type": "string"} for n in range(30)}}
    shaped = compiled(RunGraph(model=model()).add_task("t", prompt="Hi", response_format=schema)).plan().tasks[0]
    assert shaped.expected.input > plain.expected.input + 100
    assert shaped.worst.input > plain.worst.input + 500


def test_a_view_that_will_be_cut_is_expected_at_its_size_and_without_a_bound():
    graph = RunGraph(RunPolicy(context=ContextPolicy(max_tokens=300)), model=model())
    graph.add_task("a", prompt="Write.").add_task("b", prompt="{a}", deps=["a"])
    plan = compiled(graph).plan()
    task = by_id(plan)["b"]
    assert (task.expected.input, task.worst) == (300, None)
    assert any(warning.startswith("will not see all they are given") and "b" in warning for warning in plan.warnings)


def test_a_plan_without_prompts_has_no_cost_to_speak_of():
    text = compiled(RunGraph().add_task("f", lambda inputs: 1)).plan().to_text()
    assert "cost: none that is known of, no limit" in text


def test_conditions_are_taken_to_hold_and_it_is_said():
    graph = RunGraph(model=model()).add_task("a", prompt="Hi")
    graph.add_task("b", prompt="Hi", deps=["a"], when={"task": "a", "op": "truthy"})
    plan = compiled(graph).plan()
    assert "planned as if their conditions held: b" in plan.warnings
    assert plan.expected_cost == by_id(plan)["a"].expected_cost + by_id(plan)["b"].expected_cost


# --- time ------------------------------------------------------------------------------------------------------------


def six(policy, seconds=1.0, **options):
    graph = RunGraph(policy, model=model())
    for number in range(6):
        graph.add_task(f"t{number}", prompt="Hi", expected_seconds=seconds, **options)
    return graph


@pytest.mark.parametrize(("slots", "seconds"), [(1, 6), (2, 3), (3, 2), (6, 1), (60, 1)])
def test_the_makespan_is_that_of_the_slots(slots, seconds):
    plan = compiled(six(RunPolicy(max_parallelism=slots))).plan()
    assert (plan.makespan_seconds, plan.critical_seconds) == (seconds, 1)
    assert (plan.suggested_parallelism, plan.suggested_seconds) == (6, 1)


def test_another_parallelism_can_be_asked_for():
    plan = compiled(six(RunPolicy(max_parallelism=1))).plan(max_parallelism=3)
    assert (plan.max_parallelism, plan.makespan_seconds) == (3, 2)


@pytest.mark.parametrize("slots", [0, -1, 2.5, "4", True])
def test_a_parallelism_that_is_none_is_refused(slots):
    with pytest.raises(InvalidInputError, match="max_parallelism must be a whole number"):
        compiled(six(RunPolicy())).plan(max_parallelism=slots)


def test_fewer_slots_are_suggested_where_they_do():
    graph = RunGraph(RunPolicy(max_parallelism=64))
    for number in range(8):
        graph.add_task(f"t{number}", lambda inputs: 1, expected_seconds=10 if number == 0 else 1)
    plan = compiled(graph).plan()
    assert (plan.suggested_parallelism, plan.suggested_seconds) == (2, 10)
    assert "2 at a time would do: 10 s" in plan.to_text()


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (ModelLimits(parallelism=2), lambda _: 3),
        (ModelLimits(rpm=2), lambda _: 4 * 60 / 2 + 1),
        (ModelLimits(tpm=900), lambda tokens: (6 * tokens - 900) * 60 / 900 + 1),
    ],
    ids=["slots of the model", "requests a minute", "tokens a minute"],
)
def test_the_limits_of_a_model_take_their_time(limits, seconds):
    plan = compiled(six(RunPolicy(max_parallelism=6, per_model={"test:m": limits}))).plan()
    assert plan.makespan_seconds == pytest.approx(seconds(plan.tasks[0].expected.total), abs=0.1)


def test_supersteps_take_longer_and_it_is_said():
    warnings = compiled(six(RunPolicy()), mode="supersteps").plan().warnings
    assert any("supersteps" in warning for warning in warnings)


# --- money -----------------------------------------------------------------------------------------------------------


def worst_of_one():
    return compiled(six(RunPolicy(budget_limit=Cost.usd(1)), max_output_tokens=2_000)).plan().tasks[0].worst_cost


def limited(calls, on_exceed, **policy):
    limit = Cost.from_nano(round(worst_of_one().nano * calls))
    return six(RunPolicy(budget_limit=limit, on_exceed=on_exceed, **policy), max_output_tokens=2_000)


def test_a_run_whose_worst_cases_fit_has_no_shortfall():
    assert compiled(limited(6, "raise")).plan().over_budget == ()


def test_calls_wait_for_the_money_that_others_hold():
    plan = compiled(limited(3, "wait")).plan()
    assert (plan.over_budget, plan.makespan_seconds) == ((), 3)  # two at a time fit beside what the others cost


@pytest.mark.parametrize(
    ("on_exceed", "then"), [("raise", "refused"), ("wait", "refused"), ("interrupt", "asked"), ("warn", "noted")]
)
def test_what_does_not_fit_is_named_with_what_becomes_of_it(on_exceed, then):
    plan = compiled(limited(0.5, on_exceed)).plan()
    assert [(each.task, each.then) for each in plan.over_budget] == [(f"t{number}", then) for number in range(6)]
    first = plan.over_budget[0]
    assert (first.scope, first.needed, first.left) == ("run", worst_of_one(), plan.limit)
    assert "t0, t1, t2, t3, t4 and 1 more would not fit the budget" in plan.to_text()


def test_replies_that_have_to_be_cut_short_are_named():
    plan = compiled(limited(0.8, "cap", min_output_tokens=10)).plan()
    assert plan.over_budget[0].then == "capped"
    assert "would have to be cut short" in plan.to_text()


def test_a_moved_prompt_is_named():
    graph = limited(0.5, "downgrade", ladder=("test:m", "test:small"))
    assert {each.then for each in compiled(graph, models={"test:small": model()}).plan().over_budget} == {"moved"}


def test_what_a_shared_budget_has_left_counts():
    ledger = InMemoryLedger()
    team = Budget(Cost.from_nano(worst_of_one().nano * 2), scope="team:a")
    plan = compiled(six(RunPolicy(max_parallelism=1), max_output_tokens=2_000), ledger=ledger, budgets=[team]).plan()
    assert plan.over_budget == ()
    spender = RunGraph(model=model("word " * 1_900)).add_task("t", prompt="Hi", max_output_tokens=2_000)
    compiled(spender, ledger=ledger, budgets=[team]).invoke({"inputs": {}})
    plan = compiled(six(RunPolicy(max_parallelism=1), max_output_tokens=2_000), ledger=ledger, budgets=[team]).plan()
    assert plan.over_budget
    assert {each.scope for each in plan.over_budget} == {"team:a"}
    assert ledger.balances("plan") == ledger.balances("run:plan") == []  # a plan opens no account


def test_an_enclosing_scope_counts():
    graph = compiled(six(RunPolicy(max_parallelism=1), max_output_tokens=2_000), ledger=(ledger := InMemoryLedger()))
    with budget_scope(Budget(Cost.from_nano(worst_of_one().nano // 2), scope="block"), ledger=ledger):
        assert {each.scope for each in graph.plan().over_budget} == {"block"}


def test_a_run_that_would_be_refused_is_not_planned():
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd(1)), model=model()).add_task("t", prompt="Hi")
    with pytest.raises(UnpricedModelError):
        graph.compile(catalog=ModelCatalog({"models": {"test:m": {"max_output_tokens": 10}}})).plan()
    with pytest.raises(InvalidInputError, match="topic"):
        compiled(RunGraph(model=model()).add_task("t", prompt="{topic}")).check()


# --- after earlier runs ----------------------------------------------------------------------------------------------


def writer(*lengths):
    """Its replies have so many words in turn, each a token of the scripted model's."""
    return model(*["word " * length for length in lengths])


def test_a_plan_learns_what_tasks_took():
    graph = compiled(RunGraph(model=writer(100, 200, 300)).add_task("t", prompt="Write."))
    for _ in range(3):
        graph.invoke({"inputs": {}})
    task = graph.plan().tasks[0]
    assert (task.samples, task.expected.input, task.expected.output) == (3, 2, 200)
    assert task.expected_cost == micro_usd(202)
    assert task.seconds < 1  # the assumption would be several


def test_another_process_learns_from_the_store():
    store = InMemoryStore()
    for name in ("brief", "brief"):
        graph = RunGraph(model=writer(100), name=name).add_task("t", prompt="Write.")
        compiled(graph, store=store).invoke({"inputs": {}})
    assert compiled(graph, store=store).plan().tasks[0].samples == 2
    elsewhere = RunGraph(model=writer(100), name="report").add_task("other", prompt="Write.")
    assert compiled(elsewhere, store=store).plan().tasks[0].samples == 2  # the same prompt on the same model
    rewritten = RunGraph(model=writer(100), name="brief").add_task("t", prompt="Write better.")
    assert compiled(rewritten, store=store).plan().tasks[0].samples == 0


async def test_plans_can_be_awaited():
    graph = compiled(RunGraph(model=writer(100)).add_task("t", prompt="Write."))
    await graph.ainvoke({"inputs": {}})
    assert await graph.aplan() == graph.plan()
    assert graph.plan().tasks[0].samples == 1


def test_a_longer_input_is_expected_to_be_read():
    graph = compiled(RunGraph(model=writer(100)).add_task("t", prompt="Sum up: {text} ."))
    graph.invoke({"inputs": {"text": "word " * 40}})
    same, longer = (graph.plan({"text": "word " * n}).tasks[0].expected.input for n in (40, 80))
    assert same == 45  # as it was
    assert longer == pytest.approx(85, abs=4)


def test_a_list_is_planned_as_long_as_it_was_or_is_said_to_be():
    graph = RunGraph(model=writer(10)).add_task("list", lambda inputs: inputs["names"])
    graph.add_task("each", prompt="{name}", deps=["list"], for_each={"task": "list", "as": "name"})
    graph.add_task("end", lambda inputs: 1, deps=["each"])
    app = compiled(graph)
    assert any("one item: each" in warning for warning in app.plan({"names": []}).warnings)
    for names in (["a"] * 4, ["a"] * 8):
        app.invoke({"inputs": {"names": names}})
    plan = app.plan({"names": []})
    each = by_id(plan)["each"]
    assert (each.items, each.samples, each.expected.output) == (6, 12, 60)
    assert each.expected_cost == micro_usd(6 * 12)
    assert by_id(app.plan({"names": []}, items={"each": 20}))["each"].expected.output == 200
    assert by_id(app.plan({"names": []}, items={"each": 0}))["each"].expected_cost == micro_usd(0)
    assert "each x6" in plan.to_text()
    assert "3 tasks (8 with their items)" in plan.to_text()


@pytest.mark.parametrize(
    ("items", "message"), [({"t": 3}, "no for_each"), ({"each": -1}, "whole"), ({"each": "3"}, "whole")]
)
def test_wrong_lengths_are_refused(items, message):
    graph = RunGraph(model=model()).add_task("t", lambda inputs: [])
    graph.add_task("each", prompt="{item}", deps=["t"], for_each={"task": "t"})
    with pytest.raises(InvalidInputError, match=message):
        compiled(graph).plan(items=items)


def test_what_functions_spend_is_learnt():
    chat_model = writer(100, 100)

    def calls(inputs):
        return with_budget(chat_model, None, ledger=ledger, catalog=CATALOG).invoke("Hi").text

    ledger = InMemoryLedger()
    graph = compiled(RunGraph().add_task("f", calls), ledger=ledger)
    assert any("functions" in warning for warning in graph.plan().warnings)
    graph.invoke({"inputs": {}})
    plan = graph.plan()
    assert plan.expected_cost == micro_usd(102)
    assert not any("functions" in warning for warning in plan.warnings)


def test_the_longest_of_many_is_expected_to_be_longer_than_the_usual_one():
    graph = RunGraph(RunPolicy(max_parallelism=10), name="g")
    for number in range(10):
        graph.add_task(f"t{number}", nothing)
    store, name = InMemoryStore(), f"{__name__}.nothing"
    for run in range(5):
        samples = [TaskSample(f"t{n}", name, None, 4.0 if (n + run) % 5 == 0 else 1.0) for n in range(10)]
        carry_out(RunHistory(store).add("g", f"run-{run}", samples))
    plan = compiled(graph, store=store).plan()
    assert {task.seconds for task in plan.tasks} == {1.0}
    assert plan.makespan_seconds == 4.0
    assert plan == compiled(graph, store=store).plan()


# --- shown -----------------------------------------------------------------------------------------------------------


def test_a_long_plan_shows_its_first_rows():
    graph = RunGraph()
    for number in range(1_000):
        graph.add_task(f"t{number}", lambda inputs: 1)
    lines = compiled(graph).plan().to_text().splitlines()
    assert len(lines) < 80
    assert "  and 940 more tasks" in lines


def test_a_plan_is_json():
    plan = compiled(limited(0.5, "raise")).plan()
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


async def test_durations_are_those_of_whole_runs_since_in_a_slow_hour_all_tasks_are_slow():
    async def body(inputs):
        await asyncio.sleep(inputs["seconds"])

    graph = RunGraph(RunPolicy(max_parallelism=1), name="hours")
    for number in range(4):
        graph.add_task(f"t{number}", body)
    app = graph.compile()
    for seconds in (0.0, 0.05):
        await app.ainvoke({"inputs": {"seconds": seconds}})
    low, high = app.plan({"seconds": 0}).makespan_range
    assert low < 0.05
    assert high >= 0.2

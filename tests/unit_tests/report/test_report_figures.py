"""What a report adds up: money, tokens, models, incidents; unknown is never zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report import RunReport
from langchain_runtime.report.figures import Total


def test_spent_held_and_forfeited_come_from_the_account(make):
    run = make.run(make.done("a", 0, 1), usage=make.usage(1000, 100, "0.01"))
    figures = RunReport(run, balance=make.balance(spent="0.12", held="0.03", forfeited="0.02")).figures
    assert [str(cost) for cost in (figures.spent, figures.held, figures.forfeited)] == [
        "0.12 USD",
        "0.03 USD",
        "0.02 USD",
    ]
    assert figures.share == pytest.approx(0.24)


def test_without_an_account_held_and_forfeited_are_unknown(make):
    figures = RunReport(make.run(make.done("a", 0, 1))).figures
    assert (figures.held, figures.forfeited) == (None, None)
    assert figures.limit == Cost.usd("0.50")


def test_an_account_with_a_top_up_shows_its_own_limit(make):
    figures = RunReport(make.run(), balance=make.balance(limit="0.90")).figures
    assert figures.limit == Cost.usd("0.90")


def test_tokens_without_a_price_leave_spent_unknown_not_zero(make):
    run = make.run(make.done("a", 0, 1, usd=None), limit=None, usage=make.usage(1000, 100))
    assert RunReport(run, balance=make.balance(limit=None)).figures.spent is None
    assert RunReport(run).figures.spent is None


def test_a_run_that_called_no_model_spent_nothing_by_its_account(make):
    run = make.run(make.done("a", 0, 1, usage=None, model=None))
    assert RunReport(run, balance=make.balance()).figures.spent == Cost.usd("0")


def test_a_sum_with_an_unpriced_call_is_a_lower_bound(make):
    run = make.run(make.done("a", 0, 1), make.done("b", 0, 1, usd=None))
    figures = RunReport(run).figures
    assert (figures.spent, figures.complete) == (Cost.usd("0.01"), False)
    assert "0.01+" in RunReport(run).to_text(80)
    assert "0.01+" in RunReport(run).to_html()


def test_another_currency_counts_as_unknown_in_a_sum():
    total = Total.of([Usage(cost=Cost.usd("1")), Usage(cost=Cost("2", "EUR")), None], "USD")
    assert (total.cost, total.complete) == (Cost.usd("1"), False)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.none() | st.integers(0, 10**12)), max_size=20))
def test_a_total_is_complete_exactly_when_every_used_token_has_a_price(calls):
    usages = [
        Usage(tokens=TokenUsage(input=tokens), cost=None if nano is None else Cost.from_nano(nano))
        for tokens, nano in calls
    ]
    total = Total.of(usages, "USD")
    known = [nano for _, nano in calls if nano is not None]
    assert total.tokens.input == sum(tokens for tokens, _ in calls)
    assert (total.cost.nano if total.cost else None) == (sum(known) if known else None)
    assert total.complete == all(nano is not None or not tokens for tokens, nano in calls)


def test_models_are_added_up_dearest_first(make):
    run, balance, events = make.brief()
    rows = RunReport(run, balance=balance, events=events).figures.models
    assert [(row.model, row.tasks) for row in rows] == [(make.HAIKU, 2), (make.MINI, 3), ("acme:unpriced-1", 1)]
    assert [row.total.cost for row in rows] == [Cost.usd("0.0544"), Cost.usd("0.0062"), None]


def test_a_body_of_its_own_is_split_by_the_models_it_called(make):
    run = make.run(make.done("agent", 0, 2, model=None, usage=make.usage(200, 20, "0.03")))
    events = [make.settled("agent", "0.01", id_="1"), make.settled("agent", "0.02", id_="2", model=make.HAIKU)]
    rows = RunReport(run, events=events).figures.models
    assert [(row.model, str(row.total.cost)) for row in rows] == [(make.HAIKU, "0.02 USD"), (make.MINI, "0.01 USD")]


def test_usage_that_no_model_is_named_for_has_its_own_row(make):
    rows = RunReport(make.run(make.done("agent", 0, 2, model=None))).figures.models
    assert [row.model for row in rows] == [None]


def test_the_currency_is_that_of_the_first_known_amount(make):
    task = make.done("a", 0, 1, usage=Usage(cost=Cost("2", "EUR")))
    assert RunReport(make.run(task, limit=None)).figures.currency == "EUR"
    assert RunReport(make.run(limit=None)).figures.currency == "USD"


def test_spending_grows_by_settled_calls_or_else_by_tasks(make):
    run = make.run(make.done("a", 0, 1), make.done("b", 1, 4, deps=["a"]))
    by_task = RunReport(run).figures.spending
    assert [(point.seconds, point.nano) for point in by_task] == [(1, 10_000_000), (4, 20_000_000)]
    by_call = RunReport(run, events=[make.settled("a", "0.005", at=0.5)]).figures.spending
    assert [(point.seconds, point.nano) for point in by_call] == [(0.5, 5_000_000)]


def test_calls_in_another_currency_do_not_grow_the_line(make):
    run = make.run(make.done("a", 0, 2, usage=Usage(cost=Cost("2", "EUR"))), make.done("b", 0, 1))
    figures = RunReport(run).figures
    assert [point.nano for point in figures.spending] == [10_000_000]


def test_incidents_are_grouped_by_cause(make):
    run, _, events = make.brief()
    incidents = RunReport(run, events=events).figures.incidents
    assert [(i.what, i.tasks) for i in incidents.errors] == [
        ("[task_failed] the host answered 404 to every request", ("images",))
    ]
    assert [(i.what, i.tasks) for i in incidents.skips] == [("dependency images failed", ("captions",))]
    assert [i.tasks for i in incidents.retries] == [("facts (2 times)",)]
    assert [i.what for i in incidents.warnings] == [
        "the reply was cut at its output limit",
        "a call was made to wait by budget run:brief-1",
    ]
    assert [(c.task, c.tokens_before, c.tokens_after) for c in incidents.compactions] == [("draft", 9000, 4000)]


def test_compactions_of_one_task_are_added_up(make):
    events = [make.compacted("a"), make.compacted("a", before=1000, after=900)]
    (item,) = RunReport(make.run(make.done("a", 0, 1)), events=events).figures.incidents.compactions
    assert (item.times, item.tokens_before, item.tokens_after, item.strategy) == (2, 10_000, 4_900, ("offload",))


def test_recalls_and_summaries_of_a_task_are_added_up_and_are_no_compactions(make):
    told = [
        make.recalled("a", recalls=2, summary=make.usage(900, 60, "0.002")),
        make.recalled("a", recalls=1, summary=make.usage(100, 40, "0.001")),
    ]
    events = [make.compacted("a"), *told, make.compacted("b")]
    first, second = RunReport(make.run(make.done("a", 0, 1)), events=events).figures.incidents.compactions
    assert (first.times, first.recalls, first.summary) == (1, 3, make.usage(1000, 100, "0.003"))
    assert (first.tokens_before, first.tokens_after, first.strategy) == (9000, 4000, ("offload",))
    assert (second.recalls, second.summary) == (0, make.usage())


def test_a_journal_from_before_there_were_recalls_is_read(make):
    event = make.compacted("a").model_dump(mode="json", exclude={"recalls", "summary"})
    assert parse_event(event) == make.compacted("a")


def test_without_a_journal_retries_are_known_from_the_attempts(make):
    incidents = RunReport(make.run(make.done("a", 0, 1, attempts=3))).figures.incidents
    assert [(i.what, i.tasks) for i in incidents.retries] == [("tried again", ("a (2 times)",))]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"warnings": ["capped at 1,024 tokens"], "finish_reason": "length"}, ["capped at 1,024 tokens"]),
        ({"warnings": "just one"}, ["just one"]),
        ({"warnings": [1, None]}, []),
        ({"finish_reason": "MAX_TOKENS"}, ["the reply was cut at its output limit"]),
        ({"stop_reason": "max_tokens"}, ["the reply was cut at its output limit"]),
        ({"finish_reason": "length", "lcr_capped": True}, ["the reply was cut by the cap that its budget allowed"]),
        ({"finish_reason": "stop"}, []),
    ],
)
def test_warnings_are_read_from_the_result(make, metadata, expected):
    run = make.run(make.done("a", 0, 1, metadata=metadata))
    assert [i.what for i in RunReport(run).figures.incidents.warnings] == expected


def test_a_skip_without_a_reason_and_a_refusal_outside_tasks_are_told(make):
    run = make.run(make.skipped("a", because=""))
    incidents = RunReport(run, events=[make.refused(None, "warn")]).figures.incidents
    assert incidents.skips[0].what == "no reason was recorded"
    assert incidents.warnings[0].tasks == ("no task",)


def test_tasks_stand_by_start_and_those_that_never_started_last(make):
    run = make.run(make.skipped("s"), make.done("b", 2, 3), make.done("a", 0, 1))
    assert [task.id for task in RunReport(run).figures.tasks] == ["a", "b", "s"]


def test_a_task_that_still_runs_lasts_until_the_last_sign_of_life(make):
    task = make.done("a", 0, 1).model_copy(update={"state": TaskState.RUNNING, "ended_at": None, "outputs": None})
    run = make.run(task, state=RunState.ABORTED)
    assert RunReport(run, events=[make.ended(7, state=RunState.ABORTED)]).figures.tasks[0].seconds == 7


def test_json_has_the_shape_of_the_command_line(make):
    run, balance, events = make.brief()
    data = RunReport(run, balance=balance, events=events).to_json()
    assert (data["id"], data["state"]) == ("brief-1", "failed")
    assert data["spent"] == {"amount": "0.0646", "currency": "USD"}
    assert data["held"] == {"amount": "0.01", "currency": "USD"}
    assert data["forfeited"] == {"amount": "0.004", "currency": "USD"}
    assert data["usage"]["tokens"]["input"] == 6300
    assert data["tasks"]["outline"] | {"state": "completed", "attempts": 1} == data["tasks"]["outline"]
    assert data["tasks"]["outline"]["cost"] == {"amount": "0.0012", "currency": "USD"}
    assert data["tasks"]["quotes"]["cost"] is None
    assert data["tasks"]["check"]["output"] == {"ok": True, "issues": []}
    assert data["tasks"]["images"]["error"]["code"] == "task_failed"
    assert data["tasks"]["captions"]["skipped_because"] == "dependency images failed"
    assert set(data["tasks"]) == set(run.tasks)


def test_json_of_an_unknown_account_says_null(make):
    data = RunReport(make.run(make.done("a", 0, 1, usd=None), limit=None)).to_json()
    assert (data["spent"], data["held"], data["forfeited"], data["limit"]) == (None, None, None, None)

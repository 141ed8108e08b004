"""The report as plain text: fits its width and a screen, hides nothing without counting it."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState, TaskState
from langchain_runtime.report import RunReport, formats
from langchain_runtime.report.table import Column, table
from langchain_runtime.report.text import named


def full_report(make):
    run, balance, events = make.brief()
    return RunReport(run, balance=balance, events=events)


def test_the_summary_has_state_tasks_time_and_money(make):
    text = full_report(make).to_text(80)
    assert text.splitlines()[:7] == [
        "run       brief-1  failed",
        "tasks     8: 6 completed, 1 failed, 1 skipped",
        "time      23.0 s; tasks took 27.9 s, 1.2 at a time",
        "tokens    6,300 in (0 cached), 590 out",
        "spent     0.0646+ of 0.10 USD (64.6 %)",
        "          [################==------]",
        "held      0.01 USD, forfeited 0.004 USD",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_asked_for(make, width):
    assert max(len(line) for line in full_report(make).to_text(width).splitlines()) <= width
    assert max(len(line) for line in RunReport(make.large(300)).to_text(width).splitlines()) <= width


def test_long_ids_models_and_texts_are_shortened_to_the_width(make):
    long = "x" * 128
    run = make.run(
        make.done(long, 0, 1, model="provider:" + "m" * 90, output="word " * 10_000),
        make.failed("y" * 128, 0, 1, message="why " * 1000),
        make.skipped("z" * 128, because=f"dependency {'y' * 128} failed"),
        id_="r" * 128,
    )
    text = RunReport(run, events=[make.compacted(long)]).to_text(80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert len(text) < 4000


def test_what_was_done_about_a_view_that_lacks_something_stands_below_it(make):
    events = [
        make.compacted("draft"),
        make.recalled("draft", recalls=3, summary=make.usage(900, 60, "0.0012")),
        make.compacted("notes"),
        make.recalled("notes", recalls=1),
    ]
    text = RunReport(make.run(make.done("draft", 0, 1)), events=events).to_text(80)
    assert (
        "compactions: 2\n"
        "  draft: 9,000 -> 4,000 tokens (offload; 12 evicted, 1 clipped)\n"
        "    3 recalls, summaries for 0.0012 USD\n"
        "  notes: 9,000 -> 4,000 tokens (offload; 12 evicted, 1 clipped)\n"
        "    1 recall\n"
    ) in text


def test_a_limit_without_known_spending_has_no_bar(make):
    text = RunReport(make.run(make.done("a", 0, 1, usd=None))).to_text(80)
    assert "spent     - of 0.50 USD\nheld" in text


def test_a_table_too_wide_for_everything_keeps_its_first_and_last_columns():
    columns = [Column("task", shrinks=True), Column("model", shrinks=True, optional=1), Column("cost", numeric=True)]
    rows = [["a-task-of-many-words", "provider:model-name", "12.50"]]
    assert table(columns, rows, 60) == [
        "task                  model                 cost",
        "a-task-of-many-words  provider:model-name  12.50",
    ]
    assert table(columns, rows, 32)[1] == "a-ta..words  provi..-name  12.50"
    assert "provider" not in table(columns, rows, 16)[1]
    assert table(columns, rows, 5)[1].endswith("12.50")


def test_every_task_of_a_small_run_has_its_row(make):
    text = full_report(make).to_text(80)
    for task in ("outline", "facts", "figures", "quotes", "images", "draft", "check", "captions"):
        assert re.search(rf"^{task}( \*)? +(completed|failed|skipped) ", text, re.MULTILINE), task


def test_tasks_on_the_critical_path_carry_a_star(make):
    text = full_report(make).to_text(80)
    assert re.findall(r"^(\w+) \*", text, re.MULTILINE) == ["outline", "facts", "draft", "check"]


def test_an_unknown_cost_is_a_dash_and_never_zero(make):
    text = RunReport(make.run(make.done("a", 0, 1, usd=None), limit=None)).to_text(80)
    assert re.search(r"^a \* +completed .* - +1\.00$", text, re.MULTILINE)
    assert "spent     -" in text
    assert "0.00 USD" not in text


@pytest.mark.parametrize("number", [1, 40, 41, 1000, 3000])
def test_every_task_appears_or_is_counted(make, number):
    text = RunReport(make.large(number)).to_text(80)
    shown = len(re.findall(r"^task-\d+(?: \*)? +(?:completed|failed)", text, re.MULTILINE))
    cut = re.search(r"^\.\.\. ([\d,]+) more tasks, cheaper or shorter: ", text, re.MULTILINE)
    assert shown + (int(cut[1].replace(",", "")) if cut else 0) == number
    assert (cut is None) == (number <= 40)


def test_of_many_tasks_those_are_shown_that_failed_and_cost_and_took_most_in_their_order(make):
    tasks = [make.done(f"t{place}", place, place + 0.5, usd="0.001") for place in range(100)]
    tasks[10] = make.done("dear", 10, 10.5, usd="9")
    tasks[60] = make.failed("broken", 60, 60.1)
    tasks[90] = make.done("slow", 90, 99, usd="0.001")
    text = RunReport(make.run(*tasks)).to_text(80)
    assert [
        name for name in re.findall(r"^(\w+)(?: \*)? +(?:completed|failed)", text, re.MULTILINE) if name[0] != "t"
    ] == [
        "dear",
        "broken",
        "slow",
    ]


def test_the_text_of_a_thousand_tasks_stays_under_120_lines_whatever_went_wrong(make):
    tasks = [
        make.failed(f"f{place}", place, place + 0.9, message=f"cause {place % 60}", model=f"provider:m{place % 20}")
        if place % 3 == 0
        else make.skipped(f"f{place}", because=f"dependency f{place - place % 3} failed")
        if place % 3 == 1
        else make.done(f"f{place}", place, place + 1, metadata={"warnings": [f"warning {place}"]}, attempts=2)
        for place in range(1000)
    ]
    events = [event for task in range(50) for event in (make.compacted(f"f{task}"), make.refused(f"f{task}", "cap"))]
    events += [make.task_retried(f"f{task}", message=f"trouble {task}") for task in range(50)]
    text = RunReport(make.run(*tasks, state=RunState.FAILED), events=events, balance=make.balance()).to_text(80)
    assert len(text.splitlines()) < 120
    assert "more causes" in text
    assert "... 13 more models" in text


def test_children_of_a_for_each_share_a_row_in_a_large_run(make):
    children = [make.done(f"map#{place}", 0, 1) for place in range(60)]
    run = make.run(make.done("map", 0, 1), *children, make.skipped("later"))
    text = RunReport(run).to_text(80)
    assert re.search(
        r"^map x60 \* +completed +openai:gpt-5\.5-mini +60 +60,000 +6,000 +0\.60 +60\.00$", text, re.MULTILINE
    )
    assert "map#" not in text.split("critical path")[0]


def test_children_in_different_states_and_models_are_mixed(make):
    children = [make.done(f"map#{place}", 0, 1, model=f"p:m{place}") for place in range(60)]
    text = RunReport(make.run(*children, make.failed("map#60", 0, 1))).to_text(80)
    assert re.search(r"^map x61 \* +mixed +- ", text, re.MULTILINE)


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_without_tasks_prints_in_every_state(make, state):
    text = RunReport(make.run(state=state, limit=None)).to_text(80)
    assert f"run       brief-1  {state}" in text
    assert "nothing was started" in text
    assert "no limit" in text


def test_an_aborted_run_shows_what_ran_and_what_waits(make):
    running = make.done("a", 0, 1).model_copy(update={"state": TaskState.RUNNING, "ended_at": None, "outputs": None})
    waiting = make.skipped("b").model_copy(update={"state": TaskState.PENDING, "skipped_because": None})
    text = RunReport(make.run(running, waiting, state=RunState.ABORTED)).to_text(80)
    assert "tasks     2: 1 pending, 1 running" in text


def test_a_task_that_took_no_time_has_no_speed_up(make):
    assert "time      0.00 s\n" in RunReport(make.run(make.done("a", 0, 0))).to_text(80)


def test_results_are_the_outputs_that_no_task_waits_for(make):
    run = make.run(make.done("a", 0, 1), *(make.done(f"end{place}", 1, 2, deps=["a"]) for place in range(6)))
    results = RunReport(run).to_text(80).split("\nresults\n")[1]
    assert "output of end5" in results
    assert "output of a" not in results
    assert "... 2 more results" in results


def test_control_characters_of_models_do_not_reach_the_terminal(make):
    run = make.run(
        make.done("a", 0, 1, output="\x1b[2J\u202ewiped\x07", model="p:\x1b]0;title\x07"),
        make.failed("b", 0, 1, message="\x9b31m red"),
        state=RunState.FAILED,
    )
    text = RunReport(run).to_text(80)
    assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert "wiped" in text


def test_printing_a_report_prints_its_text(make, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    report = full_report(make)
    assert repr(report) == str(report) == report.to_text(100)
    monkeypatch.setenv("COLUMNS", "400")
    assert report.to_text() == report.to_text(120)


def test_names_end_in_how_many_are_missing():
    assert named(["a", "b"], 20) == "a, b"
    assert named([f"task{place}" for place in range(30)], 40).endswith(" more")
    listed = named([f"task{place}" for place in range(30)], 40)
    assert listed.count("task") + int(re.search(r"and (\d+) more", listed)[1]) == 30


@given(st.lists(st.from_regex(r"[a-z]{1,40}", fullmatch=True), min_size=1, max_size=30), st.integers(40, 100))
def test_names_fit_their_width(names, width):
    assert len(named(names, width)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.004, "0.00 s"),
        (9.994, "9.99 s"),
        (45.23, "45.2 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "-"), (0.0, "0.0 %"), (0.24, "24.0 %"), (0.99999, "99.9 %"), (1.0, "100.0 %"), (1.5, "150.0 %")],
)
def test_only_a_whole_share_is_a_hundred_per_cent(share, text):
    assert formats.percent(share) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.5", "0.50"),
        ("0.000123", "0.000123"),
        ("0.000000001", "<0.000001"),
        ("0", "0.00"),
        ("12.3456789", "12.345679"),
    ],
)
def test_amounts_have_two_to_six_decimals(amount, text):
    assert formats.amount(Cost.usd(amount)) == text


@given(st.integers(1, 10**15))
def test_a_known_amount_is_never_shown_as_zero(nano):
    text = formats.amount(Cost.from_nano(nano))
    assert Decimal(text.removeprefix("<")) > 0


def test_spending_in_another_currency_than_the_limit_shows_both():
    assert formats.spent_of_limit(Cost("1", "EUR"), Cost.usd("2"), None) == "1.00 EUR of 2.00 USD"


@given(st.text(), st.integers(8, 60))
def test_shortened_text_fits_and_is_printable(text, width):
    short = formats.shorten(text, width)
    assert formats.cells(short) <= width
    assert "\n" not in short
    assert not any(ord(character) < 32 or ord(character) == 127 for character in short)
    short.encode("utf-8")


def test_wide_characters_count_twice():
    assert formats.cells("日本") == 4
    assert formats.cells("e\u0301") == 1
    assert formats.shorten("日本語日本語", 8) == "日本..."
    assert formats.shorten(" " * 500 + "after much white space", 30) == "..."


def test_numbers_stand_at_their_decimal_point():
    assert formats.at_the_point(["0.5", "12.345", "-"]) == ["0.5  ", "12.345", "-    "]


def test_the_text_report_is_computed_from_the_same_figures_as_the_json(make):
    report = full_report(make)
    data = json.loads(json.dumps(report.to_json()))
    assert data["spent"]["amount"] in report.to_text(80)
    assert data["spent"]["amount"] in report.to_html()

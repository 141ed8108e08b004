"""The report as HTML: self-contained, well-formed, and closed to what models write."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RunState
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report import RunReport
from langchain_runtime.report.load_chart import COLUMNS, load
from langchain_runtime.report.markup import tag

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>\"'&]]>\x00\ud800\x1b"


def parsed(page):
    """The page as XML; the doctype is all that is not."""
    return ET.fromstring(page.removeprefix("<!doctype html>"))


def full_report(make):
    run, balance, events = make.brief()
    return RunReport(run, balance=balance, events=events)


def bars(page):
    return [rect.find(f"{SVG}title").text for rect in parsed(page).iter(f"{SVG}rect")]


def test_the_page_and_its_pictures_are_well_formed(make):
    page = full_report(make).to_html()
    assert page.startswith("<!doctype html>")
    labels = [svg.get("aria-label") for svg in parsed(page).iter(f"{SVG}svg")]
    assert labels == ["names of tasks", "timeline", "money settled over time"]


def test_every_started_task_has_a_bar(make):
    assert len(bars(full_report(make).to_html())) == 7
    assert len(bars(RunReport(make.large(1000)).to_html())) == 1000


def test_the_critical_path_is_marked(make):
    root = parsed(full_report(make).to_html())
    marked = [
        rect.find(f"{SVG}title").text.split(":")[0] for rect in root.iter(f"{SVG}rect") if "crit" in rect.get("class")
    ]
    assert marked == ["outline", "facts", "draft", "check"]


def test_bars_stay_within_the_chart(make):
    for page in (full_report(make).to_html(), RunReport(make.large(200)).to_html()):
        for rect in parsed(page).iter(f"{SVG}rect"):
            left, width = (float(rect.get(name).removesuffix("%")) for name in ("x", "width"))
            assert left >= 0
            assert width > 0
            assert left + width <= 100.2


def test_bars_of_one_lane_do_not_overlap(make):
    lanes = {}
    for rect in parsed(RunReport(make.large(400, parallelism=5)).to_html()).iter(f"{SVG}rect"):
        left, width = (float(rect.get(name).removesuffix("%")) for name in ("x", "width"))
        lanes.setdefault(rect.get("y"), []).append((left, left + width))
    assert len(lanes) == 5
    for spans in lanes.values():
        spans.sort()
        assert all(before[1] <= after[0] + 0.2 for before, after in pairwise(spans))


def test_nothing_is_loaded_and_nothing_runs(make):
    page = full_report(make).to_html().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"<script|<link|<img|<iframe|https?:|url\(|@import|\son\w+=", page)


def test_light_and_dark_follow_the_reader(make):
    page = full_report(make).to_html()
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_a_notebook_gets_a_fragment_whose_style_stays_inside(make):
    fragment = full_report(make)._repr_html_()
    root = ET.fromstring(fragment)
    assert root.tag == "div"
    style = root.find("style").text
    selectors = re.findall(r"(?:^|[}{;]|\n)([^{}@;]+)\{", style)
    assert selectors
    assert all(part.strip().startswith(".lcr-report") for rule in selectors for part in rule.split(","))


def test_everything_that_models_wrote_is_escaped(make):
    run = make.run(
        make.done("a", 0, 1, output=EVIL, model=EVIL, metadata={"warnings": [EVIL]}),
        make.done("long", 0, 1, output=EVIL * 200),
        make.failed("b", 0, 1, message=EVIL),
        make.failed("c", 0, 1, message=EVIL * 100),
        make.skipped("d", because=EVIL),
        state=RunState.FAILED,
    )
    page = RunReport(run, events=[make.task_retried("a", message=EVIL)]).to_html()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    parsed(page)
    page.encode("utf-8")


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add((tag, *sorted(name for name, _ in attrs)))


@given(st.text())
def test_no_text_opens_a_tag_or_an_attribute(text):
    page = tag("p", text, title=text)
    tags = _Tags()
    tags.feed(page)
    assert tags.seen == {("p", "title")}
    ET.fromstring(page)


def test_the_page_of_a_thousand_tasks_stays_under_two_megabytes(make):
    large = make.large(1000)
    for task in large.tasks.values():
        if task.outputs is not None:
            task.outputs.output = "<&\"'>" * 5000
    page = RunReport(large).to_html()
    assert len(page.encode()) < 2_000_000
    parsed(page)


def test_the_page_of_ten_thousand_tasks_is_no_larger_and_shows_how_many_ran_at_a_time(make):
    page = RunReport(make.large(10_000, parallelism=64)).to_html()
    assert len(page.encode()) < 600_000
    root = parsed(page)
    assert [svg.get("aria-label") for svg in root.iter(f"{SVG}svg")] == [
        "tasks at a time",
        None,
        "money settled over time",
    ]
    assert "64 at a time" in page
    assert len(bars(page)) < 1_400
    for rect in root.iter(f"{SVG}rect"):
        left, width = (float(rect.get(name).removesuffix("%")) for name in ("x", "width"))
        assert 0 <= left < left + width <= 100.001


def test_more_lanes_than_a_screen_has_lines_are_no_lanes(make):
    assert len(bars(RunReport(make.large(149, parallelism=149)).to_html())) == 149
    page = RunReport(make.large(151, parallelism=151)).to_html()
    assert len(bars(page)) == 2
    assert "task-00049 and 2 more: 1.90 s" in page, "what failed"


@pytest.mark.parametrize(
    ("spans", "shares"),
    [
        ([], {0: 0.0, 200: 0.0, 399: 0.0}),
        ([(100, 200), (150, 300)], {99: 0.0, 100: 1.0, 150: 2.0, 199: 2.0, 200: 1.0, 300: 0.0}),
        ([(10.25, 10.75)], {9: 0.0, 10: 0.5, 11: 0.0}),
        ([(10.5, 12.25)], {10: 0.5, 11: 1.0, 12: 0.25, 13: 0.0}),
        ([(399.5, 401)], {398: 0.0, 399: 0.5}),
    ],
)
def test_the_load_is_how_many_ran_in_each_part_of_the_time(make, spans, shares):
    tasks = [make.done(f"t{place}", *span) for place, span in enumerate([(0, 401), *spans])]
    found = load(RunReport(make.run(*tasks)).figures.tasks, 400)
    assert len(found) == COLUMNS
    assert {place: found[place] - 1 for place in shares} == pytest.approx(shares), "beside the one that always runs"


def test_a_table_of_very_many_tasks_says_how_many_it_left_out(make):
    page = RunReport(make.large(1500)).to_html()
    assert "Not shown: 500 more tasks, cheaper or shorter: 500 completed." in page
    assert page.count('s-failed">') == 1 + 30


def test_children_in_different_states_share_a_row_of_a_very_large_run(make):
    children = [make.done(f"map#{place}", 0, 1) for place in range(1000)]
    page = RunReport(make.run(*children, make.failed("map#1000", 0, 1))).to_html()
    assert "1,000 completed, 1 failed" in page
    assert "map x1001" in page
    assert bars(page) == ["map#999: 1.00 s", "map#1000: 1.00 s"], "of the critical path, and of what failed"


def test_a_limit_in_another_currency_draws_no_bar(make):
    balance = make.balance()
    run = make.run(make.done("a", 0, 1), make.done("b", 1, 2), limit="0.50")
    spent = run.model_copy(update={"usage": Usage(cost=Cost("2", "EUR"))})
    page = RunReport(spent).to_html()
    assert 'class="bar"' not in page
    assert 'class="bar"' in RunReport(run, balance=balance).to_html()


def test_an_unknown_cost_is_a_dash(make):
    root = parsed(RunReport(make.run(make.done("a", 0, 1, usd=None), limit=None)).to_html())
    rows = ["|".join("".join(cell.itertext()).strip("\u2007") for cell in row) for row in root.iter("tr")]
    assert "a|completed|openai:gpt-5.5-mini|1|1,000|100|-|1.00|output of a" in rows


def test_a_long_output_unfolds_and_says_what_is_missing(make):
    page = RunReport(make.run(make.done("a", 0, 1, output="word " * 2000), make.done("b", 1, 2, deps=["a"]))).to_html()
    assert "<details><summary>word word" in page
    assert "... 6,000 more characters" in page


def test_many_causes_and_long_paths_are_counted(make):
    tasks = [
        make.failed(f"f{place}", place, place + 1, message=f"cause {place}").model_copy(
            update={"deps": [f"f{place - 1}"] if place else []}
        )
        for place in range(100)
    ]
    events = [make.compacted(f"f{place}") for place in range(40)]
    page = RunReport(make.run(*tasks, state=RunState.FAILED), events=events).to_html()
    assert "70 more causes, 70 tasks" in page
    assert "40 more tasks in between." in page
    assert "10 more tasks in between." in page


def test_compactions_show_what_was_recalled_and_what_summaries_cost(make):
    events = [make.compacted("draft"), make.recalled("draft", recalls=3, summary=make.usage(900, 60, "0.0012"))]
    report = RunReport(make.run(make.done("draft", 0, 1)), events=events)
    row = re.search(r"<h2>Compactions</h2>.*?<tbody>(.*?)</tbody>", report.to_html(), re.DOTALL).group(1)
    cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row)]
    assert cells == ["draft", "offload", "1", "9,000", "4,000", "12", "1", "3", "0.0012"]
    (item,) = report.to_json()["compactions"]
    assert (item["recalls"], item["summary"]["cost"]["amount"]) == (3, "0.0012")


def test_a_run_that_never_started_has_no_chart(make):
    page = RunReport(make.run(make.skipped("a"), state=RunState.ABORTED)).to_html()
    assert "<svg" not in page
    assert "1 skipped" in page
    parsed(page)


def test_a_run_without_tasks_has_no_tables(make):
    page = RunReport(make.run(state=RunState.PENDING, limit=None)).to_html()
    assert "<table" not in page
    parsed(page)


def test_a_limit_far_away_is_left_to_the_bar(make):
    run = make.run(make.done("a", 0, 1), make.done("b", 1, 2), limit="5")
    assert 'class="limit"' not in RunReport(run).to_html()
    near = make.run(make.done("a", 0, 1), make.done("b", 1, 2), limit="0.03")
    assert 'class="limit"' in RunReport(near).to_html()


def test_a_line_through_very_many_calls_keeps_its_end(make):
    events = [make.settled("a", "0.0001", id_=str(place), at=place / 100) for place in range(1000)]
    root = parsed(RunReport(make.run(make.done("a", 0, 10)), events=events).to_html())
    (line,) = root.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    assert len(points) < 1000
    assert points[-1] == (100.0, pytest.approx(min(y for _, y in points)))


def test_a_pause_is_drawn_as_a_break(make):
    root = parsed(RunReport(make.run(make.done("a", 0, 10), make.done("b", 9010, 9020))).to_html())
    assert [line.find(f"{SVG}title").text for line in root.iter(f"{SVG}line") if line.get("class") == "pause"] == [
        "paused 2 h 30 min"
    ]


def test_the_page_is_written_where_asked(make, tmp_path):
    path = tmp_path / "report.html"
    page = full_report(make).to_html(path)
    assert path.read_text(encoding="utf-8") == page


def test_an_account_overdrawn_fills_the_bar_and_no_more(make):
    page = RunReport(
        make.run(make.done("a", 0, 1)), balance=make.balance(spent="0.60", held="0.10", forfeited="0.55")
    ).to_html()
    bar = next(div for div in parsed(page).iter("div") if div.get("class") == "bar")
    widths = [float(re.search(r"width:([\d.]+)%", part.get("style"))[1]) for part in bar]
    assert sum(widths) == pytest.approx(100)
    assert "120.0 %" in page

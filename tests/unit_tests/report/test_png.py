"""The report as a picture."""

import io
import struct
import subprocess
import sys

import matplotlib as mpl
import pytest
from matplotlib.image import imread

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.run import RunState
from langchain_runtime.report import RunReport
from langchain_runtime.report.png import render_png
from langchain_runtime.report.style import LIGHT

COLOURS = dict(rule.removeprefix("--").split(":") for rule in LIGHT.split(";"))


def report(make):
    run, balance, events = make.brief()
    return RunReport(run, balance=balance, events=events)


def size(picture):
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", picture[16:24])


def share_of_colour(picture, name):
    """Share of the picture's points that have a colour of the palette."""
    red, green, blue = (int(COLOURS[name][place : place + 2], 16) for place in (1, 3, 5))
    points = (imread(io.BytesIO(picture)) * 255).round().astype(int)
    same = (points[:, :, 0] == red) & (points[:, :, 1] == green) & (points[:, :, 2] == blue)
    return float(same.mean())


def test_the_picture_shows_the_path_the_rest_and_what_failed(make):
    picture = report(make).to_png()
    for name in ("crit", "task", "bad", "held"):
        assert share_of_colour(picture, name) > 0.0005, name


def test_a_run_in_which_nothing_failed_has_nothing_red(make):
    picture = RunReport(make.run(make.done("a", 0, 1), make.done("b", 1, 3, deps=["a"]), limit=None)).to_png()
    assert share_of_colour(picture, "bad") == 0
    assert share_of_colour(picture, "crit") > 0.01


def test_it_grows_with_rows_and_then_keeps_its_size(make):
    sizes = {number: size(RunReport(make.large(number)).to_png()) for number in (5, 60, 61, 1000, 10_000)}
    assert {width for width, _ in sizes.values()} == {1584}
    heights = {number: height for number, (_, height) in sizes.items()}
    assert heights[5] < heights[61] < heights[60] < 3000
    assert heights[61] == heights[1000]
    assert heights[10_000] < 1200


def test_very_many_lanes_stay_visible(make):
    _, height = size(RunReport(make.large(2000, parallelism=140)).to_png())
    assert height < 2000


def test_runs_without_tasks_time_or_money_are_drawn(make):
    for run in (
        make.run(),
        make.run(make.skipped("a")),
        make.run(make.done("a", 0, 0, usd=None)),
        *(make.run(make.done("a", 0, 1), state=state) for state in RunState),
    ):
        width, height = size(RunReport(run).to_png())
        assert width == 1584
        assert height > 150


def test_a_pause_is_drawn_as_a_break(make):
    run = make.run(make.done("a", 0, 10), make.done("b", 40_000, 40_010, deps=["a"]), limit=None)
    assert share_of_colour(RunReport(run).to_png(), "held") > 0


def test_the_users_styles_and_pyplot_are_left_alone(make):
    plain = report(make).to_png()
    settings = {"savefig.bbox": "tight", "figure.autolayout": True, "font.size": 30, "font.family": "serif"}
    with mpl.rc_context({"axes.grid": True, "axes.facecolor": "black", "text.color": "white", **settings}):
        assert report(make).to_png() == plain
    code = (
        "import sys\n"
        "from langchain_runtime.contracts.run import Run, RunPolicy, RunState\n"
        "from langchain_runtime.report import RunReport\n"
        "assert 'matplotlib' not in sys.modules\n"
        "RunReport(Run(id='r', state=RunState.PENDING, policy=RunPolicy(), tasks={})).to_png()\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_dollar_in_an_id_is_a_dollar(make):
    run, balance, events = make.brief()
    strange = run.model_copy(update={"id": r"$\frac{a}$"})
    assert size(RunReport(strange, balance=balance, events=events).to_png())[0] == 1584


def test_the_picture_is_written_where_asked(make, tmp_path):
    path = tmp_path / "run.png"
    assert report(make).to_png(path) == path.read_bytes()


def test_without_matplotlib_the_extra_is_named(make, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidInputError) as refused:
        render_png(report(make).figures)
    assert "langchain-runtime-layer[notebook]" in refused.value.hint


def test_the_journal_is_written_line_by_line_and_read_back(make):
    run, _, events = make.brief()
    lines = RunReport(run, events=events).to_jsonl().splitlines()
    assert [parse_event(line) for line in lines] == events
    assert RunReport(run).to_jsonl() == ""

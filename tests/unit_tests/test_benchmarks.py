"""Benchmarks have one form, and their results say of each claim whether it held. No figure is asserted here."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


@pytest.fixture
def benchmark_modules(monkeypatch):
    """``import harness`` and ``import bench_<name>`` work as where a benchmark runs, and leave nothing behind."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ["harness", *(f"bench_{name}" for name in NAMES)]:
        sys.modules.pop(name, None)


@pytest.fixture
def harness(benchmark_modules) -> ModuleType:
    return importlib.import_module("harness")


def rows(text: str) -> list[list[str]]:
    """Cells of every row of every table, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in {"claim", "---"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_and_says_what(name, harness):
    module = importlib.import_module(f"bench_{name}")
    assert inspect.isgeneratorfunction(module.measure)
    assert list(inspect.signature(module.measure).parameters) == ["quick"]
    assert module.__doc__


def test_nothing_else_is_in_the_folder():
    assert {path.stem for path in FOLDER.glob("*.py")} == {"harness", *(f"bench_{name}" for name in NAMES)}


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"ours": 1, "peer": 1, "bound": 1.0}, "held"),
        ({"ours": 3, "peer": 2, "bound": 1.4}, "not held"),
        ({"ours": 3, "peer": 2, "bound": 1.4, "at_least": True}, "held"),
        ({"ours": 99, "bound": 100, "at_least": True}, "not held"),
        ({"ours": 600, "peer": 4_000, "bound": 500, "at_least": True, "absolute": True}, "held"),
        ({"ours": 600, "peer": 4_000, "bound": 500, "at_least": True}, "not held"),
        ({"ours": 1, "peer": 0, "bound": 2}, "held"),
        ({"ours": 1, "peer": 2}, "-"),
    ],
)
def test_a_verdict_follows_from_the_bound(harness, fields, verdict):
    assert harness.Figure(claim="it is fast", unit="ms", **fields).verdict == verdict


def test_results_group_figures_by_the_line_that_they_answer(harness):
    figure = {"claim": "calls", "unit": "ms", "ours": 1}
    text = harness.results(
        [
            ("dag", harness.Figure(**figure)),
            ("dag", harness.Figure(**figure, bound=2, must_hold="It is fast")),
            ("guard_cost", harness.Figure(**figure, peer=4, against="peer", bound=0.2, must_hold="It is fast")),
        ],
        "today",
    )
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["It is fast", "Measured besides"]
    assert rows(text) == [
        ["calls", "1 ms", "-", "-", "<= 2 ms", "held", "`python benchmarks/harness.py dag`"],
        [
            "calls",
            "1 ms",
            "4 ms (peer)",
            "0.25",
            "ratio <= 0.2",
            "not held",
            "`python benchmarks/harness.py guard_cost`",
        ],
        ["calls", "1 ms", "-", "-", "-", "-", "`python benchmarks/harness.py dag`"],
    ]
    assert "Claims held: 1, not held: 1." in text


@pytest.mark.parametrize("there", [True, False])
def test_results_without_the_recorded_data_say_that_figures_are_left_out(harness, there, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "SHARED", tmp_path if there else tmp_path / "missing")
    assert (harness.LEFT_OUT in harness.results([], "today")) is not there


@pytest.mark.parametrize("name", ["makespan", "token_estimates"])
def test_without_the_recorded_data_a_benchmark_says_so_and_claims_nothing(name, harness, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "SHARED", tmp_path)
    measured = list(importlib.import_module(f"bench_{name}").measure(quick=True))
    assert [figure.claim for figure in measured if figure.bound is not None] == []
    assert "not measured: ../shared/" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--write", "--quick"], ["--write", "dag"], ["no_such_benchmark"]])
def test_the_results_are_written_whole_or_not_at_all(harness, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", ["harness.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        harness.main()
    assert stopped.value.code == 2
    assert not harness.RESULTS.exists()


def test_the_written_results_say_of_every_claim_whether_it_held(harness):
    text = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    written = rows(text)
    commands = {f"`python benchmarks/harness.py {name}`" for name in NAMES}
    for claim, ours, _, _, bound, verdict, command in written:
        assert claim
        assert re.match(r"[\d.,]+(e[+-]\d+)? \S", ours)
        assert verdict in {"held", "not held", "-"}
        assert (verdict == "-") == (bound == "-")
        assert command in commands
    verdicts = [row[5] for row in written]
    assert f"Claims held: {verdicts.count('held')}, not held: {verdicts.count('not held')}." in text
    missing = commands - {row[6] for row in written}
    assert not missing or harness.LEFT_OUT in text, "written without some benchmark: run `make bench`"

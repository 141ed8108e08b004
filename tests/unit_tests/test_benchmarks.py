"""Benchmarks have one form, and their results say of each claim whether it held. No figure is asserted here."""

import asyncio
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
OTHERS = ["compaction_contenders", "contenders", "harness", "loopback", "transcripts"]
"""What stands beside the benchmarks: the runner, what they run, and what they read."""


@pytest.fixture
def benchmark_modules(monkeypatch):
    """``import harness`` and ``import bench_<name>`` work as where a benchmark runs, and leave nothing behind."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in [*OTHERS, *(f"bench_{name}" for name in NAMES)]:
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
    assert {path.stem for path in FOLDER.glob("*.py")} == {*OTHERS, *(f"bench_{name}" for name in NAMES)}


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


def test_a_peer_that_is_not_installed_is_skipped_with_a_line_that_says_so(harness):
    skipped = harness.Skipped(claim="calls, peer", peer="the-peer", must_hold="It is fast")
    text = harness.results([("dag", harness.Figure(claim="calls", unit="ms", ours=1)), ("dag", skipped)], "today")
    command = "`python benchmarks/harness.py dag`"
    assert rows(text) == [
        ["calls, peer", "-", "peer not installed: the-peer", "-", "-", "skipped", command],
        ["calls", "1 ms", "-", "-", "-", "-", command],
    ]
    assert harness.SKIPPED in text
    assert "Claims held: 0, not held: 0." in text
    assert "the-peer" in str(skipped)
    assert harness.SKIPPED not in harness.results([], "today")


@pytest.mark.parametrize("module", ["json", "no_such_peer"])
def test_a_peer_is_looked_for_without_being_imported(harness, module, monkeypatch):
    monkeypatch.delitem(sys.modules, module, raising=False)
    assert harness.installed(module) is (module == "json")
    assert module not in sys.modules


@pytest.mark.parametrize("name", ["budget_race", "price_drift"])
def test_without_any_peer_a_benchmark_still_says_what_it_can(name, harness, monkeypatch):
    monkeypatch.setattr(harness, "installed", lambda _module: False)
    measured = list(importlib.import_module(f"bench_{name}").measure(quick=True))
    skipped = [row for row in measured if row.verdict == "skipped"]
    assert {row.peer for row in skipped} >= {"litellm"}
    assert {row.verdict for row in measured} <= {"skipped", "held", "not held", "-"}
    assert not [row for row in measured if not isinstance(row, (harness.Figure, harness.Skipped))]


@pytest.mark.parametrize(("theirs", "verdict"), [("2.50", "held"), ("2.51", "not held")])
def test_a_price_of_ours_below_anothers_breaks_the_claim(harness, theirs, verdict, monkeypatch, capsys):
    drift = importlib.import_module("bench_price_drift")
    table = [
        ("openai", "gpt-4o", "input", 0, drift.nano(theirs, tokens=10**6)),
        ("openai", "gpt-4o", "cache_read", 0, 1),
        ("openai", "gpt-5.4", "input", 272_000, 1),
        ("azure", "gpt-4o", "input", 0, 1),
    ]
    monkeypatch.setattr(drift, "installed", lambda module: module == "litellm")
    monkeypatch.setattr(drift, "litellm_rates", lambda: table)
    assert [row.verdict for row in drift.measure(quick=True) if getattr(row, "bound", None)] == [verdict]
    printed = capsys.readouterr().out
    assert ("openai:gpt-4o input: ours 2.5, theirs 2.51 USD per million (below" in printed) == (verdict == "not held")


@pytest.mark.parametrize("shape", ["wide", "chain", "diamonds"])
async def test_all_that_a_dag_is_run_on_do_all_of_its_tasks(shape, harness):
    bench = importlib.import_module("bench_dag")
    dag = bench.SHAPES[shape](25)
    for name, build in bench.CONTENDERS.items():
        assert (await build(dag)())["results"].keys() == dag.keys(), name


async def test_a_driver_written_by_hand_waits_for_dependencies(harness):
    bench = importlib.import_module("bench_dag")
    dag, seen = bench.diamonds(25), {}

    def start(task_id, results):
        seen[task_id] = set(results)
        return asyncio.ensure_future(asyncio.sleep(0, task_id))

    await bench.by_hand(dag, start)
    assert seen.keys() == dag.keys()
    assert all(seen[task_id].issuperset(deps) for task_id, (deps, _) in dag.items())


@pytest.mark.parametrize("name", ["StateGraph", "functional API", "ours in supersteps"])
async def test_all_whose_memory_is_measured_have_their_tasks_wait_at_once(name, harness):
    await importlib.import_module("bench_memory").PEERS[name](9)


@pytest.mark.parametrize("scene", ["StateGraph", "functional API"])
async def test_peers_that_are_killed_do_the_work_of_the_crash_tests(scene, harness, loopback, tmp_path):
    bench = importlib.import_module("bench_crash")
    with loopback.serving(tmp_path / "provider.jsonl") as provider:
        order = bench.crash.Order(bench.crash.Site(tmp_path, provider.base_url), scene)
        outputs = await bench.resumed(order, bench.crash.Stage(order, None))
        served = bench.crash.Served.by(provider)
    assert outputs.keys() == bench.crash.LANES.keys()
    assert served.requests == served.different
    assert bench.crash.steps(order.site, provider) == bench.crash.STEPS


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
    for claim, ours, peer, _, bound, verdict, command in written:
        assert claim
        assert command in commands
        if verdict == "skipped":
            assert peer.startswith(harness.NOT_INSTALLED)
            continue
        assert re.match(r"[\d.,]+(e[+-]\d+)? \S", ours)
        assert verdict in {"held", "not held", "-"}
        assert (verdict == "-") == (bound == "-")
    verdicts = [row[5] for row in written]
    assert f"Claims held: {verdicts.count('held')}, not held: {verdicts.count('not held')}." in text
    missing = commands - {row[6] for row in written}
    assert not missing or harness.LEFT_OUT in text, "written without some benchmark: run `make bench`"

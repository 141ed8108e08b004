"""`lcr` from end to end: plan, run, report, runs, brief, resume, over the example files and a provider on loopback."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_runtime.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
WEEKLY = str(ROOT / "examples" / "weekly_brief.yaml")
LCR = Path(sys.executable).with_name("lcr")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LCR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def lcr(*arguments: object, exit_code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def lcr_in_a_process(base_url: str, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "x"}
    done = subprocess.run([LCR, *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == exit_code, done.stderr
    return done


def run_id_in(out: str) -> str:
    word, _, run_id = out.splitlines()[0].partition(" ")
    assert word == "run"
    return run_id


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_planned_without_a_trace(example, home):
    out = lcr("plan", example, "--price-as", "openai:gpt-4o-mini").stdout
    assert "plan weekly-brief: 12 tasks" in out
    assert not home.exists()


@pytest.mark.parametrize("options", [(), ("--parallelism", "2")])
def test_a_plan_knows_what_earlier_runs_took(options):
    assumed = json.loads(lcr("plan", WEEKLY, "--json", *options).stdout)
    lcr("run", WEEKLY)
    learnt = json.loads(lcr("plan", WEEKLY, "--json", *options).stdout)
    assert {task["samples"] for task in assumed["tasks"]} == {0}
    assert {task["samples"] for task in learnt["tasks"]} == {1}
    assert learnt["makespan_seconds"] < assumed["makespan_seconds"]
    assert learnt["max_parallelism"] == assumed["max_parallelism"] == (2 if options else 4)
    assert [record["state"] for record in json.loads(lcr("runs", "--json").stdout)] == ["completed"]  # no plan is a run


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs_offline(example):
    result = lcr("run", example, "--budget", "0.50", "--price-as", "openai:gpt-4o-mini", "--json")
    first, _, rest = result.stdout.partition("\n")
    report = json.loads(rest)
    assert first == f"run {report['id']}"
    assert report["state"] == "completed"
    assert all(task["state"] == "completed" for task in report["tasks"].values())
    assert "model extractive (" in result.stderr


def test_a_run_is_found_again_by_its_id_alone(home):
    ran = lcr("run", WEEKLY, "-i", "team=Payments", "--json").stdout
    run_id = run_id_in(ran)
    told = json.loads(ran.partition("\n")[2])
    assert json.loads(lcr("report", run_id, "--json").stdout) == told
    text = lcr("report", run_id).stdout
    assert "section_incidents" in text
    [row] = json.loads(lcr("runs", "--json").stdout)
    assert (row["id"], row["state"], row["name"], row["model"]) == (run_id, "completed", "weekly-brief", "extractive")
    assert run_id in lcr("runs").stdout
    assert {path.name for path in home.iterdir()} >= {"runs.db", "ledger.db"}


def test_the_report_is_written_as_one_html_file(tmp_path):
    run_id = run_id_in(lcr("run", WEEKLY).stdout)
    page = tmp_path / "report.html"
    assert f"wrote {page}" in lcr("report", run_id, "--html", page).stderr
    assert run_id in page.read_text(encoding="utf-8")
    refused = lcr("report", run_id, "--html", tmp_path / "no" / "folder.html", exit_code=2)
    assert "error[invalid_input]: cannot write" in refused.stderr


def test_a_completed_run_has_nothing_to_resume():
    run_id = run_id_in(lcr("run", WEEKLY).stdout)
    result = lcr("run", "--resume", run_id, exit_code=2)
    assert "error[run_completed]" in result.stderr
    assert f"lcr report {run_id}" in result.stderr


def test_a_home_without_runs_says_so(home):
    assert lcr("runs").stdout.startswith("no runs in ")
    assert json.loads(lcr("runs", "--json").stdout) == []
    assert not home.exists()


def test_the_schema_describes_the_examples():
    import jsonschema
    import yaml

    schema = json.loads(lcr("schema").stdout)
    for example in EXAMPLES:
        jsonschema.validate(yaml.safe_load(example.read_text(encoding="utf-8")), schema)


def test_a_budget_that_is_too_small_ends_with_status_3_and_can_be_raised():
    result = lcr("run", WEEKLY, "--budget", "0.000001", "--price-as", "openai:gpt-4o", exit_code=3)
    run_id = run_id_in(result.stdout)
    assert "error[budget_exceeded]" in result.stderr
    assert f"lcr run --resume {run_id} --budget" in result.stderr
    resumed = lcr("run", "--resume", run_id, "--budget", "0.50", "--json")
    report = json.loads(resumed.stdout.partition("\n")[2])
    assert (report["state"], report["limit"]) == ("completed", {"amount": "0.50", "currency": "USD"})


def test_a_run_that_waits_for_money_says_so_and_goes_on_when_it_gets_it(tmp_path):
    import yaml

    content = yaml.safe_load(Path(WEEKLY).read_text(encoding="utf-8"))
    content["policy"]["on_exceed"] = "interrupt"
    file = tmp_path / "asking.json"
    file.write_text(json.dumps(content))
    result = lcr("run", file, "--budget", "0.0001", "--price-as", "openai:gpt-4o-mini", exit_code=3)
    run_id = run_id_in(result.stdout)
    assert f"error[budget_exceeded]: run {run_id} waits for money: spent 0." in result.stderr
    assert f"lcr run --resume {run_id} --budget AMOUNT" in result.stderr
    assert json.loads(lcr("runs", "--json").stdout)[0]["state"] == "interrupted"
    lcr("run", "--resume", run_id, "--budget", "0.50")
    assert json.loads(lcr("report", run_id, "--json").stdout)["state"] == "completed"


def test_a_run_that_failed_ends_with_status_4_and_is_resumed_where_it_broke(tmp_path, loopback):
    with loopback.serving(tmp_path / "provider.jsonl", faults=[400]) as provider:
        result = lcr_in_a_process(provider.base_url, "run", WEEKLY, "--model", "openai:gpt-4o-mini", exit_code=4)
        run_id = run_id_in(result.stdout)
        assert "error[run_failed]" in result.stderr
        assert f"lcr run --resume {run_id}" in result.stderr
        assert 0 < len(provider.served) < 12
        lcr_in_a_process(provider.base_url, "run", "--resume", run_id)
        assert len(provider.served) == 12


def test_the_model_of_a_resumed_run_can_be_changed(tmp_path, loopback):
    with loopback.serving(tmp_path / "provider.jsonl", faults=[400] * 12) as provider:
        result = lcr_in_a_process(provider.base_url, "run", WEEKLY, "--model", "openai:gpt-4o-mini", exit_code=4)
        lcr_in_a_process(provider.base_url, "run", "--resume", run_id_in(result.stdout), "--model", "extractive")
    [row] = json.loads(lcr("runs", "--json").stdout)
    assert (row["state"], row["model"]) == ("completed", "extractive")


# A shell's background jobs start with Ctrl-C ignored, and so would everything that a test run among them starts.
_HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on_which_works(tmp_path, loopback):
    with loopback.serving(tmp_path / "provider.jsonl", latency=0.2) as provider:
        environment = os.environ | {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "x"}
        with subprocess.Popen(
            [sys.executable, "-c", _HEARS_CTRL_C, LCR, "run", WEEKLY, "--model", "openai:gpt-4o-mini"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            run_id = process.stdout.readline().split()[1]
            provider.wait_for(3, alive=lambda: process.poll() is None)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert f"lcr run --resume {run_id}" in err
        assert "Traceback" not in err
        finished = json.loads(lcr("report", run_id, "--json").stdout)
        done = sum(task["state"] == "completed" for task in finished["tasks"].values())
        before = len(provider.served)
        lcr_in_a_process(provider.base_url, "run", "--resume", run_id)
        assert len(provider.served) == before + 12 - done, "what was finished is not asked for again"


def test_a_provider_key_in_the_environment_chooses_the_model(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    result = lcr("plan", WEEKLY)
    assert "model openai:" in result.stderr
    assert "OPENAI_API_KEY is set" in result.stderr


def test_a_brief_cites_its_folder_word_for_word(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "dogs.md").write_text("# Dogs\n\nDogs bark at night because they guard the house. They sleep by day.\n")
    (docs / "cats.md").write_text("# Cats\n\nCats purr when they are content. They hunt mice in the barn at dusk.\n")
    (docs / "blob.md").write_bytes(b"\x00\xff\x00\x01")
    result = lcr(
        "brief", docs, "-q", "Why do dogs bark at night?", "--budget", "0.50", "--price-as", "openai:gpt-4o-mini"
    )
    run_id = run_id_in(result.stdout)
    assert '"Dogs bark at night because they guard the house.' in result.stdout
    assert "[dogs]" in result.stdout
    assert f"dogs: {docs / 'dogs.md'}" in result.stdout
    assert "skipped " in result.stderr
    assert "blob.md" in result.stderr
    [row] = json.loads(lcr("runs", "--json").stdout)
    assert (row["id"], row["kind"], row["state"]) == (run_id, "brief", "completed")
    assert json.loads(lcr("report", run_id, "--json").stdout)["state"] == "completed"


def test_a_run_that_cannot_afford_its_model_goes_on_with_the_next_one_of_its_ladder(tmp_path, loopback):
    file = tmp_path / "ladder.json"
    policy = {"on_exceed": "downgrade", "ladder": ["openai:gpt-4o", "openai:gpt-4o-mini"], "max_parallelism": 1}
    tasks = [{"id": "first", "prompt": "Say one.", "max_output_tokens": 1_000}]
    tasks += [{"id": "second", "prompt": "Say two after {first}.", "deps": ["first"], "max_output_tokens": 1_000}]
    file.write_text(json.dumps({"version": 1, "model": "openai:gpt-4o", "policy": policy, "tasks": tasks}))
    with loopback.serving(tmp_path / "provider.jsonl") as provider:
        out = lcr_in_a_process(provider.base_url, "run", str(file), "--budget", "0.005", "--json").stdout
        assert [row["model"] for row in provider.served] == ["gpt-4o-mini", "gpt-4o-mini"]
        report = json.loads(out.partition("\n")[2])
        assert Decimal(report["spent"]["amount"]) == provider.bill
    assert {task["model"] for task in report["tasks"].values()} == {"openai:gpt-4o-mini"}
    assert "moved to a cheaper model by budget run:" in lcr("report", report["id"]).stdout


def test_a_cheaper_model_that_cannot_be_opened_is_refused_before_anything_is_written(tmp_path, home):
    file = tmp_path / "ladder.json"
    policy = {"on_exceed": "downgrade", "ladder": ["extractive", "openai:gpt-4o-mini"]}
    file.write_text(json.dumps({"version": 1, "policy": policy, "tasks": [{"id": "t", "prompt": "Say one."}]}))
    refused = lcr("run", file, "--model", "extractive", exit_code=2)
    assert "error[invalid_input]: model 'openai:gpt-4o-mini' could not be opened" in refused.stderr
    assert not home.exists()

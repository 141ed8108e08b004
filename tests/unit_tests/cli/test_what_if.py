"""`lcr what-if`: a run of the home folder under other settings, and everything that it refuses."""

import json

import pytest
from typer.testing import CliRunner

from langchain_runtime.cli.app import app
from langchain_runtime.cli.inputs import parse_models
from langchain_runtime.contracts.errors import InvalidInputError

TASKS = [
    {"id": "facts", "prompt": "Facts about {topic}."},
    {"id": "risks", "prompt": "Risks of {topic}."},
    {"id": "both", "prompt": "Put together: {facts} {risks}", "deps": ["facts", "risks"]},
]


def lcr(*arguments, exit_code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LCR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run_id(home, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"inputs": {"topic": "dams"}, "tasks": TASKS, "policy": {"max_parallelism": 1}}))
    ran = lcr("run", file, "--model", "extractive", "--price-as", "openai:gpt-4o")
    return ran.stdout.splitlines()[0].removeprefix("run ")


def asked(*arguments):
    return json.loads(lcr("what-if", *arguments, "--json").stdout)


def test_a_run_is_asked_about_by_its_id_alone(run_id):
    text = lcr("what-if", run_id, "--parallelism", "2").stdout
    assert text.startswith(f"run {run_id} took ")
    assert "with 2 at a time: " in text
    assert "critical path: " in text
    found = asked(run_id)
    assert (found["run_id"], found["state"], found["before"]["max_parallelism"]) == (run_id, "completed", 1)
    assert found["replayed"]["cost"] == found["before"]["cost"]


def test_models_are_replaced_by_model_and_by_task(run_id):
    found = asked(run_id, "--model", "extractive=openai:gpt-4o-mini", "--model", "both=openai:gpt-4.1")
    assert {task["id"]: task["model_after"] for task in found["tasks"]} == {
        "facts": "openai:gpt-4o-mini",
        "risks": "openai:gpt-4o-mini",
        "both": "openai:gpt-4.1",
    }
    assert all(task["model_before"] == "extractive" and task["cost_after"] for task in found["tasks"])


def test_prices_are_read_from_a_file(run_id, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text('models: {extractive: {input: "0", output: "0"}}')
    assert asked(run_id, "--prices", prices)["after"]["cost"] == {"amount": "0.00", "currency": "USD"}


BAD = {
    "unknown-run": (["nope"], "run_not_found", "nope"),
    "no-model": (["RUN", "--model", "extractive"], "invalid_input", "'extractive' is not old=new"),
    "unknown-task": (["RUN", "--model", "fcts=openai:gpt-4o"], "invalid_input", "did you mean 'facts'?"),
    "unknown-model": (["RUN", "--model", "facts=nope"], "unknown_model", "'nope' is not a model"),
    "parallelism": (["RUN", "--parallelism", "0"], "invalid_input", "1 or more, got 0"),
    "prices": (["RUN", "--prices", "nowhere.yaml"], "invalid_input", "nowhere.yaml"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(run_id, arguments, code, says):
    result = lcr("what-if", *(run_id if each == "RUN" else each for each in arguments), exit_code=2)
    assert f"error[{code}]" in result.stderr
    assert says in result.stderr


def test_asking_in_a_home_without_runs_writes_nothing(home):
    lcr("what-if", "nope", exit_code=2)
    assert not home.exists()


@pytest.mark.parametrize("pair", ["a", "=b", "a=", "="])
def test_a_replacement_needs_both_sides(pair):
    with pytest.raises(InvalidInputError, match="is not old=new"):
        parse_models([pair])


def test_replacements_are_given_once():
    assert parse_models(["a = b", "c=d"]) == {"a": "b", "c": "d"}
    with pytest.raises(InvalidInputError, match="replaced twice"):
        parse_models(["a=b", "a=c"])

"""`lcr budget`, `lcr models` and what a shell completes: the commands around a run that has no money left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_runtime.cli.app import app
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.money import Cost
from langchain_runtime.ledgers import SqliteLedger

WEEKLY = Path(__file__).resolve().parents[2] / "examples" / "weekly_brief.yaml"
PRICED = ("--price-as", "openai:gpt-4o-mini")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LCR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    return tmp_path / "home"


def lcr(*arguments: object, exit_code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def run_out(budget="0.0001") -> str:
    """A run that has no money left."""
    result = lcr("run", WEEKLY, "--budget", budget, *PRICED, exit_code=3)
    return result.stdout.splitlines()[0].split()[1]


def shown(*arguments):
    return {row["scope"]: row for row in json.loads(lcr("budget", "show", *arguments, "--json").stdout)}


@pytest.fixture
def shared(home) -> str:
    """A scope that several programs share."""
    home.mkdir()
    ledger = SqliteLedger(home / "ledger.db")
    ledger.open_scope(Scope.of(Budget(Cost.usd("2"), scope="user:42")))
    ledger.close()
    return "user:42"


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_a_run_that_ran_out_goes_on_after_a_top_up():
    run = run_out()
    added = lcr("budget", "top-up", run, "0.40").stdout
    assert f"run:{run}: limit 0.4001 USD" in added
    assert f"go on with: lcr run --resume {run}" in added
    lcr("run", "--resume", run)
    report = json.loads(lcr("report", run, "--json").stdout)
    assert report["state"] == "completed"
    account = shown(run)[f"run:{run}"]
    assert account["limit"] == "0.4001"
    assert float(account["spent"]) == pytest.approx(float(report["spent"]["amount"]))
    assert account["held"] == "0.00"


def test_a_key_adds_once_however_often_it_is_sent():
    run = run_out()
    for _ in range(3):
        lcr("budget", "top-up", run, "0.40", "--key", "monday")
    assert shown(run)[f"run:{run}"]["limit"] == "0.4001"


def test_all_budgets_are_shown_on_80_columns(shared):
    run = run_out()
    assert shown().keys() == {f"run:{run}", shared}
    lines = lcr("budget", "show").stdout.splitlines()
    assert lines[0].split()[:1] == ["scope"]
    assert max(map(len, lines)) <= 80
    assert len(lines) == 3


def test_the_limit_of_a_shared_budget_is_set(shared):
    assert (
        "user:42: limit 5.00 USD, spent 0.00 USD, held 0.00 USD, left 5.00 USD"
        in lcr("budget", "set", shared, "5").stdout
    )
    assert shown(shared)[shared]["limit"] == "5.00"


def test_the_limit_of_a_run_is_set_where_it_is_kept():
    run = run_out()
    result = lcr("budget", "set", run, "1", exit_code=2)
    assert f"lcr run --resume {run} --budget 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nobody"), "nobody"),
        (("top-up", "nobody", "1"), "nobody"),
        (("top-up", "user:42", "1 EUR"), 'write "1 USD"'),
        (("top-up", "user:42", "0"), "must be positive"),
        (("set", "user:42", "much"), "is not an amount"),
    ],
)
def test_what_cannot_be_done_is_said(shared, arguments, said):
    result = lcr("budget", *arguments, exit_code=2 if said != "nobody" else 3)
    assert said in result.stderr
    assert shown(shared)[shared]["limit"] == "2.00"


def test_a_home_without_books_is_told_apart_from_an_empty_one(home):
    assert "there are no budgets in" in lcr("budget", "show", exit_code=3).stderr
    assert not home.exists()


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_with_their_prices_and_the_one_that_would_be_used(monkeypatch):
    out = lcr("models", "openai:gpt-4o-mini").stdout
    assert "used where none is named: model extractive" in out
    assert "0.15" in out
    assert "0.60" in out
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert "OPENAI_API_KEY is set" in lcr("models", "gpt-4o").stdout


def test_a_long_list_says_how_to_see_the_rest():
    every = json.loads(lcr("models", "--json").stdout)
    out = lcr("models").stdout
    assert f"... {len(every) - 30:,} more" in out
    assert len(lcr("models", "anthropic:", "--all").stdout.splitlines()) > 10
    mini = next(model for model in every if model["id"] == "openai:gpt-4o-mini")
    assert mini["per_million_tokens"] == {"input": "0.15", "cache_read": "0.075", "output": "0.60"}


def test_no_model_of_such_a_name_is_an_error():
    assert "'nobody'" in lcr("models", "nobody", exit_code=2).stderr


# --- completion ------------------------------------------------------------------------------------------------------


def completed(*words: str) -> str:
    """What bash offers for the last of the words."""
    environment = os.environ | {
        "_LCR_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["lcr", *words]),
        "COMP_CWORD": str(len(words)),
    }
    command = [Path(sys.executable).with_name("lcr")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout


def test_a_shell_completes_commands_runs_and_models(home):
    assert "report" in completed("rep")
    assert completed("report", "2").split() == []
    run = run_out()
    assert run in completed("report", run[:6])
    assert run in completed("run", "--resume", run[:6])
    assert "openai:" in completed("run", "--model", "open")

"""Every wrong input: a clear error with a code and what to do, exit status 2, nothing started, nothing written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_runtime.cli.app import app


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LCR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path):
    def write(**content):
        path = tmp_path / "run.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


def lcr(*arguments: str):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result, home: Path, *, code: str, says: str = "", exit_code: int = 2) -> None:
    assert result.exit_code == exit_code, (result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    [error] = [number for number, line in enumerate(lines) if line.startswith("error[")]
    assert lines[error].startswith(f"error[{code}]: ")
    assert says in lines[error]
    assert lines[error + 1].startswith("  "), "an error without a hint"
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not home.exists()


def task(task_id="a", prompt="hi", **rest):
    return {"id": task_id, "prompt": prompt, **rest}


BAD_FILES = {
    "unknown-dep": ({"tasks": [task(deps=["nobody"])]}, "dependency_not_found", "nobody"),
    "duplicate-id": ({"tasks": [task(), task()]}, "invalid_dag", "'a' occurs twice"),
    "cycle": (
        {"tasks": [task("a", deps=["c"]), task("b", deps=["a"]), task("c", deps=["b"])]},
        "cyclic_dependency",
        "a -> b -> c -> a",
    ),
    "unknown-key": ({"tasks": [task(promt="x")]}, "invalid_input", "unknown key 'promt'"),
    "unknown-policy-key": ({"policy": {"budget": 1}, "tasks": [task()]}, "invalid_input", "unknown key 'budget'"),
    "zero-budget": ({"policy": {"budget_limit": {"amount": "0"}}, "tasks": [task()]}, "invalid_input", "positive"),
    "negative-budget": ({"policy": {"budget_limit": {"amount": "-1"}}, "tasks": [task()]}, "invalid_input", "positive"),
    "nan-budget": ({"policy": {"budget_limit": {"amount": "NaN"}}, "tasks": [task()]}, "invalid_input", "finite"),
    "float-budget": ({"policy": {"budget_limit": {"amount": 0.5}}, "tasks": [task()]}, "invalid_input", "float"),
    "unknown-currency": (
        {"policy": {"budget_limit": {"amount": "1", "currency": "XXZ"}}, "tasks": [task()]},
        "invalid_input",
        "currency 'XXZ'",
    ),
    "path-in-task-id": ({"tasks": [task("x/../../evil")]}, "invalid_input", "x/../../evil"),
    "dots-in-task-id": ({"tasks": [task("..")]}, "invalid_input", "'..'"),
    "reserved-task-id": ({"tasks": [task("driver")]}, "invalid_input", "'driver'"),
    "no-variable": ({"tasks": [task(prompt="about {topic}")]}, "invalid_input", "{topic}, which nothing supplies"),
    "no-tasks": ({"tasks": []}, "invalid_input", "tasks"),
    "no-body": ({"tasks": [{"id": "a"}]}, "invalid_input", "nothing to do"),
    "code": ({"tasks": [{"id": "a", "run": "os:getcwd"}]}, "invalid_input", "os:getcwd"),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(("content", "code", "says"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_run_file_starts_nothing(file, home, *, command, content, code, says):
    assert_refused(lcr(command, file(**content)), home, code=code, says=says)


def test_the_nearest_valid_key_is_offered(file, home):
    assert "did you mean 'prompt'?" in lcr("run", file(tasks=[task(promt="x")])).stderr


BAD_OPTIONS = {
    "zero-budget": (["--budget", "0"], "invalid_input", "positive"),
    "negative-budget": (["--budget", "-0.5"], "invalid_input", "positive"),
    "nan-budget": (["--budget", "nan"], "invalid_input", "finite"),
    "wordy-budget": (["--budget", "much"], "invalid_input", "'much' is not an amount"),
    "unknown-model-under-a-budget": (["--model", "openai:nope-9", "--budget", "1"], "unknown_model", "nope-9"),
    "unknown-price": (["--price-as", "openai:nope-9"], "unknown_model", "nope-9"),
    "currency": (["--budget", "0.5 EUR", "--price-as", "openai:gpt-4o-mini"], "currency_mismatch", "EUR"),
    "input-without-value": (["-i", "topic"], "invalid_input", "'topic' is not key=value"),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(("options", "code", "says"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_a_bad_option_starts_nothing(file, home, *, command, options, code, says):
    assert_refused(lcr(command, file(tasks=[task()]), *options), home, code=code, says=says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--parallelism", "0"], "max_parallelism"),
        (["--items", "a=many"], "'many' is not a number"),
        (["--items", "a=3"], "no for_each task"),
    ],
)
def test_a_plan_of_what_cannot_be_is_refused(file, home, options, says):
    assert_refused(lcr("plan", file(tasks=[task()]), *options), home, code="invalid_input", says=says)


BAD_MODELS = {
    "of-the-file": ({"model": "acme:m1", "tasks": [task()]}, [], "unknown_model"),
    "of-a-task": ({"tasks": [task(model="acme:m1")]}, [], "unknown_model"),
    "of-the-command-line": ({"tasks": [task()]}, ["--model", "acme:m1"], "unknown_model"),
    "without-provider": ({"tasks": [task()]}, ["--model", "m1"], "unknown_model"),
    "without-key": ({"tasks": [task()]}, ["--model", "openai:m1"], "invalid_input"),
}


@pytest.mark.parametrize(("content", "options", "code"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_a_model_that_cannot_be_opened_starts_nothing(file, home, *, content, options, code):
    assert_refused(lcr("run", file(**content), *options), home, code=code, says="m1")


def test_a_plan_needs_neither_key_nor_client(file, home):
    out = lcr("plan", file(tasks=[task()]), "--model", "openai:gpt-4o-mini").stdout
    assert "openai:gpt-4o-mini" in out
    assert "no price is known for acme:m1" in lcr("plan", file(tasks=[task()]), "--model", "acme:m1").stdout
    assert not home.exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unpriced_model_is_refused_under_a_budget_and_named(file, home, command):
    # In the catalogue, but billed by the minute rather than by the token.
    result = lcr(command, file(tasks=[task()]), "--model", "openai:whisper-1", "--budget", "1")
    assert_refused(result, home, code="unpriced_model", says="openai:whisper-1")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_missing_file_starts_nothing(tmp_path, home, command):
    assert_refused(lcr(command, tmp_path / "nowhere.yaml"), home, code="invalid_input", says="nowhere.yaml")


def test_running_nothing_is_refused(home):
    assert_refused(lcr("run"), home, code="invalid_input", says="nothing to run")


@pytest.mark.parametrize("command", [["run", "--resume"], ["brief", "--resume"], ["report"]], ids=" ".join)
@pytest.mark.parametrize(
    ("run_id", "code"),
    [("20261122-165712-3f9a2c41", "run_not_found"), ("../evil", "invalid_input"), ("a/b", "invalid_input")],
)
def test_a_run_that_does_not_exist_starts_nothing(home, command, run_id, code):
    assert_refused(lcr(*command, run_id), home, code=code, says=run_id)


@pytest.mark.parametrize(
    "options", [["run.yaml"], ["-i", "a=b"], ["--allow-code"], ["--price-as", "openai:gpt-4o-mini"]], ids=" ".join
)
def test_what_a_run_keeps_from_its_start_cannot_be_changed_on_resume(home, options):
    assert_refused(lcr("run", "--resume", "r1", *options), home, code="invalid_input", says="cannot be changed")


def test_an_empty_folder_is_refused(tmp_path, home):
    (tmp_path / "docs").mkdir()
    assert_refused(lcr("brief", tmp_path / "docs", "-q", "why?"), home, code="invalid_input", says="no documents")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, home, monkeypatch):
    (tmp_path / "docs").mkdir()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)  # root, as which containers run, may read everywhere
    assert_refused(lcr("brief", tmp_path / "docs", "-q", "why?"), home, code="invalid_input", says="Permission denied")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["nowhere", "-q", "why?"], "no folder", id="missing-folder"),
        pytest.param(["-q", "why?"], "got 0", id="no-folder"),
        pytest.param(["a", "b", "-q", "why?"], "got 2", id="two-folders"),
        pytest.param(["--installed", "no-such-package-9", "-q", "why?"], "no-such-package-9", id="not-installed"),
        pytest.param(["--installed", "-q", "why?"], "no package", id="no-package"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(home, arguments, says):
    assert_refused(lcr("brief", *arguments), home, code="invalid_input", says=says)


@pytest.mark.parametrize("question", [[], ["-q", " "]], ids=["none", "blank"])
def test_a_brief_without_a_question_is_refused(tmp_path, home, question):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("Dogs bark at night.")
    assert_refused(lcr("brief", tmp_path / "docs", *question), home, code="invalid_input", says="question")


def test_a_home_that_cannot_be_made_is_refused(file, tmp_path):
    (tmp_path / "occupied").write_text("")
    result = lcr("run", file(tasks=[task()]), "--home", tmp_path / "occupied" / "home")
    assert result.exit_code == 2
    assert "error[invalid_input]: cannot keep runs in" in result.stderr


def test_an_unknown_option_is_refused_by_the_parser(home):
    result = lcr("run", "--bugdet", "1")
    assert result.exit_code == 2
    assert not home.exists()


def test_debug_shows_the_traceback_before_the_error(file, home):
    result = lcr("run", file(tasks=[task(deps=["nobody"])]), "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-2].startswith("error[dependency_not_found]")


def test_the_installed_command_does_the_same(file, home):
    path = file(tasks=[task("a", deps=["b"]), task("b", deps=["a"])])
    done = subprocess.run(
        [Path(sys.executable).with_name("lcr"), "run", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error[cyclic_dependency]: " in done.stderr
    assert not home.exists()

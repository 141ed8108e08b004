import pickle

import pytest
import typer

from langchain_runtime.cli.failures import exit_status, reported
from langchain_runtime.contracts import errors
from langchain_runtime.contracts.money import Cost


def outcome(error: BaseException, *, debug: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended, reported(debug=debug):
        raise error
    return ended.value.exit_code


def test_an_error_of_ours_is_a_code_a_sentence_and_a_hint(capsys):
    assert outcome(errors.InvalidInputError("the sky fell", hint="hold it up")) == 2
    assert capsys.readouterr().err == "error[invalid_input]: the sky fell\n  hold it up\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidDAGError("x"), 2),
        (errors.RunNotFoundError("x", run_id="r"), 2),
        (errors.RunCompletedError("x", run_id="r"), 2),
        (
            errors.BudgetExceededError(
                "x", scope="s", limit=None, spent=Cost.usd(0), held=Cost.usd(0), needed=Cost.usd(1)
            ),
            3,
        ),
        (errors.LedgerUnavailableError("x"), 3),
        (errors.DeadlockError("x", waiting=["a"]), 4),
        (errors.TaskFailedError("x", task_id="a"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_status_follows_the_family(error, status):
    assert outcome(error) == status
    assert exit_status(pickle.loads(pickle.dumps(error))) == status


def test_what_is_not_ours_is_a_defect_that_asks_for_a_report(capsys):
    assert outcome(ZeroDivisionError("division by zero")) == 1
    assert capsys.readouterr().err.startswith("error[internal]: ZeroDivisionError: division by zero\n  ")


@pytest.mark.parametrize("debug", [True, False])
def test_the_traceback_is_for_those_who_ask(capsys, debug):
    outcome(errors.InvalidInputError("x"), debug=debug)
    assert ("Traceback" in capsys.readouterr().err) is debug


def test_ctrl_c_says_how_to_go_on(capsys):
    interrupt = KeyboardInterrupt()
    interrupt.add_note("go on with: lcr run --resume r1")
    assert outcome(interrupt) == 130
    assert capsys.readouterr().err == "go on with: lcr run --resume r1\n"


def test_ctrl_c_before_a_run_started_is_just_that(capsys):
    assert outcome(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_chosen_exit_status_passes():
    assert outcome(typer.Exit(4)) == 4

"""kill -9 in mid-run, then `lcr run --resume`: the same results, nothing bought twice, honest books."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_runtime.cli.app import app
from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.ledgers import SqliteLedger

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "weekly_brief.yaml"
TASKS, SLOTS = 12, 4
LCR = Path(sys.executable).with_name("lcr")
LATENCY = 0.15


@pytest.fixture
def provider(tmp_path, loopback) -> Iterator:
    with loopback.serving(tmp_path / "provider.jsonl", latency=LATENCY) as running:
        yield running


class Lcr:
    """The installed command, in a home and against a provider of its own."""

    def __init__(self, home: Path, base_url: str) -> None:
        self.home = home
        self._environment = os.environ | {"LCR_HOME": str(home), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "x"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [LCR, *arguments], env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self, *arguments: str) -> str:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        return out

    def look(self, *arguments: str) -> str:
        """A command that calls no model, without the price of a process."""
        result = CliRunner().invoke(app, [*arguments, "--home", str(self.home)])
        assert result.exit_code == 0, result.output
        return result.stdout


RUN = ["run", str(EXAMPLE), "--model", "openai:gpt-4o-mini", "--budget", "0.50", "--json"]


def outputs(report: dict) -> dict[str, str]:
    return {task_id: task["output"] for task_id, task in report["tasks"].items()}


def run_id_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    word, run_id = process.stdout.readline().split()
    assert word == "run"
    return run_id


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, loopback) -> dict:
    folder = tmp_path_factory.mktemp("undisturbed")
    with loopback.serving(folder / "provider.jsonl") as quick:
        out = Lcr(folder / "home", quick.base_url).finish(*RUN)
    report = json.loads(out.partition("\n")[2])
    assert report["state"] == "completed"
    assert Decimal(report["spent"]["amount"]) == quick.bill
    return report


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_a_random_moment_is_resumed_without_buying_twice(tmp_path, provider, undisturbed, seed):
    chance = random.Random(seed)
    lcr = Lcr(tmp_path / "home", provider.base_url)
    with lcr.start(*RUN) as process:
        run_id = run_id_of(process)
        provider.wait_for(chance.randint(TASKS // 2 - 2, TASKS // 2 + 2), alive=lambda: process.poll() is None)
        time.sleep(chance.uniform(0, 2 * LATENCY))  # not a wait for something: the random moment itself
        process.kill()
    [row] = json.loads(lcr.look("runs", "--json"))
    assert (row["id"], row["state"]) == (run_id, "interrupted")

    out = lcr.finish("run", "--resume", run_id, "--json")

    assert out.startswith(f"run {run_id}\n")
    report = json.loads(out.partition("\n")[2])
    assert report["state"] == "completed"
    assert outputs(report) == outputs(undisturbed)
    assert json.loads(lcr.look("report", run_id, "--json")) == report
    assert_books_are_right(lcr.home / "ledger.db", run_id, provider)


def assert_books_are_right(ledger_db: Path, run_id: str, provider) -> None:
    ledger = SqliteLedger(ledger_db)
    try:
        reservations = ledger.reservations(run_id)
        balance = ledger.balance(f"run:{run_id}")
    finally:
        ledger.close()
    states = Counter(reservation.state for reservation in reservations)
    settled = Counter(r.hold.task_id for r in reservations if r.state is ReservationState.SETTLED)
    assert set(settled.values()) == {1}, f"a reply was bought again after its settlement: {settled}"
    assert len(settled) == TASKS
    lost = states[ReservationState.FORFEITED]
    assert lost <= SLOTS
    assert len(provider.served) <= states[ReservationState.SETTLED] + lost
    assert balance.spent.amount >= provider.bill
    assert balance.held_nano == 0
    assert balance.overdrawn_nano == 0
    repeated = Counter(row["prompt"] for row in provider.served)
    assert sum(count - 1 for count in repeated.values()) <= lost

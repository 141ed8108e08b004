"""One SQLite ledger, several processes, some of which are killed, paused or forked.

Run as a script, this file is such a process: ``python test_ledger_processes.py JOB PATH [NAME]``.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from langchain_runtime.contracts.budget import Hold, ReservationState, Scope, Settlement
from langchain_runtime.contracts.errors import LedgerUnavailableError, ReservationLostError
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger, default_ledger

# --- the processes ---------------------------------------------------------------------------------------------------


def say(*words):
    """Tell the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def pause(path, _name):
    """Hold, say so, and send when told to."""
    ledger = SqliteLedger(path)
    reservation = ledger.reserve(
        Hold(id="paused", scopes=("user",), nano=900, holder="p", lease_seconds=0.2)
    ).reservation
    say("held")
    sys.stdin.readline()
    try:
        ledger.mark_sent("paused", reservation.lease)
    except ReservationLostError:
        say("lost")
    else:
        say("sent")


def open_new(path, _name):
    """Open a file that others open at the same moment."""
    say("ready")
    sys.stdin.readline()
    say(SqliteLedger(path).open_scope(Scope(name="user", limit_nano=5)).scope.limit_nano)


def fork(path, _name):
    """Use ledgers before and after a fork, on both sides."""

    def hold(number, nano=1):
        return Hold(id=f"call-{number}", scopes=("user",), nano=nano, holder="me")

    ledgers = [SqliteLedger(path), InMemoryLedger(), default_ledger()]
    for ledger in ledgers:
        ledger.open_scope(Scope(name="user", limit_nano=10))
    asyncio.run(ledgers[0].areserve(hold(1)))  # its thread does not survive the fork
    child = os.fork()
    if child == 0:
        ledgers[0].reserve(hold(2))
        asyncio.run(ledgers[0].areserve(hold(3)))
        ledgers[2].reserve(hold(4))
        try:
            ledgers[1].reserve(hold(5))
        except LedgerUnavailableError:
            os._exit(33)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    ledgers[0].reserve(hold(6))
    held = [ledger.balance("user").held_nano for ledger in ledgers]
    say(os.waitstatus_to_exitcode(status), *held)


if __name__ == "__main__":
    {"pause": pause, "open_new": open_new, "fork": fork}[sys.argv[1]](sys.argv[2], sys.argv[3])

# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path):
    """Starts a job; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def start(job, name="x"):
            process = subprocess.Popen(
                [sys.executable, __file__, job, str(tmp_path / "ledger.db"), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def ledger(tmp_path):
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.crash
def test_a_paused_owner_who_wakes_after_his_lease_sends_nothing(ledger, start):
    ledger.open_scope(Scope(name="user", limit_nano=1_000))
    owner = start("pause")
    assert owner.stdout.readline() == "held\n"
    owner.send_signal(signal.SIGSTOP)
    wait_until(lambda: ledger.balance("user").held_nano == 0)
    ledger.reserve(Hold(id="other", scopes=("user",), nano=1_000, holder="me", sent=True))
    ledger.settle(Settlement(reservation_id="other"))
    owner.stdin.write("\n")
    owner.stdin.flush()
    owner.send_signal(signal.SIGCONT)
    assert owner.stdout.readline() == "lost\n"
    assert ledger.balance("user").spent_nano == 1_000


def test_processes_that_make_the_file_at_the_same_moment_agree(start):
    processes = [start("open_new") for _ in range(6)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.stdout.readline() for process in processes] == ["5\n"] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_a_file_is_shared_the_default_is_ones_own_and_other_memory_is_refused(start):
    # SQLite: calls 1, 2, 3 and 6; memory and the default of the parent: none of the child's calls.
    assert start("fork").stdout.readline() == "33 4 0 0\n"


def test_what_was_answered_is_in_the_file_when_the_process_dies(tmp_path, ledger):
    script = (
        "import os, sys; from langchain_runtime.contracts.budget import *; from langchain_runtime.ledgers import *\n"
        "ledger = SqliteLedger(sys.argv[1]); ledger.open_scope(Scope(name='user'))\n"
        "ledger.reserve(Hold(id='a', scopes=('user',), nano=5, holder='me')); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(tmp_path) / "ledger.db")], check=False)
    assert ledger.reservation("a").state is ReservationState.HELD

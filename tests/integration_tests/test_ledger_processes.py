"""One SQLite ledger, several processes, some of which are killed, paused or forked.

Run as a script, this file is such a process: ``python test_ledger_processes.py JOB PATH [NAME]``.
"""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
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


def spend(path, name):
    """Call after call until killed; a line in the log for each settlement that the ledger has acknowledged."""
    ledger, chance = SqliteLedger(path), random.Random(os.getpid())
    log = os.open(f"{path}.{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        hold = Hold(scopes=("run", "user"), nano=1_000, tokens=10, holder=name, lease_seconds=0.5, run_id="r")
        reservation = ledger.reserve(hold).reservation
        if reservation is None:
            continue
        with suppress(ReservationLostError):  # others wrote for longer than the lease: settling is right all the same
            ledger.mark_sent(hold.id, reservation.lease)
        cost = ledger.settle(Settlement(reservation_id=hold.id, nano=chance.randint(100, 1_000)))
        os.write(log, f"{hold.id} {cost}\n".encode())


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
    {"spend": spend, "pause": pause, "open_new": open_new, "fork": fork}[sys.argv[1]](sys.argv[2], sys.argv[3])

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
def test_killed_processes_never_push_a_budget_over_its_limit_and_lose_no_settlement(tmp_path, ledger, start):
    ledger.open_scope(Scope(name="run"))
    ledger.open_scope(Scope(name="user", limit_nano=3_000))  # less than four holds: there is always someone waiting
    samples = []

    def sample():
        balance = ledger.balance("user")
        samples.append(balance)
        assert balance.spent_nano + balance.held_nano <= balance.scope.limit_nano
        return balance

    names = [f"worker-{number}" for number in range(4)]
    workers = {name: start("spend", name) for name in names}
    for kill, victim in zip(range(12), itertools.cycle(names), strict=False):
        before = ledger.top_up("user", 25_000, key=f"kill-{kill}").spent_nano
        wait_until(lambda before=before: sample().spent_nano > before + 10_000)
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = start("spend", victim)
    for worker in workers.values():
        worker.kill()
        worker.wait()
    wait_until(lambda: sample().held_nano == 0)  # the last leases run out

    calls = {reservation.hold.id: reservation for reservation in ledger.reservations("r")}
    ended = {ReservationState.SETTLED, ReservationState.RELEASED, ReservationState.FORFEITED}
    assert {call.state for call in calls.values()} <= ended
    forfeited = sum(call.charged_nano for call in calls.values() if call.state is ReservationState.FORFEITED)
    for balance in ledger.balances():
        assert balance.spent_nano == sum(call.charged_nano for call in calls.values())
        assert (balance.forfeited_nano, balance.overdrawn_nano, balance.tokens_held) == (forfeited, 0, 0)
    acknowledged = [line.split() for log in tmp_path.glob("*.log") for line in log.read_text().splitlines()]
    assert len(acknowledged) > 100
    for reservation_id, cost in acknowledged:
        assert calls[reservation_id].state is ReservationState.SETTLED
        assert calls[reservation_id].charged_nano == int(cost)


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

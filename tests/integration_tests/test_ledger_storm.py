"""One SQLite ledger under fire: processes that spend at random, are killed at random moments, paused and watched.

Run as a script, this file is such a process: ``python test_ledger_storm.py JOB PATH NAME``.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from langchain_runtime.contracts.budget import Hold, Period, ReservationState, Scope, Settlement
from langchain_runtime.contracts.errors import ReservationLostError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import SqliteLedger

OPERATIONS, KILLS, PAUSES, WORKERS = 50_000, 12, 4, 4
NESTS = [("user",), ("team", "user"), ("burst", "team", "user"), ("shadow", "user"), ("team",)]
SCOPES = [
    Scope(name="burst", limit_nano=60_000, token_limit=3_000, period=Period(kind="rolling", seconds=1)),
    Scope(name="shadow", limit_nano=1_000),
    Scope(name="team", limit_nano=10**12, period=Period(kind="rolling", seconds=86_400)),
    Scope(name="user", limit_nano=20_000),
]

# --- the processes ---------------------------------------------------------------------------------------------------


def say(*words):
    """Tell the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Spender:
    """Call after call until told to stop; most end well, some are forgotten and a few of these remembered too late.

    A byte in one file for each operation, a line in another for each settlement that the ledger has acknowledged.
    """

    def __init__(self, path, name):
        self.ledger, self.random, self.holder = SqliteLedger(path), random.Random(), f"{name}:{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.operations, self.settlements = os.open(f"{path}.{name}.ops", flags), os.open(f"{path}.{name}.log", flags)
        self.forgotten = []

    def do(self, method, *arguments, **options):
        answer = getattr(self.ledger, method)(*arguments, **options)
        os.write(self.operations, b".")
        return answer

    def step(self):
        scopes, chance = self.random.choice(NESTS), self.random.random()
        hold = Hold(
            scopes=scopes,
            shadows=("shadow",) if "shadow" in scopes else (),
            nano=self.random.randint(1, 1_000),
            tokens=self.random.randint(1, 100),
            holder=self.holder,
            lease_seconds=self.random.choice((0.3, 2)),
            sent=chance < 0.5,
            run_id="storm",
        )
        decision = self.do("reserve", hold)
        if decision.reservation is None:
            if decision.refused_by.scope.name == "user" and chance < 0.2:
                self.do("top_up", "user", 20_000, key=hold.id)
        elif hold.sent or self.mark_sent(decision.reservation):
            self.end(hold)
        if self.random.random() < 0.02:
            self.do("renew", self.holder, 1)
        if self.forgotten and self.random.random() < 0.05:
            self.settle(self.forgotten.pop(0))

    def mark_sent(self, reservation):
        try:
            self.do("mark_sent", reservation.hold.id, reservation.lease)
        except ReservationLostError:  # others wrote for longer than the lease
            return False
        return True

    def end(self, hold):
        chance = self.random.random()
        if chance < 0.08:
            self.forgotten.append(hold)
        elif chance < 0.12:
            self.do("release", hold.id)
        else:
            self.settle(hold)

    def settle(self, hold):
        nano = self.random.choice((None, self.random.randint(0, hold.nano)))
        usage = TokenUsage(output=self.random.randint(0, hold.tokens))
        cost = self.do("settle", Settlement(reservation_id=hold.id, nano=nano, usage=usage))
        os.write(self.settlements, f"{hold.id} {cost}\n".encode())


def spend(path, name):
    spender = Spender(path, name)
    while not Path(f"{path}.stop").exists():
        spender.step()


def watch(path, _name):
    """Look at the books all the time, as their callers see them and as they are in the file."""
    ledger, samples = SqliteLedger(path), 0
    file = sqlite3.connect(path, isolation_level=None, timeout=30)
    say("watching")
    while not Path(f"{path}.stop").exists():
        began = time.time()
        for balance in ledger.balances():
            scope = balance.scope
            assert scope.name == "shadow" or balance.spent_nano + balance.held_nano <= scope.limit_nano, balance
            assert scope.token_limit is None or balance.tokens_spent + balance.tokens_held <= scope.token_limit, balance
        file.execute("BEGIN")
        held = dict(file.execute("SELECT name, held_nano FROM scopes"))
        live = file.execute(
            "SELECT value, nano, expires_at FROM reservations, json_each(scopes) WHERE state IN ('held', 'sent')"
        ).fetchall()
        file.execute("COMMIT")
        in_flight = Counter()
        for name, nano, expires_at in live:
            in_flight[name] += nano
            assert expires_at > began, "a hold outlives its lease"
        assert all(held[name] == in_flight[name] for name in held), (held, in_flight)
        samples += 1
        time.sleep(0.005)  # leaves the processors to those who spend
    say(samples)


def pause(path, _name):
    """Hold twice, one of them sent; send the other when woken, and settle the one that was sent."""
    ledger = SqliteLedger(path)
    for line in sys.stdin:
        terms = {"scopes": ("team", "user"), "nano": 900, "holder": "paused", "lease_seconds": 0.2, "run_id": "storm"}
        held, sent = Hold(id=f"held-{line.strip()}", **terms), Hold(id=f"sent-{line.strip()}", sent=True, **terms)
        while (mine := ledger.reserve(held).reservation) is None:
            ledger.top_up("user", 20_000, key=f"{line}-{time.time()}")
        while ledger.reserve(sent).reservation is None:
            ledger.top_up("user", 20_000, key=f"{line}-{time.time()}")
        say("holding")
        sys.stdin.readline()
        try:
            ledger.mark_sent(held.id, mine.lease)
        except ReservationLostError:
            say("lost", ledger.settle(Settlement(reservation_id=sent.id, nano=100, usage=TokenUsage())))
        else:
            say("sent")


if __name__ == "__main__":
    {"spend": spend, "watch": watch, "pause": pause}[sys.argv[1]](sys.argv[2], sys.argv[3])

# --- the test --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path():
    # In memory where there is such a folder: a killed process needs no disk, and waiting for one tests nothing.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder) / "ledger.db"


@pytest.fixture
def start(path):
    """Starts a job; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def start(job, name):
            process = subprocess.Popen(
                [sys.executable, __file__, job, str(path), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def oversleep(owner, ledger, number):
    """Pause ``owner`` between its holds and what it does with them, until both leases have run out."""

    def state(kind):
        return ledger.reservation(f"{kind}-{number}").state

    owner.stdin.write(f"{number}\n")
    owner.stdin.flush()
    assert owner.stdout.readline() == "holding\n"
    owner.send_signal(signal.SIGSTOP)
    wait_until(lambda: (state("held"), state("sent")) == (ReservationState.RELEASED, ReservationState.FORFEITED))
    owner.stdin.write("\n")
    owner.stdin.flush()
    owner.send_signal(signal.SIGCONT)
    assert owner.stdout.readline() == "lost 100\n"
    assert (state("held"), state("sent")) == (ReservationState.RELEASED, ReservationState.SETTLED)


@pytest.mark.crash
@pytest.mark.load
@pytest.mark.timeout(400)
def test_killed_and_paused_processes_never_take_a_scope_above_its_limit_and_lose_no_settlement(path, start):
    ledger, chance = SqliteLedger(path), random.Random(20261122)
    for scope in SCOPES:
        ledger.open_scope(scope)
    names = [f"worker-{number}" for number in range(WORKERS)]
    watcher, owner = start("watch", "watcher"), start("pause", "owner")
    assert watcher.stdout.readline() == "watching\n"
    workers = {name: start("spend", name) for name in names}

    def operations():
        return sum(file.stat().st_size for file in path.parent.glob("*.ops"))

    moments = sorted([(chance.randrange(OPERATIONS), "kill") for _ in range(KILLS)])
    moments += [((number + 1) * OPERATIONS // (PAUSES + 1), "pause") for number in range(PAUSES)]
    for number, (moment, event) in enumerate(sorted(moments)):
        wait_until(lambda moment=moment: operations() >= moment)
        if event == "pause":
            oversleep(owner, ledger, number)
        else:
            victim = chance.choice(names)
            workers[victim].kill()
            assert workers[victim].wait() == -signal.SIGKILL
            workers[victim] = start("spend", victim)
    wait_until(lambda: operations() >= OPERATIONS)
    Path(f"{path}.stop").touch()
    assert [worker.wait(60) for worker in workers.values()] == [0] * WORKERS
    samples, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    assert int(samples) > 100

    wait_until(lambda: not any(balance.held_nano for balance in ledger.balances()))  # the last leases run out
    check_books(ledger, path)
    ledger.close()


def check_books(ledger, path):
    calls = {reservation.hold.id: reservation for reservation in ledger.reservations("storm")}
    states = Counter(call.state for call in calls.values())
    assert set(states) == {ReservationState.SETTLED, ReservationState.RELEASED, ReservationState.FORFEITED}
    for name in ("shadow", "team", "user"):
        balance, here = ledger.balance(name), [call for call in calls.values() if name in call.hold.scopes]
        forfeits = [call.charged_nano for call in here if call.state is ReservationState.FORFEITED]
        assert balance.spent_nano == sum(call.charged_nano for call in here)
        assert (balance.forfeited_nano, balance.overdrawn_nano, balance.tokens_held) == (sum(forfeits), 0, 0)
    acknowledged = [line.split() for log in path.parent.glob("*.log") for line in log.read_text().splitlines()]
    assert len(acknowledged) > OPERATIONS / 10
    for reservation_id, cost in acknowledged:
        assert calls[reservation_id].state is ReservationState.SETTLED
        assert calls[reservation_id].charged_nano == int(cost)
    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)

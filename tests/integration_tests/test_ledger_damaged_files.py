"""SQLite ledgers whose files were damaged at random: whatever is read then, it raises errors of ours."""

import random
import sqlite3
from contextlib import closing, suppress

import pytest

from langchain_runtime.contracts.budget import Hold, Period, Scope, Settlement
from langchain_runtime.contracts.errors import LangChainRuntimeError, LedgerUnavailableError
from langchain_runtime.contracts.events import TaskReady
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.testing import FakeClock

PAGE = 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def full_ledger(path, clock):
    """A file with every kind of record."""
    ledger = SqliteLedger(path, clock=clock)
    periods = {"user": None, "day": Period(kind="day"), "recent": Period(kind="rolling", seconds=900)}
    for name, period in periods.items():
        ledger.open_scope(Scope(name=name, limit_nano=10**9, token_limit=10**6, period=period))
    for number in range(60):
        hold = Hold(
            id=f"call-{number}",
            scopes=tuple(periods),
            nano=100,
            tokens=10,
            holder="me",
            run_id="r",
            task_id="t",
            model="openai:x",
            sent=number % 2 == 0,
            lease_seconds=10 if number > 50 else 600,
        )
        ledger.reserve(hold)
        if number % 3 == 0:
            reply = {"reply_key": f"key-{number}", "reply": b"x" * 300}
            ledger.settle(Settlement(reservation_id=hold.id, nano=5, usage=TokenUsage(input=3), **reply))
        ledger.record_outcome("r", TaskOutcome(task=f"t{number}", state=TaskState.COMPLETED, output="b" * 200))
        ledger.append_events([TaskReady(run_id="r", task=f"t{number}")])
    ledger.close()
    return path.read_bytes()


def one_page(chance, data):
    start = chance.randrange(1, len(data) // PAGE) * PAGE
    data[start : start + PAGE] = chance.randbytes(PAGE)


def one_piece(chance, data):
    start = chance.randrange(100, len(data) - 64)
    data[start : start + 64] = chance.randbytes(64)


def some_bytes(chance, data):
    for _ in range(20):
        data[chance.randrange(100, len(data))] = chance.randrange(256)


def many_letters(chance, data):
    for _ in range(400):
        data[chance.randrange(PAGE, len(data))] = chance.randrange(32, 255)


def the_end(chance, data):
    del data[chance.randrange(1, len(data)) :]


EVERY_METHOD = [
    lambda ledger: ledger.open_scope(Scope(name="user", limit_nano=10**9, token_limit=10**6)),
    lambda ledger: ledger.top_up("user", 5, key="k"),
    lambda ledger: ledger.set_limit("user", 10**9),
    lambda ledger: ledger.balance("user"),
    lambda ledger: ledger.balances(),
    lambda ledger: ledger.reserve(Hold(scopes=("day", "recent", "user"), nano=1, holder="me", run_id="r")),
    lambda ledger: ledger.mark_sent("call-7", 8),
    lambda ledger: ledger.settle(Settlement(reservation_id="call-4", nano=1)),
    lambda ledger: ledger.settle(Settlement(reservation_id="call-1", nano=1)),
    lambda ledger: ledger.release("call-5"),
    lambda ledger: ledger.renew("me", 5),
    lambda ledger: ledger.abandon("r"),
    lambda ledger: ledger.reservations("r"),
    lambda ledger: ledger.replay("key-3"),
    lambda ledger: ledger.outcome("r", "t3"),
    lambda ledger: ledger.outcomes("r"),
    lambda ledger: ledger.events("r"),
]


@pytest.mark.load
@pytest.mark.parametrize("damage", [one_page, one_piece, some_bytes, many_letters, the_end])
def test_a_damaged_file_raises_errors_of_ours_and_never_hangs(path, damage):
    clock, refused = FakeClock(), 0
    good = full_ledger(path, clock)
    clock.advance(30)
    for seed in range(40):
        chance, data = random.Random(seed), bytearray(good)
        damage(chance, data)
        file = path.with_name(f"{seed}.db")
        file.write_bytes(data)
        ledger = SqliteLedger(file, clock=clock, busy_timeout=0.05)
        for method in chance.sample(EVERY_METHOD, len(EVERY_METHOD)):
            with suppress(LangChainRuntimeError):
                refused += 1
                method(ledger)
                refused -= 1
        ledger.close()
    assert refused > 20  # most damage is noticed


def test_journal_records_that_cannot_be_read_are_reported_as_damage(path):
    full_ledger(path, FakeClock())
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE outcomes SET outcome = '{' WHERE task_id = 't1'")
        file.execute("UPDATE events SET event = '{}' WHERE position = 1")
    ledger = SqliteLedger(path)
    assert ledger.outcome("r", "t2").output == "b" * 200
    for look in (lambda: ledger.outcome("r", "t1"), lambda: ledger.outcomes("r"), lambda: ledger.events("r")):
        with pytest.raises(LedgerUnavailableError, match="cannot be read") as raised:
            look()
        assert "backup" in raised.value.hint
    ledger.close()

import asyncio
import copy
import pickle
import sqlite3
import threading

import pytest

from langchain_runtime.contracts.budget import Hold, ReservationState, Scope, Settlement
from langchain_runtime.contracts.errors import LangChainRuntimeError, LedgerUnavailableError
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.ledgers import _sqlite_schema as schema
from langchain_runtime.testing import FakeClock, LedgerConformance


class TestSqliteLedgerConforms(LedgerConformance):
    def make_ledger(self, tmp_path, clock):
        return SqliteLedger(tmp_path / "ledger.db", clock=clock)


class TestSqliteLedgerConformsOverTwoConnections(LedgerConformance):
    """Each call goes through another connection, so nothing can live in the ledger object."""

    def make_ledger(self, tmp_path, clock):
        return Alternating(tmp_path / "ledger.db", clock=clock)


class Alternating(SqliteLedger):
    def __init__(self, path, *, clock):
        super().__init__(path, clock=clock)
        self._stores = [self._store, SqliteLedger(path, clock=clock)._store]

    def _write(self):
        self._stores.reverse()
        self._store = self._stores[0]
        return super()._write()

    def close(self):
        super().close()
        for store in self._stores:
            store.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    ledger = SqliteLedger(path, busy_timeout=0.01)
    ledger.open_scope(Scope(name="user", limit_nano=10**9))
    yield ledger
    ledger.close()


def hold(nano=10, **fields):
    return Hold(**{"scopes": ("user",), "nano": nano, "holder": "me", **fields})


# --- connections -----------------------------------------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_used(path):
    ledger = SqliteLedger(path)
    assert not path.exists()
    ledger.balances()
    assert path.exists()
    ledger.close()


def test_a_closed_ledger_opens_again(ledger):
    ledger.close()
    assert ledger.balance("user").spent_nano == 0


def test_the_log_is_written_ahead_and_synced_fully(ledger):
    connection = ledger._store.connection()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_copies_are_the_same_ledger_and_pickles_open_the_same_file(ledger, tmp_path, monkeypatch):
    assert copy.copy(ledger) is ledger
    assert copy.deepcopy([ledger])[0] is ledger
    ledger.reserve(hold(10))
    monkeypatch.chdir(tmp_path.parent)
    other = pickle.loads(pickle.dumps(ledger))
    assert other is not ledger
    assert (other.path, other._store.busy_timeout) == (ledger.path, 0.01)
    assert other.balance("user").held_nano == 10
    other.close()


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger("ledger.db")
    monkeypatch.chdir(tmp_path.parent)
    assert ledger.path == tmp_path / "ledger.db"


def test_its_queries_use_indexes(ledger):
    from langchain_runtime.ledgers import _sqlite_books as books

    connection = ledger._store.connection()
    for query, values in [
        (books._EXPIRED, (1.0, 1)),
        (books._RENEW, (1.0, "me", 1.0)),
        (books._ENTRY + "WHERE id = ?", ("x",)),
        (books._ENTRY + "WHERE run_id = ? ORDER BY lease", ("x",)),
        (books._ACCOUNT + "WHERE name >= ? AND name < ? ORDER BY name", ("a", "b")),
        (books._REPLY_KEYS, ("x",)),
    ]:
        plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, values))
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


# --- failures: nothing is changed, and the error says what to do -----------------------------------------------------


def test_a_ledger_locked_by_another_process_says_so_and_recovers(ledger, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match=r"locked by another process \(waited 0\.01 s\)") as raised:
        ledger.reserve(hold())
    assert "busy_timeout" in raised.value.hint
    assert ledger.balance("user").held_nano == 0  # readers do not wait
    other.execute("ROLLBACK")
    other.close()
    assert ledger.reserve(hold()).reservation is not None


def test_a_new_file_locked_by_another_process_says_so(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ledger = SqliteLedger(path, busy_timeout=0.02)
    with pytest.raises(LedgerUnavailableError, match="locked"):
        ledger.balances()
    other.execute("ROLLBACK")
    other.close()
    assert ledger.balances() == []
    ledger.close()


def test_a_read_only_ledger_can_be_looked_at_but_not_written(ledger):
    ledger._store.connection().execute("PRAGMA query_only = ON")
    assert ledger.balance("user").held_nano == 0
    with pytest.raises(LedgerUnavailableError, match="read-only"):
        ledger.reserve(hold())


def test_a_full_disk_loses_nothing(ledger):
    connection = ledger._store.connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    admitted = 0

    def reserve_until_full():
        nonlocal admitted
        while admitted < 10_000:
            ledger.reserve(hold(1, holder="h" * 500))
            admitted += 1

    with pytest.raises(LedgerUnavailableError, match="the disk is full"):
        reserve_until_full()
    assert admitted > 0
    assert ledger.balance("user").held_nano == admitted


def test_a_file_that_is_no_database_is_left_alone(path):
    path.write_text("Dear diary, " * 100)
    ledger = SqliteLedger(path)
    with pytest.raises(LedgerUnavailableError, match="is not a database"):
        ledger.balances()
    assert path.read_text() == "Dear diary, " * 100


def test_a_damaged_file_is_not_trusted(ledger, path):
    for _ in range(50):
        ledger.reserve(hold())
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LedgerUnavailableError, match="is damaged"):
        ledger.balance("user")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(LedgerUnavailableError, match="cannot be opened") as raised:
        SqliteLedger(tmp_path / "missing" / "ledger.db").balances()
    assert str(tmp_path / "missing" / "ledger.db") in str(raised.value)


def test_a_file_removed_while_in_use_fails_until_it_is_back_instead_of_splitting_the_books(ledger, path):
    ledger.reserve(hold())
    path.rename(path.with_suffix(".moved"))
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="was removed while it was in use") as raised:
            ledger.reserve(hold())
        assert "put the file back" in raised.value.hint
        assert not path.exists()
    path.with_suffix(".moved").replace(path)
    assert ledger.balance("user").held_nano == 10


def test_a_file_replaced_while_in_use_fails_once_and_then_its_books_count(ledger, path):
    ledger.reserve(hold())
    path.rename(path.with_suffix(".moved"))
    other = SqliteLedger(path)
    other.open_scope(Scope(name="user", limit_nano=5))
    with pytest.raises(LedgerUnavailableError, match="was replaced while it was in use"):
        ledger.reserve(hold())
    assert ledger.balance("user") == other.balance("user")
    other.close()


def test_a_ledger_that_was_closed_takes_whatever_file_is_there(ledger, path):
    ledger.close()
    path.unlink()
    assert ledger.balances() == []


def test_sums_beyond_the_largest_integer_are_refused_and_nothing_changes(ledger):
    ledger.open_scope(Scope(name="free"))
    ledger.reserve(hold(2**62, scopes=("free",)))
    with pytest.raises(LedgerUnavailableError, match="sums this large"):
        ledger.reserve(hold(2**62, scopes=("free",), id="too much"))
    assert ledger.reservation("too much") is None
    assert ledger.balance("free").held_nano == 2**62


def test_a_call_from_within_a_transaction_is_refused_and_the_outer_one_completes(path):
    nested = []

    def clock():
        if nested == ["now"]:
            nested.clear()
            with pytest.raises(LedgerUnavailableError, match="from within one of its own transactions") as raised:
                ledger.release("x")
            nested.append(raised.value)
        return 1_000_000.0

    ledger = SqliteLedger(path, clock=clock)
    ledger.open_scope(Scope(name="user"))
    nested.append("now")
    ledger.reserve(hold(10))
    assert isinstance(nested[0], LedgerUnavailableError)
    assert ledger.balance("user").held_nano == 10
    ledger.close()


def test_a_clock_that_fails_leaves_the_ledger_usable(path):
    times = iter([1.0])
    ledger = SqliteLedger(path, clock=lambda: next(times))
    assert ledger.replay("key") is None
    for _ in range(2):
        with pytest.raises(StopIteration):
            ledger.replay("key")
    ledger._store.clock = FakeClock()
    assert ledger.replay("key") is None
    ledger.close()


def test_errors_of_the_driver_without_a_code_are_wrapped_too(ledger):
    ledger._store.connection().close()
    with pytest.raises(LedgerUnavailableError, match="does not answer"):
        ledger.balance("user")
    assert ledger.balance("user").spent_nano == 0


# --- migrations ------------------------------------------------------------------------------------------------------


def version(path):
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT version FROM ledger_schema ORDER BY version").fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_each_migration_applies_to_the_one_before(path):
    for newest in range(1, len(schema.MIGRATIONS) + 1):
        connection = sqlite3.connect(path, isolation_level=None)
        schema.migrate(connection, schema.MIGRATIONS[:newest])
        connection.close()
        assert version(path) == list(range(1, newest + 1))
    ledger = SqliteLedger(path)
    assert ledger.balances() == []
    ledger.close()


def test_a_file_of_version_1_opens_with_its_live_holds_and_unchecked_ones_become_shadows(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:1])
    connection.execute(
        "INSERT INTO scopes VALUES ('user', 'USD', 100, 100, 100, NULL, NULL, -1e999, 1e999, 7, 160, 0, 0, 0, 0)"
    )
    for id_, state, nano, unchecked, charged in [
        ("checked", "held", 10, 0, None),
        ("unchecked", "sent", 150, 1, None),
        ("ended", "settled", 9, 0, 7),
    ]:
        connection.execute(
            "INSERT INTO reservations (id, state, holder, lease_seconds, expires_at, scopes, currency, nano, tokens,"
            " reserved_sent, unchecked, priced, created_at, charged_nano, ended_at)"
            " VALUES (?, ?, 'me', 60, 1060, '[\"user\"]', 'USD', ?, 0, ?, ?, 1, 1000, ?, ?)",
            (id_, state, nano, state == "sent", unchecked, charged, charged and 1001),
        )
    connection.close()

    clock = FakeClock()
    clock.now = 1_030.0
    ledger = SqliteLedger(path, clock=clock)
    assert version(path) == [1]  # opened lazily
    assert (ledger.balance("user").spent_nano, ledger.balance("user").held_nano) == (7, 160)
    assert version(path) == list(range(1, len(schema.MIGRATIONS) + 1))
    checked, unchecked = ledger.reservation("checked"), ledger.reservation("unchecked")
    assert (checked.hold.shadows, unchecked.hold.shadows) == ((), ("user",))
    assert ledger.reservation("ended").charged_nano == 7
    assert ledger.reserve(hold(10, id="checked")).reservation == checked
    ledger.mark_sent("checked", checked.lease)
    ledger.settle(Settlement(reservation_id="checked", nano=4))
    clock.advance(30)
    balance = ledger.balance("user")
    assert (balance.spent_nano, balance.held_nano, balance.forfeited_nano) == (161, 0, 150)
    assert ledger.reserve(hold(5, shadows=("user",))).refused_by == balance
    ledger.close()


def test_replies_of_a_file_of_version_2_can_be_forgotten(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:2])
    for id_, run_id, task_id, ended_at, key in [
        ("first", "r", "a", 1001.5, "r:a:0:abc"),
        ("second", "r", "a", 1002.5, "r:a:1:def"),
        ("cut", "r", "a", 1003.5, None),
        ("another task's", "r", "a.b", 1001.5, "r:a.b:0:abc"),
        ("another run's", "r2", "a", 1001.5, "r2:a:0:abc"),
        ("of no task", "r", None, 1001.5, "r::0:abc"),
        ("of no run", None, None, 1001.5, None),
    ]:
        connection.execute(
            "INSERT INTO reservations (id, state, holder, lease_seconds, expires_at, scopes, currency, nano, tokens,"
            " reserved_sent, unchecked, priced, created_at, run_id, task_id, charged_nano, ended_at)"
            " VALUES (?, 'settled', 'me', 60, 1060, '[]', 'USD', 9, 0, 1, 0, 1, 1000, ?, ?, 7, ?)",
            (id_, run_id, task_id, ended_at),
        )
        if key is not None:
            connection.execute("INSERT INTO replies VALUES (?, x'00', ?)", (key, ended_at))
    connection.execute('INSERT INTO outcomes VALUES (1, \'r\', \'a\', 1, \'{"task":"a","state":"completed"}\', 1002.5)')
    connection.close()

    ledger = SqliteLedger(path)
    assert ledger.forget("r", ["a"]) == 1
    assert [ledger.replay(key) for key in ("r:a:0:abc", "r:a:1:def")] == [None, None]
    assert [ledger.replay(key) for key in ("r:a.b:0:abc", "r2:a:0:abc", "r::0:abc")] == [b"\0"] * 3
    ledger.close()


def test_a_later_migration_keeps_the_books(ledger, path):
    ledger.reserve(hold())
    ledger.close()
    later = (*schema.MIGRATIONS, ("ALTER TABLE scopes ADD COLUMN note TEXT", "CREATE INDEX notes ON scopes (note)"))
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, later)
    schema.migrate(connection, later)
    assert connection.execute("SELECT held_nano, note FROM scopes").fetchall() == [(10, None)]
    connection.close()
    assert version(path) == list(range(1, len(later) + 1))


def test_a_newer_schema_is_refused_with_what_to_do(ledger, path):
    ledger.close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO ledger_schema VALUES (999, 'later')")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerUnavailableError, match="schema version 999") as raised:
        ledger.balance("user")
    assert "upgrade" in raised.value.hint


def test_another_programs_database_is_left_alone(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    with pytest.raises(LedgerUnavailableError, match=r"another program's database \(tables: recipes\)"):
        SqliteLedger(path).balances()
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    connection.close()


def test_a_migration_that_fails_leaves_the_version_before(ledger, path):
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, (*schema.MIGRATIONS, ("CREATE TABLE a (b)", "CREATE TABLE scopes (x)")))
    connection.close()
    assert version(path) == list(range(1, len(schema.MIGRATIONS) + 1))
    assert ledger.balance("user").held_nano == 0


# --- async -----------------------------------------------------------------------------------------------------------


class Gate:
    """Holds the ledger's thread until opened."""

    def __init__(self, ledger):
        self.closed, self.open = threading.Event(), threading.Event()
        ledger._submit(self._wait)
        assert self.closed.wait(10)

    def _wait(self):
        self.closed.set()
        assert self.open.wait(10)


async def test_the_event_loop_goes_on_while_the_ledger_is_busy(ledger):
    gate = Gate(ledger)
    waiting = asyncio.create_task(ledger.abalance("user"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    gate.open.set()
    assert (await waiting).spent_nano == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_reserve_cancelled_before_it_ran_is_released(ledger, sent):
    gate, wanted = Gate(ledger), hold(60, sent=sent)
    task = asyncio.create_task(ledger.areserve(wanted))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await ledger.aclose()
    assert ledger.reservation(wanted.id).state is ReservationState.RELEASED
    assert ledger.balance("user").held_nano == 0


async def test_a_cancelled_reserve_that_was_refused_has_nothing_to_release(ledger):
    gate, wanted = Gate(ledger), hold(10**10)
    task = asyncio.create_task(ledger.areserve(wanted))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await ledger.aclose()
    assert ledger.reservation(wanted.id) is None


async def test_a_cancelled_reserve_that_failed_raises_no_second_error(ledger):
    gate = Gate(ledger)
    task = asyncio.create_task(ledger.areserve(hold(1, scopes=("nobody",))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await ledger.aclose()


async def test_a_cancelled_repeat_does_not_release_what_was_sent_meanwhile(ledger):
    wanted = hold(60)
    decision = await ledger.areserve(wanted)
    await ledger.amark_sent(wanted.id, decision.reservation.lease)
    gate = Gate(ledger)
    task = asyncio.create_task(ledger.areserve(wanted))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await ledger.aclose()
    assert ledger.reservation(wanted.id).state is ReservationState.SENT


async def test_a_settle_cancelled_before_it_ran_still_settles(ledger):
    wanted = hold(60, sent=True)
    await ledger.areserve(wanted)
    gate = Gate(ledger)
    task = asyncio.create_task(ledger.asettle(Settlement(reservation_id=wanted.id, nano=7)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await ledger.aclose()
    assert ledger.balance("user").spent_nano == 7


def test_errors_survive_the_thread_with_their_fields(ledger):
    with pytest.raises(LangChainRuntimeError) as raised:
        asyncio.run(ledger.areserve(hold(1, scopes=("nobody",))))
    assert raised.value.scope == "nobody"


def test_in_a_forked_child_it_opens_the_file_again_and_leaves_the_parents_connection_alone(ledger):
    asyncio.run(ledger.areserve(hold()))
    inherited = ledger._store.connection()
    ledger.after_fork()  # what the child runs first; a real fork is in the integration tests
    assert asyncio.run(ledger.abalance("user")).held_nano == 10
    assert ledger._store.connection() is not inherited
    assert inherited.execute("SELECT held_nano FROM scopes").fetchone() == (10,)
    inherited.close()

import copy
import pickle
import threading

import pytest

from langchain_runtime.contracts.budget import Hold, Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError, LedgerUnavailableError
from langchain_runtime.ledgers import InMemoryLedger, default_ledger
from langchain_runtime.ledgers import in_memory as module
from langchain_runtime.testing import LedgerConformance


class TestInMemoryLedgerConforms(LedgerConformance):
    def make_ledger(self, tmp_path, clock):
        return InMemoryLedger(clock=clock)


def test_copies_are_the_same_ledger():
    ledger = InMemoryLedger()
    assert copy.copy(ledger) is ledger
    assert copy.deepcopy({"ledger": ledger})["ledger"] is ledger


def test_it_cannot_be_pickled():
    with pytest.raises(InvalidInputError, match="cannot be pickled") as raised:
        pickle.dumps(InMemoryLedger())
    assert "SqliteLedger" in raised.value.hint


def test_the_default_ledger_is_one_for_the_process_and_pickles_as_such():
    assert default_ledger() is default_ledger()
    assert pickle.loads(pickle.dumps(default_ledger())) is default_ledger()


def test_threads_that_ask_first_get_the_same_default_ledger(monkeypatch):
    monkeypatch.setattr(module, "_default", None)
    start, found = threading.Barrier(8), []

    def ask():
        start.wait()
        found.append(default_ledger())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(ledger) for ledger in found}) == 1


def test_only_the_latest_ended_calls_outside_of_runs_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "_HISTORY", 3)
    ledger = InMemoryLedger()
    ledger.open_scope(Scope(name="user"))
    for number in range(5):
        ledger.reserve(Hold(id=f"free-{number}", scopes=("user",), nano=1, holder="me"))
        ledger.reserve(Hold(id=f"run-{number}", scopes=("user",), nano=1, holder="me", run_id="r"))
    for number in range(5):
        ledger.settle(Settlement(reservation_id=f"free-{number}", nano=1))
        ledger.settle(Settlement(reservation_id=f"run-{number}", nano=1))
    assert [ledger.reservation(f"free-{number}") is not None for number in range(5)] == [False, False, True, True, True]
    assert len(ledger.reservations("r")) == 5
    assert ledger.balance("user").spent_nano == 10


def test_a_clock_that_fails_leaves_the_ledger_usable():
    times = iter([1.0])
    ledger = InMemoryLedger(clock=lambda: next(times))
    assert ledger.replay("key") is None
    for _ in range(2):  # the lock is free again: from another thread, since it is re-entrant
        failed = []

        def look(failed=failed):
            with pytest.raises(StopIteration):
                ledger.replay("key")
            failed.append(True)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(timeout=10)
        assert failed


def test_in_a_forked_child_used_books_are_refused_empty_ones_and_the_default_are_not():
    used, empty = InMemoryLedger(), InMemoryLedger()
    used.open_scope(Scope(name="user"))
    for ledger in (used, empty, default_ledger()):
        ledger.after_fork()  # what the child runs first; a real fork is in the integration tests
    with pytest.raises(LedgerUnavailableError, match="was forked"):
        used.balance("user")
    used.after_fork()  # a child's child
    with pytest.raises(LedgerUnavailableError):
        used.reserve(Hold(scopes=("user",), nano=1, holder="me"))
    assert empty.balances() == []
    assert default_ledger().reservation("unknown") is None

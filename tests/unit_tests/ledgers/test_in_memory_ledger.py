import copy
import pickle
import sys
import threading

import pytest

from langchain_runtime.contracts.budget import Hold, Scope, Settlement
from langchain_runtime.contracts.errors import InvalidInputError, LedgerUnavailableError
from langchain_runtime.ledgers import InMemoryLedger, default_ledger
from langchain_runtime.ledgers import in_memory as module
from langchain_runtime.testing import FakeClock, LedgerConformance


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


def test_a_call_that_ends_twice_is_remembered_once(monkeypatch):
    monkeypatch.setattr(module, "_HISTORY", 2)
    clock = FakeClock()
    ledger = InMemoryLedger(clock=clock)
    ledger.open_scope(Scope(name="user"))
    for id_ in ("late", "other"):
        ledger.reserve(Hold(id=id_, scopes=("user",), nano=9, holder=id_, sent=True))
    ledger.renew("other", 1_000)
    clock.advance(60)
    assert ledger.balance("user").forfeited_nano == 9
    for id_ in ("late", "other"):
        ledger.settle(Settlement(reservation_id=id_, nano=1))
    assert [ledger.reservation(id_).charged_nano for id_ in ("late", "other")] == [1, 1]


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


class Finaliser:
    """Calls ``act`` once, before the n-th line that the ledger runs: what the garbage collector may do at any time."""

    def __init__(self, act, line, functions=None):
        self.act, self.left, self.functions = act, line, functions

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_exception):
        sys.settrace(self.before)

    def _trace(self, frame, event, _argument):
        code = frame.f_code
        if "langchain_runtime/ledgers/" not in code.co_filename.replace("\\", "/"):
            return None
        if event == "line" and self.left >= 0 and (self.functions is None or code.co_name in self.functions):
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                self.act()
        return self._trace


def crowded_ledger():
    """A ledger with leases that have run out, and with a sent call ``mine`` and a stream that nobody reads any more."""
    clock = FakeClock()
    ledger = InMemoryLedger(clock=clock)
    ledger.open_scope(Scope(name="user", limit_nano=1_000))
    for id_, sent, lease in [("a", True, 9), ("b", False, 9), ("c", True, 9), ("mine", True, 99), ("stream", True, 99)]:
        ledger.reserve(
            Hold(id=id_, scopes=("user",), nano=100, holder="me", sent=sent, lease_seconds=lease, run_id="r")
        )
    clock.advance(10)
    return ledger


WORK = {
    "reserve": lambda ledger: ledger.reserve(Hold(id="new", scopes=("user",), nano=300, holder="me", run_id="r")),
    "settle": lambda ledger: ledger.settle(Settlement(reservation_id="mine", nano=70)),
    "release": lambda ledger: ledger.release("mine"),
    "renew": lambda ledger: ledger.renew("me", 200),
    "abandon": lambda ledger: ledger.abandon("r"),
    "balances": lambda ledger: ledger.balances(),
}


@pytest.mark.parametrize(
    ("work", "ends", "where"),
    [
        *((work, "stream", None) for work in WORK if work != "abandon"),
        # These end what the finaliser ends too: whoever comes first.
        ("abandon", "stream", {"abandon"}),
        ("reserve", "c", {"_sweep"}),
        ("balances", "c", {"_sweep"}),
    ],
)
def test_a_stream_that_is_finalised_in_the_middle_of_a_transaction_keeps_the_books_right(work, ends, where):
    for line in range(1_000):
        ledger = crowded_ledger()
        with Finaliser(lambda ledger=ledger: ledger.settle(Settlement(reservation_id=ends, nano=5)), line, where) as f:
            WORK[work](ledger)
        balance, calls = ledger.balance("user"), ledger.reservations("r")
        live = [call for call in calls if call.charged_nano is None]
        assert balance.held_nano == sum(call.hold.nano for call in live)
        assert balance.spent_nano == sum(call.charged_nano for call in calls if call.charged_nano is not None)
        if f.left >= 0:
            break
        assert ledger.reservation(ends).charged_nano == 5
    else:
        pytest.fail("the work never came to its end")


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

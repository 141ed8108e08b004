import gc
import os
import threading

import httpx
import pytest

from langchain_runtime.adapters import failures, leases
from langchain_runtime.adapters.leases import LeaseKeeper, lease_keeper
from langchain_runtime.contracts.errors import LedgerUnavailableError
from langchain_runtime.ledgers import InMemoryLedger


class Watched(InMemoryLedger):
    """Tells of renewals."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)
        self.renewed = threading.Semaphore(0)
        self.holders = []

    def renew(self, holder, lease_seconds):
        self.holders.append((holder, lease_seconds))
        self.renewed.release()
        if self.answers:
            raise self.answers.pop()
        return 1


def test_leases_are_renewed_while_something_is_in_flight():
    ledger = Watched()
    keeper = LeaseKeeper(ledger, lease_seconds=0.03)
    keeper.start()
    assert ledger.renewed.acquire(timeout=10)
    assert ledger.renewed.acquire(timeout=10)
    thread = keeper._thread
    keeper.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert set(ledger.holders) == {(keeper.holder, 0.03)}


def test_a_keeper_that_had_stopped_starts_again():
    ledger = Watched()
    keeper = LeaseKeeper(ledger, lease_seconds=0.03)
    for _ in range(2):
        keeper.start()
        assert ledger.renewed.acquire(timeout=10)
        thread = keeper._thread
        keeper.stop()
        thread.join(10)


def test_books_that_cannot_be_reached_are_tried_again(caplog):
    ledger = Watched(LedgerUnavailableError("locked"))
    keeper = LeaseKeeper(ledger, lease_seconds=0.03)
    keeper.start()
    assert ledger.renewed.acquire(timeout=10)
    assert ledger.renewed.acquire(timeout=10)
    thread = keeper._thread
    keeper.stop()
    thread.join(10)
    assert "could not be renewed" in caplog.text


def test_the_heartbeat_ends_with_its_ledger():
    ledger = Watched()
    keeper = LeaseKeeper(ledger, lease_seconds=0.03)
    keeper.start()
    thread = keeper._thread
    del ledger
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_ledger_has_one_holder_for_each_process(monkeypatch):
    ledger = InMemoryLedger()
    keeper = lease_keeper(ledger)
    assert lease_keeper(ledger) is keeper
    assert lease_keeper(InMemoryLedger()) is not keeper
    monkeypatch.setattr(leases.os, "getpid", lambda: 1)
    assert lease_keeper(ledger).holder != keeper.holder
    assert f":{os.getpid()}:" in lease_keeper(ledger).holder


def refused(status, **headers):
    error = RuntimeError("refused")
    error.response = httpx.Response(status, headers=headers)
    return error


class APIConnectionError(Exception):
    """Named as in the clients of OpenAI and Anthropic."""


class APITimeoutError(APIConnectionError):
    """As there."""


@pytest.mark.parametrize(
    ("error", "status", "may_pass"),
    [
        (refused(400), 400, False),
        (refused(404), 404, False),
        (refused(408), None, True),
        (refused(504), None, True),
        (refused(524), None, True),
        (refused(502), 502, True),
        (refused(409), 409, True),
        (refused(429), 429, True),
        (refused(529), 529, True),
        (refused(200), None, False),
        (APIConnectionError(), None, True),
        (APITimeoutError(), None, True),
        (ValueError("x"), None, False),
    ],
)
def test_errors_are_told_apart(error, status, may_pass):
    assert failures.http_error_status(error) == status
    assert failures.may_pass(error) == may_pass


def test_the_providers_own_delay_is_kept():
    assert failures.retry_delay(refused(429, **{"retry-after": "7"}), 1) == 7
    assert failures.retry_delay(refused(429, **{"retry-after": "0.5"}), 1) == 0.5


@pytest.mark.parametrize("asked", ["600", "0", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_a_delay_that_makes_no_sense_is_not(asked):
    assert 0 < failures.retry_delay(refused(429, **{"retry-after": asked}), 1) <= 0.5


def test_delays_grow_to_a_ceiling():
    assert 0.75 <= failures.retry_delay(ValueError(), 2) <= 1
    assert 6 <= failures.retry_delay(ValueError(), 20) <= 8


def test_a_connection_that_was_never_made_has_sent_nothing():
    error = APIConnectionError()
    error.__cause__ = httpx.ConnectError("refused")
    assert failures.was_never_sent(error)
    error.__cause__ = httpx.ReadError("reset")
    assert not failures.was_never_sent(error)
    assert not failures.was_never_sent(ValueError())

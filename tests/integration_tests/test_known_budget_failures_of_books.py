"""Budget failures that users of gateways and agent frameworks have reported, run for real: the books.

Several processes, processes that die, books that are opened again or out of reach, and periods. Each test names its
source, an issue or pull request on GitHub. Run as a script, this file is one of the processes:
``python test_known_budget_failures_of_books.py JOB PATH``.
"""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Period
from langchain_runtime.contracts.errors import BudgetExceededError, LedgerUnavailableError
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.money import Cost
from langchain_runtime.cost import ModelCatalog
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import FakeClock, ScriptedChatModel

REPLY = 2 * 1_000 + 3 * 5_000
HOLD = (100 + 16 + len("hello")) * 1_000 + 100 * 5_000
"""At 1,000 nano-USD per input token and 5,000 per output token: 100 for a request, 16 for a message, a token for a
byte, and a cap of 100 tokens."""

LEASE = 60
"""Seconds that a hold outlives its process."""

SECONDS = 60
"""Longest wait for another process or thread: only a failing test waits that long."""


def scripted(ledger: Ledger, limit: int, *, budget: dict[str, Any] | None = None, **fields: Any) -> Any:
    model = ScriptedChatModel(**{"script": ["one two three"], "max_tokens": 100, **fields})
    money = Budget(Cost.from_nano(limit), scope="key", on_exceed="raise", **(budget or {}))
    catalog = ModelCatalog({"models": {"scripted-1": {"input": "1", "output": "5"}}})
    return with_budget(model, money, ledger=ledger, catalog=catalog)


class _Refused(Exception):
    """A complete HTTP error answer, which bills nothing."""

    status_code = 400


# --- the processes ---------------------------------------------------------------------------------------------------


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def spend(path: str) -> None:
    """Call until refused, from the word go."""
    model = scripted(SqliteLedger(path), 30 * HOLD, reports_usage=False)
    say("ready")
    sys.stdin.readline()
    try:
        while True:
            model.invoke("hello")
    except BudgetExceededError:
        say(len(model.calls))


def hang(path: str) -> None:
    """Send a request that is never answered."""

    def answer_never(*_: int) -> None:
        say("sent")
        sys.stdin.read()

    scripted(SqliteLedger(path), 2 * HOLD, hook=answer_never).invoke("hello")


if __name__ == "__main__":
    {"spend": spend, "hang": hang}[sys.argv[1]](sys.argv[2])

# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture
def start(path) -> Iterator[Any]:
    """Starts a process; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def start(job: str) -> Any:
            process = subprocess.Popen(
                [sys.executable, __file__, job, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def test_processes_share_one_budget(path, start):
    """Each worker counted its own spend, so that three workers spent three budgets.

    BerriAI/litellm#24682, BerriAI/litellm#33325
    """
    workers = [start("spend") for _ in range(3)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    served = [int(worker.stdout.readline()) for worker in workers]
    assert sum(served) == 30
    assert SqliteLedger(path).balance("key").spent_nano == 30 * HOLD


@pytest.mark.crash
def test_a_process_that_dies_does_not_keep_what_it_reserved(path, start):
    """Reservations of requests that never came to an end piled up and refused users who had spent next to nothing.

    BerriAI/litellm#27639
    """
    process = start("hang")
    assert process.stdout.readline() == "sent\n"
    assert SqliteLedger(path).balance("key").held_nano == HOLD
    process.kill()
    process.wait()
    later = SqliteLedger(path, clock=lambda: time.time() + LEASE + 1)
    books = later.balance("key")
    assert (books.held_nano, books.spent_nano, books.forfeited_nano) == (0, HOLD, HOLD)
    assert scripted(later, 2 * HOLD).invoke("hello").text == "one two three"


def test_books_that_are_opened_again_forget_neither_spend_nor_holds(path):
    """A counter that was filled again from the database lost the requests in flight, and then their cost.

    BerriAI/litellm#35570, BerriAI/litellm#30684
    """
    sent, answer = threading.Event(), threading.Event()

    def answer_later(*_: int) -> None:
        sent.set()
        assert answer.wait(SECONDS)

    limit = HOLD + REPLY
    with ThreadPoolExecutor(1) as pool:
        scripted(SqliteLedger(path), limit).invoke("hello")
        in_flight = pool.submit(scripted(SqliteLedger(path), limit, hook=answer_later).invoke, "hello")
        assert sent.wait(SECONDS)
        after_a_restart = scripted(SqliteLedger(path), limit)
        with pytest.raises(BudgetExceededError) as refused:
            after_a_restart.invoke("hello")
        assert (refused.value.spent.nano, refused.value.held.nano) == (REPLY, HOLD)
        answer.set()
        assert in_flight.result().text == "one two three"
    books = SqliteLedger(path).balance("key")
    assert (books.spent_nano, books.held_nano) == (2 * REPLY, 0)


@pytest.fixture
def locked(path) -> Any:
    """Takes the books out of reach, as another process that does not let go."""

    def lock() -> Any:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return closing(connection)

    return lock


def test_without_its_books_nothing_is_sent(path, locked):
    """With the counter's store down, requests were let through without a check.

    BerriAI/litellm#33923
    """
    model = scripted(SqliteLedger(path, busy_timeout=0.05), 10 * HOLD)
    with locked(), pytest.raises(LedgerUnavailableError):
        model.invoke("hello")
    assert model.calls == []
    assert model.invoke("hello").text == "one two three"


def test_a_call_that_cannot_be_settled_is_answered_and_charged_once(path, locked):
    """Where settling failed, the reservation stayed and the cost came on top of it.

    BerriAI/litellm#35569
    """
    clock = FakeClock()
    with ExitStack() as outage:
        model = scripted(
            SqliteLedger(path, busy_timeout=0.05, clock=clock),
            2 * HOLD,
            hook=lambda *_: outage.enter_context(locked()) and None,
        )
        assert model.invoke("hello").text == "one two three"
    books = SqliteLedger(path, clock=clock)
    assert (books.balance("key").held_nano, books.balance("key").spent_nano) == (HOLD, 0)
    clock.advance(LEASE + 1)
    assert (books.balance("key").held_nano, books.balance("key").spent_nano) == (0, HOLD)


# --- periods ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def timed(request, path) -> tuple[Ledger, FakeClock]:
    clock = FakeClock()
    return (InMemoryLedger(clock=clock) if request.param == "memory" else SqliteLedger(path, clock=clock)), clock


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "UTC"])
def test_a_daily_budget_starts_afresh_at_midnight_of_its_time_zone(timed, zone):
    """Budgets of a day in Tokyo began nine hours late: users stayed blocked all morning.

    BerriAI/litellm#34896
    """
    ledger, clock = timed
    clock.now = datetime(2026, 8, 1, tzinfo=ZoneInfo(zone)).timestamp() - 1
    model = scripted(ledger, HOLD, budget={"period": Period(kind="day", timezone=zone)}, reports_usage=False)
    model.invoke("hello")
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")
    clock.advance(1)
    assert model.invoke("hello").text == "one two three"
    with pytest.raises(BudgetExceededError):
        model.invoke("hello")


@pytest.mark.parametrize(("reply", "cost"), [("one two three", REPLY), (_Refused(), 0)], ids=["answered", "refused"])
def test_a_call_over_midnight_takes_nothing_from_the_new_day_but_its_cost(timed, reply, cost):
    """Reservations of the old day that were given back in the new one erased what the new day had spent.

    majiayu000/litellm-rs#720
    """
    ledger, clock = timed
    clock.now = datetime(2026, 8, 1, tzinfo=ZoneInfo("UTC")).timestamp() - 1
    day = {"period": Period(kind="day")}

    def pass_midnight(_: Any) -> Any:
        clock.advance(2)
        scripted(ledger, 3 * HOLD, budget=day).invoke("hello")
        return reply

    with suppress(_Refused):
        scripted(ledger, 3 * HOLD, budget=day, script=pass_midnight).invoke("hello")
    books = ledger.balance("key")
    assert (books.spent_nano, books.held_nano, books.tokens_held) == (REPLY + cost, 0, 0)

"""A run that asks a human for money twice, in processes that die around the answers: every prompt once, exact books."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from crash_runs import BEFORE_GATE, LATENCY, PROMPTS, Books, Execution, Order, Served, Site, Trail, carry_on

from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.contracts.money import Cost

pytestmark = pytest.mark.crash

EACH_TIME = 3
"""Prompts that the money of each time buys."""

KILLS, MOST_QUESTIONS = 6, 20

ONCE = dict.fromkeys(PROMPTS, 1)


@dataclass(frozen=True)
class Prices:
    """USD for any of the prompts."""

    cost: Decimal
    worst_case: Decimal

    @property
    def limit(self) -> Decimal:
        """What the run has at first: after three prompts, the worst case of a fourth does not fit."""
        return self.worst_case + (EACH_TIME - 1) * self.cost

    @property
    def more(self) -> Decimal:
        """What each answer adds."""
        return EACH_TIME * self.cost


@pytest.fixture(scope="module")
def prices(tmp_path_factory, loopback) -> Prices:
    folder = tmp_path_factory.mktemp("prices")
    with loopback.serving(folder / "provider.jsonl") as provider:
        site = Site(folder, provider.base_url)
        with Execution(carry_on, Order(site, "top-up", policy={"budget_limit": Cost.usd(1)})) as rich:
            rich.wait_for("ended")
        [cost] = set(Served.by(provider).bills.values())
    [worst_case] = {each.hold.nano for each in Books.of(site).reservations}
    return Prices(cost, Decimal(worst_case).scaleb(-9))


@pytest.fixture
def provider(tmp_path, loopback) -> Iterator[Any]:
    with loopback.serving(tmp_path / "provider.jsonl", latency=LATENCY) as running:
        yield running


@pytest.fixture(params=["async", "sync"])
def order(request, tmp_path, provider, prices) -> Order:
    policy = {"budget_limit": Cost.usd(str(prices.limit))}
    return Order(Site(tmp_path, provider.base_url), "top-up", sync=request.param == "sync", policy=policy)


def asked(order: Order) -> dict[str, Any]:
    """The question with which one more process ends; it is killed with the question on its screen."""
    with Execution(carry_on, replace(order, halts=order.halts | {"output"})) as process:
        question = process.wait_for("asked")
        process.kill()
    return question


def ended(order: Order) -> dict[str, Any]:
    """The outputs with which one more process ends."""
    with Execution(carry_on, order) as process:
        return process.wait_for("ended")


def answering(order: Order, prices: Prices, number: int) -> Order:
    return replace(order, number=number, answer={"add": str(prices.more)})


def assert_question(question: dict[str, Any], prices: Prices, *, times: int) -> None:
    """It says what was spent and what there is, and how much a prompt may need."""
    assert question["type"] == "budget_exceeded"
    assert Decimal(question["spent"]) == times * prices.more
    assert Decimal(question["limit"]) == prices.limit + (times - 1) * prices.more
    assert Decimal(question["needs"]) == prices.worst_case


def assert_each_prompt_once(order: Order, provider: Any, prices: Prices) -> None:
    books = Books.of(order.site)
    assert Served.by(provider).requests == books.count(ReservationState.SETTLED) == ONCE
    assert books.spent == provider.bill == len(PROMPTS) * prices.cost
    assert books.count(ReservationState.FORFEITED).total() == 0
    assert books.balance is not None
    assert books.balance.limit == Cost.usd(str(prices.limit + 2 * prices.more))
    assert books.balance.held_nano == 0


def test_a_run_that_is_topped_up_twice_by_other_processes_finishes(order, provider, prices):
    first = asked(order)
    assert_question(first, prices, times=1)
    assert Served.by(provider).requests.total() == EACH_TIME
    second = asked(answering(order, prices, 1))
    assert_question(second, prices, times=2)
    outputs = ended(answering(order, prices, 2))
    assert outputs.keys() == {*PROMPTS, "gate"}
    assert_each_prompt_once(order, provider, prices)
    assert Trail.of(order.site).begun() == {"gate": 1}


def test_a_process_that_dies_before_the_answer_asks_the_same_again(order, provider, prices):
    questions = [asked(replace(order, number=number)) for number in range(3)]
    assert questions[0] == questions[1] == questions[2]
    asked(answering(order, prices, 3))
    ended(answering(order, prices, 4))
    assert_each_prompt_once(order, provider, prices)


def test_a_process_that_dies_after_the_answer_has_added_the_money_once(order, provider, prices):
    asked(order)
    with Execution(carry_on, replace(answering(order, prices, 1), halts=frozenset({"gate"}))) as process:
        assert process.wait_for("halted") == "gate"
        process.kill()
    assert Served.by(provider).requests.total() == BEFORE_GATE
    second = asked(replace(order, number=2))  # without an answer: LangGraph kept the one there was
    assert_question(second, prices, times=2)
    ended(answering(order, prices, 3))
    assert_each_prompt_once(order, provider, prices)
    assert Trail.of(order.site).begun() == {"gate": 2}


@pytest.mark.parametrize("seed", range(2))
def test_an_answer_counts_once_whenever_the_process_dies(order, provider, prices, seed):
    chance, limit, answer, more = random.Random(seed), prices.limit, None, 4 * prices.worst_case
    times_asked = 0
    for number in range(KILLS + MOST_QUESTIONS):
        with Execution(carry_on, replace(order, number=number, answer=answer)) as process:
            if number < KILLS:
                let_live(process, provider, chance)
            kind, news = process.report() if number >= KILLS or process.has_news else ("killed", None)
        assert kind in {"killed", "asked", "ended"}, news
        if kind == "ended":
            break
        answer = {"add": str(more)} if kind == "asked" else None  # nobody saw what became of an answer
        if kind == "asked":
            times_asked += 1
            assert Decimal(news["limit"]) in {limit, limit + more if times_asked > 1 else limit}
            limit = Decimal(news["limit"])
    books, served = Books.of(order.site), Served.by(provider)
    assert books.balance is not None
    assert books.balance.limit == Cost.usd(str(limit + more))
    assert books.count(ReservationState.SETTLED) == ONCE
    assert served.requests <= Counter(ONCE) + books.count(ReservationState.FORFEITED)
    assert books.spent >= provider.bill


def let_live(process: Execution, provider: Any, chance: random.Random) -> None:
    """Until a random moment, or until it has something to say."""
    enough = Served.by(provider).requests.total() + chance.randint(0, 2)
    process.wait_until(lambda: process.has_news or Served.by(provider).requests.total() >= enough)
    time.sleep(chance.uniform(0, 3 * LATENCY))  # not a wait for something: the random moment itself

"""kill -9 at random moments of a run, then the next process: the same results, nothing done or bought twice."""

import random
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import count

import pytest
from crash_runs import LANES, LATENCY, SLOTS, Execution, Order, Remains, Site, Story, carry_on, finish, moments, tell

from langchain_runtime.contracts.budget import ReservationState

pytestmark = pytest.mark.crash

KILLS = 6
"""Of one run; the dataflow runs below are killed 24 times in all."""


STEPS = 15
"""Writes that a run of one task of each kind makes at least."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, loopback) -> dict[str, Story]:
    stories = {}
    for scene in ("lanes", "few"):
        folder = tmp_path_factory.mktemp(scene)
        with loopback.serving(folder / "provider.jsonl") as provider:
            stories[scene] = finish(Order(Site(folder, provider.base_url), scene), provider)
            assert stories[scene].books.spent == provider.bill
    return stories


@pytest.mark.parametrize(
    ("seed", "mode", "sync"),
    [
        (1, "dataflow", False),
        (2, "dataflow", False),
        (3, "dataflow", False),
        (4, "dataflow", True),
        (5, "supersteps", False),
        (6, "supersteps", True),
    ],
)
def test_a_run_that_is_killed_again_and_again_does_and_buys_nothing_twice(
    tmp_path, loopback, undisturbed, seed, mode, sync
):
    with loopback.serving(tmp_path / "provider.jsonl", latency=LATENCY) as provider:
        order = Order(Site(tmp_path, provider.base_url), mode=mode, sync=sync)
        story = tell(order, provider, moments(random.Random(seed), KILLS))
    assert story.outputs.keys() == LANES.keys()
    assert_as_if_undisturbed(story, undisturbed["lanes"])


@pytest.mark.parametrize(
    ("mode", "sync", "every"),
    [("dataflow", False, 1), ("dataflow", True, 3), ("supersteps", False, 3), ("supersteps", True, 3)],
)
def test_a_run_can_be_killed_after_any_of_its_writes(tmp_path, loopback, undisturbed, mode, sync, every):
    for step in count(1, every):
        folder = tmp_path / str(step)
        folder.mkdir()
        with loopback.serving(folder / "provider.jsonl") as provider:
            order = Order(Site(folder, provider.base_url), "few", mode=mode, sync=sync)
            with Execution(carry_on, replace(order, halts=frozenset({f"step-{step}"}))) as process:
                kind, news = process.report()
                if kind == "ended":
                    break
                assert kind == "halted", news
                process.kill()
            story = finish(order, provider, [Remains.of(order.site, provider)])
        assert_as_if_undisturbed(story, undisturbed["few"])
    assert step > STEPS


def assert_as_if_undisturbed(story: Story, undisturbed: Story) -> None:
    assert story.outputs == undisturbed.outputs
    assert story.run_again() == set()
    for left in story.kills:
        paid = left.books.count(ReservationState.SETTLED).keys()
        assert prompts_among(paid) == prompts_among(left.books.finished), "a result and its price are not one step"
    assert_every_reply_is_bought_once(story, undisturbed)
    assert_books_are_right(story)


def prompts_among(task_ids: Iterable[str]) -> set[str]:
    """Those of one call."""
    return {task_id for task_id in task_ids if task_id.startswith("prompt")}


def assert_every_reply_is_bought_once(story: Story, undisturbed: Story) -> None:
    settled = story.books.count(ReservationState.SETTLED)
    assert settled == undisturbed.served.requests, "a reply was bought again after its settlement, or never"
    assert story.served.different == undisturbed.served.different
    assert story.served.requests <= settled + story.books.count(ReservationState.FORFEITED)


def assert_books_are_right(story: Story) -> None:
    lost = story.books.count(ReservationState.FORFEITED)
    for task_id, bill in story.served.bills.items():
        if lost[task_id]:
            assert story.books.charged(task_id) >= bill
        else:
            assert story.books.charged(task_id) == bill
    assert story.books.spent == sum(map(story.books.charged, story.served.bills), Decimal(0))
    assert story.books.balance is not None
    assert story.books.balance.held_nano == 0
    assert story.books.balance.overdrawn_nano == 0
    under_way = [left.books.ids(ReservationState.SENT) for left in story.kills]
    assert max(map(len, under_way)) <= SLOTS
    assert story.books.ids(ReservationState.FORFEITED) == frozenset().union(*under_way)

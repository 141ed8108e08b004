"""Rows J of the reference. J1 is decided: one source counts tokens and cost together, so neither counts twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_runtime.contracts.budget import Hold, Reservation, ReservationState
from langchain_runtime.contracts.errors import CurrencyMismatchError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.protocols import UsageTracker as UsageTrackerProtocol
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.cost import UsageTracker, usage_tracker
from langchain_runtime.cost.usage_tracker import CallCounts


def ended(tokens=0, nano=0, *, state=ReservationState.SETTLED, usage=True, **hold):
    fields = {"scopes": ("s",), "nano": 10**12, "holder": "test", **hold}
    return Reservation(
        hold=Hold(**fields),
        state=state,
        lease=1,
        charged_nano=nano,
        usage=TokenUsage(input=tokens) if usage else None,
        created_at=0,
    )


def tracked(*reservations):
    tracker = UsageTracker()
    for reservation in reservations:
        tracker.add(reservation)
    return tracker


def test_it_is_a_usage_tracker():
    assert isinstance(UsageTracker(), UsageTrackerProtocol)


def test_tokens_and_cost_are_counted_together_J1():
    total = tracked(ended(1_000, 1_500_000_000)).total()
    assert (total.tokens.total, total.cost) == (1_000, Cost.usd("1.50"))


def test_calls_add_up_J2():
    assert tracked(ended(500), ended(300), ended(200)).total().tokens.total == 1_000


def test_a_total_is_a_copy_J3():
    tracker = tracked(ended(500, 750_000_000))
    before = tracker.total()
    tracker.add(ended(1, 1))
    assert (before.tokens.total, before.cost) == (500, Cost.usd("0.75"))


def test_nothing_counted_is_no_tokens_and_an_unknown_cost_J4():
    assert UsageTracker().total() == Usage(tokens=TokenUsage(), cost=None)


def test_a_run_that_nobody_knows_has_used_nothing_J5():
    assert tracked(ended(5, run_id="a")).total(run_id="b") == Usage()


def test_concurrent_calls_are_all_counted_J6():
    tracker = UsageTracker()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(tracker.add, [ended(10, 1) for _ in range(100)]))
    total = tracker.total()
    assert (total.tokens.total, total.cost.nano) == (1_000, 100)


def test_totals_while_others_count_are_whole_J7():
    tracker = UsageTracker()
    with ThreadPoolExecutor(16) as pool:
        added = [pool.submit(tracker.add, ended(10, 10)) for _ in range(50)]
        totals = [pool.submit(tracker.total) for _ in range(50)]
        assert all(future.exception() is None for future in added)
    for total in (future.result() for future in totals):
        assert total.tokens.total == (total.cost.nano if total.cost is not None else 0)
    assert tracker.total().tokens.total == 500


def test_runs_tasks_and_models_are_told_apart_J8():
    tracker = tracked(
        ended(1_000, run_id="a", task_id="x", model="m"),
        ended(1_500, run_id="b", task_id="x", model="n"),
        ended(500, run_id="b", task_id="y", model="m"),
    )
    assert tracker.total(run_id="a").tokens.total == 1_000
    assert tracker.total(run_id="b").tokens.total == 2_000
    assert tracker.total(run_id="b", task_id="y").tokens.total == 500
    assert tracker.total(model="m").tokens.total == 1_500
    assert tracker.total(run_id="a", task_id="y") == Usage()


def test_large_counts_are_exact_J9():
    assert tracked(ended(500_000_000_000), ended(500_000_000_000)).total().tokens.total == 10**12


def test_two_currencies_do_not_add_up_J10():
    tracker = tracked(ended(1, 5, run_id="a"), ended(1, 1, run_id="b", currency="EUR"))
    with pytest.raises(CurrencyMismatchError):
        tracker.total()
    assert tracker.total(run_id="b").cost == Cost.from_nano(1, "EUR")


def test_a_second_time_with_the_same_id_is_ignored():
    assert tracked(ended(10, 1, id="one"), ended(99, 99, id="one")).total().tokens.total == 10


def test_a_late_settlement_corrects_a_forfeit():
    forfeited = ended(nano=100, id="one", state=ReservationState.FORFEITED, usage=False)
    tracker = tracked(forfeited, ended(10, 7, id="one"), forfeited)
    assert (tracker.total().tokens.total, tracker.total().cost.nano) == (10, 7)


@pytest.mark.parametrize("state", [ReservationState.HELD, ReservationState.SENT, ReservationState.RELEASED])
def test_what_was_not_paid_is_not_counted(state):
    assert tracked(ended(10, 5, state=state)).total() == Usage()


def test_a_forfeit_is_paid_although_its_tokens_are_unknown():
    total = tracked(ended(nano=100, state=ReservationState.FORFEITED, usage=False)).total()
    assert (total.tokens.total, total.cost.nano) == (0, 100)


def test_a_call_without_a_price_has_tokens_and_no_cost():
    assert tracked(ended(10, 0, priced=False)).total() == Usage(tokens=TokenUsage(input=10), cost=None)
    assert tracked(ended(10, 0, priced=False), ended(1, 3)).total().cost.nano == 3


def test_parts_make_up_the_total():
    tracker = tracked(
        ended(1_000, 10, run_id="a", task_id="x", model="m"),
        ended(1_500, 20, run_id="b", task_id="x", model="n"),
        ended(500, 30, model="m"),
    )
    for parts in (tracker.by_run(), tracker.by_task(), tracker.by_model()):
        assert sum(parts.values(), Usage()) == tracker.total()
    assert {key: usage.cost.nano for key, usage in tracker.by_run().items()} == {"a": 10, "b": 20, "": 30}
    assert {key: usage.tokens.total for key, usage in tracker.by_task().items()} == {"x": 2_500, "": 500}
    assert {key: usage.cost.nano for key, usage in tracker.by_model().items()} == {"m": 40, "n": 20}


def test_nothing_counted_has_no_parts():
    assert UsageTracker().by_model() == UsageTracker().by_task() == UsageTracker().by_run() == {}


def test_a_part_in_two_currencies_does_not_add_up():
    tracker = tracked(ended(1, 5, model="m", run_id="a"), ended(1, 1, model="m", run_id="b", currency="EUR"))
    with pytest.raises(CurrencyMismatchError):
        tracker.by_model()
    assert tracker.by_run()["b"].cost == Cost.from_nano(1, "EUR")


def test_an_unpriced_call_in_another_currency_adds_up():
    tracker = tracked(ended(1, 5, model="m"), ended(2, 0, model="m", currency="EUR", priced=False))
    assert tracker.total() == Usage(tokens=TokenUsage(input=3), cost=Cost.from_nano(5))


def test_what_is_unknown_is_counted_and_never_taken_for_nothing():
    tracker = tracked(
        ended(10, 5, model="m"),
        ended(10, 0, model="n", priced=False),
        ended(nano=100, model="m", usage=False),
        ended(nano=0, model="n", usage=False, priced=False),
    )
    assert tracker.calls() == CallCounts(made=4, unreported=2, unpriced=2)
    assert tracker.calls(model="m") == CallCounts(made=2, unreported=1, unpriced=0)
    assert tracker.by_model()["n"].cost is None


def test_a_corrected_forfeit_is_one_call_with_known_tokens():
    forfeited = ended(nano=100, id="one", state=ReservationState.FORFEITED, usage=False)
    tracker = tracked(forfeited)
    assert tracker.calls() == CallCounts(made=1, unreported=1)
    tracker.add(ended(10, 7, id="one"))
    assert tracker.calls() == CallCounts(made=1, unreported=0)


def test_memory_does_not_grow_with_calls(monkeypatch):
    monkeypatch.setattr(usage_tracker, "_REMEMBERED", 10)
    tracker = tracked(*(ended(1, 1, id=str(number), model="m") for number in range(1_000)))
    assert (len(tracker._known), len(tracker._tallies)) == (10, 1)
    assert tracker.calls().made == tracker.total().tokens.total == 1_000
    tracker.add(ended(1, 1, id="999", model="m"))
    assert tracker.calls().made == 1_000

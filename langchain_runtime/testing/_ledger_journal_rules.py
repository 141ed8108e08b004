"""Rules of ledgers: replies, outcomes, events, and the async twins of everything."""

# ruff: noqa: PLR2004 - tests: their names say it, with ids of reference_scenarios.md, about small figures
from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from langchain_runtime.contracts.budget import (
    Decision,
    ReservationState,
    Scope,
    Settlement,
    Verdict,
)
from langchain_runtime.contracts.errors import (
    BudgetNotSetError,
    InvalidInputError,
)
from langchain_runtime.contracts.events import LifecycleEvent, TaskReady, TaskStarted
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.testing._ledger_driver import LedgerDriver


class JournalRules(LedgerDriver):
    """Replies, outcomes and events."""

    def outcome(self, task: str = "t", state: TaskState = TaskState.COMPLETED, **fields: Any) -> TaskOutcome:
        """An outcome."""
        return TaskOutcome(task=task, state=state, **fields)

    def test_a_reply_is_kept_with_its_settlement(self) -> None:
        self.scope()
        assert self.ledger.replay("key") is None
        self.settle(self.sent(), 5, reply_key="key", reply=b"\x00reply\xff")
        assert self.ledger.replay("key") == b"\x00reply\xff"

    def test_an_empty_reply_is_a_reply(self) -> None:
        self.scope()
        self.settle(self.sent(), 5, reply_key="key", reply=b"")
        assert self.ledger.replay("key") == b""

    def test_the_first_reply_of_a_key_stays(self) -> None:
        self.scope()
        call = self.sent()
        self.settle(call, 5, reply_key="key", reply=b"first")
        self.settle(call, 5, reply_key="key", reply=b"second")
        self.settle(self.sent(), 5, reply_key="key", reply=b"third")
        assert self.ledger.replay("key") == b"first"

    def test_a_reply_that_comes_with_a_second_settlement_is_kept(self) -> None:
        self.scope()
        call = self.sent()
        self.settle(call, 5)
        self.settle(call, 5, reply_key="key", reply=b"reply")
        assert self.ledger.replay("key") == b"reply"

    def test_no_reply_is_kept_of_a_settlement_that_failed(self) -> None:
        with pytest.raises(InvalidInputError):
            self.settle("unknown", 5, reply_key="key", reply=b"reply")
        assert self.ledger.replay("key") is None

    def test_an_outcome_is_recorded_with_its_settlement(self) -> None:
        self.scope()
        settlement, outcome = Settlement(reservation_id=self.sent(), nano=5), self.outcome(output={"a": [1, None]})
        self.ledger.settle(settlement, outcome=outcome, run_id="r")
        assert self.ledger.outcome("r", "t") == outcome
        assert self.figures() == (5, 0)

    def test_an_outcome_needs_its_run_and_nothing_is_settled_without(self) -> None:
        self.scope()
        settlement = Settlement(reservation_id=self.sent(), nano=5)
        with pytest.raises(InvalidInputError, match="run"):
            self.ledger.settle(settlement, outcome=self.outcome())
        assert self.figures() == (0, 10)

    def test_a_completed_outcome_is_never_replaced(self) -> None:
        self.ledger.record_outcome("r", self.outcome(output="first"))
        self.ledger.record_outcome("r", self.outcome(output="second"))
        self.ledger.record_outcome("r", self.outcome(state=TaskState.FAILED))
        found = self.ledger.outcome("r", "t")
        assert found is not None
        assert found.output == "first"

    @pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.SKIPPED])
    def test_an_unsuccessful_outcome_may_be_replaced(self, state: TaskState) -> None:
        self.ledger.record_outcome("r", self.outcome(state=state))
        self.ledger.record_outcome("r", self.outcome(state=TaskState.FAILED, attempts=2))
        found = self.ledger.outcome("r", "t")
        assert found is not None
        assert found.attempts == 2
        self.ledger.record_outcome("r", self.outcome(output="done"))
        assert self.ledger.outcomes("r") == {"t": self.outcome(output="done")}

    def test_outcomes_are_a_runs_own_in_the_order_recorded(self) -> None:
        for task in ("b", "a", "c"):
            self.ledger.record_outcome("r", self.outcome(task))
        self.ledger.record_outcome("other", self.outcome("z"))
        assert list(self.ledger.outcomes("r")) == ["b", "a", "c"]
        assert self.ledger.outcomes("unknown") == {}
        assert self.ledger.outcome("r", "unknown") is self.ledger.outcome("unknown", "a") is None

    def test_what_was_recorded_cannot_be_changed_from_outside(self) -> None:
        outcome = self.outcome(metadata={"list": [1]})
        self.ledger.record_outcome("r", outcome)
        expected = copy.deepcopy(outcome)
        outcome.metadata["list"] = []
        found = self.ledger.outcome("r", "t")
        assert found == expected
        assert found is not None
        found.metadata.clear()
        assert self.ledger.outcome("r", "t") == expected

    def test_events_are_read_back_in_order_with_positions(self) -> None:
        events: list[LifecycleEvent] = [
            TaskReady(run_id="r", task="a"),
            TaskStarted(run_id="r", task="a", attempt=1, model="m"),
            TaskReady(run_id="other", task="z"),
            TaskReady(run_id="r", task="b"),
        ]
        self.ledger.append_events(events[:1])
        self.ledger.append_events([])
        self.ledger.append_events(events[1:])
        found = self.ledger.events("r")
        assert [event for _, event in found] == [events[0], events[1], events[3]]
        positions = [position for position, _ in found]
        assert positions == sorted(set(positions))
        assert positions[0] > 0
        assert self.ledger.events("r", after=positions[1]) == found[2:]
        assert self.ledger.events("unknown") == []


class ForgetRules(LedgerDriver):
    """Tasks that are to be done anew: what is dropped, and what stays."""

    def done(self, task: str, run: str = "r") -> str:
        """A task that bought a reply and completed; returns the reply's key."""
        outcome, call = TaskOutcome(task=task, state=TaskState.COMPLETED), self.sent(run_id=run, task_id=task)
        settlement = Settlement(reservation_id=call, nano=5, reply_key=f"{run}-{task}", reply=b"reply")
        self.ledger.settle(settlement, outcome=outcome, run_id=run)
        return f"{run}-{task}"

    def test_a_forgotten_task_has_neither_outcome_nor_reply(self) -> None:
        self.scope()
        key = self.done("a")
        assert self.ledger.forget("r", ["a"]) == 1
        assert (self.ledger.outcome("r", "a"), self.ledger.replay(key)) == (None, None)
        assert self.ledger.outcomes("r") == {}

    def test_other_tasks_and_other_runs_are_not_touched(self) -> None:
        self.scope()
        self.done("a")
        kept = [self.done("b"), self.done("a", run="other"), self.done("a.b"), self.done("a#0")]
        self.settle(self.sent(run_id="r"), 1, reply_key="outside", reply=b"of no task")
        self.settle(self.sent(), 1, reply_key="free", reply=b"of no run")
        assert self.ledger.forget("r", ["a"]) == 1
        assert list(self.ledger.outcomes("r")) == ["b", "a.b", "a#0"]
        assert list(self.ledger.outcomes("other")) == ["a"]
        assert all(self.ledger.replay(key) is not None for key in (*kept, "outside", "free"))

    def test_every_reply_of_a_task_is_forgotten_of_a_failed_one_too(self) -> None:
        self.scope()
        for number in range(3):
            self.settle(self.sent(run_id="r", task_id="a"), 1, reply_key=f"call-{number}", reply=b"reply")
        self.ledger.record_outcome("r", TaskOutcome(task="a", state=TaskState.FAILED))
        assert self.ledger.forget("r", ["a"]) == 1
        assert [self.ledger.replay(f"call-{number}") for number in range(3)] == [None] * 3

    def test_replies_are_forgotten_where_there_is_no_outcome(self) -> None:
        self.scope()
        self.settle(self.sent(run_id="r", task_id="a"), 1, reply_key="key", reply=b"reply")
        assert self.ledger.forget("r", ["a"]) == 0
        assert self.ledger.replay("key") is None

    def test_a_reply_that_came_with_a_second_settlement_is_forgotten_too(self) -> None:
        self.scope()
        call = self.sent(run_id="r", task_id="a")
        self.settle(call, 1)
        self.settle(call, 1, reply_key="key", reply=b"reply")
        self.ledger.forget("r", ["a"])
        assert self.ledger.replay("key") is None

    def test_a_call_keeps_one_reply(self) -> None:
        self.scope()
        call = self.sent(run_id="r", task_id="a")
        for key in ("first", "second"):
            self.settle(call, 1, reply_key=key, reply=b"reply")
        assert (self.ledger.replay("first"), self.ledger.replay("second")) == (b"reply", None)
        self.ledger.forget("r", ["a"])
        assert self.ledger.replay("first") is None

    def test_a_reply_belongs_to_the_task_that_bought_it_first(self) -> None:
        self.scope()
        for task in ("a", "b"):
            self.settle(self.sent(run_id="r", task_id=task), 1, reply_key="key", reply=task.encode())
        self.ledger.forget("r", ["b"])
        assert self.ledger.replay("key") == b"a"
        self.ledger.forget("r", ["a"])
        assert self.ledger.replay("key") is None

    def test_money_and_events_stay(self) -> None:
        self.scope()
        self.done("a")
        self.ledger.append_events([TaskReady(run_id="r", task="a")])
        held = self.reserve(run_id="r", task_id="a")
        before = self.ledger.balance("user"), self.ledger.reservations("r"), self.ledger.events("r")
        self.ledger.forget("r", ["a"])
        assert (self.ledger.balance("user"), self.ledger.reservations("r"), self.ledger.events("r")) == before
        assert self.state(held.hold.id) is ReservationState.HELD

    def test_a_forgotten_task_is_recorded_anew_behind_the_others(self) -> None:
        self.scope()
        key = self.done("a")
        self.done("b")
        self.ledger.forget("r", ["a"])
        self.settle(self.sent(run_id="r", task_id="a"), 3, reply_key=key, reply=b"another")
        self.ledger.record_outcome("r", TaskOutcome(task="a", state=TaskState.COMPLETED, output="new"))
        assert self.ledger.replay(key) == b"another"
        assert {task: outcome.output for task, outcome in self.ledger.outcomes("r").items()} == {"b": None, "a": "new"}
        assert list(self.ledger.outcomes("r")) == ["b", "a"]
        assert self.ledger.forget("r", ["a"]) == 1
        assert self.ledger.replay(key) is None

    def test_forgetting_what_is_not_known_changes_nothing(self) -> None:
        self.scope()
        key = self.done("a")
        assert (
            self.ledger.forget("r", []) == self.ledger.forget("r", ["b"]) == self.ledger.forget("unknown", ["a"]) == 0
        )
        assert self.ledger.forget("r", ["a", "b", "a"]) == 1
        assert self.ledger.forget("r", ["a"]) == 0
        assert self.ledger.replay(key) is None

    def test_any_number_of_tasks_is_forgotten_at_once(self) -> None:
        tasks = [f"t{number}" for number in range(2_000)]
        self.ledger.record_outcome("r", TaskOutcome(task="t7", state=TaskState.COMPLETED))
        assert self.ledger.forget("r", tasks) == 1


class TwinRules(LedgerDriver):
    """The async half means what the sync half means."""

    def test_every_twin_does_what_its_method_does(self) -> None:
        outcome, event = TaskOutcome(task="t", state=TaskState.COMPLETED), TaskReady(run_id="r", task="t")
        ledger = self.ledger

        async def call() -> None:
            await ledger.aopen_scope(Scope(name="user", limit_nano=100))
            await ledger.aset_limit("user", 200)
            assert (await ledger.atop_up("user", 5, key="k")).scope.limit_nano == 205
            decision = await ledger.areserve(self.hold(60, run_id="r", id="one"))
            assert decision.reservation is not None
            await ledger.amark_sent("one", decision.reservation.lease)
            assert await ledger.arenew("me", 60) == 1
            settlement = Settlement(reservation_id="one", nano=7, reply_key="key", reply=b"reply")
            assert await ledger.asettle(settlement, outcome=outcome, run_id="r") == 7
            await ledger.areserve(self.hold(60, id="two"))
            await ledger.arelease("two")
            await ledger.arecord_outcome("r", outcome)
            await ledger.aappend_events([event])
            assert await ledger.abalance("user") == ledger.balance("user") == (await ledger.abalances("us"))[0]
            assert await ledger.areservation("one") == (await ledger.areservations("r"))[0]
            assert await ledger.areplay("key") == b"reply"
            assert await ledger.aoutcome("r", "t") == (await ledger.aoutcomes("r"))["t"] == outcome
            assert [found for _, found in await ledger.aevents("r", after=0)] == [event]
            assert await ledger.aforget("r", ["t"]) == 1
            assert await ledger.aoutcomes("r") == {}
            await ledger.aclose()

        asyncio.run(call())
        assert self.state("two") is ReservationState.RELEASED

    def test_errors_come_through_twins(self) -> None:
        with pytest.raises(BudgetNotSetError):
            asyncio.run(self.ledger.abalance("nobody"))

    def test_concurrent_tasks_never_hold_more_than_the_limit(self) -> None:
        self.scope(limit=50)

        async def all_at_once() -> list[Decision]:
            return await asyncio.gather(*(self.ledger.areserve(self.hold(1)) for _ in range(80)))

        decisions = asyncio.run(all_at_once())
        assert [decision.verdict for decision in decisions].count(Verdict.ADMIT) == 50

    def test_a_cancelled_reserve_leaves_no_hold_behind(self) -> None:
        self.scope()

        async def cancel_at_once() -> None:
            task = asyncio.create_task(self.ledger.areserve(self.hold(60)))
            await asyncio.sleep(0)
            task.cancel()
            received = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(received, Decision):  # it was faster
                await self.ledger.arelease(received.reservation.hold.id)  # type: ignore[union-attr] # admitted
            await self.ledger.aclose()

        asyncio.run(cancel_at_once())
        assert self.figures() == (0, 0)

    def test_a_cancelled_settle_still_settles(self) -> None:
        self.scope()
        call = self.sent(60)

        async def cancel_at_once() -> None:
            task = asyncio.create_task(self.ledger.asettle(Settlement(reservation_id=call, nano=7)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.ledger.aclose()

        asyncio.run(cancel_at_once())
        assert self.figures() == (7, 0)

    def test_closing_twice_is_harmless(self) -> None:
        self.scope()
        self.ledger.close()
        self.ledger.close()

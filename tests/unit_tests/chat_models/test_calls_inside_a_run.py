"""A run pays: holds made at dispatch, replies in the journal, settlements for the graph to commit."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_runtime.adapters.account import Account, budget_scope, current_account, paying
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.budget import Budget, Hold, ReservationState, Scope
from langchain_runtime.contracts.errors import BudgetExceededError, ReservationLostError
from langchain_runtime.contracts.events import CallReserved, CallSettled
from langchain_runtime.contracts.job import AdoptedHold
from langchain_runtime.ledgers import InMemoryLedger

REPLY = 17_000
RUN = Budget.usd("1", scope="run:r1")


@pytest.fixture
def run(desk: Any) -> Any:
    desk.ledger.open_scope(Scope.of(RUN))
    desk.events = []

    def account(**fields: Any) -> Account:
        return Account(
            **{
                "ledger": desk.ledger,
                "budgets": (RUN,),
                "run_id": "r1",
                "task_id": "t1",
                "replay": True,
                "on_event": desk.events.append,
                **fields,
            }
        )

    return account


def _unbudgeted(desk: Any, **fields: Any) -> Any:
    desk.model()
    desk.provider = type(desk.provider)(**{"script": ["one two three"], "max_tokens": 100, **fields})
    return with_budget(desk.provider, None, catalog=desk.catalog)


def _dispatch(desk: Any, nano: int = 800_000, cap: int = 80, tokens: int = 1_000) -> AdoptedHold:
    hold = Hold(scopes=("run:r1",), nano=nano, tokens=tokens, holder="graph", run_id="r1", task_id="t1")
    reservation = desk.ledger.reserve(hold).reservation
    return AdoptedHold(reservation_id=hold.id, lease=reservation.lease, nano=nano, tokens=tokens, max_output_tokens=cap)


def _run_books(desk: Any) -> Any:
    return desk.ledger.balance("run:r1")


CALLS = {
    "invoke": lambda model: model.invoke("hello").text,
    "ainvoke": lambda model: asyncio.run(model.ainvoke("hello")).text,
    "stream": lambda model: "".join(chunk.text for chunk in model.stream("hello")),
    "astream": lambda model: asyncio.run(_drain(model)),
}


async def _drain(model: Any) -> str:
    return "".join([chunk.text async for chunk in model.astream("hello")])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_run_is_charged_and_told(desk, run, call):
    model = _unbudgeted(desk)
    with paying(run()):
        call(model)
    assert _run_books(desk).spent_nano == REPLY
    reserved, settled = desk.events
    assert isinstance(reserved, CallReserved)
    assert isinstance(settled, CallSettled)
    assert reserved.worst_case.nano == 621_000
    assert settled.cost.nano == REPLY
    assert settled.usage.output == 3
    assert reserved.reservation_id == settled.reservation_id
    assert reserved.task == settled.task == "t1"
    assert settled.model == "scripted:scripted-1"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("again", CALLS.values(), ids=CALLS)
def test_a_settled_reply_is_read_back_and_not_bought_again(desk, run, call, again):
    model = _unbudgeted(desk)
    with paying(run()):
        first = call(model)
    with paying(run()):
        second = again(model)
    assert first == second == "one two three"
    assert desk.requests == 1
    assert _run_books(desk).spent_nano == REPLY


def test_another_request_at_the_same_place_is_bought(desk, run):
    model = _unbudgeted(desk)
    with paying(run()):
        model.invoke("hello")
    with paying(run()):
        model.invoke("something else")
    assert desk.requests == 2


def test_the_same_request_twice_in_one_task_is_bought_twice(desk, run):
    model = _unbudgeted(desk)
    for _ in range(2):
        with paying(run()):
            model.invoke("hello")
            model.invoke("hello")
    assert desk.requests == 2


def test_ids_of_replies_do_not_count_as_part_of_the_request(desk, run):
    model = _unbudgeted(desk)
    for number in range(2):
        with paying(run()):
            model.invoke([HumanMessage("hello"), AIMessage("hi", id=f"run-{number}"), HumanMessage("again")])
    assert desk.requests == 1


def test_without_replay_nothing_is_journalled(desk, run):
    model = _unbudgeted(desk)
    for _ in range(2):
        with paying(run(replay=False)):
            model.invoke("hello")
    assert desk.requests == 2


def test_a_failed_call_is_not_journalled(desk, run):
    model = _unbudgeted(desk, script=[ConnectionResetError("reset"), "ok"])
    with paying(run()), pytest.raises(ConnectionResetError):
        model.invoke("hello")
    with paying(run()):
        assert model.invoke("hello").text == "ok"
    assert _run_books(desk).spent_nano == 621_000 + 7_000


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_hold_of_the_dispatch_is_adopted_with_its_cap(desk, run, call):
    model, hold = _unbudgeted(desk), _dispatch(desk)
    with paying(run(hold=hold)):
        call(model)
    assert desk.provider.calls[0].kwargs == {"max_tokens": 80}
    assert _run_books(desk).spent_nano == REPLY
    assert _run_books(desk).held_nano == 0
    assert [event.kind for event in desk.events] == ["call_settled"]
    assert desk.ledger.reservation(hold.reservation_id).state is ReservationState.SETTLED


def test_a_run_without_a_limit_adopts_and_changes_no_request(desk):
    free = Budget(None, scope="run:free")
    desk.ledger.open_scope(Scope.of(free))
    hold = Hold(scopes=("run:free",), nano=800_000, tokens=1_000, holder="graph", run_id="r2", task_id="t1")
    lease = desk.ledger.reserve(hold).reservation.lease
    adopted = AdoptedHold(reservation_id=hold.id, lease=lease, nano=800_000, tokens=1_000, max_output_tokens=100)
    with paying(Account(ledger=desk.ledger, budgets=(free,), run_id="r2", task_id="t1", hold=adopted)):
        _unbudgeted(desk).invoke("hello")
    assert desk.provider.calls[0].kwargs == {}
    assert desk.ledger.balance("run:free").spent_nano == REPLY
    assert len(desk.ledger.reservations("r2")) == 1


def test_a_cost_that_nobody_knows_is_reported_as_unknown(desk):
    free = Budget(None, scope="run:free")
    desk.ledger.open_scope(Scope.of(free))
    events = []
    with paying(Account(ledger=desk.ledger, budgets=(free,), run_id="r2", task_id="t1", on_event=events.append)):
        _unbudgeted(desk, model="unheard-of").invoke("hello")
    reserved, settled = events
    assert reserved.worst_case is None
    assert settled.cost is None
    assert settled.usage.output == 3
    assert desk.ledger.balance("run:free").tokens_spent == 5


def test_only_one_call_adopts_the_hold(desk, run):
    model = _unbudgeted(desk)
    with paying(run(hold=_dispatch(desk))):
        model.invoke("hello")
        model.invoke("hello again")
    assert [call.kwargs["max_tokens"] for call in desk.provider.calls] == [80, 100]
    assert len(desk.ledger.reservations("r1")) == 2
    assert _run_books(desk).held_nano == 0


def test_a_hold_that_is_too_small_is_given_back(desk, run):
    model, hold = _unbudgeted(desk), _dispatch(desk, nano=100_000)
    with paying(run(hold=hold)):
        model.invoke("hello")
    assert desk.ledger.reservation(hold.reservation_id).state is ReservationState.RELEASED
    assert _run_books(desk).spent_nano == REPLY


def test_a_hold_that_was_lost_is_made_anew(desk, run):
    model, hold = _unbudgeted(desk), _dispatch(desk)
    desk.ledger.release(hold.reservation_id)
    with paying(run(hold=hold)):
        model.invoke("hello")
    assert _run_books(desk).spent_nano == REPLY
    assert len(desk.ledger.reservations("r1")) == 2


def test_a_replayed_call_gives_its_hold_back(desk, run):
    model = _unbudgeted(desk)
    with paying(run()):
        model.invoke("hello")
    hold = _dispatch(desk)
    with paying(run(hold=hold)):
        model.invoke("hello")
    assert desk.ledger.reservation(hold.reservation_id).state is ReservationState.RELEASED
    assert desk.requests == 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_deferred_settlement_is_left_for_the_graph(desk, run, call):
    model, account = _unbudgeted(desk), run(hold=_dispatch(desk), defer_settlement=True)
    with paying(account):
        call(model)
    assert _run_books(desk).spent_nano == 0
    assert _run_books(desk).held_nano == 800_000
    assert desk.events[-1].cost.nano == REPLY
    desk.ledger.settle(account.deferred, run_id="r1")
    assert _run_books(desk).spent_nano == REPLY
    with paying(run()):
        assert call(model) == "one two three"
    assert desk.requests == 1


def test_only_the_adopting_call_is_deferred(desk, run):
    model, account = _unbudgeted(desk), run(hold=_dispatch(desk), defer_settlement=True)
    with paying(account):
        model.invoke("hello")
        model.invoke("hello again")
    assert _run_books(desk).held_nano == 800_000
    assert _run_books(desk).spent_nano == 18_000


def test_a_failed_call_settles_at_once_even_when_deferring(desk, run):
    model = _unbudgeted(desk, script=[ConnectionResetError("reset")])
    account = run(hold=_dispatch(desk), defer_settlement=True)
    with paying(account), pytest.raises(ConnectionResetError):
        model.invoke("hello")
    assert account.deferred is None
    assert _run_books(desk).spent_nano == 800_000


def test_a_budget_of_the_models_own_is_charged_beside_an_adopted_hold(desk, run):
    model = desk.model()
    with paying(run(hold=_dispatch(desk))):
        model.invoke("hello")
    assert desk.spent == _run_books(desk).spent_nano == REPLY
    assert len(desk.ledger.reservations("r1")) == 1


def test_a_scope_around_the_run_is_charged_beside_an_adopted_hold(desk, run):
    model = _unbudgeted(desk)
    with budget_scope(Budget.usd("1", scope="around"), ledger=desk.ledger) as around, paying(run(hold=_dispatch(desk))):
        model.invoke("hello")
    assert around.spent.nano == _run_books(desk).spent_nano == REPLY
    assert around.held.nano == 0


def test_a_scope_inside_the_body_belongs_to_the_run(desk, run):
    model = _unbudgeted(desk)
    with paying(run()), budget_scope(Budget.usd("1", scope="inside"), ledger=desk.ledger) as inside:
        model.invoke("hello")
    assert inside.spent.nano == _run_books(desk).spent_nano == REPLY
    assert [event.kind for event in desk.events] == ["call_reserved", "call_settled"]


def test_a_refusal_in_another_scope_gives_the_adopted_hold_back(desk, run):
    model, hold = _unbudgeted(desk), _dispatch(desk)
    tight = Budget.usd("0.0001", scope="tight", on_exceed="raise")
    with budget_scope(tight, ledger=desk.ledger), paying(run(hold=hold)), pytest.raises(BudgetExceededError):
        model.invoke("hello")
    assert desk.ledger.reservation(hold.reservation_id).state is ReservationState.RELEASED
    assert desk.requests == 0


def test_a_fence_that_keeps_failing_is_an_error(desk, monkeypatch):
    # Two ledgers: each hold is marked sent in a step of its own, and one of them is always lost before.
    model, elsewhere = desk.model(), InMemoryLedger()
    losses = []

    def lose(reservation_id: str, lease: int) -> None:
        losses.append(reservation_id)
        raise ReservationLostError("lost", reservation_id=reservation_id)

    monkeypatch.setattr(elsewhere, "mark_sent", lose)
    with budget_scope(Budget.usd("1", scope="far"), ledger=elsewhere) as far, pytest.raises(ReservationLostError):
        model.invoke("hello")
    assert len(losses) == 3
    assert far.held.nano == desk.books.held_nano == 0
    assert desk.requests == 0


def test_accounts_nest_and_end_with_their_block(desk, run):
    assert current_account() is None
    with paying(run()) as outer:
        assert current_account() is outer
        with budget_scope(Budget.usd("1"), ledger=desk.ledger):
            assert current_account().enclosing is outer
            assert current_account().run is outer
        assert current_account() is outer
    assert current_account() is None

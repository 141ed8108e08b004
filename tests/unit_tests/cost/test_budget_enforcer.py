"""Rows K and L of the reference, over the real in-memory ledger; time is virtual.

K1, L1 are the type checker's. K2, K3, K8, K13, L7: what was refused late or not at all is refused by the contracts.
K9, K10, L3 are decided: every amount has a currency, USD unless another is given.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from langchain_runtime.contracts.budget import Budget, Hold, ReservationState, Scope, Settlement, Verdict
from langchain_runtime.contracts.errors import (
    BudgetExceededError,
    BudgetNotSetError,
    CurrencyMismatchError,
    InvalidInputError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.protocols import BudgetEnforcer as BudgetEnforcerProtocol
from langchain_runtime.cost import BudgetEnforcer
from langchain_runtime.ledgers import InMemoryLedger

USD = 10**9


def never(_free_nano, _free_tokens):
    return None


class Desk:
    """An enforcer with its ledger, budgets and a clock that only moves when somebody sleeps."""

    def __init__(self, *budgets, driver="sync"):
        self.ledger, self.budgets, self.driver = InMemoryLedger(), budgets, driver
        self.events, self.naps, self.now = [], [], 0.0
        self.while_asleep = lambda: None
        self.enforcer = BudgetEnforcer(
            self.ledger,
            on_event=self.events.append,
            sleep=self._sleep,
            asleep=self._asleep,
            random=lambda: 0.5,
            clock=lambda: self.now,
        )
        if driver == "sync":
            self.enforcer.open(budgets)
        else:
            asyncio.run(self.enforcer.aopen(budgets))

    def _sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds
        self.while_asleep()

    async def _asleep(self, seconds):
        self._sleep(seconds)

    def hold(self, usd, *, scopes=None, **fields):
        scopes = scopes or tuple(budget.scope for budget in self.budgets)
        return Hold(**{"scopes": scopes, "nano": Cost.usd(usd).nano, "holder": "test", "run_id": "r", **fields})

    def admit(self, usd, *, shrink=never, **fields):
        hold = usd if isinstance(usd, Hold) else self.hold(usd, **fields)
        if self.driver == "sync":
            return self.enforcer.admit(hold, self.budgets, shrink=shrink)
        return asyncio.run(self.enforcer.aadmit(hold, self.budgets, shrink=shrink))

    def spend(self, usd, actual=None):
        reservation = self.admit(usd)
        self.settle(reservation, actual or usd)

    def settle(self, reservation, usd):
        self.ledger.mark_sent(reservation.hold.id, reservation.lease)
        self.ledger.settle(Settlement(reservation_id=reservation.hold.id, nano=Cost.usd(usd).nano))

    def balance(self, scope="s"):
        return self.ledger.balance(scope)

    @property
    def actions(self):
        return [event.action for event in self.events]


@pytest.fixture(params=["sync", "async"])
def desk(request):
    return lambda *budgets: Desk(*budgets, driver=request.param)


def budget(limit="100", on_exceed="raise", scope="s", **fields):
    return Budget(None if limit is None else Cost.usd(limit), scope=scope, on_exceed=on_exceed, **fields)


def test_it_is_a_budget_enforcer():
    assert isinstance(BudgetEnforcer(InMemoryLedger()), BudgetEnforcerProtocol)


# --- what fits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "used", "needed", "fits"),
    [
        pytest.param("100", "0", "50", True, id="K4"),
        pytest.param("100", "50", "50", True, id="K5"),
        pytest.param("100", "60", "50", False, id="K6"),
        pytest.param("10", "0", "15", False, id="K7"),
        pytest.param("100", "99", "0", True, id="K11"),
        pytest.param("0.3", "0.1", "0.2", True, id="K12-fixed"),
        pytest.param("0.3", "0.1", "0.200000001", False, id="K12-one-nano-more"),
    ],
)
def test_a_call_fits_if_the_limit_is_not_exceeded(desk, limit, used, needed, fits):
    desk = desk(budget(limit))
    if used != "0":
        desk.spend(used)
    if fits:
        assert desk.admit(needed).state is ReservationState.HELD
        assert desk.events == []
    else:
        with pytest.raises(BudgetExceededError):
            desk.admit(needed)
        assert desk.balance().held_nano == 0


@pytest.mark.parametrize("limit", [pytest.param("0", id="K2"), pytest.param("-10", id="K3")])
def test_a_budget_that_allows_nothing_is_refused(limit):
    with pytest.raises(InvalidInputError, match="positive"):
        budget(limit)


def test_no_limit_is_a_mode_of_its_own_Z8_L2_L4(desk):
    desk = desk(budget(None))
    for amount in ("10", "5", "100", "50"):
        desk.spend(amount)
    assert desk.balance().spent == Cost.usd("165")


def test_another_currency_is_refused_as_such_K8_Z7(desk):
    desk = desk(Budget(Cost("100", "EUR"), scope="s"))
    with pytest.raises(CurrencyMismatchError) as caught:
        desk.admit("10")
    assert (caught.value.expected, caught.value.actual) == ("EUR", "USD")
    assert desk.balance().held_nano == 0


@pytest.mark.parametrize("nano", [-5, float("nan"), float("inf")])
def test_a_hold_is_a_number_of_nano_units_and_not_negative_K13(nano):
    with pytest.raises(ValidationError):
        Hold(scopes=("s",), nano=nano, holder="test")


def test_a_scope_that_nobody_opened_is_refused_as_such(desk):
    desk = desk(budget())
    with pytest.raises(BudgetNotSetError):
        desk.admit("1", scopes=("other",))


def test_another_limit_for_a_known_scope_is_refused(desk):
    desk = desk(budget("100"))
    with pytest.raises(InvalidInputError):
        desk.enforcer.open([budget("200")])


# --- what was spent ----------------------------------------------------------------------------------------------


def test_spending_adds_up_L5(desk):
    desk = desk(budget())
    desk.spend("40")
    desk.spend("30")
    assert desk.balance().spent == Cost.usd("70")


def test_what_was_spent_is_recorded_even_above_the_limit_L6(desk):
    desk = desk(budget())
    desk.spend("80")
    reservation = desk.admit("20")
    desk.settle(reservation, "30")
    assert desk.balance().spent == Cost.usd("110")
    with pytest.raises(BudgetExceededError):
        desk.admit("0.01")


def test_many_threads_reserve_and_settle_and_the_books_agree_L8():
    desk = Desk(budget("1000"))

    def call(_):
        desk.settle(desk.admit("5"), "0.1")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(100)))
    assert (desk.balance().spent, desk.balance().held_nano) == (Cost.usd("10"), 0)


def test_a_smaller_call_still_fits_after_a_larger_one_was_refused_L9(desk):
    desk = desk(budget())
    desk.spend("30")
    desk.spend("50")
    with pytest.raises(BudgetExceededError):
        desk.admit("30")
    desk.admit("20")
    assert desk.balance().spent == Cost.usd("80")


# --- refusing ----------------------------------------------------------------------------------------------------


def test_a_refusal_says_who_refused_and_why(desk):
    desk = desk(budget("1", scope="user:42"))
    desk.spend("0.6")
    desk.admit("0.1")
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5", model="openai:gpt-5-mini", task_id="t")
    error = caught.value
    assert (error.scope, error.model) == ("user:42", "openai:gpt-5-mini")
    figures = (error.limit, error.spent, error.held, error.needed)
    assert figures == tuple(map(Cost.usd, ("1", "0.6", "0.1", "0.5")))
    assert error.decision.verdict is Verdict.EXHAUSTED
    for part in ("'user:42'", "openai:gpt-5-mini", "0.50 USD", "0.60 USD", "0.10 USD", "1.00 USD"):
        assert part in str(error)
    assert "top-up" in error.hint
    (event,) = desk.events
    assert (event.scope, event.action, event.needed, event.task) == ("user:42", "raise", Cost.usd("0.5"), "t")


def test_a_refusal_by_calls_in_flight_suggests_waiting(desk):
    desk = desk(budget("1"))
    desk.admit("0.9")
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5")
    assert "wait" in caught.value.hint
    assert "a call needs" in str(caught.value)


def test_a_refusal_by_tokens_gives_the_tokens(desk):
    desk = desk(budget(None, token_limit=100))
    with pytest.raises(BudgetExceededError, match=r"needed 101, spent 0, held 0, limit 100") as caught:
        desk.admit("0", tokens=101)
    assert "needs up to 101 tokens" in str(caught.value)
    assert "more tokens" in caught.value.hint
    assert caught.value.limit is None


@pytest.mark.parametrize(
    ("usd", "tokens", "amount"),
    [
        pytest.param("0.5", 50, "50 tokens", id="tokens in flight"),
        pytest.param("0.5", 101, "101 tokens", id="tokens spent"),
        pytest.param("0.6", 10, "0.60 USD", id="money in flight"),
        pytest.param("1.1", 101, "1.10 USD", id="both spent"),
    ],
)
def test_a_refusal_names_what_is_short_where_both_are_limited(desk, usd, tokens, amount):
    desk = desk(budget("1", token_limit=100))
    desk.admit("0.5", tokens=60)
    with pytest.raises(BudgetExceededError, match=f"needs up to {amount},"):
        desk.admit(usd, tokens=tokens)


@pytest.mark.parametrize(("wish", "told"), [("interrupt", ["interrupt"]), ("downgrade", [])])
def test_what_only_a_face_can_do_is_raised_and_told_by_who_does_it(desk, wish, told):
    desk = desk(budget("1", wish))
    with pytest.raises(BudgetExceededError):
        desk.admit("2")
    assert desk.actions == told


def test_a_scope_without_a_budget_at_hand_refuses_by_raising(desk):
    desk = desk(budget())
    desk.ledger.open_scope(Scope(name="elsewhere", limit_nano=1))
    with pytest.raises(BudgetExceededError, match="elsewhere"):
        desk.admit("1", scopes=("s", "elsewhere"))


def test_a_call_outside_runs_is_refused_without_an_event(desk):
    desk = desk(budget("1"))
    with pytest.raises(BudgetExceededError):
        desk.admit("2", run_id=None)
    assert desk.events == []


# --- capping -----------------------------------------------------------------------------------------------------


def test_a_call_is_shrunk_to_what_is_free(desk):
    desk = desk(budget("1", "cap", token_limit=1_000))
    desk.admit("0.4", tokens=300)
    asked = []

    def shrink(free_nano, free_tokens):
        asked.append((free_nano, free_tokens))
        return desk.hold("0.6", tokens=free_tokens)

    assert desk.admit("2", shrink=shrink).hold.nano == Cost.usd("0.6").nano
    assert asked == [(Cost.usd("0.6").nano, 700)]
    assert desk.actions == ["cap"]


def test_a_call_that_cannot_be_shrunk_is_refused(desk):
    desk = desk(budget("1", "cap"))
    with pytest.raises(BudgetExceededError):
        desk.admit("2")
    assert desk.actions == ["raise"]


def test_a_call_that_others_always_outrun_is_refused_in_the_end(desk):
    desk = desk(budget("1", "cap"))
    with pytest.raises(BudgetExceededError):
        desk.admit("2", shrink=lambda *_free: desk.hold("1.5"))
    assert desk.actions == ["cap"] * 8 + ["raise"]


# --- waiting -----------------------------------------------------------------------------------------------------


def test_a_call_waits_for_another_to_settle(desk):
    desk = desk(budget("1", "wait"))
    first = desk.admit("0.9")

    def settle_the_first():
        if len(desk.naps) == 3:
            desk.settle(first, "0.2")

    desk.while_asleep = settle_the_first
    assert desk.admit("0.5").state is ReservationState.HELD
    assert desk.actions == ["wait"]
    assert desk.naps == [0.005, 0.01, 0.02]


def test_pauses_grow_to_a_tenth_of_a_second(desk):
    desk = desk(budget("1", "wait", wait_timeout=10))
    desk.admit("0.9")
    with pytest.raises(BudgetExceededError):
        desk.admit("0.5")
    assert max(desk.naps) == 0.1
    assert desk.now == pytest.approx(10)


def test_waiting_ends_with_its_timeout(desk):
    desk = desk(budget("1", "wait", wait_timeout=0.5))
    desk.admit("0.9")
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5")
    assert caught.value.decision.verdict is Verdict.WAIT
    assert desk.actions == ["wait", "raise"]
    assert desk.now == pytest.approx(0.5)


def test_waiting_for_no_time_at_all_is_refused_at_once(desk):
    desk = desk(budget("1", "wait", wait_timeout=0))
    desk.admit("0.9")
    with pytest.raises(BudgetExceededError):
        desk.admit("0.5")
    assert desk.naps == []


def test_a_call_that_will_never_fit_does_not_wait(desk):
    desk = desk(budget("1", "wait"))
    with pytest.raises(BudgetExceededError):
        desk.admit("2")
    assert desk.naps == []


def test_a_call_that_becomes_hopeless_stops_waiting(desk):
    desk = desk(budget("1", "wait"))
    first = desk.admit("0.9")
    desk.while_asleep = lambda: desk.settle(first, "0.9")
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5")
    assert caught.value.decision.verdict is Verdict.EXHAUSTED
    assert len(desk.naps) == 1


def test_a_call_that_another_budget_refuses_meanwhile_stops_waiting(desk):
    desk = desk(budget("1", "wait", scope="a"), budget("1", "raise", scope="z"))
    first = desk.admit("0.9", scopes=("a",))

    def spend_elsewhere():
        desk.settle(first, "0.1")
        desk.while_asleep = lambda: None
        desk.enforcer.admit(desk.hold("0.9", scopes=("z",)), desk.budgets, shrink=never)

    desk.while_asleep = spend_elsewhere
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5")
    assert (caught.value.scope, caught.value.decision.verdict) == ("z", Verdict.WAIT)
    assert desk.actions == ["wait", "raise"]


def test_a_call_waits_for_each_budget_by_that_budgets_own_patience(desk):
    desk = desk(budget("1", "wait", scope="a", wait_timeout=9), budget("1", "wait", scope="z", wait_timeout=1))
    first = desk.admit("0.9", scopes=("a",))

    def block_the_other():
        if desk.now >= 5:
            desk.while_asleep = lambda: None
            desk.settle(first, "0.1")
            desk.enforcer.admit(desk.hold("0.9", scopes=("z",)), desk.budgets, shrink=never)

    desk.while_asleep = block_the_other
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("0.5")
    assert caught.value.scope == "z"
    assert desk.now == pytest.approx(6, abs=0.2)
    assert [(event.scope, event.action) for event in desk.events] == [("a", "wait"), ("z", "wait"), ("z", "raise")]


# --- warning -----------------------------------------------------------------------------------------------------


def test_a_budget_that_only_warns_blocks_nothing_and_records_everything(desk):
    desk = desk(budget("1", "warn"))
    desk.settle(desk.admit("2"), "1.5")
    assert desk.actions == ["warn"]
    assert desk.balance().spent == Cost.usd("1.5")


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")], ids=["warns first", "warns last"])
def test_a_budget_that_warns_takes_nothing_from_one_that_enforces(desk, names):
    warns, enforces = names
    desk = desk(budget("1", "warn", scope=warns), budget("2", scope=enforces))
    desk.admit("1.5")
    with pytest.raises(BudgetExceededError) as caught:
        desk.admit("1.5")
    assert caught.value.scope == enforces
    assert desk.balance(enforces).held == Cost.usd("1.5")
    assert desk.balance(warns).held == Cost.usd("1.5")


def test_a_call_is_shrunk_to_the_enforcing_budget_and_not_to_the_warning_one(desk):
    desk = desk(budget("0.1", "warn", scope="a"), budget("2", "cap", scope="z"))

    def shrink(free_nano, _free_tokens):
        return desk.hold(Cost.from_nano(free_nano).amount)

    assert desk.admit("5", shrink=shrink).hold.nano == 2 * USD
    assert (desk.balance("a").held, desk.balance("z").held) == (Cost.usd("2"), Cost.usd("2"))
    assert desk.actions == ["cap", "warn"]


def test_a_call_waits_for_the_enforcing_budget_while_the_other_only_warns(desk):
    desk = desk(budget("0.1", "warn", scope="a"), budget("1", "wait", scope="z"))
    first = desk.admit("0.9")
    desk.while_asleep = lambda: desk.settle(first, "0.1")
    desk.admit("0.5")
    assert desk.actions == ["warn", "wait", "warn"]  # the first is of the call that was there before
    assert (desk.balance("z").held, desk.balance("z").spent) == (Cost.usd("0.5"), Cost.usd("0.1"))


def test_a_warned_call_keeps_its_place_and_its_sent_mark(desk):
    desk = desk(budget("1", "warn", scope="a"), budget("9", scope="z"))
    reservation = desk.admit("2", sent=True, task_id="t")
    assert (reservation.state, reservation.hold.task_id) == (ReservationState.SENT, "t")
    assert [r.state for r in desk.ledger.reservations("r")].count(ReservationState.SENT) == 1


def test_a_warned_call_keeps_its_id_so_that_nobody_holds_for_it_twice(desk):
    desk = desk(budget("1", "warn", scope="a"), budget("9", scope="z"))
    hold = desk.hold("2")
    assert desk.admit(hold) == desk.admit(hold)
    assert desk.actions == ["warn"]
    assert (desk.balance("a").held, desk.balance("z").held) == (Cost.usd("2"), Cost.usd("2"))


class CountingLedger(InMemoryLedger):
    """Remembers what it was asked to hold."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def reserve(self, hold):
        self.asked.append(hold)
        return super().reserve(hold)


def test_a_warned_call_takes_one_step_and_names_only_scopes_that_it_charges():
    desk = Desk(budget("1", "warn", scope="a"), budget("9", scope="z"), budget("1", "warn", scope="not charged"))
    desk.ledger = CountingLedger()
    desk.enforcer = BudgetEnforcer(desk.ledger)
    desk.enforcer.open(desk.budgets)
    desk.admit("2", scopes=("a", "z"))
    desk.admit("2", scopes=("z",))
    assert [(hold.scopes, hold.shadows) for hold in desk.ledger.asked] == [(("a", "z"), ("a",)), (("z",), ())]


def test_a_scope_that_one_budget_enforces_is_no_shadow_for_another_that_warns(desk):
    desk = desk(budget("1", "warn"), budget("1", "raise"))
    with pytest.raises(BudgetExceededError):
        desk.admit("2")
    assert desk.balance().held_nano == 0


async def test_the_async_enforcer_really_sleeps_between_tries():
    ledger = InMemoryLedger()
    enforcer, limited = BudgetEnforcer(ledger), [budget("1", "wait")]
    await enforcer.aopen(limited)
    first = await enforcer.aadmit(Hold(scopes=("s",), nano=USD, holder="a"), limited, shrink=never)
    second = asyncio.create_task(enforcer.aadmit(Hold(scopes=("s",), nano=USD, holder="b"), limited, shrink=never))
    await asyncio.sleep(0)
    await ledger.arelease(first.hold.id)
    assert (await asyncio.wait_for(second, 10)).state is ReservationState.HELD

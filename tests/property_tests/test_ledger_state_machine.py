"""Random lives of calls on every ledger at once, against a model that only lists calls and adds them up."""

import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from langchain_runtime.contracts.budget import Hold, Period, ReservationState, Scope, Settlement, Verdict
from langchain_runtime.contracts.errors import InvalidInputError, ReservationLostError
from langchain_runtime.contracts.run import TaskOutcome, TaskState
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import InMemoryLedger, SqliteLedger
from langchain_runtime.testing import FakeClock

LIVE = {ReservationState.HELD, ReservationState.SENT}
PERIODS = {"daily": Period(kind="day"), "recent": Period(kind="rolling", seconds=300), "tenant": None, "user": None}
SCOPES = list(PERIODS)
RUNS = ["r", "s"]
TASKS = ["a", "a.b", "b"]
scopes = st.lists(st.sampled_from(SCOPES), unique=True, max_size=4).map(tuple)
amounts = st.integers(0, 40)


def is_counted(name, at, now):
    """Whether what was charged at ``at`` is in the period around ``now``; the clock of the test goes by UTC."""
    period = PERIODS[name]
    if period is None:
        return True
    return at // 86_400 == now // 86_400 if period.kind == "day" else at >= now - period.seconds


@dataclass
class Call:
    """What the model knows of a call; a forfeit is kept beside the settlement that corrects it."""

    hold: Hold
    state: ReservationState
    expires_at: float
    lease: int
    charged: int = 0
    tokens: int = 0
    ended_at: float = 0
    uncovered: int = 0
    forfeited_at: float | None = None

    def end(self, state, now, *, sent_or_paid):
        self.state, self.ended_at = state, now
        self.charged, self.tokens = (self.hold.nano, self.hold.tokens) if sent_or_paid else (0, 0)

    def spent(self, name, now):
        """Money and tokens that count in a scope."""
        if self.state in LIVE or (self.state is ReservationState.RELEASED):
            return 0, 0
        if self.forfeited_at is None or self.state is ReservationState.FORFEITED:
            return (self.charged, self.tokens) if is_counted(name, self.ended_at, now) else (0, 0)
        if is_counted(name, self.forfeited_at, self.ended_at):  # corrected in its own period
            return (self.charged, self.tokens) if is_counted(name, self.forfeited_at, now) else (0, 0)
        more = max(0, self.charged - self.hold.nano), max(0, self.tokens - self.hold.tokens)
        return more if is_counted(name, self.ended_at, now) else (0, 0)


class LedgerMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.folder = tempfile.TemporaryDirectory()
        self.ledgers = [
            InMemoryLedger(clock=self.clock),
            SqliteLedger(Path(self.folder.name) / "ledger.db", clock=self.clock),
        ]
        self.known = {}
        self.limits = {"daily": 100, "recent": 120, "tenant": None, "user": 150}
        self.token_limits = {"daily": None, "recent": 110, "tenant": 120, "user": None}
        self.beyond_limits = False  # by a shadow, an uncovered charge or a lowered limit
        self.ids, self.keys = count(), count()
        self.done, self.replies = {}, {}  # whether a task completed; by key, the call that bought the reply

    def teardown(self):
        for ledger in self.ledgers:
            ledger.close()
        self.folder.cleanup()

    def each(self, method, *args, **kwargs):
        """Call every ledger; all must answer alike."""
        answers = []
        for ledger in self.ledgers:
            try:
                answers.append(getattr(ledger, method)(*args, **kwargs))
            except (InvalidInputError, ReservationLostError) as error:
                answers.append((type(error), str(error)))
        assert all(answer == answers[0] for answer in answers)
        return answers[0]

    def sweep(self):
        for call in self.known.values():
            if call.state in LIVE and call.expires_at <= self.clock.now:
                self.lose(call)

    def lose(self, call):
        if call.state is ReservationState.SENT:
            call.end(ReservationState.FORFEITED, self.clock.now, sent_or_paid=True)
            call.forfeited_at = self.clock.now
        else:
            call.end(ReservationState.RELEASED, self.clock.now, sent_or_paid=False)

    def figures(self, scope):
        here = [call for call in self.known.values() if scope in call.hold.scopes]
        live = [c for c in here if c.state in LIVE]
        spent = [c.spent(scope, self.clock.now) for c in here]
        forfeits = [nano for c, (nano, _) in zip(here, spent, strict=True) if c.state is ReservationState.FORFEITED]
        return {
            "spent_nano": sum(nano for nano, _ in spent),
            "held_nano": sum(c.hold.nano for c in live),
            "forfeited_nano": sum(forfeits),
            "tokens_spent": sum(tokens for _, tokens in spent),
            "tokens_held": sum(c.hold.tokens for c in live),
            "overdrawn_nano": sum(c.uncovered for c in here),
        }

    @initialize()
    def open(self):
        for name in SCOPES:
            limit, token_limit = self.limits[name], self.token_limits[name]
            self.each("open_scope", Scope(name=name, limit_nano=limit, token_limit=token_limit, period=PERIODS[name]))

    @rule(
        target=calls,
        scopes=scopes,
        nano=amounts,
        tokens=amounts,
        sent=st.booleans(),
        shadows=st.sampled_from([()] * 9 + [("user",), ("daily", "user")]),
        run=st.sampled_from(RUNS),
        lease=st.integers(1, 100),
        holder=st.sampled_from(["me", "you"]),
        task=st.none() | st.sampled_from(TASKS),
    )
    def reserve(self, *, scopes, nano, tokens, sent, shadows, run, lease, holder, task):
        hold = Hold(
            id=f"call-{next(self.ids)}",
            scopes=scopes,
            nano=nano,
            tokens=tokens,
            sent=sent,
            shadows=tuple(set(shadows) & set(scopes)),
            lease_seconds=lease,
            holder=holder,
            run_id=run,
            task_id=task,
        )
        self.sweep()
        fits = self.fits(hold, beside_held=True)
        decision = self.each("reserve", hold)
        assert (decision.verdict is Verdict.ADMIT) == fits
        if fits:
            warns = not self.fits(hold, beside_held=True, names=hold.shadows)
            assert (decision.refused_by is not None) == warns
            self.beyond_limits |= warns
        if decision.reservation is None:
            assert (decision.verdict is Verdict.WAIT) == self.fits(hold, beside_held=False)
        else:
            state = ReservationState.SENT if sent else ReservationState.HELD
            self.known[hold.id] = Call(hold, state, self.clock.now + lease, decision.reservation.lease)
        return hold

    def fits(self, hold, *, beside_held, names=None):
        def fits_scope(name):
            figures, limit, token_limit = self.figures(name), self.limits[name], self.token_limits[name]
            money = figures["spent_nano"] + hold.nano + beside_held * figures["held_nano"]
            tokens = figures["tokens_spent"] + hold.tokens + beside_held * figures["tokens_held"]
            return (limit is None or money <= limit) and (token_limit is None or tokens <= token_limit)

        return all(map(fits_scope, set(hold.scopes) - set(hold.shadows) if names is None else names))

    @rule(hold=calls)
    def reserve_again(self, hold):
        self.sweep()
        call = self.known.get(hold.id)
        if call is None:
            return  # it was refused: the same as a new one
        answer = self.each("reserve", hold)
        if call.state in LIVE:
            assert (answer.verdict, answer.reservation.lease) == (Verdict.ADMIT, call.lease)
        else:
            assert answer[0] is InvalidInputError

    @rule(hold=calls, stale=st.booleans())
    def mark_sent(self, hold, stale):
        call = self.known.get(hold.id)
        lease = 0 if call is None else call.lease
        answer = self.each("mark_sent", hold.id, lease + stale)
        if call and not stale and call.state is ReservationState.HELD and call.expires_at > self.clock.now:
            assert answer is None
            call.state = ReservationState.SENT
            call.expires_at = max(call.expires_at, self.clock.now + hold.lease_seconds)
        else:
            assert answer[0] is ReservationLostError

    @rule(
        hold=calls,
        cost=st.none() | amounts,
        tokens=st.none() | amounts,
        key=st.none() | st.sampled_from(["k", "l", "m"]),
        completes=st.none() | st.booleans(),
    )
    def settle(self, hold, cost, tokens, key, completes):
        usage = None if tokens is None else TokenUsage(output=tokens)
        settlement = Settlement(
            reservation_id=hold.id, nano=cost, usage=usage, reply_key=key, reply=key and hold.id.encode()
        )
        place = hold.run_id, hold.task_id or "none"
        state = TaskState.COMPLETED if completes else TaskState.FAILED
        outcome = None if completes is None else TaskOutcome(task=place[1], state=state)
        answer = self.each("settle", settlement, outcome=outcome, run_id=hold.run_id)
        call = self.known.get(hold.id)
        if call is None:
            assert answer[0] is InvalidInputError
            return
        if key is not None and hold not in self.replies.values():
            self.replies.setdefault(key, hold)
        if completes is not None:
            self.done[place] = self.done.get(place, False) or completes
        if call.state is not ReservationState.SETTLED:
            charged = hold.nano if cost is None else cost
            cover = 0 if call.state is ReservationState.RELEASED else hold.nano
            known = cost is not None and tokens is not None
            call.end(ReservationState.SETTLED, self.clock.now, sent_or_paid=True)
            call.charged, call.uncovered = charged, max(0, charged - cover)
            call.tokens = tokens if known else max(hold.tokens, tokens or 0)
            self.beyond_limits |= charged > cover or call.tokens > (hold.tokens if cover else 0)
        assert answer == call.charged

    @rule(hold=consumes(calls))
    def release(self, hold):
        self.each("release", hold.id)
        call = self.known.get(hold.id)
        if call is not None and call.state in LIVE:
            call.end(ReservationState.RELEASED, self.clock.now, sent_or_paid=False)

    @rule(run=st.sampled_from(RUNS))
    def crash(self, run):
        dead = [call for call in self.known.values() if call.hold.run_id == run and call.state in LIVE]
        assert self.each("abandon", run) == len(dead)
        for call in dead:
            self.lose(call)

    @rule(holder=st.sampled_from(["me", "you"]), lease=st.integers(1, 100))
    def renew(self, holder, lease):
        now = self.clock.now
        mine = [c for c in self.known.values() if c.hold.holder == holder and c.state in LIVE and c.expires_at > now]
        assert self.each("renew", holder, lease) == len(mine)
        for call in mine:
            call.expires_at = max(call.expires_at, now + lease)

    @rule(run=st.sampled_from(RUNS), tasks=st.lists(st.sampled_from(TASKS), max_size=3))
    def forget(self, run, tasks):
        forgotten = {place for place in self.done if place[0] == run and place[1] in tasks}
        assert self.each("forget", run, tasks) == len(forgotten)
        for place in forgotten:
            del self.done[place]
        self.replies = {
            key: hold for key, hold in self.replies.items() if hold.run_id != run or hold.task_id not in tasks
        }

    @rule(seconds=st.integers(1, 120) | st.sampled_from([3_600, 50_000, 90_000]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(name=st.sampled_from(SCOPES), nano=st.integers(1, 30), again=st.booleans())
    def top_up(self, name, nano, again):
        key = f"key-{next(self.keys)}"
        for _ in range(1 + again):
            answer = self.each("top_up", name, nano, key=key)
        if self.limits[name] is None:
            assert answer[0] is InvalidInputError
        else:
            self.limits[name] += nano

    @rule(name=st.sampled_from(SCOPES), limit=st.none() | st.integers(50, 200))
    def set_limit(self, name, limit):
        self.each("set_limit", name, limit)
        self.limits[name] = limit
        figures = self.figures(name)
        self.beyond_limits |= limit is not None and figures["spent_nano"] + figures["held_nano"] > limit

    @invariant()
    def books_agree_with_the_list_of_calls(self):
        if not self.known:
            return
        self.sweep()
        for name, balance in zip(SCOPES, self.each("balances"), strict=True):
            assert balance.scope.limit_nano == self.limits[name]
            assert {field: getattr(balance, field) for field in self.figures(name)} == self.figures(name)
            if not self.beyond_limits:
                limit, token_limit = self.limits[name], self.token_limits[name]
                assert limit is None or balance.spent_nano + balance.held_nano <= limit
                assert token_limit is None or balance.tokens_spent + balance.tokens_held <= token_limit

    @invariant()
    def each_reservation_is_as_the_model_has_it(self):
        for run in RUNS:
            found = self.each("reservations", run)
            calls = [call for call in self.known.values() if call.hold.run_id == run]
            assert [reservation.hold.id for reservation in found] == [call.hold.id for call in calls]
            for reservation, call in zip(found, calls, strict=True):
                assert (reservation.state, reservation.hold) == (call.state, call.hold)
                if call.state not in LIVE:
                    assert (reservation.charged_nano, reservation.ended_at) == (call.charged, call.ended_at)

    @invariant()
    def the_journal_holds_what_was_not_forgotten(self):
        for run in RUNS:
            found = {task: outcome.state is TaskState.COMPLETED for task, outcome in self.each("outcomes", run).items()}
            assert found == {task: completed for (of, task), completed in self.done.items() if of == run}
        for key in ("k", "l", "m"):
            hold = self.replies.get(key)
            assert self.each("replay", key) == (None if hold is None else hold.id.encode())


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("make", [InMemoryLedger, SqliteLedger], ids=lambda make: make.__name__)
@settings(max_examples=40)
@given(steps=st.lists(st.tuples(st.integers(0, 60), amounts), max_size=15), seconds=st.integers(1, 100))
def test_a_rolling_period_counts_what_was_charged_in_its_last_seconds(make, steps, seconds):
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        ledger = make(clock=clock) if make is InMemoryLedger else make(Path(folder) / "ledger.db", clock=clock)
        ledger.open_scope(Scope(name="user", period=Period(kind="rolling", seconds=seconds)))
        charged = []
        for pause, nano in steps:
            clock.advance(pause)
            hold = Hold(scopes=("user",), nano=nano, holder="me", sent=True)
            ledger.reserve(hold)
            ledger.settle(Settlement(reservation_id=hold.id))
            charged.append((clock.now, nano))
            recent = sum(nano for at, nano in charged if at >= clock.now - seconds)
            assert ledger.balance("user").spent_nano == recent
        clock.advance(seconds + 1)
        assert ledger.balance("user").spent_nano == 0
        ledger.close()

"""A million random operations on the ledger in memory, against a model that adds up on its own.

After every single one, no scope that refuses may be above its limit, and each must hold what the model holds.
"""

import random
import sys
from collections import Counter, deque
from dataclasses import dataclass

import pytest

from langchain_runtime.contracts.budget import Hold, Period, ReservationState, Scope, Settlement, Verdict
from langchain_runtime.contracts.errors import InvalidInputError, ReservationLostError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import InMemoryLedger
from langchain_runtime.testing import FakeClock

SHARDS, OPERATIONS, COMPARE_EVERY = 20, 50_000, 8
HELD, SENT, SETTLED, RELEASED, FORFEITED = ReservationState
DAY, WINDOW = 86_400, 900
NESTS = [
    ("user",),
    ("run", "user"),
    ("day", "run", "user"),
    ("rolling", "user"),
    ("day", "rolling"),
    ("shadow", "user"),
]

WEIGHTS = {
    "reserve": 40,
    "mark_sent": 20,
    "settle": 24,
    "settle_late": 6,
    "release": 4,
    "top_up": 3,
    "renew": 2,
    "forget": 2,
    "crash": 1,
}


@dataclass
class Call:
    """What the model knows of a call."""

    hold: Hold
    lease: int
    state: ReservationState
    expires_at: float
    charged: int = 0


class Tally:
    """What the model knows of a scope: its charges, by call and in the order of time, and its sums."""

    def __init__(self, limit, token_limit=None, period=None):
        self.limit, self.token_limit, self.period = limit, token_limit, period
        self.spent = self.forfeited = self.tokens_spent = self.held = self.tokens_held = 0
        self.charges = {}

    def charge(self, call_id, now, nano, tokens, forfeited):
        at, *before = self.charges.get(call_id, (now, 0, 0, 0))
        self.charges[call_id] = (at, nano, tokens, forfeited)
        self._add(nano - before[0], tokens - before[1], forfeited - before[2])

    def forget(self, now):
        while self.period is not None and self.charges:
            call_id, (at, nano, tokens, forfeited) = next(iter(self.charges.items()))
            if at // DAY == now // DAY if self.period.kind == "day" else at >= now - WINDOW:
                return
            del self.charges[call_id]
            self._add(-nano, -tokens, -forfeited)

    def _add(self, nano, tokens, forfeited):
        self.spent += nano
        self.tokens_spent += tokens
        self.forfeited += forfeited

    def fits(self, nano, tokens):
        return self.spent + nano <= self.limit and (
            self.token_limit is None or self.tokens_spent + tokens <= self.token_limit
        )


class Walk:
    """Random operations, each on the ledger and on the model."""

    def __init__(self, seed):
        self.random, self.clock = random.Random(seed), FakeClock()
        self.ledger = InMemoryLedger(clock=self.clock)
        self.tallies = {
            "day": Tally(30_000, 20_000, Period(kind="day")),
            "rolling": Tally(4_000, 3_000, Period(kind="rolling", seconds=WINDOW)),
            "run": Tally(2_000),
            "shadow": Tally(500, 500),
            "user": Tally(3_000),
        }
        for name, tally in self.tallies.items():
            self.ledger.open_scope(
                Scope(name=name, limit_nano=tally.limit, token_limit=tally.token_limit, period=tally.period)
            )
        self.live, self.past = {}, deque(maxlen=40)
        self.seen, self.steps = Counter(), 0

    def operate(self):
        self.clock.advance(self.random.choice((0, 0, 0.5, 1, 2, 5)))
        (operation,) = self.random.choices(list(WEIGHTS), WEIGHTS.values())
        getattr(self, operation)()
        self.check()
        self.steps += 1
        if self.steps % COMPARE_EVERY == 0:
            self.compare()

    # --- operations -------------------------------------------------------------------------------------------------

    def reserve(self):
        scopes, chance = self.random.choice(NESTS), self.random.random()
        hold = Hold(
            id=f"call-{self.steps}",
            scopes=scopes,
            shadows=("shadow",) if "shadow" in scopes else (),
            nano=self.random.randint(0, 300),
            tokens=self.random.randint(0, 300),
            holder=self.random.choice(("me", "you")),
            lease_seconds=self.random.choice((3, 10, 60)),
            sent=chance < 0.3,
            run_id="run" if chance > 0.95 else None,
            task_id="task" if chance > 0.95 else None,
        )
        self.sweep()
        beside_held = all(self.fits(name, hold, beside_held=True) for name in scopes if name != "shadow")
        alone = all(self.fits(name, hold, beside_held=False) for name in scopes if name != "shadow")
        warns = "shadow" in scopes and beside_held and not self.fits("shadow", hold, beside_held=True)
        decision = self.ledger.reserve(hold)
        assert decision.verdict is (Verdict.ADMIT if beside_held else Verdict.WAIT if alone else Verdict.EXHAUSTED)
        assert (decision.refused_by is None) == (beside_held and not warns)
        self.seen[f"{decision.verdict}{' with a warning' * warns}"] += 1
        if decision.reservation is not None:
            call = Call(
                hold, decision.reservation.lease, SENT if hold.sent else HELD, self.clock.now + hold.lease_seconds
            )
            self.live[hold.id] = call
            for name in scopes:
                self.tallies[name].held += hold.nano
                self.tallies[name].tokens_held += hold.tokens

    def mark_sent(self):
        call, now = self.pick(self.live.values()) or self.pick(self.past), self.clock.now
        if call is None:
            return
        stale = self.random.random() < 0.1
        try:
            self.ledger.mark_sent(call.hold.id, call.lease - stale)
        except ReservationLostError:
            assert stale or call.state is not HELD or call.expires_at <= now
            self.seen["lost"] += 1
        else:
            assert not stale
            assert (call.state, call.expires_at > now) == (HELD, True)
            call.state, call.expires_at = SENT, max(call.expires_at, now + call.hold.lease_seconds)
            self.seen["mark sent"] += 1

    def settle(self):
        self.end_with(self.pick([call for call in self.live.values() if call.state is SENT]))

    def settle_late(self):
        """Also what was settled before; never what was released, since nobody sends it."""
        self.end_with(self.pick([call for call in self.past if call.state is not RELEASED]))

    def end_with(self, call):
        if call is None:
            return
        nano = self.random.choice((None, self.random.randint(0, call.hold.nano)))
        used = self.random.choice((None, self.random.randint(0, call.hold.tokens)))
        usage = None if used is None else TokenUsage(output=used)
        before = call.state
        if before is not SETTLED:
            charged = call.hold.nano if nano is None else nano
            self.end(call, SETTLED, charged, call.hold.tokens if None in {nano, used} else used)
        in_run = call.hold.run_id is not None
        settlement = Settlement(
            reservation_id=call.hold.id,
            nano=nano,
            usage=usage,
            reply_key=f"run-{call.hold.id}" if in_run else None,
            reply=b"reply" if in_run else None,
        )
        assert self.ledger.settle(settlement) == call.charged
        self.seen[f"settle {before}"] += 1

    def release(self):
        call = self.pick(self.live.values()) or self.pick(self.past)
        if call is not None:
            self.ledger.release(call.hold.id)
            if call.hold.id in self.live:
                self.end(call, RELEASED, 0, 0)
                self.seen["release"] += 1

    def top_up(self):
        name, nano = self.random.choice(("run", "user")), self.random.randint(1, 3_000)
        for _ in range(self.random.randint(1, 2)):
            self.ledger.top_up(name, nano, key=f"key-{self.steps}")
        self.tallies[name].limit += nano
        self.seen["top up"] += 1

    def renew(self):
        holder, now, seconds = self.random.choice(("me", "you")), self.clock.now, self.random.choice((5, 30))
        mine = [call for call in self.live.values() if call.hold.holder == holder and call.expires_at > now]
        assert self.ledger.renew(holder, seconds) == len(mine)
        for call in mine:
            call.expires_at = max(call.expires_at, now + seconds)
        self.seen["renew"] += 1

    def forget(self):
        """The run is done anew: what it has cost stays."""
        before, replies = self.ledger.reservations("run"), self.ledger._books._replies
        forgotten = {key for key in replies if key.startswith("run-")}
        self.ledger.forget("run", ["task"])
        assert self.ledger.reservations("run") == before
        assert not forgotten & replies.keys()
        self.seen["forget"] += bool(forgotten)

    def crash(self):
        """The process that drove the run is dead, and somebody knows it."""
        dead = [call for call in self.live.values() if call.hold.run_id is not None]
        assert self.ledger.abandon("run") == len(dead)
        for call in dead:
            self.lose(call)
        with pytest.raises(InvalidInputError):
            self.ledger.settle(Settlement(reservation_id="never made"))
        self.seen["crash"] += 1

    # --- the model --------------------------------------------------------------------------------------------------

    def pick(self, calls):
        calls = list(calls)
        return self.random.choice(calls) if calls else None

    def fits(self, name, hold, *, beside_held):
        tally = self.tallies[name]
        return tally.fits(hold.nano + beside_held * tally.held, hold.tokens + beside_held * tally.tokens_held)

    def sweep(self):
        for call in [call for call in self.live.values() if call.expires_at <= self.clock.now]:
            self.lose(call)
        for tally in self.tallies.values():
            tally.forget(self.clock.now)

    def lose(self, call):
        if call.state is SENT:
            self.end(call, FORFEITED, call.hold.nano, call.hold.tokens)
        else:
            self.end(call, RELEASED, 0, 0)
        self.seen[str(call.state)] += 1

    def end(self, call, state, nano, tokens):
        hold, now = call.hold, self.clock.now
        live = self.live.pop(hold.id, None) is not None
        for name in hold.scopes:
            tally = self.tallies[name]
            tally.forget(now)
            if live:
                tally.held -= hold.nano
                tally.tokens_held -= hold.tokens
            if (live and state is not RELEASED) or hold.id in tally.charges:  # else its forfeit is of an earlier period
                tally.charge(hold.id, now, nano, tokens, nano if state is FORFEITED else 0)
        call.state, call.charged = state, nano
        if live:
            self.past.append(call)

    def check(self):
        """No account above its limit, none holding what the model does not: as the ledger keeps them, cheaply."""
        for name, tally in self.tallies.items():
            account = self.ledger._books.by_name[name]
            assert (account.limit, account.held, account.tokens_held) == (tally.limit, tally.held, tally.tokens_held), (
                name
            )
            if name != "shadow":
                assert account.spent + account.held <= account.limit, name
                assert account.token_limit is None or account.tokens_spent + account.tokens_held <= account.token_limit

    def compare(self):
        """All figures, after abandoned calls were ended and periods begun."""
        balances = self.ledger.balances()
        self.sweep()
        for balance, (name, tally) in zip(balances, self.tallies.items(), strict=True):
            assert (balance.scope.name, balance.scope.limit_nano) == (name, tally.limit)
            assert (balance.spent_nano, balance.held_nano) == (tally.spent, tally.held), name
            assert (balance.tokens_spent, balance.tokens_held) == (tally.tokens_spent, tally.tokens_held), name
            assert (balance.forfeited_nano, balance.overdrawn_nano) == (tally.forfeited, 0), name


EVERYTHING = {
    *("admit", "admit with a warning", "wait", "exhausted", "mark sent", "lost", "released", "forfeited"),
    *("settle sent", "settle forfeited", "settle settled", "release", "top up", "renew", "forget", "crash"),
}


@pytest.mark.load
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(SHARDS))
def test_no_random_operation_takes_a_scope_above_its_limit_or_the_books_off_the_sum(seed):
    walk, tracer = Walk(seed), sys.gettrace()
    sys.settrace(None)  # measuring the coverage of each line again and again would take three times as long
    try:
        for _ in range(OPERATIONS):
            walk.operate()
    finally:
        sys.settrace(tracer)
    assert set(walk.seen) == EVERYTHING
    for call in list(walk.live.values()):
        walk.clock.now = max(walk.clock.now, call.expires_at)
    walk.compare()
    assert not walk.live
    for name in ("run", "user", "shadow"):
        assert (
            sum(nano for _, nano, _, _ in walk.tallies[name].charges.values()) == walk.ledger.balance(name).spent_nano
        )

"""The rules of bookkeeping: what a hold is answered, and what each end of a call changes on its accounts.

Pure functions over two plain records, ``Account`` (a scope) and ``Entry`` (a reservation); every back end loads them,
applies a rule and stores them again in one transaction. Amounts are nano units, times seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from langchain_runtime.contracts.budget import (
    Balance,
    Hold,
    Period,
    Reservation,
    ReservationState,
    Scope,
    Settlement,
    Verdict,
)
from langchain_runtime.contracts.errors import CurrencyMismatchError, InvalidInputError, ReservationLostError
from langchain_runtime.contracts.records import trusted
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers._periods import calendar_window

# Names of our own: looking a member up in its class takes longer than most rules below.
_HELD, _SENT = ReservationState.HELD, ReservationState.SENT
_RELEASED, _SETTLED, _FORFEITED = ReservationState.RELEASED, ReservationState.SETTLED, ReservationState.FORFEITED
_ADMIT, _WAIT, _EXHAUSTED = Verdict.ADMIT, Verdict.WAIT, Verdict.EXHAUSTED
LIVE = (_HELD, _SENT)
"""States in which a reservation still holds money."""


@dataclass(slots=True)
class Account:
    """A scope and its figures.

    Attributes:
        name: The scope's.
        currency: Of every amount here.
        limit: Most that may be spent; None for no limit.
        declared: The limit it was first opened with: whoever opens it again may still name this one.
        base: The limit as last set, top-ups left out.
        token_limit: Most tokens that may be spent; None for no limit.
        period: When it starts afresh; None for never.
        start: When the current window began; spending before it does not count.
        end: When to look for a new window: for a rolling period at every access.
        spent: Settled and forfeited in the current window.
        held: Reserved for calls in flight; windows do not touch it.
        forfeited: Part of ``spent`` charged for calls whose owner vanished.
        overdrawn: By how much settlements exceeded what was held for them, ever.
        tokens_spent: As ``spent``, in tokens.
        tokens_held: As ``held``, in tokens.
    """

    name: str
    currency: str
    limit: int | None
    declared: int | None
    base: int | None
    token_limit: int | None
    period: Period | None
    start: float = -inf
    end: float = inf
    spent: int = 0
    held: int = 0
    forfeited: int = 0
    overdrawn: int = 0
    tokens_spent: int = 0
    tokens_held: int = 0

    @classmethod
    def opened(cls, scope: Scope) -> Account:
        """The empty account of a new scope."""
        limit, period = scope.limit_nano, scope.period
        end = inf if period is None else -inf
        return cls(scope.name, scope.currency, limit, limit, limit, scope.token_limit, period, end=end)

    @property
    def window_seconds(self) -> int | None:
        """Length of a rolling period; None for any other."""
        return None if self.period is None else self.period.seconds

    def balance(self) -> Balance:
        """The account as callers see it."""
        scope = trusted(
            Scope,
            {
                "name": self.name,
                "currency": self.currency,
                "limit_nano": self.limit,
                "token_limit": self.token_limit,
                "period": self.period,
            },
        )
        return trusted(
            Balance,
            {
                "scope": scope,
                "spent_nano": self.spent,
                "held_nano": self.held,
                "forfeited_nano": self.forfeited,
                "tokens_spent": self.tokens_spent,
                "tokens_held": self.tokens_held,
                "overdrawn_nano": self.overdrawn,
            },
        )


@dataclass(slots=True)
class Entry:
    """A reservation as the books keep it; ``Reservation`` explains the fields.

    ``reply_key`` is the key under which the call's reply is kept; None if there is none.
    """

    hold: Hold
    state: ReservationState
    lease: int
    expires_at: float
    created_at: float
    charged: int | None = None
    tokens: int | None = None
    usage: TokenUsage | None = None
    ended_at: float | None = None
    reply_key: str | None = None

    @classmethod
    def of(cls, hold: Hold, now: float) -> Entry:
        """A new hold; the store numbers its lease."""
        return cls(hold, _SENT if hold.sent else _HELD, 0, now + hold.lease_seconds, now)

    def reservation(self) -> Reservation:
        """The reservation as callers see it."""
        return trusted(
            Reservation,
            {
                "hold": self.hold,
                "state": self.state,
                "lease": self.lease,
                "charged_nano": self.charged,
                "usage": self.usage,
                "created_at": self.created_at,
                "ended_at": self.ended_at,
            },
        )


class Charge(NamedTuple):
    """What one call spent in one scope with a rolling period; a later charge of the same call replaces it."""

    scope: str
    lease: int
    at: float
    nano: int
    tokens: int
    forfeited: int


class Answer(NamedTuple):
    """What a hold is answered, and the account that refused it, or would have if it were no shadow; else None."""

    verdict: Verdict
    refused: Account | None


_FITS: Final = Answer(_ADMIT, None)


# --- deciding --------------------------------------------------------------------------------------------------------


def decide(accounts: Sequence[Account], hold: Hold) -> Answer:
    """Whether ``hold`` fits every account, and if not, whether waiting for calls in flight can help.

    ``accounts`` come in the order of ``hold.scopes``. The first account that can never take the hold is named as the
    one that refused; where there is none, the first whose calls in flight stand in the way. Shadows refuse nothing:
    the first that would have is named where the hold is admitted.

    Raises:
        CurrencyMismatchError: An account is in another currency.
    """
    nano, tokens, currency = hold.nano, hold.tokens, hold.currency
    waits: Account | None = None
    exhausted: Account | None = None
    warns: Account | None = None
    for account in accounts:
        if account.currency != currency:
            raise _currency_mismatch(account, currency)
        verdict = _verdict(account, nano, tokens)
        if verdict is _ADMIT:
            continue
        if account.name in hold.shadows:
            warns = warns or account
        elif verdict is _EXHAUSTED:
            exhausted = exhausted or account
        else:
            waits = waits or account
    if exhausted is not None:
        return Answer(_EXHAUSTED, exhausted)
    if waits is not None:
        return Answer(_WAIT, waits)
    return _FITS if warns is None else Answer(_ADMIT, warns)


def _currency_mismatch(account: Account, currency: str) -> CurrencyMismatchError:
    return CurrencyMismatchError(
        f"scope {account.name!r} is in {account.currency}, the call is priced in {currency}",
        expected=account.currency,
        actual=currency,
        hint="open the budget in the currency of the model's prices",
    )


def _verdict(account: Account, nano: int, tokens: int) -> Verdict:
    verdict = _ADMIT
    if account.limit is not None:
        left = account.limit - account.spent - nano
        if left < account.held:
            verdict = _EXHAUSTED if left < 0 else _WAIT
    if account.token_limit is not None and verdict is not _EXHAUSTED:
        left = account.token_limit - account.tokens_spent - tokens
        if left < account.tokens_held:
            verdict = _EXHAUSTED if left < 0 else _WAIT
    return verdict


def free(accounts: Sequence[Account], shadows: Sequence[str]) -> tuple[int | None, int | None]:
    """The least money and the fewest tokens that are neither spent nor held; None where no account has a limit."""
    money: int | None = None
    tokens: int | None = None
    for account in accounts:
        if account.name in shadows:
            continue
        if account.limit is not None:
            left = account.limit - account.spent - account.held
            if money is None or left < money:
                money = max(0, left)
        if account.token_limit is not None:
            left = account.token_limit - account.tokens_spent - account.tokens_held
            if tokens is None or left < tokens:
                tokens = max(0, left)
    return money, tokens


def take(accounts: Sequence[Account], hold: Hold) -> None:
    """Count ``hold`` as in flight."""
    nano, tokens = hold.nano, hold.tokens
    for account in accounts:
        account.held += nano
        account.tokens_held += tokens


# --- ending ----------------------------------------------------------------------------------------------------------


def settle(entry: Entry, accounts: Sequence[Account], settlement: Settlement, now: float) -> list[Charge]:
    """End a call at what it cost; what a forfeit charged too much, or a release gave back too early, is corrected.

    An unknown price charges the hold, unknown tokens the hold's (or what was reported, if that is more).
    """
    usage, nano = settlement.usage, settlement.nano
    if nano is None or usage is None:
        nano = entry.hold.nano if nano is None else nano
        tokens = max(0 if usage is None else usage.total, entry.hold.tokens)
    else:
        tokens = usage.total
    charges = _end(entry, accounts, _SETTLED, now, nano=nano, tokens=tokens)
    entry.usage = usage
    return charges


def release(entry: Entry, accounts: Sequence[Account], now: float) -> None:
    """Give a live hold back."""
    _end(entry, accounts, _RELEASED, now, nano=0, tokens=0)


def expire(entry: Entry, accounts: Sequence[Account], now: float) -> list[Charge]:
    """End a live hold whose lease ran out: given back if it was never sent, else charged at its worst case."""
    if entry.state is _HELD:
        return _end(entry, accounts, _RELEASED, now, nano=0, tokens=0)
    worst = entry.hold
    return _end(entry, accounts, _FORFEITED, now, nano=worst.nano, tokens=worst.tokens)


def _end(
    entry: Entry, accounts: Sequence[Account], state: ReservationState, now: float, *, nano: int, tokens: int
) -> list[Charge]:
    before, held, tokens_held = entry.state, entry.hold.nano, entry.hold.tokens
    live = before in LIVE
    # A released hold covers nothing any more: whatever a late settlement brings was not reserved.
    excess = nano if before is _RELEASED else nano - held
    forfeited = nano if state is _FORFEITED else 0
    charges = []
    for account in accounts:
        spent, used, at = nano, tokens, now
        if live:
            account.held -= held
            account.tokens_held -= tokens_held
        elif before is _FORFEITED:
            spent, used, at = _correct_forfeit(entry, account, nano, tokens, now)
        account.spent += spent
        account.tokens_spent += used
        account.forfeited += forfeited
        if excess > 0:
            account.overdrawn += excess
        if account.period is not None and account.window_seconds is not None and state is not _RELEASED:
            # Not before the window, should the clock have gone back: a rolling period forgets from its start on.
            charges.append(Charge(account.name, entry.lease, max(at, account.start), spent, used, forfeited))
    entry.state, entry.charged, entry.tokens, entry.ended_at = state, nano, tokens, now
    return charges


def _correct_forfeit(entry: Entry, account: Account, nano: int, tokens: int, now: float) -> tuple[int, int, float]:
    """Take a forfeit out of the account; returns what to charge in its place and when it counts from.

    A forfeit of an earlier window is not in ``spent`` any more: only what it fell short of is charged now.
    """
    assert entry.charged is not None
    assert entry.tokens is not None
    assert entry.ended_at is not None
    if entry.ended_at < account.start:
        return max(0, nano - entry.charged), max(0, tokens - entry.tokens), now
    account.spent -= entry.charged
    account.forfeited -= entry.charged
    account.tokens_spent -= entry.tokens
    return nano, tokens, entry.ended_at


# --- windows ---------------------------------------------------------------------------------------------------------


def begin_window(account: Account, now: float) -> None:
    """Start the calendar period around ``now`` afresh: spending is forgotten, calls in flight stay held."""
    assert account.period is not None
    account.start, account.end = calendar_window(account.period, now)
    account.spent = account.forfeited = account.tokens_spent = 0


def forget(account: Account, *, nano: int, tokens: int, forfeited: int) -> None:
    """Take charges out that a rolling period has left behind."""
    account.spent -= nano
    account.tokens_spent -= tokens
    account.forfeited -= forfeited


# --- fences ----------------------------------------------------------------------------------------------------------


def check_repeat(entry: Entry, hold: Hold, now: float) -> None:
    """Check that ``hold`` asks for the live ``entry`` once more: an id names one paid call, for good.

    Raises:
        InvalidInputError: The reservation has ended, or was made for something else.
    """
    if entry.state not in LIVE or entry.expires_at <= now:
        ended = "its lease ran out" if entry.state in LIVE else entry.state.value
        raise InvalidInputError(
            f"reservation {hold.id!r} has ended ({ended}): its id cannot hold money again",
            hint="make a new Hold with a new id for a new call",
        )
    if entry.hold != hold:
        raise InvalidInputError(
            f"reservation {hold.id!r} is held for another call", hint="make a new Hold with a new id for each call"
        )


def check_sendable(entry: Entry | None, reservation_id: str, lease: int, now: float) -> Entry:
    """The entry, if its owner may send now: still held, under this lease, not expired (swept or not).

    Raises:
        ReservationLostError: One of these does not hold.
    """
    if entry is None:
        reason = "is not in this ledger"
    elif entry.lease != lease:
        reason = f"is held under lease {entry.lease}, not {lease}"
    elif entry.state is not _HELD:
        reason = f"is not held any more ({entry.state.value})"
    elif entry.expires_at <= now:
        reason = f"lost its lease {now - entry.expires_at:.1f} s ago"
    else:
        return entry
    raise ReservationLostError(
        f"reservation {reservation_id!r} {reason}; nothing was sent",
        reservation_id=reservation_id,
        hint="reserve anew with a new id, or ask for a longer lease_seconds and renew it",
    )

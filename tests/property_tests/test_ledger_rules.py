"""The pure rules of bookkeeping, for all inputs."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from langchain_runtime.contracts.budget import Hold, Period, ReservationState, Scope, Settlement, Verdict
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.ledgers import _rules
from langchain_runtime.ledgers._periods import calendar_window
from langchain_runtime.ledgers._rules import Account, Entry

ZONES = ["UTC", "Europe/Vienna", "America/Sao_Paulo", "Asia/Beirut", "Asia/Kolkata", "Pacific/Apia", "America/Havana"]
moments = st.floats(1e9, 2.1e9)  # 2001 to 2036
calendar_periods = st.builds(Period, kind=st.sampled_from(["day", "week", "month"]), timezone=st.sampled_from(ZONES))
amounts = st.integers(0, 50)
limits = st.none() | st.integers(1, 60)


@st.composite
def account_lists(draw):
    accounts = []
    for name in draw(st.lists(st.sampled_from("abcd"), max_size=4, unique=True).map(sorted)):
        account = Account.opened(Scope(name=name, limit_nano=draw(limits), token_limit=draw(limits)))
        account.spent, account.held = draw(amounts), draw(amounts)
        account.tokens_spent, account.tokens_held = draw(amounts), draw(amounts)
        accounts.append(account)
    return accounts


def hold_on(accounts, nano, tokens=0, **fields):
    names = tuple(account.name for account in accounts)
    return Hold(scopes=names, nano=nano, tokens=tokens, holder="me", **fields)


def fits(accounts, hold, *, beside_held):
    return all(
        (a.limit is None or a.spent + hold.nano + beside_held * a.held <= a.limit)
        and (a.token_limit is None or a.tokens_spent + hold.tokens + beside_held * a.tokens_held <= a.token_limit)
        for a in accounts
    )


@given(account_lists(), amounts, amounts)
def test_a_hold_is_admitted_if_it_fits_and_waits_only_if_it_would_fit_an_idle_ledger(accounts, nano, tokens):
    hold = hold_on(accounts, nano, tokens)
    answer = _rules.decide(accounts, hold)
    assert (answer.verdict is Verdict.ADMIT) == fits(accounts, hold, beside_held=True)
    assert (answer.verdict is not Verdict.EXHAUSTED) == fits(accounts, hold, beside_held=False)


@given(account_lists(), amounts, amounts)
def test_the_account_that_refuses_is_the_first_with_the_verdict_given(accounts, nano, tokens):
    answer = _rules.decide(accounts, hold_on(accounts, nano, tokens))
    alone = [_rules.decide([account], hold_on([account], nano, tokens)).verdict for account in accounts]
    if answer.verdict is Verdict.ADMIT:
        assert answer.refused is None
    else:
        assert answer.refused is accounts[alone.index(answer.verdict)]


@given(account_lists(), amounts, amounts)
def test_what_is_free_is_the_most_that_is_admitted(accounts, nano, tokens):
    money, count = _rules.free(accounts, ())
    hold = hold_on(accounts, nano, tokens)
    fits_free = (money is None or nano <= money) and (count is None or tokens <= count)
    overdrawn = any(
        (a.limit is not None and a.spent + a.held > a.limit)
        or (a.token_limit is not None and a.tokens_spent + a.tokens_held > a.token_limit)
        for a in accounts
    )
    if not overdrawn:
        assert (_rules.decide(accounts, hold).verdict is Verdict.ADMIT) == fits_free


ends = st.sampled_from(["settle", "release", "expire", "expire then settle"])


@given(
    accounts=account_lists(),
    nano=amounts,
    tokens=amounts,
    end=ends,
    sent=st.booleans(),
    cost=st.none() | amounts,
    used=st.none() | amounts,
)
def test_whatever_ends_a_call_its_hold_is_gone_and_exactly_its_charge_is_spent(
    *, accounts, nano, tokens, end, sent, cost, used
):
    before = [(a.spent, a.held, a.tokens_spent, a.tokens_held, a.forfeited, a.overdrawn) for a in accounts]
    entry = Entry.of(hold_on(accounts, nano, tokens, sent=sent), 0.0)
    _rules.take(accounts, entry.hold)
    late = "expire" in end
    if end == "release":
        _rules.release(entry, accounts, 1.0)
    elif late:
        _rules.expire(entry, accounts, 1.0)
        assert entry.state is (ReservationState.FORFEITED if sent else ReservationState.RELEASED)
    if "settle" in end:
        usage = None if used is None else TokenUsage(input=used)
        _rules.settle(entry, accounts, Settlement(reservation_id="x", nano=cost, usage=usage), 2.0)
        assert entry.charged == (nano if cost is None else cost)
        if cost is not None and used is not None:
            assert entry.tokens == used
        else:
            assert entry.tokens >= tokens
    uncovered = late and not sent
    excess = max(0, entry.charged - (0 if uncovered else nano)) if "settle" in end else 0
    forfeited = nano if entry.state is ReservationState.FORFEITED else 0
    for account, (spent, held, tokens_spent, tokens_held, was_forfeited, overdrawn) in zip(
        accounts, before, strict=True
    ):
        assert (account.spent, account.held) == (spent + entry.charged, held)
        assert (account.tokens_spent, account.tokens_held) == (tokens_spent + entry.tokens, tokens_held)
        assert (account.forfeited, account.overdrawn) == (was_forfeited + forfeited, overdrawn + excess)


HAVANA = Period(kind="day", timezone="America/Havana")


@given(calendar_periods, moments)
@example(HAVANA, datetime(2026, 11, 1, 0, 30, tzinfo=ZoneInfo("America/Havana")).timestamp())  # midnight comes twice
@example(HAVANA, datetime(2026, 3, 8, 12, tzinfo=ZoneInfo("America/Havana")).timestamp())  # midnight does not come
def test_a_calendar_window_holds_its_moment_and_touches_the_next(period, now):
    start, end = calendar_window(period, now)
    assert start <= now < end
    assert calendar_window(period, start) == (start, end)
    assert calendar_window(period, end)[0] == end
    assert calendar_window(period, start - 1)[1] == start


@given(calendar_periods, moments)
def test_a_calendar_window_is_the_calendars(period, now):
    zone = ZoneInfo(period.timezone)
    start = datetime.fromtimestamp(calendar_window(period, now)[0], zone)
    here = datetime.fromtimestamp(now, zone)
    if period.kind == "day":
        assert start.date() == here.date()
    elif period.kind == "week":
        assert start.weekday() == 0
        assert here.date() - start.date() < timedelta(days=7)
    else:
        assert (start.year, start.month, start.day) == (here.year, here.month, 1)


@given(calendar_periods, st.lists(moments, min_size=1, max_size=20))
def test_a_window_never_begins_before_an_earlier_one(period, times):
    account = Account.opened(Scope(name="a", period=period))
    starts = []
    for now in times:
        if account.end <= now:
            _rules.begin_window(account, now)
        starts.append(account.start)
    assert starts == sorted(starts)
    assert account.start <= max(times) < account.end

"""Where a calendar period begins and ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from langchain_runtime.contracts.budget import Period


def calendar_window(period: Period, now: float) -> tuple[float, float]:
    """The day, week (from Monday) or month around ``now``, as its first second and that of the next one.

    All times are seconds since the epoch. Midnight is the time zone's: a day lasts 23 or 25 hours where clocks change,
    and a midnight that a change skips is the moment of the change.
    """
    zone = ZoneInfo(period.timezone)
    today = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if period.kind == "day":
        first, following = today, today + timedelta(days=1)
    elif period.kind == "week":
        first = today - timedelta(days=today.weekday())
        following = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
    return first.replace(tzinfo=zone).timestamp(), following.replace(tzinfo=zone).timestamp()

"""How figures are written, the same in every view: money, durations, shares, counts, and text that models wrote."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from langchain_runtime.contracts.money import Cost, format_amount

UNKNOWN: Final = "-"
"""Stands for what nobody knows; a zero is always a real zero."""

SHOWN: Final = 0.005
"""Seconds below which a duration would be written as zero."""

_SMALLEST: Final = Decimal("0.000001")
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
# Categories of characters that can move a cursor, reorder a line or break XML: controls, surrogates, formats (bidi
# overrides among them), unassigned.
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Cf", "Cn"})
_HARMLESS: Final = frozenset("\n\t\u200c\u200d")
"""Line break, tab, and the joiners that Persian and emoji are written with."""


def amount(cost: Cost | None, *, complete: bool = True) -> str:
    """An amount without its currency, up to six decimals; ``0.12+`` where part of the sum is unknown."""
    if cost is None:
        return UNKNOWN
    shown = cost.amount.quantize(_SMALLEST)
    text = f"<{_SMALLEST}" if shown == 0 and cost.nano > 0 else format_amount(shown)
    return text if complete else f"{text}+"


def money(cost: Cost | None, *, complete: bool = True) -> str:
    """An amount with its currency: ``0.12 USD``."""
    return UNKNOWN if cost is None else f"{amount(cost, complete=complete)} {cost.currency}"


def spent_of_limit(spent: Cost | None, limit: Cost | None, share: float | None, *, complete: bool = True) -> str:
    """``0.12 of 0.50 USD (24.0 %)``, or without a limit ``0.12 USD``."""
    if limit is None:
        return money(spent, complete=complete)
    if spent is not None and spent.currency != limit.currency:
        return f"{money(spent, complete=complete)} of {money(limit)}"
    text = f"{amount(spent, complete=complete)} of {money(limit)}"
    return text if share is None else f"{text} ({percent(share)})"


def percent(share: float | None) -> str:
    """A share with one decimal: ``24.0 %``; ``100.0 %`` only when it is whole."""
    if share is None:
        return UNKNOWN
    return f"{min(share * 100, 99.9) if share < 1 else share * 100:.1f} %"


def count(number: int | None) -> str:
    """A number with thousands separators."""
    return UNKNOWN if number is None else f"{number:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """``1 task``, ``2 tasks``; ``1 retry``, ``2 retries``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def seconds(value: float | None) -> str:
    """Seconds for a table: two decimals, no unit."""
    return UNKNOWN if value is None else f"{value:,.2f}"


def duration(value: float | None) -> str:
    """A duration for people: ``0.42 s``, ``45.2 s``, ``3 min 05 s``, ``2 h 03 min``, ``3 d 04 h``."""
    if value is None:
        return UNKNOWN
    if value < 10:  # noqa: PLR2004 - below ten seconds a second decimal still says something
        return f"{value:.2f} s"
    if round(value, 1) < _MINUTE:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02} h"


def printable(text: str) -> str:
    """``text`` without characters that steer a terminal or break XML; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _HARMLESS or unicodedata.category(c) not in _UNPRINTABLE else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """``text`` on one line, printable."""
    return printable(" ".join(text.split()))


def cells(text: str) -> int:
    """How many terminal columns ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )


def shorten(text: str, width: int) -> str:
    """``text`` on one printable line of at most ``width`` columns, with ``...`` where it was cut."""
    # Only the part that can be seen is looked at: an output may be megabytes long.
    line = one_line(text[: 4 * width + 64])
    if len(text) <= 4 * width + 64 and cells(line) <= width:
        return line
    return _cut(line, width - 3) + "..."


def shorten_id(name: str, width: int) -> str:
    """An id of at most ``width`` columns, cut in its middle: both ends tell ids apart."""
    name = one_line(name)
    if cells(name) <= width:
        return name
    head = (width - 2) // 2
    return name[:head] + ".." + name[len(name) - (width - 2 - head) :]


def _cut(line: str, width: int) -> str:
    taken = used = 0
    for character in line:
        used += cells(character)
        if used > width:
            break
        taken += 1
    return line[:taken]


def at_the_point(values: Iterable[str], *, blank: str = " ") -> list[str]:
    """``values`` padded on the right, so that right-aligned their decimal points stand below one another."""
    values = list(values)
    fractions = [len(value) - value.index(".") if "." in value else 0 for value in values]
    widest = max(fractions, default=0)
    return [value + blank * (widest - fraction) for value, fraction in zip(values, fractions, strict=True)]

"""Money: exact, never float.

In memory an amount is a ``Decimal``; at rest and in ledgers it is an integer count of *nano units* (10^-9 of the
currency's main unit, e.g. nano-USD), so that sums are exact and comparisons are integer comparisons.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer

from langchain_runtime.contracts.errors import CurrencyMismatchError, InvalidInputError
from langchain_runtime.contracts.records import trusted

NANO: Final = 1_000_000_000
"""Nano units in one main unit."""

MAX_NANO: Final = 2**62
"""Largest amount in nano units: two of them still fit the 64-bit integers of every ledger."""

_PLACES: Final = 9
_ONE_NANO: Final = Decimal(1).scaleb(-_PLACES)
_LARGEST: Final = Decimal(f"{MAX_NANO}E-{_PLACES}")
_EXACT: Final = Context(prec=28, traps=[Inexact, InvalidOperation])
"""Money is never rounded, whatever the precision of the decimal context that the caller works in."""

# ISO 4217, active codes of funds and currencies in circulation (list one, amendment 177, 2024).
CURRENCIES: Final = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR
    ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT
    MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES
    VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a table of 150 quoted strings would be harder to read
)


def _amount(value: Any) -> Decimal:
    if isinstance(value, float):
        raise InvalidInputError(
            f"a money amount must not be a float, got {value!r}",
            hint=f'write it as a string or Decimal, e.g. "{value}": binary floats cannot hold decimal money exactly',
        )
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise InvalidInputError(f"a money amount must be a string, int or Decimal, got {type(value).__name__}")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise InvalidInputError(f"{value!r} is not a decimal number", hint='write the amount like "0.50"') from None
    if not amount.is_finite():
        raise InvalidInputError(f"a money amount must be finite, got {value!r}", hint='write the amount like "0.50"')
    if amount.copy_abs() > _LARGEST:
        raise InvalidInputError(f"{value} is larger than a ledger can hold ({MAX_NANO // NANO})")
    try:
        amount.quantize(_ONE_NANO, context=_EXACT)
    except Inexact:
        raise InvalidInputError(
            f"{value} has more than {_PLACES} decimal places", hint="round it: amounts are kept in nano units"
        ) from None
    return amount


def _currency(value: Any) -> str:
    if not isinstance(value, str) or value not in CURRENCIES:
        raise InvalidInputError(
            f"unknown currency {value!r}", hint="use an ISO 4217 code in upper case, e.g. USD, EUR or JPY"
        )
    return value


Currency = Annotated[str, BeforeValidator(_currency)]
"""ISO 4217 code in upper case."""


class Cost(BaseModel):
    """An amount of money.

    ``Cost("0.05")``, ``Cost("4.20", "EUR")`` and ``Cost.usd("0.05")`` are exact. Comparing or adding two currencies
    raises ``CurrencyMismatchError``.

    >>> (Cost.usd("0.1") + Cost.usd("0.2")) == Cost.usd("0.3")
    True
    >>> Cost.usd("0.05").nano
    50000000
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: Annotated[Decimal, BeforeValidator(_amount)] = Field(
        description='Decimal amount in main units (dollars, not cents), as a string in JSON: "0.50"'
    )
    currency: Currency = Field(default="USD", description="ISO 4217 code")

    def __init__(self, amount: Decimal | str | int, currency: str = "USD") -> None:
        super().__init__(amount=amount, currency=currency)

    @classmethod
    def usd(cls, amount: Decimal | str | int) -> Self:
        """An amount in US dollars."""
        return cls(amount, "USD")

    @classmethod
    def from_nano(cls, nano: int, currency: str = "USD") -> Self:
        """The amount that ``nano`` nano units make (10^-9 of the main unit)."""
        if currency in CURRENCIES and -MAX_NANO <= nano <= MAX_NANO:
            return trusted(cls, {"amount": Decimal(nano).scaleb(-_PLACES, _EXACT), "currency": currency})
        return cls(Decimal(f"{nano}E-{_PLACES}"), currency)  # says what is wrong

    @property
    def nano(self) -> int:
        """The amount in nano units; exact, since amounts have at most nine decimal places."""
        return int(self.amount.scaleb(_PLACES, _EXACT))

    @field_serializer("amount")
    def _amount_as_plain_string(self, amount: Decimal) -> str:
        return format_amount(amount)

    def _nano_of(self, other: object) -> int:
        if not isinstance(other, Cost):
            raise TypeError(f"cannot combine a Cost with {other!r}; write Cost({str(other)!r}, {self.currency!r})")
        if other.currency != self.currency:
            raise CurrencyMismatchError(
                f"cannot combine {self.currency} with {other.currency}",
                expected=self.currency,
                actual=other.currency,
                hint="convert one of the amounts with a rate of your own first",
            )
        return other.nano

    def __add__(self, other: Cost) -> Cost:
        return Cost.from_nano(self.nano + self._nano_of(other), self.currency)

    def __sub__(self, other: Cost) -> Cost:
        return Cost.from_nano(self.nano - self._nano_of(other), self.currency)

    def __lt__(self, other: Cost) -> bool:
        return self.nano < self._nano_of(other)

    def __le__(self, other: Cost) -> bool:
        return self.nano <= self._nano_of(other)

    def __gt__(self, other: Cost) -> bool:
        return self.nano > self._nano_of(other)

    def __ge__(self, other: Cost) -> bool:
        return self.nano >= self._nano_of(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cost) and (self.nano, self.currency) == (other.nano, other.currency)

    def __hash__(self) -> int:
        return hash((self.nano, self.currency))

    def __str__(self) -> str:
        return f"{format_amount(self.amount)} {self.currency}"


def format_amount(amount: Decimal) -> str:
    """A decimal without exponent and with at least two decimal places: ``0.50``, ``0.000123``, ``12.00``."""
    text = f"{amount:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"

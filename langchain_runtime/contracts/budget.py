"""Budgets and what a ledger keeps of them.

A *scope* is one budget's account, known by its name: the same name in the same ledger is the same budget in every
process. A call *reserves* its worst case in every scope it charges (all or none), is marked *sent* just before its
request leaves, and *settles* at what it really cost::

    held ──> sent ──> settled
      │        └────> forfeited   lease ran out after sending: charged in full, corrected by a late settle
      └─────────────> released    never sent, or the provider billed nothing
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost, Currency
from langchain_runtime.contracts.usage import TokenCount, TokenUsage

OnExceed = Literal["cap", "raise", "wait", "downgrade", "interrupt", "warn"]
"""What happens when a call's worst case does not fit: see ``Budget.on_exceed``."""


class Period(BaseModel):
    """When a budget starts afresh.

    Attributes:
        kind: ``day``, ``week`` (from Monday) and ``month`` follow the calendar of ``timezone``; ``rolling`` looks
            back over the last ``seconds``.
        timezone: IANA name; ignored for ``rolling``.
        seconds: Length of a rolling window; None for calendar periods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["day", "week", "month", "rolling"]
    timezone: str = "UTC"
    seconds: int | None = Field(default=None, gt=0)

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones cannot be read, as "America"
            raise InvalidInputError(
                f"unknown time zone {value!r}", hint="use an IANA name like Europe/Vienna"
            ) from None
        return value

    @model_validator(mode="after")
    def _seconds_where_rolling(self) -> Self:
        if (self.kind == "rolling") != (self.seconds is not None):
            raise InvalidInputError("a rolling period needs seconds, a calendar period must not have them")
        return self


_MAX_SCOPE_NAME = 200


def _scope_name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_SCOPE_NAME or not value.isprintable():
        raise InvalidInputError(f"{value!r} is not a valid scope", hint="use 1 to 200 printable characters")
    return value


ScopeName = Annotated[str, BeforeValidator(_scope_name)]
"""Name of a budget's account, e.g. ``user:42`` or ``run:20261122-1`` (1 to 200 printable characters)."""


class Budget(BaseModel):
    """A limit on spending, and what to do when a call does not fit it.

    Args:
        limit: Most that may be spent at list price; None tracks without a limit.
        scope: Identity of the budget; generated when left out (a budget of its own).
        currency: Only without a limit: the currency to track in.
        token_limit: Most tokens (input + output) that may be spent; None for no limit.
        period: When the budget starts afresh; None for never.
        on_exceed: ``cap`` shrinks the output cap to what fits, not below ``min_output_tokens``, else raises;
            ``raise`` raises; ``wait`` waits for other calls to settle, up to ``wait_timeout``; ``downgrade`` takes the
            next model of the ladder (the graph's, or the one that ``with_budget`` was given) whose whole worst case
            fits, else raises; ``interrupt`` (graphs) asks a human; ``warn`` records what would have been refused.
        wait_timeout: Seconds that ``wait`` waits; None for as long as other calls are in flight.
        min_output_tokens: Floor for ``cap``; None means 1,024, and 4,096 for reasoning models.

    Raises:
        InvalidInputError: The limit is zero, negative, a float or not finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Cost | None
    scope: ScopeName = Field(default_factory=lambda: f"budget:{uuid.uuid4().hex}")
    currency: Currency = "USD"
    token_limit: int | None = None
    period: Period | None = None
    on_exceed: OnExceed = "cap"
    wait_timeout: float | None = Field(default=None, ge=0)
    min_output_tokens: int | None = Field(default=None, ge=1)

    def __init__(self, limit: Cost | None = None, **fields: Any) -> None:
        super().__init__(limit=limit, **fields)

    @classmethod
    def usd(cls, amount: str | int, **fields: Any) -> Self:
        """A budget in US dollars: ``Budget.usd("0.50", scope="user:42")``."""
        return cls(Cost.usd(amount), **fields)

    @model_validator(mode="before")
    @classmethod
    def _currency_of_the_limit(cls, fields: dict[str, Any]) -> dict[str, Any]:
        limit = fields.get("limit")
        if limit is not None and not isinstance(limit, (Cost, dict)):
            raise InvalidInputError(
                f"a limit must be a Cost, got {limit!r}", hint=f'write Budget.usd("{limit}"), or Cost("{limit}", "EUR")'
            )
        currency = limit.get("currency", "USD") if isinstance(limit, dict) else getattr(limit, "currency", None)
        return fields if currency is None else {"currency": currency, **fields}

    @model_validator(mode="after")
    def _limits_are_positive(self) -> Self:
        if self.limit is not None and self.limit.nano <= 0:
            raise InvalidInputError(
                f"a budget must be positive, got {self.limit}", hint="leave the limit out (None) to track without one"
            )
        if self.limit is not None and self.limit.currency != self.currency:
            raise InvalidInputError(f"the limit is in {self.limit.currency}, the budget in {self.currency}")
        if self.token_limit is not None and self.token_limit <= 0:
            raise InvalidInputError(f"a token limit must be positive, got {self.token_limit}")
        return self


class Scope(BaseModel):
    """The part of a budget that its ledger keeps and enforces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ScopeName
    currency: Currency = "USD"
    limit_nano: int | None = Field(default=None, gt=0)
    token_limit: int | None = Field(default=None, gt=0)
    period: Period | None = None

    @classmethod
    def of(cls, budget: Budget) -> Self:
        """The scope that ``budget`` describes."""
        return cls(
            name=budget.scope,
            currency=budget.currency,
            limit_nano=budget.limit.nano if budget.limit is not None else None,
            token_limit=budget.token_limit,
            period=budget.period,
        )


class Balance(BaseModel):
    """A scope's account at one moment.

    Attributes:
        scope: Identity and limits; ``limit_nano`` includes all top-ups.
        spent_nano: Settled plus forfeited, in nano units, in the current period.
        held_nano: Reserved for calls in flight.
        forfeited_nano: Part of ``spent_nano`` charged at worst case for calls whose owner vanished.
        tokens_spent: As ``spent_nano``, in tokens.
        tokens_held: As ``held_nano``, in tokens.
        overdrawn_nano: By how much settlements exceeded their holds, ever; 0 unless a bound was unsound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Scope
    spent_nano: int = 0
    held_nano: int = 0
    forfeited_nano: int = 0
    tokens_spent: TokenCount = 0
    tokens_held: TokenCount = 0
    overdrawn_nano: int = 0

    @property
    def limit(self) -> Cost | None:
        """What may be spent; None for no limit."""
        nano = self.scope.limit_nano
        return None if nano is None else Cost.from_nano(nano, self.scope.currency)

    @property
    def spent(self) -> Cost:
        """What has been spent."""
        return Cost.from_nano(self.spent_nano, self.scope.currency)

    @property
    def held(self) -> Cost:
        """What is reserved for calls in flight."""
        return Cost.from_nano(self.held_nano, self.scope.currency)

    @property
    def forfeited(self) -> Cost:
        """What was charged for calls whose owner vanished."""
        return Cost.from_nano(self.forfeited_nano, self.scope.currency)

    @property
    def remaining(self) -> Cost | None:
        """Limit minus spent minus held, not below zero; None for no limit."""
        if self.scope.limit_nano is None:
            return None
        return Cost.from_nano(max(0, self.scope.limit_nano - self.spent_nano - self.held_nano), self.scope.currency)


class ReservationState(StrEnum):
    """Where a reservation stands; see the picture at the top of the module."""

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    FORFEITED = "forfeited"


class Hold(BaseModel):
    """A request to reserve the worst case of one call in several scopes, all or none.

    Attributes:
        id: Idempotency key: asking twice with one id holds once.
        scopes: Names of the scopes to charge, each opened before.
        nano: Worst case in nano units of ``currency``.
        currency: Must be each scope's.
        tokens: Worst case in tokens, input + output.
        holder: Whose lease it is; ``Ledger.renew`` renews by holder.
        lease_seconds: Time by the store's clock until the hold is taken for abandoned.
        sent: Mark as sent in the same step, where nothing lies between.
        shadows: Scopes among ``scopes`` that record without refusing (``on_exceed="warn"``).
        run_id: Run that the call belongs to; None outside runs.
        task_id: Task that the call belongs to; None outside runs.
        model: ``provider:name`` or the provider's model name; for reports.
        priced: Whether somebody has a price for the model; if not, ``nano`` is 0 and the cost unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    scopes: tuple[ScopeName, ...]
    nano: int = Field(ge=0)
    currency: Currency = "USD"
    tokens: TokenCount = 0
    holder: str
    lease_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    sent: bool = False
    shadows: tuple[ScopeName, ...] = ()
    run_id: str | None = None
    task_id: str | None = None
    model: str | None = None
    priced: bool = True

    @field_validator("scopes", "shadows")
    @classmethod
    def _each_scope_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Sorted: every ledger locks in one order, so two calls never wait for each other's rows.
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _shadows_are_charged(self) -> Self:
        strangers = [name for name in self.shadows if name not in self.scopes]
        if strangers:
            raise InvalidInputError(
                f"{', '.join(map(repr, strangers))} cannot be a shadow: the hold does not charge it",
                hint="shadows are those of `scopes` that only record",
            )
        return self


class Reservation(BaseModel):
    """A hold as the ledger keeps it.

    Attributes:
        hold: As requested.
        state: Where it stands.
        lease: Fencing number: ``mark_sent`` succeeds only with the number that ``reserve`` returned.
        charged_nano: What it cost; None until it ended.
        usage: Tokens it used; None until settled, or where the provider did not report them.
        created_at: When it was held, seconds since the epoch by the store's clock.
        ended_at: When it was settled, released or forfeited; None before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hold: Hold
    state: ReservationState
    lease: int
    charged_nano: int | None = None
    usage: TokenUsage | None = None
    created_at: float
    ended_at: float | None = None


class Verdict(StrEnum):
    """What a ledger answers to a hold."""

    ADMIT = "admit"
    WAIT = "wait"
    """It would fit if no other call were in flight."""
    EXHAUSTED = "exhausted"
    """It would not fit even then."""


class Decision(BaseModel):
    """A ledger's answer to a hold.

    Attributes:
        verdict: Admitted or not, and whether waiting can help.
        reservation: The reservation; None unless admitted.
        refused_by: Account of the scope that refused. Of an admitted hold: account of the first shadow that would have
            refused it, before it was held there; None where there is none, and where the hold was admitted before.
        free_nano: The least money free now over the scopes, shadows left out; None where none has a limit.
        free_tokens: The fewest tokens free now over the scopes, shadows left out; None where none has a limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    reservation: Reservation | None = None
    refused_by: Balance | None = None
    free_nano: int | None = None
    free_tokens: int | None = None


class Settlement(BaseModel):
    """How a sent call ended.

    Attributes:
        reservation_id: Whose hold ends.
        nano: What it cost; None charges the full hold (usage unknown: cut stream, time-out, missing metadata).
        usage: What the provider reported; None when unknown. With ``nano`` None, the full hold's tokens are charged.
        reply_key: Under which the reply can be read back; None keeps no reply.
        reply: The encoded reply; None keeps none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reservation_id: str
    nano: int | None = Field(default=None, ge=0)
    usage: TokenUsage | None = None
    reply_key: str | None = None
    reply: bytes | None = None

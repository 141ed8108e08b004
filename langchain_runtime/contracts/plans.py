"""Plans: generators that say what to do with a ledger, and the two drivers that do it.

The logic of a guarded call is written once, as generators without I/O; ``carry_out`` calls the sync methods that they
name, ``acarry_out`` the async twins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Step(NamedTuple):
    """One call of ``target.method``, or of its twin ``target.amethod``; the plan gets its result or its error."""

    target: Any
    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to


Plan = Generator[Step, Any, T]


class _Sleeper:
    sleep = staticmethod(time.sleep)
    asleep = staticmethod(asyncio.sleep)


def pause(seconds: float) -> Step:
    """The step that lets so many seconds pass."""
    return Step(_Sleeper, "sleep", (seconds,))


def carry_out(plan: Plan[T]) -> T:
    """Do what ``plan`` says, blocking, and return its result."""
    try:
        step = next(plan)
        while True:
            try:
                result = getattr(step.target, step.method)(*step.arguments, **step.options)
            except BaseException as error:  # noqa: BLE001 - the plan decides about every error, KeyboardInterrupt included
                step = plan.throw(error)
            else:
                step = plan.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def acarry_out(plan: Plan[T]) -> T:
    """Async twin of ``carry_out``."""
    try:
        step = next(plan)
        while True:
            try:
                result = await getattr(step.target, f"a{step.method}")(*step.arguments, **step.options)
            except BaseException as error:  # noqa: BLE001 - the plan decides about every error, cancellation included
                step = plan.throw(error)
            else:
                step = plan.send(result)
    except StopIteration as end:
        value: T = end.value
        return value

"""Carries a guarded call out around a model's own methods: whole replies and streams, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult

from langchain_runtime.adapters.guard import GuardedCall
from langchain_runtime.adapters.stream_meter import StreamMeter
from langchain_runtime.contracts.plans import acarry_out, carry_out

Item = TypeVar("Item")
Request = Callable[[BaseChatModel, dict[str, Any]], Any]
"""Starts the model's own method on a subject, with these keyword arguments."""

_END: Final = object()

_CLOSING: Final = "async_generator_athrow"
"""Type of ``agen.aclose()``, which Python does not name."""

_CLOSED_WITHIN: Final = 1.0
"""Seconds after which a stream that was cut is left to close by itself."""

_inside: ContextVar[int | None] = ContextVar("langchain_runtime_inside", default=None)
"""Identity of the model whose own method runs now. Async methods fall back on sync ones, in threads, and streaming on
whole replies: such an inner call is the same call and is charged once. The variable is set around each step of the
model's own code only, and never while a consumer of its stream runs, who may call another model or this one again."""


def is_inner_call(model: BaseChatModel) -> bool:
    """Whether the model's own code is calling itself."""
    return _inside.get() == id(model)


def _step_inside(subject: BaseChatModel, step: Callable[[], Item]) -> Item:
    token = _inside.set(id(subject))
    try:
        return step()
    finally:
        _inside.reset(token)


async def _astep_inside(subject: BaseChatModel, step: Callable[[], Awaitable[Item]]) -> Item:
    token = _inside.set(id(subject))
    try:
        return await step()
    finally:
        _inside.reset(token)


def guarded_reply(call: GuardedCall, request: Request) -> ChatResult:
    """Make the call, in as many tries as the guard allows, and return its reply."""
    reply = carry_out(call.open())
    if reply is not None:
        return reply
    while True:
        try:
            result: ChatResult = _step_inside(call.subject, lambda: request(call.subject, call.kwargs))
        except BaseException as error:
            if not carry_out(call.failed(error)):
                raise
        else:
            return carry_out(call.succeeded(result))


async def aguarded_reply(call: GuardedCall, request: Request) -> ChatResult:
    """Async twin of ``guarded_reply``."""
    reply = await acarry_out(call.open())
    if reply is not None:
        return reply
    while True:
        try:
            result: ChatResult = await _astep_inside(call.subject, lambda: request(call.subject, call.kwargs))
        except BaseException as error:
            if not await acarry_out(call.failed(error)):
                raise
        else:
            return await acarry_out(call.succeeded(result))


def guarded_stream(call: GuardedCall, request: Request, *, meter_class: type[StreamMeter[Item]]) -> Iterator[Item]:
    """Make the call and hand its items on; a stream that outgrows its hold is cut.

    Only a stream that has not begun is tried again.
    """
    meter = meter_class()
    reply = carry_out(call.open())
    if reply is not None:
        yield from meter.replayed(reply)
        return
    while True:
        items: Any = None
        ending: list[Item] = []
        try:
            items = _step_inside(call.subject, lambda: request(call.subject, call.kwargs))
            while (item := _next_item(call, meter, items)) is not _END:
                if call.is_overrun(meter):
                    _close(items)  # before anybody dwells on what is left: the model may go on writing
                    ending = [item, *meter.ending()]
                    break
                yield item
        except BaseException as error:
            if not carry_out(call.failed(error, meter)):
                raise
        else:
            carry_out(call.streamed(meter, cut=bool(ending)))
            yield from ending
            return
        finally:
            _close(items)


async def aguarded_stream(
    call: GuardedCall, request: Request, *, meter_class: type[StreamMeter[Item]]
) -> AsyncIterator[Item]:
    """Async twin of ``guarded_stream``."""
    meter = meter_class()
    reply = await acarry_out(call.open())
    if reply is not None:
        for item in meter.replayed(reply):
            yield item
        return
    while True:
        items: Any = None
        ending: list[Item] = []
        try:
            items = _step_inside(call.subject, lambda: request(call.subject, call.kwargs))
            while (item := await _anext_item(call, meter, items)) is not _END:
                if call.is_overrun(meter):
                    await _aclose(items)
                    await _dropped_generators()
                    ending = [item, *meter.ending()]
                    break
                yield item
        except BaseException as error:
            if not await acarry_out(call.failed(error, meter)):
                raise
        else:
            await acarry_out(call.streamed(meter, cut=bool(ending)))
            for item in ending:
                yield item
            return
        finally:
            await _aclose(items)


def _next_item(call: GuardedCall, meter: StreamMeter[Any], items: Iterator[Any]) -> Any:
    """The next item, counted, or ``_END``. The last is settled first: who has it may never ask for another."""
    item = _step_inside(call.subject, partial(next, items, _END))
    if item is not _END:
        meter.add(item, capped_by_us=call.cuts)
        if meter.is_complete:
            carry_out(call.streamed(meter, cut=False))
    return item


async def _anext_item(call: GuardedCall, meter: StreamMeter[Any], items: AsyncIterator[Any]) -> Any:
    """Async twin of ``_next_item``."""
    item = await _astep_inside(call.subject, partial(anext, items, _END))
    if item is not _END:
        meter.add(item, capped_by_us=call.cuts)
        if meter.is_complete:
            await acarry_out(call.streamed(meter, cut=False))
    return item


def _close(items: Any) -> None:
    if hasattr(items, "close"):  # an iterator need not be a generator
        items.close()


async def _aclose(items: Any) -> None:
    if hasattr(items, "aclose"):
        await items.aclose()


async def _dropped_generators() -> None:
    """Wait until generators have ended that were dropped by the one that used them.

    Closing an async generator does not close those that it reads from, and the innermost holds the connection. The
    event loop makes a task of each that is dropped, which cannot run while the consumer keeps the loop busy.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSED_WITHIN):
            await asyncio.sleep(0)
            while closing := _closing_tasks():
                await asyncio.wait(closing)
                await asyncio.sleep(0)  # for those that these have dropped


def _closing_tasks() -> list[asyncio.Task[Any]]:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return [task for task in others if type(task.get_coro()).__name__ == _CLOSING]

"""What a body may be, and what becomes of what it returns."""

import asyncio
import dataclasses
import datetime as dt
import threading

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_runtime.backends import as_body
from langchain_runtime.backends.daemon_threads import run_in_daemon_thread
from langchain_runtime.backends.in_process import task_error
from langchain_runtime.backends.json_values import as_result
from langchain_runtime.backends.task_body import FunctionBody, RunnableBody
from langchain_runtime.contracts.errors import (
    BudgetExceededError,
    InvalidInputError,
    LedgerUnavailableError,
    TaskResultNotSerializableError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import TaskResult


class Point(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Pair:
    a: int
    when: dt.date


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("text", "text"),
        (None, None),
        ([1, {"a": True}], [1, {"a": True}]),
        (Point(x=1), {"x": 1}),
        (Pair(1, dt.date(2026, 1, 2)), {"a": 1, "when": "2026-01-02"}),
        (AIMessage("hello"), "hello"),
        (AIMessage([{"type": "text", "text": "blocks"}]), "blocks"),
        ({"messages": [HumanMessage("q"), AIMessage("a")]}, "a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_body_returns_becomes_json(value, output):
    assert as_result(value, task_id="t").output == output


def test_the_other_keys_of_an_agents_state_become_named_outputs():
    result = as_result({"messages": [AIMessage("a")], "structured_response": Point(x=2)}, task_id="t")
    assert result == TaskResult(output="a", outputs={"structured_response": {"x": 2}})


def test_a_task_result_stays_as_it_is():
    result = TaskResult(output=1, outputs={"n": 2})
    assert as_result(result, task_id="t") is result


@pytest.mark.parametrize("value", [object(), float("nan"), {"deep": [lambda: 1]}], ids=["object", "nan", "function"])
def test_what_json_cannot_carry_is_refused_by_name(value):
    with pytest.raises(TaskResultNotSerializableError, match="'t'") as caught:
        as_result(value, task_id="t")
    assert caught.value.task_id == "t"


@pytest.mark.parametrize(
    ("function", "wants_runtime"),
    [
        (lambda inputs: 1, False),
        (lambda inputs, runtime: 1, True),
        (lambda inputs, runtime=None: 1, True),
        (lambda inputs, other=1: 1, False),
        (lambda *anything: 1, False),
        (dict, False),
    ],
)
def test_a_function_receives_the_runtime_if_it_asks(function, wants_runtime):
    assert as_body(function).wants_runtime is wants_runtime


def test_a_runnable_is_a_body():
    assert isinstance(as_body(RunnableLambda(lambda inputs: inputs)), RunnableBody)
    assert isinstance(as_body(print), FunctionBody)


@pytest.mark.parametrize("body", [1, "text", lambda: 1, lambda a, b, c: 1, lambda a, *, must: 1])
def test_what_cannot_be_a_body_is_refused(body):
    with pytest.raises(InvalidInputError):
        as_body(body)


async def test_a_thread_that_was_let_go_reports_its_end_and_nothing_else():
    release, ended = threading.Event(), asyncio.Event()
    future = run_in_daemon_thread(lambda: release.wait(10), name="t", on_end=ended.set)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    release.set()
    async with asyncio.timeout(5):
        await ended.wait()


@pytest.mark.parametrize("error", [ValueError("boom"), StopIteration(1), SystemExit(2), KeyboardInterrupt()], ids=repr)
async def test_an_error_of_a_thread_reaches_the_awaiting_side(error):
    def body():
        raise error

    with pytest.raises((ValueError, RuntimeError)) as caught:
        await run_in_daemon_thread(body, name="t", on_end=lambda: None)
    assert caught.value is error or caught.value.__cause__ is error


def exceeded():
    usd = Cost.usd(1)
    return BudgetExceededError("no", scope="s", limit=usd, spent=usd, held=usd, needed=usd, hint="top up")


@pytest.mark.parametrize(
    ("error", "code", "message", "retryable"),
    [
        (ValueError("boom"), "task_failed", "ValueError: boom", True),
        (KeyError(), "task_failed", "KeyError", True),
        (exceeded(), "budget_exceeded", "no (top up)", False),
        (LedgerUnavailableError("locked"), "ledger_unavailable", "locked", True),
        (InvalidInputError("bad"), "invalid_input", "bad", False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_described_with_code_and_whether_trying_again_can_help(error, code, message, retryable):
    described = task_error(error)
    assert (described.code, described.message, described.retryable) == (code, message, retryable)

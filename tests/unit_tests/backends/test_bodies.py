"""What a body may be, and what becomes of what it returns."""

import asyncio
import dataclasses
import datetime as dt
import threading

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.store.memory import InMemoryStore

from langchain_runtime.adapters.account import BudgetScope
from langchain_runtime.backends import as_body
from langchain_runtime.backends.daemon_threads import run_in_daemon_thread
from langchain_runtime.backends.in_process import task_error
from langchain_runtime.backends.json_values import as_result
from langchain_runtime.backends.task_body import Additions, FunctionBody, RunMemory, RunnableBody, TaskRuntime
from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.budget import Budget, Scope
from langchain_runtime.contracts.errors import (
    BudgetExceededError,
    InvalidInputError,
    LedgerUnavailableError,
    TaskResultNotSerializableError,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import EnqueuedTask, TaskResult
from langchain_runtime.ledgers import InMemoryLedger


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


# --- tasks that a body adds ------------------------------------------------------------------------------------------


def runtime(additions=None):
    ledger = InMemoryLedger()
    budget = Budget.usd("0.50", scope="run:r")
    ledger.open_scope(Scope.of(budget))
    return TaskRuntime(
        run_id="r",
        task_id="t",
        attempt=1,
        memory=RunMemory(MemoryManager(InMemoryStore()), "r"),
        stream=lambda value: None,
        budget=BudgetScope(budget, ledger),
        _additions=additions or Additions("t"),
    )


def test_what_a_body_enqueues_is_collected_as_the_outcome_keeps_it():
    additions = Additions("t")
    body = runtime(additions)
    body.enqueue("p", prompt="{x}", inputs={"x": Point(x=1)}, model="extractive", priority=2, max_output_tokens=5)
    body.enqueue("q", like="worker", deps=["p", "a.title"], timeout_ms=7)
    body.enqueue("r", like="worker", deps={"text": "q"})
    assert additions.close() == [
        EnqueuedTask(id="p", prompt="{x}", inputs={"x": {"x": 1}}, model="extractive", priority=2, max_output_tokens=5),
        EnqueuedTask(id="q", like="worker", deps={"p": "p", "a.title": "a.title"}, timeout_ms=7),
        EnqueuedTask(id="r", like="worker", deps={"text": "q"}),
    ]


@pytest.mark.parametrize(
    ("task_id", "given", "text"),
    [
        ("a/b", {"like": "w"}, "'a/b' is not a valid task id"),
        ("map#0", {"like": "w"}, "'map#0' is not a valid task id"),
        ("driver", {"like": "w"}, "reserved"),
        ("n", {}, "either a prompt or a task to be like"),
        ("n", {"prompt": "x", "like": "w"}, "either a prompt or a task to be like"),
        ("n", {"prompt": "{x"}, "the prompt is malformed"),
        ("n", {"like": "w", "deps": "ab"}, "deps=['ab']"),
        ("n", {"like": "w", "deps": ["x"], "inputs": {"x": 1}}, "'x' both as an input and from a dependency"),
        ("n", {"like": "w", "deps": [3]}, "deps"),
        ("n", {"like": "w", "inputs": {"bad": object()}}, "JSON cannot carry its input 'bad' (object)"),
        ("n", {"like": "w", "timeout_ms": 0}, "timeout_ms"),
        ("n", {"prompt": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ("n", {"prompt": "x", "model": 5}, "model"),
    ],
)
def test_what_cannot_be_enqueued_is_refused_at_once(task_id, given, text):
    additions = Additions("t")
    with pytest.raises(InvalidInputError) as caught:
        runtime(additions).enqueue(task_id, **given)
    assert text in f"{caught.value} {caught.value.hint}"
    assert additions.close() == []


def test_an_id_is_free_once_in_a_body():
    body = runtime()
    body.enqueue("n", like="w")
    with pytest.raises(InvalidInputError, match="'t' enqueues 'n' twice"):
        body.enqueue("n", prompt="x")


def test_a_body_that_is_over_adds_nothing():
    additions = Additions("t")
    body = runtime(additions)
    assert additions.close() == []
    with pytest.raises(InvalidInputError, match="'n' cannot be enqueued: task 't' has ended"):
        body.enqueue("n", like="w")


def test_threads_of_a_body_may_enqueue_together():
    additions = Additions("t")
    body = runtime(additions)
    start = threading.Barrier(8)

    def add(thread):
        start.wait(10)
        for number in range(50):
            body.enqueue(f"n{thread}.{number}", like="w")

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({task.id for task in additions.close()}) == 400


def test_a_body_sees_the_budget_of_its_run_as_it_is_now():
    body = runtime()
    assert (body.budget.limit, body.budget.remaining) == (Cost.usd("0.50"), Cost.usd("0.50"))
    body.budget.ledger.top_up("run:r", Cost.usd("0.25").nano, key="k")
    assert (body.budget.limit, body.budget.spent, body.budget.held) == (Cost.usd("0.75"), Cost.usd(0), Cost.usd(0))

"""Spans of runs and of attempts at tasks."""

import asyncio
import threading

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import LedgerUnavailableError, RunFailedError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import RetrySpec, RunPolicy
from langchain_runtime.contracts.task_spec import ForEach
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import SqliteLedger
from langchain_runtime.testing import ScriptedChatModel

PRICES = {"scripted:scripted-1": "openai:gpt-4o-mini"}
THREAD = {"configurable": {"thread_id": "1"}}

every_way = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
every_mode = pytest.mark.parametrize("mode", ["dataflow", "supersteps"])


def user_span(title):
    return trace.get_tracer("the user's").start_as_current_span(title)


def sync_body(_inputs):
    with user_span("inside"):
        return 1


async def async_body(_inputs):
    with user_span("inside"):
        await asyncio.sleep(0)
        return 1


class Flaky:
    """Fails at first."""

    def __init__(self, failures=1):
        self.failures = failures

    def __call__(self, _inputs):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("a secret that the prompt told")
        return "done"


@every_mode
@every_way
@pytest.mark.parametrize("body", [sync_body, async_body])
async def test_what_a_body_opens_is_below_its_task_and_the_run_below_its_caller(traced, call, mode, sync, body):
    app = RunGraph(name="brief").add_task("a", body).add_task("b", lambda _: 2, deps=["a"]).compile(mode=mode)
    with user_span("request"):
        await call(app, sync, {"inputs": {}})
    assert traced.names == ["execute_tool a", "execute_tool b", "inside", "invoke_workflow brief", "request"]
    assert traced.parent_of(traced.one("inside")) == "execute_tool a"
    assert traced.parent_of(traced.one("execute_tool a")) == "invoke_workflow brief"
    assert traced.parent_of(traced.one("execute_tool b")) == "invoke_workflow brief"
    assert traced.parent_of(traced.one("invoke_workflow brief")) == "request"


@every_mode
async def test_every_task_has_its_own_span_current_however_many_run_at_a_time(traced, mode):
    both = asyncio.Barrier(2)

    async def body(inputs, runtime):
        await both.wait()
        with user_span(f"inside {runtime.task_id}"):
            await both.wait()

    app = RunGraph().add_task("a", body).add_task("b", body).compile(mode=mode)
    await app.ainvoke({"inputs": {}})
    assert {traced.parent_of(traced.one(f"inside {task}")) for task in "ab"} == {"execute_tool a", "execute_tool b"}
    assert traced.parent_of(traced.one("inside a")) == "execute_tool a"


@every_mode
@every_way
async def test_spans_carry_model_tokens_and_money_by_the_conventions(traced, call, mode, sync):
    model = ScriptedChatModel(script=["four words of reply"])
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd("0.01")), model=model, name="brief")
    app = graph.add_task("ask", prompt="What is {it}?").compile(price_as=PRICES, mode=mode)
    output = await call(app, sync, {"inputs": {"it": "this"}}, {"configurable": {"run_id": "r"}})
    result = output["results"]["ask"]
    spent = {"lcr.cost.amount": str(result.usage.cost.amount), "lcr.cost.currency": "USD"}
    tokens = {"gen_ai.usage.input_tokens": result.usage.tokens.input, "gen_ai.usage.output_tokens": 4}
    assert dict(traced.one("execute_tool ask").attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "ask",
        "gen_ai.tool.type": "function",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "lcr.run.id": "r",
        "lcr.task.id": "ask",
        "lcr.task.attempt": 1,
        "lcr.task.state": "completed",
        **tokens,
        **spent,
    }
    run = traced.one("invoke_workflow brief")
    assert dict(run.attributes) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "brief",
        "gen_ai.agent.name": "brief",
        "lcr.run.id": "r",
        "lcr.run.state": "completed",
        "lcr.run.tasks": 1,
        "lcr.budget.limit": "0.01",
        "lcr.budget.spent": str(result.usage.cost.amount),
        "lcr.budget.currency": "USD",
        **tokens,
        **spent,
    }
    assert run.kind is SpanKind.INTERNAL
    assert run.status.status_code is StatusCode.UNSET
    assert run.instrumentation_scope.name == "langchain_runtime"


async def test_a_task_that_called_no_model_says_nothing_of_tokens(traced):
    await RunGraph().add_task("a", lambda _: 1).compile().ainvoke({"inputs": {}})
    assert not [key for span in traced.spans for key in span.attributes if "usage" in key or "cost" in key]


async def test_a_graph_without_a_name_has_no_name_of_a_workflow(traced):
    await RunGraph().add_task("a", lambda _: 1).compile().ainvoke({"inputs": {}})
    assert "gen_ai.workflow.name" not in traced.one("invoke_workflow").attributes


@every_mode
@every_way
async def test_every_attempt_is_a_span_and_only_those_that_failed_are_errors(traced, call, mode, sync):
    graph = RunGraph(RunPolicy(retry=RetrySpec(max_attempts=2, initial_interval_ms=0)))
    await call(graph.add_task("a", Flaky()).compile(mode=mode), sync, {"inputs": {}})
    first, second = traced.all("execute_tool a")
    assert [span.attributes["lcr.task.attempt"] for span in (first, second)] == [1, 2]
    assert [span.attributes["lcr.task.state"] for span in (first, second)] == ["failed", "completed"]
    assert first.attributes["error.type"] == "task_failed"
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert "error.type" not in second.attributes
    assert traced.one("invoke_workflow").status.status_code is StatusCode.UNSET


async def test_each_attempt_tells_its_own_tokens_and_the_run_all_of_them(traced):
    model = ScriptedChatModel(script=["one two three"])
    calls = []

    async def body(inputs):
        calls.append((await budgeted.ainvoke("count")).content)
        if len(calls) == 1:
            raise ConnectionError

    from langchain_runtime import with_budget

    budgeted = with_budget(model, None, price_as=PRICES)
    graph = RunGraph(RunPolicy(retry=RetrySpec(max_attempts=2, initial_interval_ms=0)))
    graph.add_task("a", body).add_task("b", prompt="count", model=model, deps=["a"])
    await graph.compile(price_as=PRICES).ainvoke({"inputs": {}})
    first, second = traced.all("execute_tool a")
    assert first.attributes["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.usage.output_tokens" not in second.attributes  # it read the reply that the first had bought
    assert traced.one("invoke_workflow").attributes["gen_ai.usage.output_tokens"] == 6
    assert len(calls) == 2
    assert len(model.calls) == 2


async def test_what_failed_and_what_was_skipped_for_it_are_told_apart(traced):
    graph = RunGraph().add_task("a", Flaky()).add_task("b", lambda _: 2, deps=["a"])
    with pytest.raises(RunFailedError):
        await graph.compile().ainvoke({"inputs": {}})
    run = traced.one("invoke_workflow")
    assert traced.names == ["execute_tool a", "invoke_workflow"]
    assert run.attributes["lcr.run.state"] == "failed"
    assert run.attributes["error.type"] == "run_failed"
    assert run.status.status_code is StatusCode.ERROR
    (event,) = run.events
    assert event.name == "lcr.task.finished"
    assert dict(event.attributes) == {
        "lcr.task.id": "b",
        "lcr.task.state": "skipped",
        "lcr.task.skipped_because": "a",
    }


async def test_the_text_of_an_error_stays_in_the_process_and_its_class_does_not(traced):
    with pytest.raises(RunFailedError):
        await RunGraph().add_task("a", Flaky()).compile().ainvoke({"inputs": {}})
    assert traced.one("execute_tool a").status.description == "ConnectionError"
    assert "secret" not in "".join(span.to_json() for span in traced.spans)


async def test_a_task_that_was_cancelled_did_not_fail(traced):
    waits = asyncio.Event()

    async def slow(_inputs):
        waits.set()
        await asyncio.Event().wait()

    async def fails(_inputs):
        await waits.wait()
        raise ValueError("no")

    graph = RunGraph(RunPolicy(on_task_failure="fail_fast")).add_task("slow", slow).add_task("fails", fails)
    with pytest.raises(RunFailedError):
        await graph.compile().ainvoke({"inputs": {}})
    slow_span = traced.one("execute_tool slow")
    assert slow_span.attributes["lcr.task.state"] == "cancelled"
    assert slow_span.status.status_code is StatusCode.UNSET
    assert traced.one("execute_tool fails").attributes["lcr.task.state"] == "failed"


async def test_a_run_that_is_aborted_says_why(traced):
    begun = asyncio.Event()

    async def slow(_inputs):
        begun.set()
        await asyncio.Event().wait()

    app = RunGraph().add_task("slow", slow).compile(raise_on_failure=False)
    running = asyncio.create_task(app.ainvoke({"inputs": {}}, {"configurable": {"run_id": "r"}}))
    await begun.wait()
    app.abort("r")
    await asyncio.gather(running, return_exceptions=True)
    run = traced.one("invoke_workflow")
    assert (run.attributes["lcr.run.state"], run.attributes["lcr.run.reason"]) == ("aborted", "abort")
    assert run.attributes["error.type"] == "run_aborted"
    assert traced.one("execute_tool slow").attributes["lcr.task.state"] == "cancelled"


async def test_a_run_whose_caller_went_away_is_cancelled_and_all_its_spans_end(traced):
    begun = asyncio.Event()

    async def slow(_inputs):
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(RunGraph().add_task("slow", slow).compile().ainvoke({"inputs": {}}))
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert traced.one("invoke_workflow").attributes["lcr.run.state"] == "cancelled"
    assert traced.one("execute_tool slow").attributes["lcr.task.state"] == "cancelled"
    assert {span.status.status_code for span in traced.spans} == {StatusCode.UNSET}


async def test_a_run_that_broke_off_says_with_what(traced, tmp_path):
    ledger = SqliteLedger(tmp_path / "ledger.db")

    async def body(_inputs):
        ledger.close()
        for file in tmp_path.glob("ledger.db*"):
            file.write_bytes(b"no database any more" * 1_000)

    with pytest.raises(LedgerUnavailableError):
        await RunGraph().add_task("a", body).compile(ledger=ledger).ainvoke({"inputs": {}})
    run = traced.one("invoke_workflow")
    assert (run.attributes["lcr.run.state"], run.attributes["error.type"]) == ("failed", "ledger_unavailable")
    assert run.status.status_code is StatusCode.ERROR
    assert traced.one("execute_tool a").attributes["error.type"] == "ledger_unavailable"


async def test_a_task_that_timed_out_carries_our_code_and_the_figures(traced):
    async def slow(_inputs):
        await asyncio.Event().wait()

    with pytest.raises(RunFailedError):
        await RunGraph().add_task("slow", slow, timeout_ms=20).compile().ainvoke({"inputs": {}})
    span = traced.one("execute_tool slow")
    assert span.attributes["error.type"] == "task_timeout"
    assert "within 20 ms" in span.status.description


@every_mode
@every_way
async def test_a_resumed_run_is_a_span_of_its_own_with_what_it_took_itself(traced, call, mode, sync):
    model = ScriptedChatModel(script=["one two three"])
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd("0.01")), model=model)
    graph.add_task("ask", prompt="count").add_task("a", Flaky(), deps=["ask"])
    app = graph.compile(price_as=PRICES, checkpointer=InMemorySaver(), mode=mode)
    with pytest.raises(RunFailedError):
        await call(app, sync, {"inputs": {}}, THREAD)
    await call(app, sync, None, THREAD)
    first, second = traced.all("invoke_workflow")
    assert first.attributes["lcr.run.id"] == second.attributes["lcr.run.id"]
    assert [run.attributes["lcr.run.state"] for run in (first, second)] == ["failed", "completed"]
    assert first.attributes["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.usage.output_tokens" not in second.attributes
    assert second.attributes["lcr.budget.spent"] == first.attributes["lcr.cost.amount"]
    assert traced.names.count("execute_tool ask") == 1
    assert [span.parent.span_id for span in traced.all("execute_tool a")] == [
        first.context.span_id,
        second.context.span_id,
    ]


@every_mode
@every_way
async def test_a_task_that_asks_a_human_is_suspended_and_no_error(traced, call, mode, sync):
    app = RunGraph().add_task("ask", lambda _: interrupt("which?")).compile(checkpointer=InMemorySaver(), mode=mode)
    await call(app, sync, {"inputs": {}}, THREAD)
    await call(app, sync, Command(resume="this"), THREAD)
    first, second = traced.all("execute_tool ask")
    assert [span.attributes["lcr.task.state"] for span in (first, second)] == ["suspended", "completed"]
    runs = traced.all("invoke_workflow")
    assert [run.attributes["lcr.run.state"] for run in runs] == ["suspended", "completed"]
    assert {span.status.status_code for span in traced.spans} == {StatusCode.UNSET}


async def test_a_refused_task_that_never_ran_is_an_error_all_the_same(traced):
    graph = RunGraph(RunPolicy(budget_limit=Cost.usd("0.000000001"), on_exceed="raise"), model=ScriptedChatModel())
    graph.add_task("ask", prompt="What is it?").add_task("after", lambda _: 1, deps=["ask"])
    with pytest.raises(RunFailedError):
        await graph.compile(price_as=PRICES).ainvoke({"inputs": {}})
    span = traced.one("execute_tool ask")
    assert span.attributes["error.type"] == "budget_exceeded"
    assert span.status.status_code is StatusCode.ERROR
    assert "does not fit" in span.status.description
    run = traced.one("invoke_workflow")
    refusal = next(event for event in run.events if event.name == "lcr.budget.refused")
    assert refusal.attributes["lcr.task.id"] == "ask"
    assert refusal.attributes["lcr.budget.action"] == "raise"
    assert refusal.attributes["lcr.budget.scope"] == f"run:{run.attributes['lcr.run.id']}"
    assert refusal.attributes["lcr.budget.currency"] == "USD"


async def test_a_view_that_was_made_to_fit_is_an_event(traced):
    policy = ContextPolicy(max_tokens=200)
    graph = RunGraph(RunPolicy(context=policy), model=ScriptedChatModel())
    graph.add_task("a", lambda _: "word " * 2_000).add_task("ask", prompt="Sum up", deps=["a"])
    await graph.compile().ainvoke({"inputs": {}})
    events = [event for span in traced.spans for event in span.events if event.name == "lcr.context.compacted"]
    assert events
    assert events[0].attributes["lcr.context.tokens_before"] > events[0].attributes["lcr.context.tokens_after"]


async def test_children_of_a_list_share_a_name_and_keep_their_ids(traced):
    graph = RunGraph().add_task("parts", lambda _: ["x", "y"])
    graph.add_task("each", lambda inputs: inputs["part"], deps=["parts"], for_each=ForEach(task="parts", as_="part"))
    await graph.compile().ainvoke({"inputs": {}})
    children = traced.all("execute_tool each")
    assert sorted(span.attributes["lcr.task.id"] for span in children) == ["each#0", "each#1"]


async def test_a_result_taken_from_an_equal_task_is_an_event_and_no_span(traced):
    app = RunGraph(model=ScriptedChatModel()).add_task("a", prompt="same", cache=True).compile()
    await app.ainvoke({"inputs": {}})
    await app.ainvoke({"inputs": {}})
    assert len(traced.all("execute_tool a")) == 1
    (event,) = traced.all("invoke_workflow")[1].events
    assert dict(event.attributes) == {"lcr.task.id": "a", "lcr.task.state": "completed"}


@every_way
async def test_a_run_in_a_body_is_below_the_task_that_called_it(traced, call, sync):
    inner = RunGraph(name="inner").add_task("leaf", sync_body).compile()
    outer = RunGraph(name="outer").add_task("calls", lambda inputs: inner.invoke({"inputs": {}})["run"].id)
    await call(outer.compile(), sync, {"inputs": {}})
    assert traced.parent_of(traced.one("invoke_workflow inner")) == "execute_tool calls"
    assert traced.parent_of(traced.one("inside")) == "execute_tool leaf"


async def test_a_body_that_calls_a_langgraph_task_is_one_span_though_it_ran_twice(traced):
    from langgraph.func import task

    ran = []

    @task
    async def step():
        return 1

    async def body(_inputs):
        ran.append(1)
        return await step()

    app = RunGraph().add_task("a", body).compile(checkpointer=InMemorySaver())
    await app.ainvoke({"inputs": {}}, THREAD)
    assert len(ran) == 2
    span = traced.one("execute_tool a")
    assert span.attributes["lcr.task.state"] == "completed"
    assert span.status.status_code is StatusCode.UNSET


async def test_nothing_of_a_run_stays_current_after_it(traced):
    await RunGraph().add_task("a", async_body).compile().ainvoke({"inputs": {}})
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_runs_in_several_threads_keep_their_traces_apart(traced):
    app = RunGraph().add_task("a", sync_body).compile()

    def request(number):
        with user_span(f"request {number}"):
            app.invoke({"inputs": {}})

    threads = [threading.Thread(target=request, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_trace = {}
    for span in traced.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span.name)
    assert sorted(len(names) for names in by_trace.values()) == [4, 4, 4, 4]

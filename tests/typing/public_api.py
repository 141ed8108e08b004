"""What a type checker must know of the public names: checked by mypy, never run."""

from decimal import Decimal
from typing import Any, assert_type

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph

from langchain_runtime import (
    Budget,
    BudgetCallbackHandler,
    BudgetedChatModel,
    BudgetMiddleware,
    CompactingChatMessageHistory,
    CompactionMiddleware,
    CompiledRunGraph,
    ContextPolicy,
    Cost,
    ExtractiveChatModel,
    MemoryManager,
    Run,
    RunGraph,
    RunPolicy,
    RunReport,
    TaskResult,
    Usage,
    UsageCallbackHandler,
    budget_scope,
    compact_messages,
    track_usage,
    with_budget,
)
from langchain_runtime.graph import RunPlan, WhatIf


def money() -> None:
    cost = Cost.usd("0.50")
    assert_type(cost.amount, Decimal)
    assert_type(cost.nano, int)
    assert_type(Cost.from_nano(5, "USD"), Cost)
    Cost.usd(0.5)  # type: ignore[arg-type]  # no floats
    assert_type(Budget.usd("0.50", scope="user:42"), Budget)


def a_model_stays_its_own_class(model: ChatOpenAI, any_model: BaseChatModel) -> None:
    assert_type(with_budget(model, Budget.usd("1")), ChatOpenAI)
    assert_type(with_budget(any_model, None), BaseChatModel)
    assert_type(with_budget(ExtractiveChatModel(), None), ExtractiveChatModel)
    guarded: object = with_budget(model, None)
    if isinstance(guarded, BudgetedChatModel):
        guarded.invoke("hello")


def scopes() -> None:
    with budget_scope(Budget.usd("1")) as scope:
        assert_type(scope.spent, Cost)
        assert_type(scope.remaining, Cost | None)
    with track_usage() as usage:
        assert_type(usage, UsageCallbackHandler)
    assert_type(BudgetCallbackHandler(Budget.usd("1")).scope.held, Cost)


def a_graph() -> None:
    graph = RunGraph(RunPolicy(max_parallelism=4, budget_limit=Cost.usd("1")), model="extractive", name="typed")
    assert_type(graph.add_task("a", prompt="Say hello to {name}"), RunGraph)
    graph.add_task("b", lambda inputs: len(inputs["a"]), deps=["a"])
    app = graph.compile(checkpointer=InMemorySaver())
    assert_type(app, CompiledRunGraph)
    compiled: CompiledStateGraph[Any, Any, Any, Any] = app
    as_runnable: Runnable[Any, Any] = compiled
    assert_type(app.plan({"name": "you"}), RunPlan)
    run = app.get_run({"configurable": {"thread_id": "1"}})
    assert_type(run, Run)
    assert_type(run.usage, Usage)
    assert_type(run.usage.cost, Cost | None)
    result = run.tasks["a"].outputs
    assert_type(result, TaskResult | None)
    assert_type(app.what_if(run, max_parallelism=8), WhatIf)
    as_runnable.invoke({"inputs": {}})


def reports(run: Run) -> None:
    report = RunReport(run)
    assert_type(report.to_text(80), str)
    assert_type(report.to_html("report.html"), str)
    assert_type(report.to_json(), dict[str, Any])


def context(memory: MemoryManager) -> None:
    policy = ContextPolicy(max_tokens=8_000)
    history = CompactingChatMessageHistory("session", policy=policy)
    assert_type(history.messages, list[BaseMessage])
    compact_messages(policy=policy).invoke([])
    CompactionMiddleware(policy)
    BudgetMiddleware(Budget.usd("1"))
    memory.put("run", "key", "value")

"""From a run, its account and its journal to the figures of its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from langchain_runtime.contracts.budget import Balance
from langchain_runtime.contracts.events import CallSettled, LifecycleEvent
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import Run, Task
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.report.figures import ModelFigures, RunFigures, SpendPoint, TaskFigures, Total
from langchain_runtime.report.incidents import incidents_of
from langchain_runtime.report.timing import Clock, Span, children_of, critical_path, spans_of


def figures_of(run: Run, *, balance: Balance | None = None, events: Sequence[LifecycleEvent] = ()) -> RunFigures:
    """Compute the report of ``run``.

    Args:
        run: The run.
        balance: Its budget's account; without it, held and forfeited are unknown.
        events: Its journal; without it, retries and compactions are unknown, and spending grows by tasks.
    """
    spans = spans_of(run.tasks, last_sign=_last_sign(run, events))
    clock = Clock.of(spans.values(), default=run.created_at)
    path = critical_path(run.tasks, spans, clock)
    tasks = _tasks(run, spans, clock, critical={step.task for step in path})
    limit = balance.limit if balance is not None else run.policy.budget_limit
    currency = _currency_of(run, balance, limit)
    leaves = [task for task in tasks if not task.children]
    total = Total.of((task.usage for task in leaves), currency)
    usage = run.usage if run.usage != Usage() else Usage(tokens=total.tokens, cost=total.cost)
    return RunFigures(
        id=run.id,
        state=run.state,
        created_at=run.created_at,
        updated_at=run.updated_at,
        currency=currency,
        tasks=tasks,
        states=Counter(task.state for task in tasks),
        usage=usage,
        spent=_spent(usage, balance),
        complete=total.complete,
        limit=limit,
        held=None if balance is None else balance.held,
        forfeited=None if balance is None else balance.forfeited,
        clock=clock,
        duration=max(clock.seconds(span.end) for span in spans.values()) if spans else None,
        work=sum(task.seconds or 0.0 for task in leaves),
        path=path,
        models=_by_model(leaves, events, currency),
        spending=_spending(run, events, clock, currency),
        incidents=incidents_of(run, events),
    )


def _tasks(run: Run, spans: Mapping[str, Span], clock: Clock, *, critical: set[str]) -> tuple[TaskFigures, ...]:
    children = children_of(run.tasks)
    tasks = [
        TaskFigures(
            id=task.id,
            state=task.state,
            model=task.model,
            deps=tuple(task.deps),
            attempts=task.attempts,
            usage=_usage_of(task),
            began=clock.seconds(spans[task.id].start) if task.id in spans else None,
            seconds=spans[task.id].seconds if task.id in spans else None,
            output=None if task.outputs is None else task.outputs.output,
            outputs={} if task.outputs is None else task.outputs.outputs,
            error=task.error,
            skipped_because=task.skipped_because,
            critical=task.id in critical,
            children=len(children.get(task.id, ())),
        )
        for task in run.tasks.values()
    ]
    # sorted() is stable: equal starts, and tasks that never started, keep the order they were added in.
    return tuple(sorted(tasks, key=lambda task: float("inf") if task.began is None else task.began))


def _last_sign(run: Run, events: Sequence[LifecycleEvent]) -> datetime:
    ends = [task.ended_at for task in run.tasks.values() if task.ended_at is not None]
    starts = [task.started_at for task in run.tasks.values() if task.started_at is not None]
    return max([run.updated_at, *ends, *starts, *(event.at for event in events)])


def _usage_of(task: Task) -> Usage | None:
    if task.actual_use is not None or task.outputs is None:
        return task.actual_use
    return task.outputs.usage


def _currency_of(run: Run, balance: Balance | None, limit: Cost | None) -> str:
    if balance is not None:
        return balance.scope.currency
    costs = [limit, run.usage.cost, *map(_cost_of, run.tasks.values())]
    return next((cost.currency for cost in costs if cost is not None), "USD")


def _cost_of(task: Task) -> Cost | None:
    usage = _usage_of(task)
    return None if usage is None else usage.cost


def _spent(usage: Usage, balance: Balance | None) -> Cost | None:
    if balance is None:
        return usage.cost
    # Nothing charged for tokens that nobody has a price for does not mean that they were free.
    unpriced = balance.spent_nano == 0 and usage.cost is None and usage.tokens.total > 0
    return None if unpriced else balance.spent


def _by_model(
    tasks: Sequence[TaskFigures], events: Sequence[LifecycleEvent], currency: str
) -> tuple[ModelFigures, ...]:
    """Tasks by their model; the calls of bodies without one by the model that each call names."""
    calls: dict[str, list[CallSettled]] = {}
    for event in events:
        if isinstance(event, CallSettled) and event.task is not None and event.model is not None:
            calls.setdefault(event.task, []).append(event)
    usages: dict[str | None, list[Usage]] = {}
    users: dict[str | None, set[str]] = {}
    for task in tasks:
        if task.usage is None:
            continue
        shares = [(task.model, task.usage)]
        if task.model is None and task.id in calls:
            shares = [(call.model, Usage(tokens=call.usage or TokenUsage(), cost=call.cost)) for call in calls[task.id]]
        for model, usage in shares:
            if model is not None or usage.tokens.total or usage.cost is not None:
                usages.setdefault(model, []).append(usage)
                users.setdefault(model, set()).add(task.id)
    rows = [ModelFigures(model, len(users[model]), Total.of(used, currency)) for model, used in usages.items()]
    return tuple(sorted(rows, key=lambda row: (-(row.total.cost.nano if row.total.cost else 0), row.model or "")))


def _spending(run: Run, events: Sequence[LifecycleEvent], clock: Clock, currency: str) -> tuple[SpendPoint, ...]:
    """How spending grew: by settled calls where the journal is known, else by tasks that ended."""
    settled = [event for event in events if isinstance(event, CallSettled)]
    steps = [(event.at, event.cost) for event in settled if event.cost is not None]
    if not steps:
        parents = children_of(run.tasks)
        steps = [
            (task.ended_at, cost)
            for task in run.tasks.values()
            if task.ended_at is not None and task.id not in parents and (cost := _cost_of(task)) is not None
        ]
    nano = 0
    points = []
    for at, cost in sorted(steps, key=lambda step: step[0]):
        if cost.currency == currency:
            nano += cost.nano
            points.append(SpendPoint(clock.seconds(at), nano))
    return tuple(points)

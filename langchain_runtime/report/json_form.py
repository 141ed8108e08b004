"""The run report as JSON, for programs: nothing shortened, unknown figures as null."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.report.figures import RunFigures, TaskFigures, Total


def as_json(figures: RunFigures) -> dict[str, Any]:
    """The figures as JSON values; money is ``{"amount": "0.12", "currency": "USD"}``, times are ISO 8601 in UTC."""
    return {
        "id": figures.id,
        "state": figures.state.value,
        "created_at": _moment(figures.created_at),
        "updated_at": _moment(figures.updated_at),
        "spent": _money(figures.spent),
        "spent_is_complete": figures.complete,
        "limit": _money(figures.limit),
        "held": _money(figures.held),
        "forfeited": _money(figures.forfeited),
        "usage": _usage(figures.usage),
        "seconds": figures.duration,
        "task_seconds": figures.work,
        "paused_seconds": figures.paused,
        "critical_path": [
            {"task": step.task, "seconds": step.seconds, "waited": step.waited, "queued": step.queued}
            for step in figures.path
        ],
        "tasks": {task.id: _task(task) for task in figures.tasks},
        "models": [{"model": row.model, "tasks": row.tasks, **_total(row.total)} for row in figures.models],
        "retries": _incidents(figures, "retries"),
        "warnings": _incidents(figures, "warnings"),
        "compactions": [
            {
                "task": item.task,
                "times": item.times,
                "strategy": list(item.strategy),
                "tokens_before": item.tokens_before,
                "tokens_after": item.tokens_after,
                "evicted": item.evicted,
                "clipped": item.clipped,
                "recalls": item.recalls,
                "summary": _usage(item.summary),
            }
            for item in figures.incidents.compactions
        ],
    }


def _task(task: TaskFigures) -> dict[str, Any]:
    return {
        "state": task.state.value,
        "output": task.output,
        "outputs": task.outputs,
        "cost": _money(task.cost),
        "usage": None if task.usage is None else _usage(task.usage),
        "attempts": task.attempts,
        "model": task.model,
        "deps": list(task.deps),
        "began": task.began,
        "seconds": task.seconds,
        "critical": task.critical,
        "error": None if task.error is None else task.error.model_dump(mode="json"),
        "skipped_because": task.skipped_because,
    }


def _incidents(figures: RunFigures, kind: str) -> list[dict[str, Any]]:
    return [{"what": item.what, "tasks": list(item.tasks)} for item in getattr(figures.incidents, kind)]


def _total(total: Total) -> dict[str, Any]:
    return {
        "usage": _usage(Usage(tokens=total.tokens, cost=total.cost)),
        "cost": _money(total.cost),
        "cost_is_complete": total.complete,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return usage.model_dump(mode="json")


def _money(cost: Cost | None) -> dict[str, Any] | None:
    return None if cost is None else cost.model_dump(mode="json")


def _moment(moment: datetime) -> str:
    return moment.isoformat()

"""Runs to report on, made of the real records."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from langchain_runtime.contracts.budget import Balance, Scope
from langchain_runtime.contracts.events import (
    BudgetRefused,
    CallReserved,
    CallSettled,
    ContextCompacted,
    LifecycleEvent,
    RunEnded,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskRetried,
    TaskStarted,
)
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import Run, RunPolicy, RunState, Task, TaskError, TaskResult, TaskState
from langchain_runtime.contracts.usage import TokenUsage, Usage

T0 = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MINI, HAIKU = "openai:gpt-5.5-mini", "anthropic:claude-haiku-4-5"


class Make:
    """Short ways to the records that a report reads; times are seconds after 9:00."""

    T0 = T0
    MINI = MINI
    HAIKU = HAIKU

    @staticmethod
    def at(seconds: float) -> datetime:
        return T0 + timedelta(seconds=seconds)

    @staticmethod
    def usage(tokens_in: int = 0, tokens_out: int = 0, usd: str | None = None) -> Usage:
        return Usage(tokens=TokenUsage(input=tokens_in, output=tokens_out), cost=None if usd is None else Cost.usd(usd))

    @classmethod
    def done(
        cls, id_: str, start: float, end: float, *, deps: Iterable[str] = (), usd: str | None = "0.01", **fields
    ) -> Task:
        usage = fields.pop("usage", cls.usage(1000, 100, usd))
        output, metadata = fields.pop("output", f"output of {id_}"), fields.pop("metadata", {})
        return Task(
            id=id_,
            state=TaskState.COMPLETED,
            deps=list(deps),
            started_at=cls.at(start),
            ended_at=cls.at(end),
            actual_use=usage,
            outputs=TaskResult(output=output, usage=usage or Usage(), metadata=metadata),
            **{"attempts": 1, "model": MINI, **fields},
        )

    @classmethod
    def failed(cls, id_: str, start: float, end: float, *, message: str = "it broke", **fields) -> Task:
        return Task(
            id=id_,
            state=TaskState.FAILED,
            started_at=cls.at(start),
            ended_at=cls.at(end),
            error=TaskError(code="task_failed", message=message),
            actual_use=cls.usage(500, 0, "0.001"),
            **{"attempts": 1, "model": MINI, **fields},
        )

    @staticmethod
    def skipped(id_: str, *, because: str = "dependency a failed", deps: Iterable[str] = ()) -> Task:
        return Task(id=id_, state=TaskState.SKIPPED, skipped_because=because, deps=list(deps), ended_at=T0)

    @staticmethod
    def pending(id_: str, *, deps: Iterable[str] = ()) -> Task:
        return Task(id=id_, deps=list(deps))

    @classmethod
    def run(
        cls,
        *tasks: Task,
        state: RunState = RunState.COMPLETED,
        limit: str | None = "0.50",
        usage: Usage | None = None,
        id_: str = "brief-1",
    ) -> Run:
        ends = [task.ended_at for task in tasks if task.ended_at is not None]
        return Run(
            id=id_,
            state=state,
            policy=RunPolicy(budget_limit=None if limit is None else Cost.usd(limit)),
            tasks={task.id: task for task in tasks},
            usage=usage or Usage(),
            created_at=T0,
            updated_at=max([T0, *ends]),
        )

    @staticmethod
    def balance(
        *, spent: str = "0.00", held: str = "0.00", forfeited: str = "0.00", limit: str | None = "0.50"
    ) -> Balance:
        scope = Scope(name="run:brief-1", limit_nano=None if limit is None else Cost.usd(limit).nano)
        nano = {"spent_nano": spent, "held_nano": held, "forfeited_nano": forfeited}
        return Balance(scope=scope, **{name: Cost.usd(value).nano for name, value in nano.items()})

    # events
    @classmethod
    def started(cls, tasks: int, *, finished: int = 0, limit: str | None = "0.50", at: float = 0) -> RunStarted:
        budget = None if limit is None else Cost.usd(limit)
        return RunStarted(run_id="brief-1", at=cls.at(at), tasks=tasks, finished=finished, limit=budget)

    @classmethod
    def ended(cls, at: float, *, state: RunState = RunState.COMPLETED, usage: Usage | None = None, reason=None):
        return RunEnded(run_id="brief-1", at=cls.at(at), state=state, usage=usage or Usage(), reason=reason)

    @classmethod
    def task_ready(cls, task: str, at: float = 0) -> TaskReady:
        return TaskReady(run_id="brief-1", at=cls.at(at), task=task)

    @classmethod
    def task_started(cls, task: str, at: float = 0, *, attempt: int = 1, model: str | None = MINI) -> TaskStarted:
        return TaskStarted(run_id="brief-1", at=cls.at(at), task=task, attempt=attempt, model=model)

    @classmethod
    def task_retried(cls, task: str, at: float = 0, *, attempt: int = 1, message: str = "429") -> TaskRetried:
        error = TaskError(code="task_failed", message=message)
        return TaskRetried(run_id="brief-1", at=cls.at(at), task=task, attempt=attempt, error=error)

    @classmethod
    def task_finished(
        cls,
        task: str,
        at: float = 0,
        *,
        state: TaskState = TaskState.COMPLETED,
        usage: Usage | None = None,
        message: str | None = None,
    ) -> TaskFinished:
        error = None if message is None else TaskError(code="task_failed", message=message)
        return TaskFinished(
            run_id="brief-1", at=cls.at(at), task=task, state=state, attempts=1, usage=usage or Usage(), error=error
        )

    @classmethod
    def reserved(cls, task: str | None, usd: str, *, id_: str = "r1", at: float = 0) -> CallReserved:
        return CallReserved(
            run_id="brief-1", at=cls.at(at), task=task, reservation_id=id_, worst_case=Cost.usd(usd), model=MINI
        )

    @classmethod
    def settled(
        cls, task: str | None, usd: str, *, id_: str = "r1", at: float = 0, model: str | None = MINI, tokens: int = 100
    ) -> CallSettled:
        return CallSettled(
            run_id="brief-1",
            at=cls.at(at),
            task=task,
            reservation_id=id_,
            cost=Cost.usd(usd),
            usage=TokenUsage(input=tokens, output=10),
            model=model,
        )

    @classmethod
    def refused(cls, task: str | None, action: str, *, at: float = 0) -> BudgetRefused:
        return BudgetRefused(
            run_id="brief-1", at=cls.at(at), task=task, scope="run:brief-1", action=action, needed=Cost.usd("0.03")
        )

    @classmethod
    def compacted(cls, task: str, *, before: int = 9000, after: int = 4000, at: float = 0) -> ContextCompacted:
        return ContextCompacted(
            run_id="brief-1",
            at=cls.at(at),
            task=task,
            strategy=("offload",),
            tokens_before=before,
            tokens_after=after,
            evicted=12,
            clipped=1,
        )

    @classmethod
    def recalled(cls, task: str, *, recalls: int = 1, summary: Usage | None = None, at: float = 0) -> ContextCompacted:
        return ContextCompacted(
            run_id="brief-1",
            at=cls.at(at),
            task=task,
            strategy=(),
            tokens_before=0,
            tokens_after=0,
            evicted=0,
            clipped=0,
            recalls=recalls,
            summary=summary or Usage(),
        )

    @classmethod
    def large(cls, number: int, *, parallelism: int = 8) -> Run:
        """A run of ``number`` equal tasks without dependencies; every 50th failed."""
        tasks = [
            (cls.failed if place % 50 == 49 else cls.done)(
                f"task-{place:05}", place // parallelism * 2.0, place // parallelism * 2.0 + 1.5 + place % 3 * 0.2
            )
            for place in range(number)
        ]
        return cls.run(*tasks, state=RunState.FAILED)

    @classmethod
    def brief(cls) -> tuple[Run, Balance, list[LifecycleEvent]]:
        """A run in which everything that a report can show happened."""
        long = "The evidence, quoted at length, says this and that about it. " * 8
        tasks = [
            cls.done("outline", 0, 2.1, usd="0.0012", output="1. Risks  2. Costs  3. Ways out"),
            cls.done("facts", 2.1, 9.4, deps=["outline"], usd="0.0234", model=HAIKU, attempts=3, output=long),
            cls.done("figures", 2.1, 5.0, deps=["outline"], usd="0.004", metadata={"finish_reason": "length"}),
            cls.done("quotes", 2.15, 4.0, deps=["outline"], usage=cls.usage(800, 90), model="acme:unpriced-1"),
            cls.failed("images", 2.2, 3.3, deps=["outline"], message="the host answered 404 to every request"),
            cls.skipped("captions", because="dependency images failed", deps=["images"]),
            cls.done("draft", 10.4, 22.7, deps=["facts", "figures", "quotes"], usd="0.031", model=HAIKU, output=long),
            cls.done("check", 22.7, 23.0, deps=["draft"], usage=None, model=None, output={"ok": True, "issues": []}),
        ]
        events: list[LifecycleEvent] = [
            cls.started(8),
            cls.task_retried("facts", 3.0, message="rate limited: 429 Too Many Requests"),
            cls.task_retried("facts", 4.0, attempt=2, message="rate limited: 429 Too Many Requests"),
            cls.refused("draft", "wait", at=9.4),
            cls.compacted("draft", at=10.4),
            cls.settled("outline", "0.0012", id_="1", at=2.1),
            cls.settled("figures", "0.004", id_="2", at=5.0),
            cls.settled("facts", "0.0234", id_="3", at=9.4),
            cls.settled("draft", "0.031", id_="4", at=22.7),
            cls.ended(23.0, state=RunState.FAILED),
        ]
        run = cls.run(*tasks, state=RunState.FAILED, limit="0.10", usage=cls.usage(6300, 590, "0.0606"))
        return run, cls.balance(spent="0.0646", forfeited="0.004", held="0.01", limit="0.10"), events


@pytest.fixture
def make() -> type[Make]:
    return Make

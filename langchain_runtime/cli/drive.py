"""Drives a run from the command line: lock, index, live view, report, exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from langchain_runtime.cli.failures import EXIT_BUDGET, EXIT_FAILED, print_error
from langchain_runtime.cli.home import Persistence
from langchain_runtime.cli.launch import Launch
from langchain_runtime.cli.run_lock import driving
from langchain_runtime.contracts.budget import Balance
from langchain_runtime.contracts.errors import BudgetExceededError, BudgetNotSetError
from langchain_runtime.contracts.events import parse_event
from langchain_runtime.contracts.run import Run, RunState
from langchain_runtime.report import RunReport, open_live_view

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from langchain_runtime.graph import CompiledRunGraph

Present = Callable[[RunReport, Run], None]
"""Prints what a run produced."""


def drive(launch: Launch, present: Present) -> None:
    """Check the run, drive it to its end and show what came of it.

    Raises:
        LangChainRuntimeError: It cannot be started.
        KeyboardInterrupt: With a note on how to go on.
        typer.Exit: The run did not complete.
    """
    # What is wrong is refused here, before anything is written or spent.
    launch.compile().check(launch.record.inputs)
    models = launch.open_models()
    launch.home.create()
    run_id = launch.record.run_id
    with driving(launch.home.lock_file(run_id), run_id):
        if not launch.resumed:
            launch.home.index().add(launch.record)
        typer.echo(f"run {run_id}")
        try:
            report, run, question = asyncio.run(_drive(launch, models))
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"interrupted; what is finished is kept. Go on with: {launch.resume_command}")
            raise
        _note(launch, run.state)
    present(report, run)
    if question is not None:
        _exit_asking(launch, question)
    _exit_unless_completed(run, launch.resume_command)


async def _drive(launch: Launch, models: dict[str, BaseChatModel]) -> tuple[RunReport, Run, dict[str, Any] | None]:
    async with launch.home.persistence() as kept:
        graph = launch.compile(checkpointer=kept.checkpointer, store=kept.store, ledger=kept.ledger, models=models)
        if launch.resumed:
            # The run's lock is ours, so whoever held money for it is dead: its leases need not be waited out.
            await kept.ledger.aabandon(launch.record.run_id)
        if launch.limit_changed:
            await _change_limit(launch, kept)
            _note(launch, RunState.RUNNING)
        started = launch.resumed and (await graph.aget_state(launch.config)).created_at is not None
        # A run that died before its first checkpoint starts anew, but what its journal holds is not bought again.
        given = None if started else {"inputs": launch.record.inputs}
        with open_live_view(sys.stderr, limit=launch.run_file.policy.budget_limit) as view:
            async for event in graph.astream(given, launch.config, stream_mode="custom"):
                view.feed(parse_event(event))
        report, run = await read_report(launch, graph, kept)
        interrupts = (await graph.aget_state(launch.config)).interrupts
        return report, run, interrupts[0].value if interrupts else None


async def _change_limit(launch: Launch, kept: Persistence) -> None:
    limit = launch.run_file.policy.budget_limit
    assert limit is not None  # --budget was given
    try:
        await kept.ledger.aset_limit(f"run:{launch.record.run_id}", limit.nano)
    except BudgetNotSetError:
        return  # it died before its first call: the scope will be opened with the new limit


async def read_report(launch: Launch, graph: CompiledRunGraph, kept: Persistence) -> tuple[RunReport, Run]:
    """The run as it stands, with its account and its journal."""
    run = await graph.aget_run(launch.config)
    events = [event for _, event in await kept.ledger.aevents(run.id)]
    return RunReport(run, balance=await read_balance(run.id, kept), events=events), run


async def read_balance(run_id: str, kept: Persistence) -> Balance | None:
    """The account of a run; None for one that has not opened it."""
    try:
        return await kept.ledger.abalance(f"run:{run_id}")
    except BudgetNotSetError:
        return None


def _note(launch: Launch, state: RunState) -> None:
    record = launch.record
    launch.home.index().update(record.run_id, state=state.value, run_file=record.run_file, model=record.model)


def _exit_asking(launch: Launch, question: Any) -> NoReturn:
    """The run waits for a human, who answers by resuming it."""
    run_id = launch.record.run_id
    if isinstance(question, dict) and question.get("type") == BudgetExceededError.code:
        figures = "spent {spent} of {limit} {currency}, needs up to {needs} more".format(**question)
        hint = f"raise the limit: {launch.resume_command} --budget AMOUNT"
        print_error(BudgetExceededError.code, f"run {run_id} waits for money: {figures}", hint=hint)
        raise typer.Exit(EXIT_BUDGET)
    print_error("run_interrupted", f"run {run_id} waits for an answer to {question!r}", hint="resume it from Python")
    raise typer.Exit(EXIT_FAILED)


def _exit_unless_completed(run: Run, resume_command: str) -> None:
    if run.state is RunState.COMPLETED:
        return
    failed = [task for task in run.tasks.values() if task.error is not None]
    codes = {task.error.code for task in failed if task.error is not None}
    on_budget = BudgetExceededError.code in codes
    code = BudgetExceededError.code if on_budget else f"run_{run.state.value}"
    first = f": {failed[0].id}: {failed[0].error.message}" if failed and failed[0].error else ""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    hint = f"{resume_command} --budget AMOUNT" if on_budget else resume_command
    print_error(
        code, f"run {run.id} {run.state.value}{first}{more}", hint=f"what is finished is kept; go on with: {hint}"
    )
    raise typer.Exit(EXIT_BUDGET if on_budget else EXIT_FAILED)

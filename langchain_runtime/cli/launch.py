"""What is to be run: from the command line for a new run, from the index for one that goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import typer

from langchain_runtime.cli.home import Home
from langchain_runtime.cli.inputs import parse_budget
from langchain_runtime.cli.model_choice import ModelChoice, choose_model
from langchain_runtime.cli.run_index import RunRecord
from langchain_runtime.contracts.errors import InvalidInputError, RunCompletedError
from langchain_runtime.contracts.run import RunState
from langchain_runtime.contracts.run_file import RunFile

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig

    from langchain_runtime.graph import CompiledRunGraph


@dataclass(frozen=True)
class Launch:
    """A run that was checked and can be driven.

    Attributes:
        home: Where it is kept.
        record: What it is; ``record.options`` are ``allow_code`` and ``price_as``.
        resumed: Whether it goes on, rather than starts.
        limit_changed: Whether ``--budget`` raised or lowered the limit of a run that goes on.
    """

    home: Home
    record: RunRecord
    resumed: bool = False
    limit_changed: bool = False

    @property
    def run_file(self) -> RunFile:
        """The tasks and the policy."""
        return RunFile.parse(self.record.run_file, source=f"run {self.record.run_id}")

    @property
    def config(self) -> RunnableConfig:
        """The run's address in the checkpointer and in the ledger."""
        run_id = self.record.run_id
        return {"configurable": {"thread_id": run_id, "run_id": run_id, "continue_run": self.resumed}}

    @property
    def resume_command(self) -> str:
        """What to type to go on."""
        return f"lcr run --resume {self.record.run_id}{self.home.option}"

    def open_models(self) -> dict[str, BaseChatModel]:
        """Every model that a prompt of the run may be answered by, opened.

        Raises:
            InputError: A model is unknown, or its package or key is missing.
        """
        from langchain_runtime.graph.models import open_model

        return {name: open_model(name) for name in self.compile().model_names}

    def compile(self, **persistence: Any) -> CompiledRunGraph:
        """The graph, ready to run; what is wrong with it is refused here."""
        from langchain_runtime.cost import default_catalog
        from langchain_runtime.graph import RunGraph

        options = self.record.options
        named = self.run_file.model_copy(update={"name": self.record.name})  # plans find earlier runs by it
        graph = RunGraph.from_run_file(named, allow_code=bool(options.get("allow_code")))
        like = options.get("price_as")
        price_as = {self.record.model: default_catalog().get(like).id} if like else {}
        return graph.compile(price_as=price_as, raise_on_failure=False, **persistence)


def new_launch(
    home: Home,
    run_file: RunFile,
    *,
    inputs: dict[str, Any],
    budget: str | None,
    model: str | None,
    options: dict[str, Any],
    name: str,
    kind: str = "run",
) -> Launch:
    """A new run: the file with the command line's options applied, nothing written yet."""
    from langchain_runtime.graph.run_ids import new_run_id

    choice = choose_model(explicit=model, of_file=run_file.model, environment=os.environ)
    applied = with_budget_limit(run_file.model_copy(update={"model": choice.model}), budget)
    announce(choice)
    record = RunRecord(
        run_id=new_run_id(),
        name=run_file.name or name,
        kind=kind,
        state=RunState.RUNNING.value,
        run_file=applied.model_dump(mode="json", by_alias=True, exclude_unset=True),
        inputs=inputs,
        model=choice.model,
        options=options,
    )
    return Launch(home, record)


def resumed_launch(home: Home, run_id: str, *, budget: str | None, model: str | None) -> Launch:
    """A run of the index that goes on, with another budget or model where they are given.

    Raises:
        RunNotFoundError: There is none.
        RunCompletedError: It has ended.
    """
    record = home.index().get(run_id)
    if record.state == RunState.COMPLETED.value:
        raise RunCompletedError(
            f"run {run_id} is completed", run_id=run_id, hint=f"`lcr report {run_id}` shows what it produced"
        )
    run_file = RunFile.parse(record.run_file, source=f"run {run_id}")
    choice = ModelChoice(model or record.model, "--model" if model else "as before")
    applied = with_budget_limit(run_file.model_copy(update={"model": choice.model}), budget)
    announce(choice)
    record = replace(
        record, run_file=applied.model_dump(mode="json", by_alias=True, exclude_unset=True), model=choice.model
    )
    return Launch(home, record, resumed=True, limit_changed=budget is not None)


def with_budget_limit(run_file: RunFile, budget: str | None) -> RunFile:
    """The run file with ``--budget`` in its policy; unchanged without one."""
    if budget is None:
        return run_file
    policy = run_file.policy.model_copy(update={"budget_limit": parse_budget(budget)})
    return run_file.model_copy(update={"policy": policy})


def announce(choice: ModelChoice) -> None:
    """Say which model was chosen and why."""
    typer.echo(str(choice), err=True)


def refuse_with_resume(**given: object) -> None:
    """Refuse options that a run keeps from its start.

    Raises:
        InvalidInputError: One of them was given.
    """
    for name, value in given.items():
        if value:
            raise InvalidInputError(
                f"--resume continues a run as it was started; {name} cannot be changed",
                hint="leave it out, or start a new run",
            )

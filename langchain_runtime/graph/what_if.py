"""``what_if``: a finished run under other settings, from its record alone.

::

    Run ──> trace of its turns ──> replay under its own settings, replay under the others ──> WhatIf
    Run ──> tokens of its tasks ──> their price at their own models, at the others ──────────────┘
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import ModelLimits, Run, RunState, Task, TaskState
from langchain_runtime.contracts.usage import Usage
from langchain_runtime.graph.list_prices import ListPrices, PriceSource, other_prices
from langchain_runtime.graph.other_models import ModelChoice, models_chosen, models_of
from langchain_runtime.graph.virtual_pace import VirtualPace
from langchain_runtime.graph.what_if_result import ChangedTask, Totals, WhatIf, duration
from langchain_runtime.orchestration.replay import Settings, replay
from langchain_runtime.orchestration.task_ids import did_you_mean
from langchain_runtime.orchestration.trace import MICROSECONDS, Trace, trace_of

SecondsOn = Callable[[Task, str], float | None]
"""How long a task takes on a model, in seconds; None if nobody knows."""

_NAMED: Final = 5
"""Tasks or models named in a sentence."""


def what_if(
    run: Run,
    list_prices: ListPrices,
    *,
    models: ModelChoice | None = None,
    max_parallelism: int | None = None,
    per_model: Mapping[str, ModelLimits | Mapping[str, Any]] | None = None,
    prices: PriceSource | None = None,
    seconds_on: SecondsOn = lambda _task, _model: None,
    expected_seconds: Mapping[str, float] | None = None,
) -> WhatIf:
    """What a finished run would have taken and cost under other settings.

    Its tasks are played by the real planner in virtual time, each for as long as it took. The same tokens are priced
    at the other models and prices; nothing is called, and no budget stands in the way.

    Args:
        run: Completed, failed or aborted; of one that did not complete, what ran is replayed.
        list_prices: At which its graph is priced.
        models: Other models, ``provider:name`` or as the catalogue knows them, by a task's id (children of a
            ``for_each`` task by its id, too) or by the model they replace, or a function of the task that returns one
            or None. A task's own entry wins.
        max_parallelism: Tasks at a time; None as it was.
        per_model: Ceilings by model, in place of the policy's for these models; the others keep theirs.
        prices: Other prices: an overlay (mapping or YAML file) for the models that it names, or a catalogue for all.
        seconds_on: How long a task takes on another model.
        expected_seconds: By which the run's planner ordered ready tasks; None for what the graph's author gave.

    Raises:
        InputError: The run has not ended or has no times; an argument names a task or model that the run does not
            have, or is out of range.
    """
    _check_ended(run)
    question = _Question(
        run=run,
        trace=trace_of(run),
        prices=list_prices,
        new_prices=list_prices if prices is None else other_prices(prices, list_prices),
        models=models_chosen(run, models, list_prices.catalog),
        max_parallelism=_checked_parallelism(run, max_parallelism),
        limits=_checked_limits(per_model or {}),
        seconds_on=seconds_on,
        expected_seconds=expected_seconds
        or {task.id: task.expected_seconds for task in run.tasks.values() if task.expected_seconds is not None},
    )
    return question.answer()


def _check_ended(run: Run) -> None:
    if run.state in {RunState.PENDING, RunState.RUNNING}:
        raise InvalidInputError(
            f"run {run.id!r} is {run.state.value}: only a run that has ended can be replayed",
            hint="wait for its end; if it was interrupted, resume it with None as input, or abort it",
        )


def _checked_parallelism(run: Run, wanted: int | None) -> int:
    if wanted is None:
        return run.policy.max_parallelism
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise InvalidInputError(
            f"max_parallelism must be a whole number of 1 or more, got {wanted!r}",
            hint="leave it out to replay the run with as many tasks at a time as it had",
        )
    return wanted


def _checked_limits(per_model: Mapping[str, ModelLimits | Mapping[str, Any]]) -> dict[str, ModelLimits]:
    limits = {}
    for model, given in per_model.items():
        try:
            limits[model] = given if isinstance(given, ModelLimits) else ModelLimits.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise InvalidInputError(
                f"per_model[{model!r}]: {place}: {first['msg']}".replace(": : ", ": "),
                hint='write {"provider:name": {"parallelism": 4, "rpm": 60, "tpm": 100_000}}',
            ) from None
    return limits


@dataclass(frozen=True)
class _Question:
    """What is asked of a run, checked.

    Attributes:
        run: The run.
        trace: Its course.
        prices: At which its graph is priced.
        new_prices: At which it is to be priced; the same object if nothing else was asked.
        models: Other models by task.
        max_parallelism: Tasks at a time.
        limits: Ceilings that are asked for, by model.
        seconds_on: How long a task takes on another model.
        expected_seconds: By which the planner ordered ready tasks.
    """

    run: Run
    trace: Trace
    prices: ListPrices
    new_prices: ListPrices
    models: Mapping[str, str]
    max_parallelism: int
    limits: Mapping[str, ModelLimits]
    seconds_on: SecondsOn
    expected_seconds: Mapping[str, float]

    def answer(self) -> WhatIf:
        self._check_limited_models()
        policy = self.run.policy
        own = Settings(policy.max_parallelism, {name: each.parallelism for name, each in policy.per_model.items()})
        other = Settings(
            self.max_parallelism,
            {name: each.parallelism for name, each in self._all_limits.items()},
            self.models,
            self._seconds,
        )
        as_it_was = replay(self.trace, own, expected_seconds=self.expected_seconds)
        otherwise = replay(self.trace, other, expected_seconds=self.expected_seconds, pace=self._pace)
        recorded = _recorded_cost(self.run)
        slots = policy.max_parallelism
        return WhatIf(
            run_id=self.run.id,
            state=self.run.state,
            before=Totals(max_parallelism=slots, makespan_seconds=self.trace.makespan / MICROSECONDS, cost=recorded),
            replayed=Totals(
                max_parallelism=slots,
                makespan_seconds=as_it_was.seconds,
                cost=_with(recorded, self._own_prices()),
            ),
            after=Totals(
                max_parallelism=self.max_parallelism,
                makespan_seconds=otherwise.seconds,
                cost=_with(recorded, [(_cost(self.run.tasks[id_]), cost) for id_, cost in self._costs.items()]),
            ),
            changes=tuple(self._changes()),
            tasks=tuple(self._changed_tasks()),
            critical_path=otherwise.path,
            assumptions=tuple(self._assumptions()),
        )

    # --- time --------------------------------------------------------------------------------------------------------

    @cached_property
    def _all_limits(self) -> Mapping[str, ModelLimits]:
        return {**self.run.policy.per_model, **self.limits}

    def _check_limited_models(self) -> None:
        used = {*models_of(self.run), *self.models.values()}
        for model in self.limits:
            if model not in used:
                raise InvalidInputError(
                    f"per_model names {model!r}, which no task of run {self.run.id!r} is on",
                    hint=did_you_mean(model, used) or f"its models: {', '.join(sorted(used)) or 'none'}",
                )

    @cached_property
    def _pace(self) -> VirtualPace:
        """Paces the models whose limits are asked about, and those that tasks are moved to."""
        asked = {model for model in self.limits if _has_rates(self.limits[model]) or _has_rates(self._own(model))}
        moved_to = {model for model in self.models.values() if _has_rates(self._all_limits.get(model))}
        model_of = {task.id: self.models.get(task.id, task.model) for task in self.run.tasks.values()}
        tokens = {task.id: _usage(task).tokens.total for task in self.run.tasks.values() if task.id in self.trace.turns}
        return VirtualPace({model: self._all_limits[model] for model in asked | moved_to}, model_of, tokens)

    def _own(self, model: str) -> ModelLimits | None:
        return self.run.policy.per_model.get(model)

    @cached_property
    def _seconds(self) -> Mapping[str, float]:
        """Durations on other models, where they are known; a task that failed fails as fast as it did."""
        found = {}
        for task_id, model in self.models.items():
            task = self.run.tasks[task_id]
            if task_id in self.trace.turns and task.state is TaskState.COMPLETED:
                seconds = self.seconds_on(task, model)
                if seconds is not None:
                    found[task_id] = seconds
        return found

    # --- money -------------------------------------------------------------------------------------------------------

    @cached_property
    def _priced(self) -> Sequence[Task]:
        """Tasks whose cost follows from their model and their tokens."""
        tasks = (task for task in self.run.tasks.values() if task.model is not None)
        return [task for task in tasks if _usage(task).tokens.total]

    def _own_prices(self) -> Iterator[tuple[Cost | None, Cost]]:
        """What tasks are recorded to have cost, and what their tokens do; the same twice where no price is known."""
        for task in self._priced:
            price = self.prices.cost(_usage(task).tokens, str(task.model)) or _cost(task)
            if price is not None:
                yield _cost(task), price

    @cached_property
    def _costs(self) -> Mapping[str, Cost | None]:
        """What tasks cost whose model or price is another one."""
        priced = {task.id for task in self._priced}
        affected = [
            task_id
            for task_id, task in self.run.tasks.items()
            if task_id in self.models or (task_id in priced and self._has_new_price(task))
        ]
        return {
            task_id: self.new_prices.cost(
                _usage(self.run.tasks[task_id]).tokens, self.models.get(task_id, str(self.run.tasks[task_id].model))
            )
            if task_id in priced
            else None
            for task_id in affected
        }

    def _has_new_price(self, task: Task) -> bool:
        return self.new_prices is not self.prices and self.new_prices.names(str(task.model))

    # --- what is told ------------------------------------------------------------------------------------------------

    def _changed_tasks(self) -> Iterator[ChangedTask]:
        concerned = self._costs.keys() | self.models.keys()
        for task in self.run.tasks.values():
            turn = self.trace.turns.get(task.id)
            if turn is None or task.id not in concerned:
                continue
            model, before = self.models.get(task.id, task.model), turn.lasted / MICROSECONDS
            after, cost = self._seconds.get(task.id, before), self._costs.get(task.id, _cost(task))
            if (model, after, cost) != (task.model, before, _cost(task)):
                yield ChangedTask(
                    id=task.id,
                    model_before=task.model,
                    model_after=model,
                    seconds_before=before,
                    seconds_after=after,
                    cost_before=_cost(task),
                    cost_after=cost,
                )

    def _changes(self) -> Iterator[str]:
        if self.max_parallelism != self.run.policy.max_parallelism:
            yield f"{self.max_parallelism} at a time"
        moves = Counter((model, str(self.run.tasks[task_id].model)) for task_id, model in self.models.items())
        for (new, old), count in moves.items():
            yield f"{new} instead of {old} on {_tasks(count)}"
        for model, limits in self.limits.items():
            told = ", ".join(f"{name} {count:,}" for name, count in limits if count is not None)
            yield f"{told or 'no ceilings'} for {model}"
        if self.new_prices is not self.prices:
            yield "other prices"

    def _assumptions(self) -> Iterator[str]:
        yield from self._of_the_run()
        yield from self._of_durations()
        yield from self._of_costs()

    def _of_the_run(self) -> Iterator[str]:
        turns = self.trace.turns
        if self.run.state is not RunState.COMPLETED:
            yield f"the run {_ENDED[self.run.state]}: the {_tasks(len(turns))} that ran are replayed, not what was left"
        if self.trace.paused:
            paused = duration(self.trace.paused / MICROSECONDS)
            yield f"the run was carried out in {len(self.trace.lengths)} parts; {paused} between them do not count"
        waits = {
            task_id: turn.wait
            for task_id, turn in turns.items()
            if turn.wait and not self._pace.governs(self.models.get(task_id, self.run.tasks[task_id].model))
        }
        if waits:
            in_all = duration(sum(waits.values()) / MICROSECONDS)
            yield (
                f"{_tasks(len(waits))} began late although the policy had a slot, {in_all} in all: such waits, for "
                "money, a model's limits, a human, a caller who allowed fewer tasks at a time, are kept as they were"
            )
        if again := [task_id for task_id in turns if self.run.tasks[task_id].attempts > 1]:
            yield f"tried more than once, and taken to have held their slots meanwhile: {_names(again)}"
        if left_out := [task.id for task in self._priced if _cost(task) is None and task.id not in self._costs]:
            yield f"of unknown cost, and in no total: {_names(left_out)}"

    def _of_durations(self) -> Iterator[str]:
        kept: dict[str, list[str]] = defaultdict(list)
        for task_id, model in self.models.items():
            if task_id in self.trace.turns and task_id not in self._seconds:
                kept[model].append(task_id)
        for model, task_ids in kept.items():
            yield f"how fast {model} answers is not known: {_tasks(len(task_ids))} last as long as they did"

    def _of_costs(self) -> Iterator[str]:
        if self.models:
            yield "another model is taken to read and write as many tokens"
        asks_for_costs = bool(self.models) or self.new_prices is not self.prices
        if not asks_for_costs:
            return
        unknown = {task_id for task_id, cost in self._costs.items() if cost is None}
        priced = {task.id for task in self._priced}
        if unpriced := sorted({self._new_model(task_id) for task_id in unknown & priced}):
            yield f"no price is known for {_names(unpriced)}: what their tasks would cost is not known"
        if uncounted := [task_id for task_id in self._costs if task_id in unknown - priced]:
            yield f"no tokens are recorded, so the cost is not known: {_names(uncounted)}"
        if tiered := [task_id for task_id in self._costs if task_id not in unknown and self._reaches_a_tier(task_id)]:
            yield f"priced as one call each, which is dearer for such long input if they were several: {_names(tiered)}"
        own = [task.id for task in self.run.tasks.values() if task.model is None and _cost(task) is not None]
        if own:
            yield f"call models themselves, so their cost is kept as it was: {_names(own)}"
        limit = self.run.policy.budget_limit
        after = _with(
            _recorded_cost(self.run), [(_cost(self.run.tasks[id_]), cost) for id_, cost in self._costs.items()]
        )
        if limit is not None and after is not None and after.currency == limit.currency and after > limit:
            yield f"the run's budget of {limit} would not have allowed it"

    def _new_model(self, task_id: str) -> str:
        return self.models.get(task_id, str(self.run.tasks[task_id].model))

    def _reaches_a_tier(self, task_id: str) -> bool:
        info = self.new_prices.info(self._new_model(task_id))
        read = _usage(self.run.tasks[task_id]).tokens.input
        return info is not None and any(read > tier.above_input_tokens for tier in info.tiers)


_ENDED: Final = {RunState.FAILED: "failed", RunState.ABORTED: "was aborted"}


def _usage(task: Task) -> Usage:
    if task.actual_use is not None:
        return task.actual_use
    return Usage() if task.outputs is None else task.outputs.usage


def _cost(task: Task) -> Cost | None:
    return _usage(task).cost


def _recorded_cost(run: Run) -> Cost | None:
    """What the run cost by the ledger, calls included that broke off; else what its tasks did."""
    if run.usage != Usage():
        return run.usage.cost
    return _with(None, [(None, cost) for cost in map(_cost, run.tasks.values()) if cost is not None])


def _with(total: Cost | None, replaced: Iterable[tuple[Cost | None, Cost | None]]) -> Cost | None:
    """A total with these costs after in place of those before; None if one is unknown, or in another currency."""
    nano: Counter[str] = Counter()
    known = [] if total is None else [(total, 1)]
    for before, after in replaced:
        if after is None:
            return None
        known += [(after, 1)] if before is None else [(before, -1), (after, 1)]
    for cost, sign in known:
        nano[cost.currency] += sign * cost.nano
    currencies = [currency for currency, amount in nano.items() if amount] or list(nano)[:1]
    return Cost.from_nano(nano[currencies[0]], currencies[0]) if len(currencies) == 1 else None


def _has_rates(limits: ModelLimits | None) -> bool:
    return limits is not None and (limits.rpm is not None or limits.tpm is not None)


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"

"""What each task of a run is expected to take, before anything has run: tokens, money, time.

From the nearest first: what the same task took in earlier runs, what the same prompt took in other tasks, what its
author says, and the assumptions at the top of this module. A prompt's input is what it took before, corrected by how
much longer or shorter it is this time; without earlier runs it is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median
from typing import Final

from langchain_core.messages import HumanMessage
from pydantic import JsonValue

from langchain_runtime.context import render, variables
from langchain_runtime.contracts.history import TaskSample
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import Task
from langchain_runtime.contracts.task_spec import Dependency
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.graph.made_tasks import deps_of_children
from langchain_runtime.graph.planned_calls import PlannedCall, WorstCall
from langchain_runtime.graph.samples import name_of_children, prompt_size, sample_name, sizes_of
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition, digest_of_prompt
from langchain_runtime.orchestration import Durations, PastRuns, mean_items, typical_seconds

ASSUMED_OUTPUT_TOKENS: Final = 400
"""A few paragraphs: the median of the replies in our recorded provider traffic is below it."""

_CHARACTERS_PER_TOKEN: Final = 4
"""Of English text."""

_MOST_TOKENS_PER_CHARACTER: Final = 1.5
"""In any script; a ratio above it comes from what is sent beside a short prompt."""

_AROUND_AN_ITEM: Final = 3
"""Characters: the quotes and the comma of a list in JSON."""

_SECONDS_TO_FIRST_TOKEN: Final = 1.0
_TOKENS_PER_SECOND: Final = 60
"""Round figures of current hosted models, for models that never ran here."""

_SECONDS_OF_A_BODY: Final = 1.0
"""For functions and Runnables of which nothing is known."""

_MARGIN: Final = 2
"""Views are cut to size by an estimate, and one model may make two tokens of what another wrote as one."""


@dataclass(frozen=True)
class Expectation:
    """What one execution of a task is expected to take; a ``for_each`` task has as many as items.

    Attributes:
        tokens: Of all its calls.
        cost: Of all its calls; None when unknown, or where it makes none that is known of.
        worst: The most that its call can take; None where there is no bound, or no call that is known of.
        held: What is reserved when it starts, if it reads what is expected; None where nothing is.
        seconds: How long it took each time, or is assumed to take: one number at least.
        runs: In which run each of these seconds was measured; empty where they were not.
        written: Characters of its output, all items together.
        items: How many times it is carried out.
        samples: On how many earlier executions the figures rest; 0 for none.
        held_at_least: The same with the smallest output cap that a budget may shrink it to.
        is_cut: Prompts: whether its view will have to be cut to fit.
    """

    tokens: TokenUsage
    cost: Cost | None
    worst: WorstCall | None
    held: WorstCall | None
    seconds: tuple[float, ...]
    written: float
    items: int
    samples: int
    runs: tuple[str, ...] = ()
    held_at_least: WorstCall | None = None
    is_cut: bool = False

    @cached_property
    def _by_run(self) -> Mapping[str, Sequence[float]]:
        by_run: dict[str, list[float]] = {}
        for run, seconds in zip(self.runs, self.seconds, strict=False):
            by_run.setdefault(run, []).append(seconds)
        return by_run

    def seconds_in(self, run: str) -> Sequence[float]:
        """How long it took in a run; where it was not in that one, in any."""
        return self._by_run.get(run, self.seconds)


class Expectations:
    """The expectations of every task of a run.

    Args:
        spec: The graph.
        services: Components.
        inputs: The run's, defaults included.
        past: Earlier runs.
        items: How long the lists of ``for_each`` tasks will be, by task id, where the caller knows.
        limited: Whether a budget limits the calls, so that each carries an output cap.
    """

    def __init__(
        self,
        spec: GraphSpec,
        services: Services,
        inputs: Mapping[str, JsonValue],
        past: PastRuns,
        *,
        items: Mapping[str, int],
        limited: bool,
    ) -> None:
        self._spec = spec
        self._services = services
        self._inputs = inputs
        self._input_sizes = sizes_of(inputs)
        self._past = past
        self._items = items
        self._limited = limited
        self._known: dict[str, Expectation] = {}
        for task_id in spec.topological_order:
            self._known[task_id] = self._expected(spec.tasks[task_id])

    def of(self, task_id: str) -> Expectation:
        """What a task of the graph is expected to take."""
        return self._known[task_id]

    def _expected(self, definition: TaskDefinition) -> Expectation:
        samples = samples_for(self._past, definition)
        items = self._items_of(definition)
        if definition.model is not None:
            return self._of_prompt(definition, definition.model, samples, items)
        return Expectation(
            tokens=_mean_tokens(samples),
            cost=_mean_cost(samples),
            worst=None,
            held=None,
            seconds=_seconds(definition, samples, _SECONDS_OF_A_BODY),
            runs=_runs(definition, samples),
            written=_mean_written(samples, default=ASSUMED_OUTPUT_TOKENS * _CHARACTERS_PER_TOKEN) * items,
            items=items,
            samples=len(samples),
        )

    def _items_of(self, definition: TaskDefinition) -> int:
        spec = definition.spec
        if spec.for_each is None:
            return 1
        counted = mean_items(self._past.of(spec.id, definition.digest, None))
        return self._items.get(spec.id, 1 if counted is None else counted)

    # --- prompts -----------------------------------------------------------------------------------------------------

    def _of_prompt(
        self, definition: TaskDefinition, model: str, samples: Sequence[TaskSample], items: int
    ) -> Expectation:
        call = PlannedCall.of(
            definition,
            model,
            self._services,
            limited=self._limited,
            least_output=self._spec.policy.min_output_tokens,
        )
        deps = self._received_deps(definition)
        known = HumanMessage(self._known_text(definition, deps))
        size = self._prompt_size(definition, deps, samples, items)
        unknown_size = max(0.0, size - len(known.text))
        ceiling = self._ceiling(definition, model)
        if samples:
            tokens = _resized(samples, size)
        else:
            read = call.expected_input([known]) + round(unknown_size / _CHARACTERS_PER_TOKEN)
            tokens = TokenUsage(input=read, output=min(call.cap, ASSUMED_OUTPUT_TOKENS))
        is_cut = ceiling is not None and tokens.input > ceiling and definition.is_single_call
        if is_cut and ceiling is not None:
            tokens = tokens.model_copy(update={"input": ceiling})
        recorded = _mean_cost(samples)
        most_input = call.most_input([known])
        speed = self._past.seconds_on(model, tokens.output)
        return Expectation(
            tokens=tokens,
            cost=call.cost(tokens) if definition.is_single_call or recorded is None else recorded,
            worst=self._worst(definition, call, most_input, deps, ceiling, is_cut=is_cut),
            held=None if most_input is None else call.worst(most_input + round(unknown_size)),
            held_at_least=None if most_input is None else call.worst(most_input + round(unknown_size), call.lowest_cap),
            seconds=_seconds(
                definition,
                samples,
                _SECONDS_TO_FIRST_TOKEN + tokens.output / _TOKENS_PER_SECOND if speed is None else speed,
            ),
            runs=_runs(definition, samples),
            written=_mean_written(samples, default=tokens.output * _CHARACTERS_PER_TOKEN) * items,
            items=items,
            samples=len(samples),
            is_cut=is_cut,
        )

    def _received_deps(self, definition: TaskDefinition) -> Sequence[Dependency]:
        source = definition.spec.for_each
        return definition.spec.deps if source is None else deps_of_children(definition.spec, source)

    def _known_text(self, definition: TaskDefinition, deps: Sequence[Dependency]) -> str:
        """The prompt with nothing in place of what is not known yet."""
        prompt = str(definition.spec.prompt)
        blank = {dep.alias: "" for dep in deps}
        if definition.spec.for_each is not None:
            blank[definition.spec.for_each.as_] = ""
        values = {**self._inputs, **blank}
        return render(prompt, {name: values[name] for name in variables(prompt)})

    def _prompt_size(
        self, definition: TaskDefinition, deps: Sequence[Dependency], samples: Sequence[TaskSample], items: int
    ) -> float:
        """Characters of the prompt, filled in: what it read before of each dependency, else all that those write."""
        received: dict[str, float] = {}
        for dep in deps:
            before = _mean_read(samples, dep.alias)
            received[dep.alias] = (
                self._known[dep.task].written if before is None else before * self._growth_of_list(dep.task)
            )
        source = definition.spec.for_each
        if source is not None:
            item = _mean_read(samples, source.as_)
            whole = self._known[source.task].written / max(1, items) - _AROUND_AN_ITEM
            received[source.as_] = max(0.0, whole) if item is None else item
        return prompt_size(definition, self._input_sizes, received)

    def _growth_of_list(self, task_id: str) -> float:
        """By which factor a ``for_each`` task has more items than it used to have; 1 for other tasks."""
        definition = self._spec.tasks[task_id]
        before = mean_items(self._past.of(task_id, definition.digest, None))
        return self._known[task_id].items / before if before else 1.0

    def _ceiling(self, definition: TaskDefinition, model: str) -> int | None:
        """Tokens of a view at most; None where neither policy nor model has a limit."""
        info = self._services.info(model)
        limit = self._spec.context_of(definition).max_tokens
        return limit if limit is not None or info is None else info.context_window

    def _worst(
        self,
        definition: TaskDefinition,
        call: PlannedCall,
        most_input: int | None,
        deps: Sequence[Dependency],
        ceiling: int | None,
        *,
        is_cut: bool,
    ) -> WorstCall | None:
        """The most that the one call can take; an agent, or a model that may ask for what was cut, makes others."""
        makes_others = definition.tools or (is_cut and self._spec.context_of(definition).recall)
        if most_input is None or makes_others:
            return None
        sources = [dep.task for dep in deps]
        if definition.spec.for_each is not None:
            sources.append(definition.spec.for_each.task)
        most_received = [self._most_written(task_id, call.model) for task_id in sources]
        most = None if None in most_received else most_input + sum(filter(None, most_received))
        if ceiling is not None:
            most = max(most_input, min(_MARGIN * ceiling, _MARGIN * ceiling if most is None else most))
        return None if most is None else call.worst(most)

    def _most_written(self, task_id: str, reader: str) -> int | None:
        """Tokens that a task writes at most, all items together, as another model reads them; None for no bound."""
        worst, model = self._known[task_id].worst, self._spec.tasks[task_id].model
        if worst is None or model is None:
            return None
        same = self._services.priced_as(model) == reader
        return worst.output * self._known[task_id].items * (1 if same else _MARGIN)


def samples_for(past: PastRuns, definition: TaskDefinition) -> Sequence[TaskSample]:
    """Samples of the executions of a task: of its children, where it has them."""
    return past.of(sampled_as(definition), definition.digest, definition.model)


def sampled_as(definition: TaskDefinition) -> str:
    """The name under which samples of a task's executions are kept."""
    task_id = definition.spec.id
    return task_id if definition.spec.for_each is None else name_of_children(task_id)


def _resized(samples: Sequence[TaskSample], size: float) -> TokenUsage:
    """What a prompt of so many characters takes, if others of it took what the samples say."""
    mean = _mean_tokens(samples)
    before = fmean(sample.received for sample in samples)
    per_character = min(_MOST_TOKENS_PER_CHARACTER, mean.input / before) if before else 0.0
    added = round((size - before) * per_character)
    return mean.model_copy(update={"input": max(mean.cache_read + mean.cache_write, mean.input + added)})


def _seconds(definition: TaskDefinition, samples: Sequence[TaskSample], default: float) -> tuple[float, ...]:
    if definition.spec.expected_seconds is not None:
        return (definition.spec.expected_seconds,)
    return tuple(sample.seconds for sample in samples) or (default,)


def _runs(definition: TaskDefinition, samples: Sequence[TaskSample]) -> tuple[str, ...]:
    return () if definition.spec.expected_seconds is not None else tuple(sample.run for sample in samples)


def _mean_tokens(samples: Sequence[TaskSample]) -> TokenUsage:
    if not samples:
        return TokenUsage()
    kinds = TokenUsage.model_fields
    return TokenUsage(**{kind: round(fmean(getattr(sample.tokens, kind) for sample in samples)) for kind in kinds})


def _mean_cost(samples: Sequence[TaskSample]) -> Cost | None:
    costs = [sample.cost for sample in samples if sample.cost is not None]
    if not costs or len({cost.currency for cost in costs}) > 1:
        return None
    return Cost.from_nano(round(fmean(cost.nano for cost in costs)), costs[0].currency)


def _mean_read(samples: Sequence[TaskSample], alias: str) -> float | None:
    """Characters; None where no sample tells."""
    read = [sample.read[alias] for sample in samples if alias in sample.read]
    return fmean(read) if read else None


def _mean_written(samples: Sequence[TaskSample], *, default: float) -> float:
    return fmean(sample.written for sample in samples) if samples else default


def known_seconds(spec: GraphSpec, latest: Sequence[Durations]) -> dict[str, float]:
    """Durations by which ready tasks are ordered: what the author says, else the median of the latest runs.

    Of a ``for_each`` task that of one of its items. Tasks of which nothing is known are left out.
    """
    found = dict(spec.expected_seconds)
    for task_id, definition in spec.tasks.items() if latest else ():
        if task_id not in found:
            key = (sampled_as(definition), definition.digest, definition.model)
            if seconds := [run[key] for run in latest if key in run]:
                found[task_id] = median(seconds)
    return found


def seconds_on(past: PastRuns, task: Task, model: str) -> float | None:
    """How long a finished prompt would take on another model, by earlier runs; None if they do not tell."""
    if task.inputs.prompt is None:
        return None
    samples = past.of(sample_name(task.id), digest_of_prompt(task.inputs.prompt), model)
    if samples:
        return typical_seconds(samples)
    return None if task.actual_use is None else past.seconds_on(model, task.actual_use.tokens.output)

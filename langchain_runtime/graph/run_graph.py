"""The builder: tasks one by one or from a run file, then ``compile``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableParallel
from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from pydantic import JsonValue, ValidationError

from langchain_runtime.adapters.providers import model_id
from langchain_runtime.backends import TaskBody, as_body
from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.budget import Budget
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidDAGError, InvalidInputError
from langchain_runtime.contracts.identifiers import check_task_id
from langchain_runtime.contracts.ledger import Ledger
from langchain_runtime.contracts.run import CacheSpec, RetrySpec, RunPolicy
from langchain_runtime.contracts.run_file import RunFile
from langchain_runtime.contracts.task_spec import Condition, Dependency, ForEach, TaskSpec
from langchain_runtime.cost import CircuitBreaker, CostCalculator, ModelCatalog, TokenEstimator, default_catalog
from langchain_runtime.graph.compiled import CompiledRunGraph, Mode, Stops
from langchain_runtime.graph.ladders import GivenLadder, check_ladder, chosen_ladder
from langchain_runtime.graph.model_gates import ModelGates
from langchain_runtime.graph.run_file_reader import read_run_file
from langchain_runtime.graph.run_history import RunHistory
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition
from langchain_runtime.graph.task_cache import TaskCache
from langchain_runtime.ledgers import InMemoryLedger


class RunGraph:
    """Describes a DAG of tasks; ``compile`` makes it a LangGraph graph.

    >>> graph = RunGraph(model="extractive")
    >>> _ = graph.add_task("facts", prompt="Question: what barks? Dogs bark at night and guard the house well.")
    >>> _ = graph.add_task("count", lambda inputs: len(inputs["facts"]), deps=["facts"])
    >>> graph.compile().invoke({"inputs": {}})["run"].state.value
    'completed'

    Args:
        policy: How runs are carried out; None for the defaults (no budget limit).
        model: For prompts that name none: ``"provider:name"`` or a chat model.
        name: For people and traces.
        inputs: Default values of the run's inputs.
    """

    def __init__(
        self,
        policy: RunPolicy | None = None,
        *,
        model: str | BaseChatModel | None = None,
        name: str | None = None,
        inputs: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self._policy = policy or RunPolicy()
        self._model = model
        self._name = name or "RunGraph"
        self._inputs = dict(inputs or {})
        self._definitions: dict[str, TaskDefinition] = {}

    def add_task(
        self,
        id: str,  # noqa: A002 - the word of the run file
        body: Any = None,
        *,
        prompt: str | None = None,
        deps: Sequence[str | Dependency] | Mapping[str, str] = (),
        model: str | BaseChatModel | None = None,
        tier: int | None = None,
        priority: int = 0,
        max_output_tokens: int | None = None,
        expected_seconds: float | None = None,
        timeout_ms: int | None = None,
        retry: RetrySpec | None = None,
        context: ContextPolicy | None = None,
        for_each: ForEach | None = None,
        when: Condition | None = None,
        response_format: Any = None,
        tools: Sequence[Any] = (),
        cache: CacheSpec | bool = False,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """Add a task.

        Args:
            id: Unique in the graph.
            body: A Runnable, or ``fn(inputs)`` or ``fn(inputs, runtime)``, sync or async; None for a prompt.
            prompt: f-string template; its variables are run inputs, dependency ids and aliases. Dependencies that it
                does not name still reach the model, as messages before it.
            deps: Ids of the tasks to wait for, or alias -> ``task`` or ``task.output``.
            model: Overrides the graph's.
            tier: Not available in this version.
            priority: Larger starts earlier among equals on the critical path.
            max_output_tokens: Cap on the reply.
            expected_seconds: Expected duration, for the critical path.
            timeout_ms: For one attempt.
            retry: Overrides the policy's.
            context: Overrides the policy's.
            for_each: Not available in this version.
            when: Run only if it holds; else the task and what depends on it is skipped.
            response_format: JSON Schema or pydantic class of a structured reply; the output is then a JSON object.
            tools: LangChain tools; the prompt is then answered by an agent's loop.
            cache: Whether to take the result of an equal task, of an earlier run or under way, instead of doing the
                work; a ``CacheSpec`` says how old it may be. Only for tasks that depend on their inputs alone.
            metadata: Notes of your own.

        Raises:
            InvalidDAGError: The id is taken.
            InvalidInputError: The id or a value is invalid.
        """
        if check_task_id(id) in self._definitions:
            raise InvalidDAGError(f"task id {id!r} occurs twice", hint="give each task an id of its own")
        if body is not None and prompt is not None:
            raise InvalidInputError(f"task {id!r} has both a prompt and a body", hint="keep one of them")
        try:
            spec = TaskSpec(
                id=id,
                prompt=prompt,
                deps=deps,  # a validator reads the short forms
                tier=tier,
                priority=priority,
                max_output_tokens=max_output_tokens,
                expected_seconds=expected_seconds,
                timeout_ms=timeout_ms,
                retry=retry,
                context=context,
                for_each=for_each,
                when=when,
                response_format=response_format if isinstance(response_format, dict) else None,
                cache=cache,
                metadata=dict(metadata or {}),
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise InvalidInputError(f"task {id!r}: {place}: {first['msg']}") from error
        self._define(spec, body=body, model=model, response_format=response_format, tools=tuple(tools))
        return self

    @classmethod
    def from_runnables(
        cls,
        runnables: Mapping[str, Any] | RunnableParallel[Any],
        *,
        deps: Mapping[str, Sequence[str] | Mapping[str, str]] | None = None,
        policy: RunPolicy | None = None,
        name: str | None = None,
    ) -> Self:
        """A graph of what ``RunnableParallel`` takes, or of one: each step a task, durable and within the budget.

        Args:
            runnables: Task id -> Runnable or function; each receives the run's inputs and what it depends on.
            deps: Task id -> what it waits for, as for ``add_task``; those without an entry start at once.
            policy: As for the class.
            name: As for the class.

        Raises:
            InvalidInputError: ``deps`` names a task that is not there, or a body cannot be one.
        """
        steps = runnables.steps__ if isinstance(runnables, RunnableParallel) else runnables
        waits = dict(deps or {})
        if unknown := sorted(waits.keys() - steps.keys()):
            raise InvalidInputError(f"deps names {unknown[0]!r}, which is not among the runnables")
        graph = cls(policy, name=name)
        for task_id, body in steps.items():
            graph.add_task(task_id, body, deps=waits.get(task_id, ()))
        return graph

    @classmethod
    def from_file(cls, path: str | Path, *, allow_code: bool = False) -> Self:
        """Read a run file, YAML or JSON.

        Args:
            path: The file.
            allow_code: Whether tasks may name Python code (``run: module:attr``), which is then imported.

        Raises:
            InputError: The file cannot be read or does not describe a valid graph.
        """
        return cls.from_run_file(read_run_file(Path(path)), allow_code=allow_code)

    @classmethod
    def from_run_file(cls, run_file: RunFile, *, allow_code: bool = False) -> Self:
        """Take over what a run file describes; see ``from_file``."""
        graph = cls(run_file.policy, model=run_file.model, name=run_file.name, inputs=run_file.inputs)
        for spec in run_file.tasks:
            if (spec.run or spec.tools) and not allow_code:
                raise InvalidInputError(
                    f"task {spec.id!r} names Python code to run: {spec.run or spec.tools[0]!r}",
                    hint="pass --allow-code (allow_code=True) if you trust the file",
                )
            body = _imported(spec.run, spec.id) if spec.run else None
            tools = tuple(_imported(tool, spec.id) for tool in spec.tools)
            graph._define(spec, body=body, model=spec.model, response_format=spec.response_format, tools=tools)
        return graph

    def compile(
        self,
        *,
        checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
        store: BaseStore | None = None,
        cache: BaseCache[Any] | None = None,
        ledger: Ledger | None = None,
        budgets: Sequence[Budget] = (),
        catalog: ModelCatalog | None = None,
        price_as: Mapping[str, str] | None = None,
        models: Mapping[str, BaseChatModel] | None = None,
        ladder: GivenLadder | None = None,
        breaker: CircuitBreaker | None = None,
        raise_on_failure: bool = True,
        mode: Mode = "dataflow",
        interrupt_before: Stops = None,
        interrupt_after: Stops = None,
    ) -> CompiledRunGraph:
        """Check the whole graph and make it runnable.

        Args:
            checkpointer: LangGraph's; needed to resume. An async run wants an async saver, a sync run a sync one.
            store: LangGraph's, for the run's memory, what leaves a view, and what runs took, from which plans and
                priorities are made; None keeps them in memory.
            cache: LangGraph's, for the results of tasks that were added with ``cache``; None keeps them in memory.
            ledger: Books and journal; needed to resume in another process. None keeps them in memory.
            budgets: Scopes that every run charges besides its own ``run:<id>``.
            catalog: Models and prices; None for the built-in list prices.
            price_as: Model to take the list price of, by model, for models that have none.
            models: Chat models to use instead of opening them by name.
            ladder: Models to move prompts to where a budget says ``downgrade``, dearest first: names, chat models, or a
                ``ModelLadder`` of your own. None takes the policy's.
            breaker: As for ``with_budget``, for all prompts: holds calls back while their model fails or its provider
                asks for patience. Tasks of other models go first meanwhile.
            raise_on_failure: Whether a failed or aborted run raises; else its state tells.
            mode: ``dataflow`` starts each task as soon as its dependencies are done, and keeps few checkpoints.
                ``supersteps`` makes each task a node of LangGraph's own: slower, with a checkpoint after each step,
                for debugging and Studio.
            interrupt_before: Tasks before which every run stands still, once nothing else can go on.
            interrupt_after: Tasks whose dependents wait in the same way.

        Raises:
            InputError: The graph cannot be run as described; nothing was started.
        """
        if mode not in get_args(Mode):
            raise InvalidInputError(f"there is no mode {mode!r}", hint='use "dataflow" or "supersteps"')
        model, chat_model = _named(self._model)
        spec = GraphSpec.checked(
            name=self._name,
            policy=self._policy,
            definitions=list(self._definitions.values()),
            inputs=self._inputs,
            model=model,
            chat_model=chat_model,
        )
        run_ladder, rungs = chosen_ladder(ladder, self._policy)
        check_ladder(run_ladder, spec, budgets)
        run_ladder.all_models(spec)  # refuses a ladder that leads in a circle
        store = store or InMemoryStore()
        catalog = catalog or default_catalog()
        services = Services(
            ledger=ledger or InMemoryLedger(),
            store=store,
            memory=MemoryManager(store),
            catalog=catalog,
            estimator=TokenEstimator(),
            calculator=CostCalculator(catalog),
            budgets=tuple(budgets),
            price_as=dict(price_as or {}),
            models={**rungs, **(models or {})},
            ladder=run_ladder,
            gates=ModelGates(self._policy.per_model, breaker=breaker, price_as=price_as),
            cache=TaskCache(cache, spec.fingerprint, _bodies_of(spec)),
            history=RunHistory(store),
        )
        return CompiledRunGraph.of(
            spec,
            services,
            checkpointer=checkpointer,
            cache=cache,
            raise_on_failure=raise_on_failure,
            mode=mode,
            interrupt_before=interrupt_before,
            interrupt_after=interrupt_after,
        )

    def _define(self, spec: TaskSpec, *, body: Any, model: Any, response_format: Any, tools: tuple[Any, ...]) -> None:
        name, chat_model = _named(model if model is not None else self._model)
        self._definitions[spec.id] = TaskDefinition(
            spec=spec,
            body=None if body is None else as_body(body),
            model=name if spec.prompt is not None else None,
            chat_model=chat_model,
            response_format=response_format,
            tools=tools,
        )


def _named(model: str | BaseChatModel | None) -> tuple[str | None, BaseChatModel | None]:
    """A model's name, and the model itself where the author passed an object."""
    return (model_id(model, {}), model) if isinstance(model, BaseChatModel) else (model, None)


def _bodies_of(spec: GraphSpec) -> dict[str, TaskBody]:
    return {task_id: definition.body for task_id, definition in spec.tasks.items() if definition.body is not None}


def _imported(reference: str, task_id: str) -> Runnable[Any, Any] | Any:
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"task {task_id!r}: cannot import {reference!r}: {error}", hint="write module:attr of something importable"
        ) from error

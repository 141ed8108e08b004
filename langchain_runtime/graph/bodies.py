"""What prompt tasks run: their model, budgeted, with its tools or the format of its reply."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from langchain_runtime.backends.task_body import PromptBody, TaskBody
from langchain_runtime.chat_models import with_budget
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.graph.models import open_model
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition

TaskModels = Mapping[str, Mapping[str, BaseChatModel]]
"""By task id: the models that a prompt may run on, by name, its own first and cheaper ones after it."""


def open_models(spec: GraphSpec, services: Services) -> TaskModels:
    """Open the models of all prompts; each charges the run it is used in.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: A package or key is missing.
    """
    by_name: dict[str, BaseChatModel] = {}
    opened: dict[str, dict[str, BaseChatModel]] = {}
    for task_id, definition in spec.tasks.items():
        models = opened[task_id] = {}
        for name in services.ladder.models_of(definition):
            if name == definition.model and definition.chat_model is not None:
                models[name] = _budgeted(definition.chat_model, services)
                continue
            if name not in by_name:
                by_name[name] = _budgeted(services.models.get(name) or open_model(name), services)
            models[name] = by_name[name]
    return opened


def task_bodies(spec: GraphSpec, services: Services, models: TaskModels) -> dict[str, TaskBody]:
    """What each task does, by task id."""
    return {
        task_id: definition.body or _prompt_body(definition, services, models[task_id])
        for task_id, definition in spec.tasks.items()
    }


def _budgeted(model: BaseChatModel, services: Services) -> BaseChatModel:
    return with_budget(model, None, ledger=services.ledger, catalog=services.catalog, price_as=services.price_as)


def _prompt_body(definition: TaskDefinition, services: Services, models: Mapping[str, BaseChatModel]) -> PromptBody:
    if definition.is_single_call:
        return PromptBody(models)
    [(name, model)] = models.items()
    # These calls reserve for themselves: only the wrapper can move them.
    model = with_budget(model, None, ladder=services.ladder.steps)
    return PromptBody({name: _answering(definition, model)}, structured=definition.response_format is not None)


def _answering(definition: TaskDefinition, model: BaseChatModel) -> Runnable[Any, Any]:
    if definition.tools:
        return _agent(definition, model)
    return model.with_structured_output(definition.response_format)


def _agent(definition: TaskDefinition, model: BaseChatModel) -> Runnable[Any, Any]:
    try:
        create_agent = importlib.import_module("langchain.agents").create_agent
    except ImportError as error:
        raise InvalidInputError(
            f"task {definition.spec.id!r} has tools, which needs LangChain's agents",
            hint='pip install "langchain-runtime-layer[agents]"',
        ) from error
    agent: Runnable[Any, Any] = create_agent(
        model, list(definition.tools), response_format=definition.response_format, name=definition.spec.id
    )
    return (lambda messages: {"messages": messages}) | agent

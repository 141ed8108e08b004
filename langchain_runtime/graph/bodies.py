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


def open_models(spec: GraphSpec, services: Services) -> dict[str, BaseChatModel]:
    """The model of each prompt task, by task id; each charges the run it is used in.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: A package or key is missing.
    """
    by_name: dict[str, BaseChatModel] = {}
    opened: dict[str, BaseChatModel] = {}
    for task_id, definition in spec.tasks.items():
        if definition.model is None:
            continue
        if definition.chat_model is not None:
            opened[task_id] = _budgeted(definition.chat_model, services)
            continue
        if definition.model not in by_name:
            model = services.models.get(definition.model) or open_model(definition.model)
            by_name[definition.model] = _budgeted(model, services)
        opened[task_id] = by_name[definition.model]
    return opened


def task_bodies(spec: GraphSpec, models: Mapping[str, BaseChatModel]) -> dict[str, TaskBody]:
    """What each task does, by task id."""
    return {
        task_id: definition.body
        or PromptBody(_answering(definition, models[task_id]), structured=definition.response_format is not None)
        for task_id, definition in spec.tasks.items()
    }


def _budgeted(model: BaseChatModel, services: Services) -> BaseChatModel:
    return with_budget(model, None, ledger=services.ledger, catalog=services.catalog, price_as=services.price_as)


def _answering(definition: TaskDefinition, model: BaseChatModel) -> Runnable[Any, Any]:
    if definition.tools:
        return _agent(definition, model)
    if definition.response_format is not None:
        return model.with_structured_output(definition.response_format)
    return model


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

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


class TaskModels:
    """The models that prompts run on, opened once and kept; each charges the run it is used in.

    Args:
        spec: The graph; the models of its prompts are opened at once, so that a wrong name costs nothing.
        services: Components.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: A package or key is missing.
    """

    def __init__(self, spec: GraphSpec, services: Services) -> None:
        self._services = services
        self._by_name: dict[str, BaseChatModel] = {}
        self._own: dict[int, BaseChatModel] = {}
        for definition in spec.tasks.values():
            self.of(definition)

    def of(self, definition: TaskDefinition) -> Mapping[str, BaseChatModel]:
        """The models that a prompt may run on, by name, its own first and cheaper ones after it."""
        return {name: self._model(definition, name) for name in self._services.ladder.models_of(definition)}

    def _model(self, definition: TaskDefinition, name: str) -> BaseChatModel:
        given = definition.chat_model
        if given is not None and name == definition.model:
            return self._own.setdefault(id(given), _budgeted(name, given, self._services))
        if name not in self._by_name:
            opened = self._services.models.get(name) or open_model(name)
            self._by_name[name] = _budgeted(name, opened, self._services)
        return self._by_name[name]


def task_body(definition: TaskDefinition, services: Services, models: TaskModels) -> TaskBody:
    """What a task does."""
    return definition.body or _prompt_body(definition, services, models.of(definition))


def _budgeted(name: str, model: BaseChatModel, services: Services) -> BaseChatModel:
    budgeted = with_budget(model, None, ledger=services.ledger, catalog=services.catalog, price_as=services.price_as)
    return services.gates.paced(name, budgeted)


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

"""What prompt tasks run: their model, budgeted, with its tools or the format of its reply."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from langchain_core.language_models import BaseChatModel

from langchain_runtime.backends.recalling_body import RecallingBody
from langchain_runtime.backends.task_body import PromptBody, TaskBody
from langchain_runtime.chat_models import ModelSummarizer, with_budget
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.graph.models import open_model
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import GraphSpec, TaskDefinition


class TaskModels:
    """The models that prompts run on, opened once and kept; each charges the run it is used in.

    Args:
        spec: The graph; the models of its prompts are opened at once, so that a wrong name costs nothing.
        services: Components.

    Attributes:
        spec: The graph.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: A package or key is missing.
    """

    def __init__(self, spec: GraphSpec, services: Services) -> None:
        self.spec = spec
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
    policy = models.spec.context_of(definition)
    return definition.body or _prompt_body(definition, services, models.of(definition), policy)


def _budgeted(name: str, model: BaseChatModel, services: Services) -> BaseChatModel:
    budgeted = with_budget(model, None, ledger=services.ledger, catalog=services.catalog, price_as=services.price_as)
    return services.gates.paced(name, budgeted)


def _prompt_body(
    definition: TaskDefinition, services: Services, models: Mapping[str, BaseChatModel], policy: ContextPolicy
) -> TaskBody:
    # Calls that reserve for themselves: only the wrapper can move them to another model.
    steps = services.ladder.steps
    movable = models
    if steps is not None:
        movable = {name: with_budget(model, None, ladder=steps) for name, model in models.items()}
    single = definition.is_single_call
    answering = PromptBody(movable) if single else _answering(definition, services, movable, policy)
    return RecallingBody(
        whole=PromptBody(models) if single else answering,
        partial=answering,
        models=movable,
        priced_as=services.priced_as,
        store=services.store,
        summarizer_of=ModelSummarizer,
    )


def _answering(
    definition: TaskDefinition, services: Services, models: Mapping[str, BaseChatModel], policy: ContextPolicy
) -> TaskBody:
    if definition.tools:
        return _agent_body(definition, services, models, policy)
    formatted = {name: model.with_structured_output(definition.response_format) for name, model in models.items()}
    return PromptBody(formatted, structured=True)


def _agent_body(
    definition: TaskDefinition, services: Services, models: Mapping[str, BaseChatModel], policy: ContextPolicy
) -> TaskBody:
    try:
        importlib.import_module("langchain.agents")
    except ImportError as error:
        raise InvalidInputError(
            f"task {definition.spec.id!r} has tools, which needs LangChain's agents",
            hint='pip install "langchain-runtime-layer[agents]"',
        ) from error
    from langchain_runtime.graph.agents import AgentBody  # noqa: PLC0415 - needs them

    body = AgentBody(definition, models, services, policy)
    for name in models:
        body.agent(name)  # what is wrong with its tools is refused before anything runs
    return body

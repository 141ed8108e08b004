"""Assembles what a task's model sees."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from pydantic import JsonValue

from langchain_runtime.context.marks import MEMORY_ID, PROMPT_ID, Inlined, Mark, dependency_message, marked
from langchain_runtime.context.prompt_template import as_text, check_variables, parse, variables
from langchain_runtime.contracts.context import ContextBundle
from langchain_runtime.contracts.task_spec import TaskSpec


class ContextBuilder:
    """Puts system message, memory, outputs of dependencies and prompt in the order a model reads them.

    Outputs that the prompt names stand in the prompt, and the message remembers where: a compactor may clip them there
    and nowhere else. The others become messages of their own, so that none is lost for want of a placeholder.

    Args:
        system: Text of the system message; None for none.
    """

    def __init__(self, *, system: str | None = None) -> None:
        self._system = system

    def build(
        self,
        task: TaskSpec,
        *,
        inputs: Mapping[str, JsonValue],
        routed: Mapping[str, JsonValue],
        memory: Mapping[str, JsonValue],
        tools: Mapping[str, dict[str, Any]],
    ) -> ContextBundle:
        """The bundle for ``task``: a copy, so that changing it changes nothing it was made of.

        Messages have stable ids: ``memory``, ``dep:<alias>`` and ``prompt``. Empty outputs are left out.

        Args:
            task: What is to be done; without a prompt the bundle holds context only.
            inputs: The run's inputs; the model sees those that the prompt names.
            routed: Outputs of direct dependencies by alias, in order.
            memory: The run's memory now.
            tools: Tool schemas by name.

        Raises:
            InvalidInputError: The prompt is malformed or has a variable that nothing supplies.
        """
        named = variables(task.prompt) if task.prompt is not None else ()
        messages: list[AnyMessage] = []
        if self._system:
            messages.append(SystemMessage(self._system))
        if memory:
            messages.append(_memory_message(memory))
        messages.extend(
            dependency_message(alias, as_text(value))
            for alias, value in routed.items()
            if alias not in named and not _is_empty(value)
        )
        if task.prompt is not None:
            messages.append(_prompt_message(task.prompt, inputs, routed))
        return ContextBundle(messages=messages, memory=dict(memory), tools=copy.deepcopy(dict(tools)))


def _is_empty(value: JsonValue) -> bool:
    """Nothing was said; an empty list or 0 is an answer."""
    return value is None or (isinstance(value, str) and not value.strip())


def _memory_message(memory: Mapping[str, JsonValue]) -> HumanMessage:
    """Memory as context, not as a system message: tasks wrote it, and it must not speak with the author's authority."""
    lines = [f"- {key}: {as_text(value)}" for key, value in memory.items()]
    return HumanMessage("\n".join(["Memory of this run:", *lines]), id=MEMORY_ID)


def _prompt_message(template: str, inputs: Mapping[str, JsonValue], routed: Mapping[str, JsonValue]) -> HumanMessage:
    values = {**inputs, **routed}
    check_variables(template, values)
    text = ""
    inlined: list[Inlined] = []
    for part in parse(template):
        start = len(text)
        text += part.text if part.name is None else as_text(values[part.name])
        if part.name in routed:
            inlined.append(Inlined(alias=part.name, start=start, end=len(text)))
    message = HumanMessage(text, id=PROMPT_ID)
    return marked(message, Mark(inlined=tuple(inlined))) if inlined else message

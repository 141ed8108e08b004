"""Prompts with tools: an agent whose conversation keeps within the limits of its task. Imported where one is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel

from langchain_runtime.backends.task_body import Occupancy, TaskRuntime, call_arguments, result_of_reply
from langchain_runtime.context.task_archive import TalkArchive
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.run import TaskResult
from langchain_runtime.graph.services import Services
from langchain_runtime.graph.spec import TaskDefinition
from langchain_runtime.middleware.task_compaction import TaskCompaction


@dataclass(frozen=True)
class AgentBody:
    """An agent's loop over the messages of the job.

    Attributes:
        definition: The task, with its tools.
        models: What may answer, by the name under which a job asks for it.
        services: Components.
        policy: Of the task's views.
    """

    definition: TaskDefinition
    models: Mapping[str, BaseChatModel]
    services: Services
    policy: ContextPolicy

    async def __call__(self, job: TaskJob, runtime: TaskRuntime, occupancy: Occupancy) -> TaskResult:  # noqa: ARG002 - the TaskBody interface
        """Let the agent work."""
        middleware: list[AgentMiddleware[Any, Any, Any]] = []
        policy = self._limited(str(job.model))
        if policy is not None:
            archive = TalkArchive(self.services.store, job.run_id, job.task_id)
            begun = list(job.messages or ()) if job.left_out is not None else ()
            middleware.append(TaskCompaction(policy, archive, begun=begun, catalog=self.services.catalog))
        if arguments := call_arguments(job):
            middleware.append(_CallArguments(arguments))
        agent = self.agent(str(job.model), *middleware)
        reply = await agent.ainvoke({"messages": list(job.messages or ())})
        return result_of_reply(reply, task_id=job.task_id)

    def agent(self, model: str, *middleware: AgentMiddleware[Any, Any, Any]) -> Any:
        """The agent; made anew for each job, because what its views lack is kept by task."""
        return create_agent(
            self.models[model],
            list(self.definition.tools),
            response_format=self.definition.response_format,
            middleware=middleware,
            name=self.definition.spec.id,
        )

    def _limited(self, model: str) -> ContextPolicy | None:
        """The policy with the model's window in it; None where there is no limit to keep."""
        info = self.services.info(model)
        windows = (self.policy.max_tokens, info.context_window if info is not None else None)
        ceiling = min((window for window in windows if window is not None), default=None)
        return None if ceiling is None else self.policy.model_copy(update={"max_tokens": ceiling})


class _CallArguments(AgentMiddleware[Any, Any, Any]):
    """Sends arguments with every call of the agent's model."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._arguments = arguments

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Add them."""
        return await handler(request.override(model_settings={**request.model_settings, **self._arguments}))

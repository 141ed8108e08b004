"""Every name that our spans carry.

``gen_ai.*`` and ``error.type`` are OpenTelemetry's, read from the GenAI semantic conventions 1.41.0 (in development)
and from the change log of the repository that they have moved to (``semantic-conventions-genai`` v0.1.0). ``lcr.*`` is
ours; amounts of money are decimal strings, since no span attribute can hold them exactly otherwise.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
"""Of the conventions that the names are taken from."""

# --- OpenTelemetry's -------------------------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
OPERATION_NAME: Final = "gen_ai.operation.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
"""What v0.1.0 calls a workflow's name, too; both are set until the back ends have followed."""
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

INVOKE_WORKFLOW: Final = "invoke_workflow"
"""Operation of a run."""
EXECUTE_TOOL: Final = "execute_tool"
"""Operation of an attempt at a task."""
CHAT: Final = "chat"
"""Operation of a call of a chat model."""

# --- ours ------------------------------------------------------------------------------------------------------------

RUN_ID: Final = "lcr.run.id"
RUN_STATE: Final = "lcr.run.state"
"""``RunState``, or ``suspended`` where a human is asked, or ``cancelled`` where the caller went away."""
RUN_REASON: Final = "lcr.run.reason"
RUN_TASKS: Final = "lcr.run.tasks"
TASK_ID: Final = "lcr.task.id"
TASK_ATTEMPT: Final = "lcr.task.attempt"
TASK_STATE: Final = "lcr.task.state"
"""``TaskState``, or ``cancelled``, or ``suspended`` where the body asks a human."""
TASK_SKIPPED_BECAUSE: Final = "lcr.task.skipped_because"
COST_AMOUNT: Final = "lcr.cost.amount"
COST_CURRENCY: Final = "lcr.cost.currency"
BUDGET_LIMIT: Final = "lcr.budget.limit"
BUDGET_SPENT: Final = "lcr.budget.spent"
BUDGET_CURRENCY: Final = "lcr.budget.currency"
BUDGET_SCOPE: Final = "lcr.budget.scope"
BUDGET_ACTION: Final = "lcr.budget.action"
BUDGET_NEEDED: Final = "lcr.budget.needed"
CONTEXT_STRATEGY: Final = "lcr.context.strategy"
CONTEXT_TOKENS_BEFORE: Final = "lcr.context.tokens_before"
CONTEXT_TOKENS_AFTER: Final = "lcr.context.tokens_after"
CONTEXT_EVICTED: Final = "lcr.context.evicted"
CONTEXT_CLIPPED: Final = "lcr.context.clipped"
CONTEXT_RECALLS: Final = "lcr.context.recalls"

EVENT_BUDGET_REFUSED: Final = "lcr.budget.refused"
"""Span event: a call did not fit."""
EVENT_CONTEXT_COMPACTED: Final = "lcr.context.compacted"
"""Span event: a view was made to fit."""
EVENT_TASK_FINISHED: Final = "lcr.task.finished"
"""Span event: a task ended for which no body ran: skipped, cancelled before, taken from an equal task, ..."""

# --- providers -------------------------------------------------------------------------------------------------------

PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "anthropic_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google": "gcp.gen_ai",
    "google_anthropic_vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}
"""OpenTelemetry's name of a provider by LangChain's, where they differ; others go by the name that they have."""

"""What a model sees: the bundle that is assembled for a task, and the policy that makes it fit."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from langchain_core.messages import AnyMessage, BaseMessage
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from langchain_runtime.contracts.errors import InvalidInputError

StrategyName = Literal["fail", "truncate", "keep_last", "offload", "summarize"]
"""How a view that is too large is made to fit; see ``ContextPolicy.strategy``."""


class ContextBundle(BaseModel):
    """Everything one task gives its model.

    Attributes:
        messages: In the order the model receives them: system first, then what dependencies wrote, then the prompt.
        memory: The run's key-value memory as the task sees it; a copy.
        tools: Tool schemas in OpenAI's function format, by tool name.
    """

    model_config = ConfigDict(extra="forbid")

    messages: list[AnyMessage] = Field(default_factory=list)
    memory: dict[str, JsonValue] = Field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = Field(default_factory=dict)


def _as_strategies(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _known_strategies(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise InvalidInputError("a context policy needs at least one strategy", hint=f"one of {get_args(StrategyName)}")
    return value


class ContextPolicy(BaseModel):
    """How large the view may be, and what to do when it is not.

    Attributes:
        max_tokens: Ceiling for system + tools + messages in tokens; None means the model's own window.
        strategy: One or several, applied in order until the view fits: ``fail`` raises; ``truncate`` clips tool
            results and what dependencies wrote to ``truncate_to``; ``keep_last`` keeps pinned and the last
            ``keep_last_n`` atomic groups; ``offload`` moves the oldest groups to the store and leaves handles;
            ``summarize`` replaces them by a bounded summary.
        keep_last_n: Atomic groups that ``keep_last`` keeps, and that no strategy evicts.
        truncate_to: Tokens to which ``truncate`` clips one message.
        trigger: Share of the room at which compaction starts (high water mark).
        target: Share of the room that a compaction lands at or below (low water mark).
        reserve_output: Tokens of the window kept free for the reply.
        pin: Ids of messages that are never evicted or clipped, besides system and the newest human message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, gt=0)
    strategy: Annotated[
        tuple[StrategyName, ...], BeforeValidator(_as_strategies), AfterValidator(_known_strategies)
    ] = ("offload",)
    keep_last_n: int | None = Field(default=None, ge=1)
    truncate_to: int | None = Field(default=None, ge=16)
    trigger: float = Field(default=1.0, gt=0, le=1)
    target: float = Field(default=0.5, gt=0, le=1)
    reserve_output: int = Field(default=0, ge=0)
    pin: tuple[str, ...] = ()


class Compaction(BaseModel):
    """What a compactor did.

    Attributes:
        bundle: The view; equal to the input where nothing had to be done.
        evicted: Messages that left the view or were clipped, by handle; write them to a store before using the view.
        strategy: Strategies that changed something, in order.
        tokens_before: Size of the input by the configured counter.
        tokens_after: Size of the view.
        clipped: How many messages were shortened.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    bundle: ContextBundle
    evicted: dict[str, list[BaseMessage]] = {}
    strategy: tuple[str, ...] = ()
    tokens_before: int
    tokens_after: int
    clipped: int = 0

"""What a model sees: the bundle that is assembled for a task, and the policy that makes it fit."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from langchain_core.messages import AnyMessage, BaseMessage
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.usage import Usage

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
            ``summarize`` does the same, and the note says in short what was in them.
        keep_last_n: Atomic groups that ``keep_last`` keeps, and that no strategy evicts.
        truncate_to: Tokens to which ``truncate`` clips one message.
        trigger: Share of the room at which compaction starts (high water mark).
        target: Share of the room that a compaction lands at or below (low water mark).
        reserve_output: Tokens of the window kept free for the reply.
        pin: Ids of messages that are never evicted or clipped, besides system and the newest human message.
        summary_tokens: Size of a summary at most; None for an eighth of the room.
        preview_over: Outputs of dependencies that are larger reach the model as an excerpt of so many tokens with a
            handle, whatever room there is; None for what fits.
        recall: Whether the model is offered the ``recall`` tool where something left its view.
        recall_tokens: What one answer of that tool has at most; None for a quarter of the room.
        remind_tokens: Up to so many tokens of evicted passages, found by the words of each new question, stand before
            the question; 0 for none.
        on_orphans: Tool results without a call, which no provider accepts: ``repair`` keeps them out of view (and in
            the archive), ``refuse`` raises.
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
    summary_tokens: int | None = Field(default=None, ge=16)
    preview_over: int | None = Field(default=None, ge=16)
    recall: bool = True
    recall_tokens: int | None = Field(default=None, ge=64)
    remind_tokens: int = Field(default=0, ge=0)
    on_orphans: Literal["repair", "refuse"] = "repair"

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.max_tokens is not None and self.reserve_output >= self.max_tokens:
            raise InvalidInputError(
                f"a context policy reserves {self.reserve_output} of {self.max_tokens} tokens for the reply",
                hint="leave room for a view: lower reserve_output, or raise max_tokens",
            )
        return self


class Compaction(BaseModel):
    """What a compactor did.

    Attributes:
        bundle: The view; equal to the input where nothing had to be done.
        evicted: Messages that left the view or were clipped, by handle; write them to a store before using the view.
        strategy: Strategies that changed something, in order.
        tokens_before: Size of the input by the configured counter.
        tokens_after: Size of the view.
        clipped: How many messages were shortened.
        orphans: How many tool results without a call were left out.
        note: Id of the message that stands for what was evicted; None where none does.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    bundle: ContextBundle
    evicted: dict[str, list[BaseMessage]] = {}
    strategy: tuple[str, ...] = ()
    tokens_before: int
    tokens_after: int
    clipped: int = 0
    orphans: int = 0
    note: str | None = None


class Boundary(BaseModel):
    """Where a conversation's view begins, and what stands for everything before: all that a restart needs.

    JSON of a few kilobytes. A view is ``head`` and then the messages from ``upto`` on, with ``inserted`` among them.

    Attributes:
        upto: So many messages of the conversation are behind the boundary; it only grows.
        head: What the view shows of them: positions of messages that are shown as they are, and messages of our own
            (excerpts, notes, summaries) as ASCII, as an archive keeps them.
        inserted: Reminders after the boundary: the position before which each stands, and the message.
        events: How often the boundary has moved.
        fingerprint: Of the messages behind the boundary, to notice that another conversation is meant.
        handle: The latest that was written, to notice that an archive is not the one it was written to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upto: int = Field(default=0, ge=0)
    head: tuple[int | dict[str, str], ...] = ()
    inserted: tuple[tuple[int, dict[str, str]], ...] = ()
    events: int = Field(default=0, ge=0)
    fingerprint: str = ""
    handle: str | None = None


class ContextReport(BaseModel):
    """What was done to make one view fit.

    Attributes:
        tokens_before: Size by the configured counter before anything was done.
        tokens_after: Size of the view.
        evicted: Messages that left the view.
        clipped: Messages that were shortened.
        orphans: Tool results without a call among what left.
        strategy: Strategies that changed something, in order; empty where the view is what was given.
        events: How often the boundary of this conversation has moved so far.
        summary: What a summary took, if one was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_before: int = 0
    tokens_after: int = 0
    evicted: int = 0
    clipped: int = 0
    orphans: int = 0
    strategy: tuple[str, ...] = ()
    events: int = 0
    summary: Usage = Usage()


class Summary(BaseModel):
    """What a summariser wrote.

    Attributes:
        text: In plain words.
        usage: What it took.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    usage: Usage = Usage()

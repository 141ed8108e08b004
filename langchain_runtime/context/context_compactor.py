"""Makes a view fit: valid, bounded, lossless. Pure: what must be kept comes back and is for the caller to store."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage, ToolMessage

from langchain_runtime.context.draft import Conversation, Draft
from langchain_runtime.context.previews import preview
from langchain_runtime.context.strategies import STRATEGIES, Limits, last_resort
from langchain_runtime.contracts.context import Compaction, ContextBundle, ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.protocols import TokenEstimator

Counter = Callable[[list[BaseMessage]], int]
"""Counts the tokens of messages, as LangChain's ``token_counter`` does."""


_Count = Callable[[Sequence[BaseMessage], Mapping[str, dict[str, Any]]], int]


class ContextCompactor:
    """Fits a bundle into a ceiling of tokens.

    Whatever the strategy: the view has at most ``max_tokens - reserve_output`` tokens by the configured counter, tools
    included; tool results stay with their calls; system, memory, pinned and newest human messages stay as they are and
    where they are (of a prompt, outputs of dependencies that stand in it may be clipped); the last ``keep_last_n``
    groups, and always the newest, stay in view; order stays; and every message that is not in the view as it was
    is in ``Compaction.evicted``. The same input gives the same view, a view given back is left alone, and so is one
    under the trigger, save for tool results without a call, which no provider accepts, and for outputs of dependencies
    that are larger than the policy's ``preview_over``. Under ``summarize`` the view is
    as under ``offload``, with room left in its note for a summary: to write it takes a model.

    An event that may evict lands at or below the target or, when what must stay is larger, with nothing else in view.
    ``truncate`` alone may end above the target, and evicts only when clipping does not even meet the ceiling.

    Args:
        counter: Counts messages as LangChain's ``token_counter``, or a ``TokenEstimator``, whose ``expected`` counts;
            None for the default estimator. A plain counter counts tools as the JSON of their schemas.
        model: Whose tokens an estimator counts; None for its default.
    """

    def __init__(self, counter: Counter | TokenEstimator | None = None, *, model: str | None = None) -> None:
        if counter is None:
            # The default only: it brings encodings along.
            from langchain_runtime.cost import TokenEstimator as DefaultEstimator  # noqa: PLC0415

            counter = DefaultEstimator()
        # Found out once: what is asked here is slow, and sizes are asked for each message.
        if isinstance(counter, TokenEstimator):
            self._count: _Count = partial(_estimated, counter, model)
        else:
            self._count = partial(_counted, counter)

    def count(self, messages: Sequence[BaseMessage], tools: Mapping[str, dict[str, Any]]) -> int:
        """Tokens of messages together with the tools that go with them."""
        return self._count(messages, tools)

    def compact(self, bundle: ContextBundle, policy: ContextPolicy, *, max_tokens: int | None = None) -> Compaction:
        """Fit ``bundle`` by ``policy``.

        Strategies follow one another until the view meets the target. If they leave it too large, the oldest groups
        are offloaded and what must stay is clipped, unless ``fail`` is among them. ``keep_last`` with a number and
        without ``max_tokens`` in the policy is a ceiling of its own and applies at any size.

        Args:
            bundle: Not changed, and not part of the result.
            policy: How to make it fit.
            max_tokens: The model's window; the smaller of it and the policy's ``max_tokens`` counts. None for no limit.

        Raises:
            ContextOverflowError: What must stay does not fit, or the policy says ``fail``.
            InvalidInputError: There is a tool result without a call, and the policy says to refuse that.
        """
        conversation = Conversation(bundle.messages, policy, partial(self.count, tools=bundle.tools))
        if conversation.orphans and policy.on_orphans == "refuse":
            raise orphan_refused(conversation.messages[conversation.orphans[0]])
        before = conversation.size(conversation.messages)
        limits = Limits.under(policy, max_tokens)
        draft, applied = _fit(Draft(conversation, limits.room if limits else None), policy, limits)
        if conversation.orphans:
            applied = ("orphans", *applied)
        return Compaction(
            bundle=ContextBundle(messages=draft.messages, memory=bundle.memory, tools=copy.deepcopy(bundle.tools)),
            evicted=draft.by_handle(),
            strategy=applied,
            tokens_before=before,
            tokens_after=draft.size,
            clipped=sum(position not in draft.gone for position in draft.clipped),
            orphans=len(conversation.orphans),
            note=draft.note.message.id if draft.note else None,
        )


def _estimated(
    estimator: TokenEstimator, model: str | None, messages: Sequence[BaseMessage], tools: Mapping[str, dict[str, Any]]
) -> int:
    return estimator.expected(messages, model=model, tools=list(tools.values()))


def _counted(counter: Counter, messages: Sequence[BaseMessage], tools: Mapping[str, dict[str, Any]]) -> int:
    schemas = [SystemMessage(json.dumps(list(tools.values()), ensure_ascii=False))] if tools else []
    return counter([*messages, *schemas])


def orphan_refused(message: BaseMessage) -> InvalidInputError:
    """The error for a tool result without a call."""
    call = message.tool_call_id if isinstance(message, ToolMessage) else None
    return InvalidInputError(
        f"the conversation holds the result of a tool call {call!r} that is not in it",
        hint="put the assistant message with the call before it, or keep on_orphans='repair'",
    )


def _fit(draft: Draft, policy: ContextPolicy, limits: Limits | None) -> tuple[Draft, tuple[str, ...]]:
    """The finished draft, and the names of the strategies that changed it."""
    applied: list[str] = []
    if policy.preview_over is not None:
        previewed = preview(draft, policy.preview_over)
        applied += ["preview"] if previewed is not draft else []
        draft = previewed
    if policy.max_tokens is None and policy.keep_last_n is not None and "keep_last" in policy.strategy:
        kept = draft.evict(len(draft.source.evictable), noted=False)
        applied += ["keep_last"] if kept.evicted else []
        draft = kept
    if limits is None or draft.size <= policy.trigger * limits.room:
        return draft, tuple(applied)
    for name in policy.strategy:
        after = STRATEGIES[name](draft, limits)
        if after is not draft:
            applied.append(name)
        draft = after
        if draft.size <= limits.goal:
            return draft, tuple(applied)
    if draft.size > limits.room:
        draft = last_resort(draft, limits)
        applied.append("offload")
    return draft, tuple(dict.fromkeys(applied))

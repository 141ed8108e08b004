"""A conversation's view from turn to turn: it always fits, moves rarely, and whatever leaves it is in an archive."""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, messages_from_dict
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_runtime.context.archive import Archive
from langchain_runtime.context.clipping import plain_text
from langchain_runtime.context.context_compactor import ContextCompactor, Counter, orphan_refused
from langchain_runtime.context.conversation_fold import ConversationFold
from langchain_runtime.context.handles import handle_of
from langchain_runtime.context.marks import is_our_own, is_question, is_reminder, mark_of
from langchain_runtime.context.notes import with_summary
from langchain_runtime.context.reminders import MOST_PASSAGES, make_reminder
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import (
    Boundary,
    ContextBundle,
    ContextPolicy,
    ContextReport,
)
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import Summarizer, TokenEstimator
from langchain_runtime.contracts.usage import Usage


class ContextView:
    """What a model sees of a conversation at one turn.

    Attributes:
        messages: The view, without the system message that was given beside the conversation.
        boundary: Where it begins; to be kept when it ``moved``.
        moved: Whether the boundary is another one than before the turn.
    """

    def __init__(self, fold: ConversationFold, *, moved: bool, before: list[BaseMessage], turn: _Turn) -> None:
        self.messages = list(fold.view)
        self.boundary = fold.boundary
        self.moved = moved
        self._before = before
        self._turn = turn

    @cached_property
    def report(self) -> ContextReport:
        """What was done; counted when it is asked for."""
        before = {id(message) for message in self._before}
        after = {id(message) for message in self.messages}
        gone = sum(id(message) not in after and not is_our_own(message) for message in self._before)
        clipped = sum(id(message) not in before and mark_of(message).clipped for message in self.messages)
        return ContextReport(
            tokens_before=self._turn.request.size(self._before),
            tokens_after=self._turn.request.size(self.messages),
            evicted=gone - clipped,
            clipped=clipped,
            orphans=self._turn.orphans,
            strategy=tuple(dict.fromkeys(self._turn.strategy)),
            events=self.boundary.events,
            summary=self._turn.summary,
        )


class ConversationContext:
    """Fits a conversation that grows, turn by turn.

    The view is the same conversation with its oldest part replaced, and stays that until it reaches the policy's
    trigger: till then each view begins as the one before, which a provider's prompt cache rewards. Then the boundary
    moves, so far that the view lands at the target, and what left it is in the archive before the view is given out.

    The conversation is read message by message, so that its view depends on what was said, and not on how often it was
    asked for: two processes that see the same messages make the same view. A summary is the exception, and the reason
    why a boundary has to be kept. Safe to share between threads.

    Args:
        policy: How to make it fit.
        archive: Receives what leaves the view.
        counter: As for ``ContextCompactor``. The default adds up, so a turn costs its new messages only; with another
            counter the whole view is counted at each turn.
        model: Whose tokens an estimator counts.
        max_tokens: The model's window; the smaller of it and the policy's ``max_tokens`` counts.
        summarizer: For ``summarize``.
        boundary: As an earlier process left it; one that belongs to other messages is ignored.

    Raises:
        InvalidInputError: The policy says ``summarize``, and there is nobody to do it.
    """

    def __init__(
        self,
        policy: ContextPolicy,
        archive: Archive,
        *,
        counter: Counter | TokenEstimator | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        summarizer: Summarizer | None = None,
        boundary: Boundary | None = None,
    ) -> None:
        if "summarize" in policy.strategy and summarizer is None:
            raise InvalidInputError(
                "the context policy says summarize, and there is no summarizer",
                hint="pass summarizer=a chat model, or use the strategy offload",
            )
        self._policy = policy
        self._archive = archive
        self._summarizer = summarizer if "summarize" in policy.strategy else None
        self._compactor = ContextCompactor(counter, model=model)
        self._adds_up = counter is None
        self._max_tokens = max_tokens
        self._limits = Limits.under(policy, max_tokens)
        self._last_request: _Request | None = None
        self._stored = boundary
        self._fold = ConversationFold()
        self._lock = threading.Lock()

    def view(
        self, messages: Sequence[BaseMessage], *, system: SystemMessage | None = None, tools: Sequence[Any] = ()
    ) -> ContextView:
        """The view of the whole conversation so far.

        Args:
            messages: All of it, oldest first. Where it was edited since the last turn, the view is worked out anew.
            system: System message that goes before it; counted, and not part of the view.
            tools: Go with it, and count: LangChain tools or schemas.

        Raises:
            ContextOverflowError: What must stay does not fit, or the policy says ``fail``.
            InvalidInputError: A tool result has no call, and the policy says to refuse that.
        """
        return carry_out(self._view(messages, system, tools))

    async def aview(
        self, messages: Sequence[BaseMessage], *, system: SystemMessage | None = None, tools: Sequence[Any] = ()
    ) -> ContextView:
        """Async twin of ``view``."""
        return await acarry_out(self._view(messages, system, tools))

    def _view(
        self, conversation: Sequence[BaseMessage], system: SystemMessage | None, tools: Sequence[Any]
    ) -> Plan[ContextView]:
        messages = conversation if isinstance(conversation, list) else list(conversation)
        base = self._fold
        turn = _Turn(self._request(system, tools), self._summarizer)
        fold = yield from self._continued(base, messages, turn)
        new = messages[fold.read :]
        before = [*fold.view, *new]
        for message in new:
            yield from self._read(fold, message, turn)
        if not new or not self._adds_up:
            yield from self._fit(fold, turn, certain=False)
        if turn.overflow is not None:
            raise turn.overflow
        moved = fold.boundary != (self._stored or base.boundary)
        self._commit(base, fold, messages)
        return ContextView(fold, moved=moved, before=before, turn=turn)

    def _continued(self, base: ConversationFold, messages: list[BaseMessage], turn: _Turn) -> Plan[ConversationFold]:
        """A fold to read on with; from the boundary, or anew, if the conversation is not the one that was read."""
        if self._stored is None and base.is_start_of(messages):
            return base.copy()
        boundary = self._stored or base.boundary
        fold = ConversationFold.restored(boundary, messages) if boundary.upto else None
        if fold is None:
            return ConversationFold()
        if self._stored is not None and boundary.handle is not None:
            known = yield Step(self._archive, "has", (boundary.handle,))
            if not known:
                yield from self._archive_again(messages[: boundary.upto], turn)
        fold.size = max(turn.request.size(fold.view) - turn.request.fixed, 0)
        turn.reminders = {position: messages_from_dict([message])[0] for position, message in boundary.inserted}
        return fold

    def _archive_again(self, messages: list[BaseMessage], turn: _Turn) -> Plan[None]:
        """Fill an archive that is not the one that the boundary was made with; only a summary is beyond that."""
        fold = ConversationFold()
        for message in messages:
            yield from self._read(fold, message, _Turn(turn.request, None))

    def _commit(self, base: ConversationFold, fold: ConversationFold, messages: list[BaseMessage]) -> None:
        with self._lock:
            if fold.seen is base.seen and self._fold is base:
                fold.seen.extend(messages[base.read :])
            else:
                fold.seen = list(messages)
            self._fold, self._stored = fold, None

    def _read(self, fold: ConversationFold, message: BaseMessage, turn: _Turn) -> Plan[None]:
        """Take in the next message."""
        position = fold.read
        fold.note_down(message)
        if fold.is_orphan(message):
            if self._policy.on_orphans == "refuse":
                raise orphan_refused(message)
            yield Step(self._archive, "put", ({handle_of([message]): [message]},))
            turn.orphans += 1
            return
        if self._policy.remind_tokens and fold.boundary.events and is_question(message):
            reminder = turn.reminders.get(position) or (yield from self._reminder(message))
            if reminder is not None:
                fold.insert(reminder, position)
                fold.size += self._size_of(reminder)
        fold.show(message, position)
        fold.size += self._size_of(message)
        yield from self._fit(fold, turn)

    def _size_of(self, message: BaseMessage) -> int:
        # A counter that rounds over the whole may find a token more in two messages together.
        return self._compactor.count([message], {}) + 1

    def _reminder(self, question: BaseMessage) -> Plan[BaseMessage | None]:
        passages = yield Step(self._archive, "search", (plain_text(question),), {"limit": MOST_PASSAGES})
        return make_reminder(passages, self._policy.remind_tokens, lambda shown: self._compactor.count(shown, {}))

    def _fit(self, fold: ConversationFold, turn: _Turn, *, certain: bool = True) -> Plan[None]:
        """Move the boundary if the view has come to the trigger.

        Args:
            fold: Receives the new view.
            turn: Receives what was done.
            certain: Whether sizes that add up to less than the trigger prove that the view is under it.
        """
        turn.overflow = None
        request = turn.request
        if self._limits is not None:
            trigger = self._policy.trigger * self._limits.room
            if certain and request.fixed + fold.size <= trigger:
                return
            size = request.size(fold.view)
            fold.size = size - request.fixed
            if size <= trigger:
                return
        elif not (self._policy.keep_last_n and "keep_last" in self._policy.strategy):
            return
        bundle = ContextBundle(messages=[*request.system, *fold.view], tools=request.schemas)
        try:
            compaction = self._compactor.compact(bundle, self._policy, max_tokens=self._max_tokens)
        except ContextOverflowError as error:
            # It counts only if nothing comes after it that makes more of the conversation old.
            turn.overflow = error
            return
        if not compaction.strategy:
            return
        yield Step(self._archive, "put", (compaction.evicted,))
        view = compaction.bundle.messages[len(request.system) :]
        strategy = list(compaction.strategy)
        if self._summarizer is not None and compaction.note is not None:
            summarised = yield from self._summarised(fold.view, view, compaction.note, turn)
            if summarised is None:
                strategy = ["offload" if name == "summarize" else name for name in strategy]
            view = summarised or view
        turn.strategy += strategy
        fold.move(view, handle=next(reversed(compaction.evicted), None))
        fold.size = request.size(fold.view) - request.fixed

    def _summarised(
        self, before: Sequence[BaseMessage], view: Sequence[BaseMessage], note_id: str, turn: _Turn
    ) -> Plan[list[Any] | None]:
        """The view with a summary in its note; None if nobody wrote one that is of use."""
        assert self._limits is not None  # a view without a ceiling has no note
        kept = {id(message) for message in view}
        gone = [message for message in before if id(message) not in kept and not is_reminder(message)]
        try:
            summary = yield Step(turn.summarizer, "summarize", (gone,), {"max_tokens": self._limits.summary})
        except Exception:  # noqa: BLE001 - whatever a model's client raises: the view without a summary is sound
            return None
        turn.summary += summary.usage
        text = summary.text.strip()
        longer = [with_summary(message, text) if message.id == note_id else message for message in view]
        wordy = self._compactor.count([HumanMessage(text)], {}) >= self._compactor.count(gone, {})
        return None if not text or wordy or turn.request.size(longer) > self._limits.goal else longer

    def _request(self, system: SystemMessage | None, tools: Sequence[Any]) -> _Request:
        last = self._last_request
        if last is None or not last.is_for(system, tools):
            last = self._last_request = _Request.of(self._compactor, system, tools)
        return last


@dataclass(frozen=True, slots=True)
class _Request:
    """What goes with the view.

    Attributes:
        system: The system message, if there is one.
        tools: As given.
        schemas: Of the tools, by name.
        fixed: Tokens of both.
    """

    compactor: ContextCompactor
    system: tuple[SystemMessage, ...]
    tools: tuple[Any, ...]
    schemas: dict[str, dict[str, Any]]
    fixed: int

    @classmethod
    def of(cls, compactor: ContextCompactor, system: SystemMessage | None, tools: Sequence[Any]) -> _Request:
        before = () if system is None else (system,)
        schemas = dict(_schema(tool, number) for number, tool in enumerate(tools))
        # Not every counter can do with nothing at all.
        fixed = compactor.count(before, schemas) if before or schemas else 0
        return cls(compactor, before, tuple(tools), schemas, fixed)

    def is_for(self, system: SystemMessage | None, tools: Sequence[Any]) -> bool:
        """Whether it was made of these; by identity, because it is asked at each turn."""
        same_system = (self.system[0] if self.system else None) is system
        return same_system and len(tools) == len(self.tools) and all(map(operator.is_, tools, self.tools))

    def size(self, view: Sequence[BaseMessage]) -> int:
        """Tokens of everything."""
        return self.compactor.count([*self.system, *view], self.schemas)


@dataclass(slots=True)
class _Turn:
    """What is asked for at one turn, and what was done for it.

    Attributes:
        request: What goes with the view.
        summarizer: Writes summaries; None for notes without.
        reminders: That stand in the view already, by the position before which they do.
        overflow: Why the view does not fit, if it does not.
        strategy: Strategies that changed something.
        orphans: Tool results without a call.
        summary: What summaries took.
    """

    request: _Request
    summarizer: Summarizer | None
    reminders: dict[int, BaseMessage] = field(default_factory=dict)
    overflow: ContextOverflowError | None = None
    strategy: list[str] = field(default_factory=list)
    orphans: int = 0
    summary: Usage = Usage()  # noqa: RUF009 - immutable


def _schema(tool: Any, number: int) -> tuple[str, dict[str, Any]]:
    """The tool as a request carries it, under its name."""
    schema: dict[str, Any] = tool if isinstance(tool, dict) else convert_to_openai_tool(tool)
    name = schema.get("function", schema).get("name")
    return (name or f"tool {number}", schema)

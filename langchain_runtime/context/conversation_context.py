"""A conversation's view from turn to turn: it always fits, moves rarely, and whatever leaves it is in an archive."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_runtime.context.archive import Archive
from langchain_runtime.context.clipping import plain_text
from langchain_runtime.context.context_compactor import ContextCompactor, Counter, orphan_refused
from langchain_runtime.context.conversation_fold import ConversationFold, message_of
from langchain_runtime.context.conversation_turn import ContextView, Turn, TurnRequest
from langchain_runtime.context.handles import handle_of
from langchain_runtime.context.marks import is_question, is_reminder
from langchain_runtime.context.notes import with_summary
from langchain_runtime.context.reminders import MOST_PASSAGES, make_reminder
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import (
    Boundary,
    ContextBundle,
    ContextPolicy,
)
from langchain_runtime.contracts.errors import ContextOverflowError, InvalidInputError
from langchain_runtime.contracts.plans import Plan, Step, acarry_out, carry_out
from langchain_runtime.contracts.protocols import Summarizer, TokenEstimator


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
        max_tokens: The model's window, where a turn names no other; the smaller of it and the policy's counts.
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
        self._last_request: TurnRequest | None = None
        self._stored = boundary
        self._fold = ConversationFold()
        self._lock = threading.Lock()

    def view(
        self,
        messages: Sequence[BaseMessage],
        *,
        system: SystemMessage | None = None,
        tools: Sequence[Any] = (),
        max_tokens: int | None = None,
    ) -> ContextView:
        """The view of the whole conversation so far.

        Args:
            messages: All of it, oldest first. Where it was edited since the last turn, the view is worked out anew.
            system: System message that goes before it; counted, and not part of the view.
            tools: Go with it, and count: LangChain tools or schemas.
            max_tokens: The window of the model that is asked this time.

        Raises:
            ContextOverflowError: What must stay does not fit, or the policy says ``fail``.
            InvalidInputError: A tool result has no call, and the policy says to refuse that.
        """
        return carry_out(self._view(messages, self._request(system, tools, max_tokens)))

    async def aview(
        self,
        messages: Sequence[BaseMessage],
        *,
        system: SystemMessage | None = None,
        tools: Sequence[Any] = (),
        max_tokens: int | None = None,
    ) -> ContextView:
        """Async twin of ``view``."""
        return await acarry_out(self._view(messages, self._request(system, tools, max_tokens)))

    def _view(self, conversation: Sequence[BaseMessage], request: TurnRequest) -> Plan[ContextView]:
        messages = conversation if isinstance(conversation, list) else list(conversation)
        base = self._fold
        turn = Turn(request, self._summarizer)
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

    def _continued(self, base: ConversationFold, messages: list[BaseMessage], turn: Turn) -> Plan[ConversationFold]:
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
        turn.reminders = {position: message_of(message) for position, message in boundary.inserted}
        return fold

    def _archive_again(self, messages: list[BaseMessage], turn: Turn) -> Plan[None]:
        """Fill an archive that is not the one that the boundary was made with; only a summary is beyond that."""
        fold = ConversationFold()
        for message in messages:
            yield from self._read(fold, message, Turn(turn.request, None))

    def _commit(self, base: ConversationFold, fold: ConversationFold, messages: list[BaseMessage]) -> None:
        with self._lock:
            if fold.seen is base.seen and self._fold is base:
                fold.seen.extend(messages[base.read :])
            else:
                fold.seen = list(messages)
            self._fold, self._stored = fold, None

    def _read(self, fold: ConversationFold, message: BaseMessage, turn: Turn) -> Plan[None]:
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

    def _fit(self, fold: ConversationFold, turn: Turn, *, certain: bool = True) -> Plan[None]:
        """Move the boundary if the view has come to the trigger.

        Args:
            fold: Receives the new view.
            turn: Receives what was done.
            certain: Whether sizes that add up to less than the trigger prove that the view is under it.
        """
        turn.overflow = None
        request = turn.request
        if request.limits is not None:
            trigger = self._policy.trigger * request.limits.room
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
            compaction = self._compactor.compact(bundle, self._policy, max_tokens=request.window)
        except ContextOverflowError as error:
            if "fail" in self._policy.strategy:
                raise
            # It counts only if nothing comes after it that makes more of the conversation old.
            turn.overflow = error
            return
        if not compaction.strategy:
            return
        yield Step(self._archive, "put", (compaction.evicted,))
        view = compaction.bundle.messages[len(request.system) :]
        summarised = None
        if compaction.note is not None:
            summarised = yield from self._summarised(fold.view, view, compaction.note, turn)
        turn.strategy += [
            "offload" if name == "summarize" and summarised is None else name for name in compaction.strategy
        ]
        view = summarised or view
        fold.move(view, handle=next(reversed(compaction.evicted), None))
        fold.size = request.size(fold.view) - request.fixed

    def _summarised(
        self, before: Sequence[BaseMessage], view: Sequence[BaseMessage], note_id: str, turn: Turn
    ) -> Plan[list[Any] | None]:
        """The view with a summary in its note; None if nobody wrote one that is of use."""
        limits = turn.request.limits
        if turn.summarizer is None or limits is None:
            return None
        kept = {id(message) for message in view}
        gone = [message for message in before if id(message) not in kept and not is_reminder(message)]
        try:
            summary = yield Step(turn.summarizer, "summarize", (gone,), {"max_tokens": limits.summary})
        except Exception:  # noqa: BLE001 - whatever a model's client raises: the view without a summary is sound
            return None
        turn.summary += summary.usage
        text = summary.text.strip()
        longer = [with_summary(message, text) if message.id == note_id else message for message in view]
        wordy = self._compactor.count([HumanMessage(text)], {}) >= self._compactor.count(gone, {})
        return None if not text or wordy or turn.request.size(longer) > limits.goal else longer

    def _request(self, system: SystemMessage | None, tools: Sequence[Any], max_tokens: int | None) -> TurnRequest:
        window = self._max_tokens if max_tokens is None else max_tokens
        last = self._last_request
        if last is None or not last.is_for(system, tools, window):
            limits = Limits.under(self._policy, window)
            last = self._last_request = TurnRequest.of(self._compactor, system, tools, window, limits)
        return last

"""Tokens before a call: one number to plan with, one that is never too low to hold money with."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage

from langchain_runtime.contracts.errors import EstimationError, InvalidInputError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost.provider_overheads import BOUND_PER_REQUEST
from langchain_runtime.cost.token_anchors import Observed, TokenAnchors
from langchain_runtime.cost.token_bounds import messages_bound, schema_bound
from langchain_runtime.cost.token_calibration import TokenCalibration
from langchain_runtime.cost.token_facts import facts_of
from langchain_runtime.cost.token_requests import MeasuredRequest

_UNREAD: Final = 32
"""Calls that may wait to be learnt from: about as many as are under way at once."""

_Call = tuple[tuple[BaseMessage, ...], TokenUsage, str | None, tuple[Any, ...]]


class TokenEstimator:
    """Counts input tokens of a request: messages, and whatever else it carries as JSON (tools, schemas).

    Texts are encoded once and remembered, so a conversation that grows costs its new part only. What ``observe`` was
    told makes ``expected`` better and leaves ``upper_bound`` alone. Safe to share between threads.

    Args:
        bytes_per_token: Size of a token where no tokeniser can be had: the whole request's UTF-8 bytes are divided by
            it, rounded down, at least one token.

    Raises:
        InvalidInputError: ``bytes_per_token`` is not positive.
    """

    def __init__(self, *, bytes_per_token: int = 4) -> None:
        if bytes_per_token <= 0:
            raise InvalidInputError(f"bytes_per_token must be positive, got {bytes_per_token}", hint="4 suits English")
        self._bytes_per_token = bytes_per_token
        self._unread: deque[_Call] = deque(maxlen=_UNREAD)
        self._learning = threading.Lock()
        self._anchors = TokenAnchors()
        self._calibration = TokenCalibration()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has learnt nothing yet."""
        return (partial(TokenEstimator, bytes_per_token=self._bytes_per_token), ())

    def expected(self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()) -> int:
        """Best estimate of the input tokens, chat format and tool schemas included.

        Where the conversation starts as an observed call did, with the same model and tools, that call's input is
        taken as reported, and only what came after it is estimated.

        Args:
            messages: Oldest first.
            model: Whose tokens, as ``provider:name`` or a bare name; None for a current OpenAI model's.
            tools: Tool schemas, reply formats and other JSON of the request.
        """
        self._learn()
        request = self._measured(messages, model, tools)
        correction = self._calibration.of(model, tools=request.with_tools)
        anchor = self._anchors.longest(_root(model, request), request.serials)
        if anchor is None:
            return correction.applied_to(request.tokens())
        start, observed = anchor
        known = observed.input
        if start < len(messages) and isinstance(messages[start], AIMessage):
            reply = request.reply(start, observed)
            if reply is not None:
                known += reply
                start += 1
        return known + round(correction.factor * request.tokens_from(start))

    def upper_bound(
        self, messages: Sequence[BaseMessage], *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> int:
        """Never below what the provider bills as input tokens.

        By bytes, by the dearest price that is published for an image, and by constants for what providers add. No
        tokeniser is loaded, and nothing that was observed counts.

        Raises:
            EstimationError: A message holds audio, a file, an image that the model has no published bound for, a block
                of unknown type or reasoning that only the provider has; a tool is an object whose schema is not known
                here; or the model reads more than it is sent.
        """
        facts = facts_of(model)
        if facts.agentic:
            raise EstimationError(
                f"{model!r} works on the provider's side and bills input that is not in the request",
                hint="use a model that only reads what it is sent, or a budget without a limit",
            )
        total = BOUND_PER_REQUEST + messages_bound(messages, facts.images)
        if tools:
            total += facts.overhead.bound_with_tools
            for tool in tools:
                total += schema_bound(tool)
        return total

    def observe(
        self, messages: Sequence[BaseMessage], usage: TokenUsage, *, model: str | None = None, tools: Sequence[Any] = ()
    ) -> None:
        """Learn from a call what its input really took; later estimates of the conversation and the model profit.

        It is learnt from when the next estimate is made: until then the messages must not be changed in place. Of calls
        that come faster than that, the latest are learnt from.

        Args:
            messages: As they were sent, oldest first.
            usage: As the provider reported it; without input tokens it is ignored.
            model: As ``expected`` is given it.
            tools: Likewise.
        """
        self._unread.append((tuple(messages), usage, model, tuple(tools)))

    def _learn(self) -> None:
        with self._learning:  # an estimate waits for what another thread is just learning
            while self._unread:
                messages, usage, model, tools = self._unread.popleft()
                if usage.input == 0:
                    continue
                request = self._measured(messages, model, tools)
                self._calibration.add(model, request.tokens(), usage.input, tools=request.with_tools)
                observed = Observed(usage.input, usage.output, usage.reasoning)
                self._anchors.add(_root(model, request), request.serials, observed)

    def _measured(self, messages: Sequence[BaseMessage], model: str | None, tools: Sequence[Any]) -> MeasuredRequest:
        return MeasuredRequest.of(messages, model, tools, bytes_per_token=self._bytes_per_token)


def _root(model: str | None, request: MeasuredRequest) -> Hashable:
    return (model, *[size.serial for size in request.tools])

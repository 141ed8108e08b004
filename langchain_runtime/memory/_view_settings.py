"""What the views of a memory are made with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from langchain_core.language_models import BaseChatModel

from langchain_runtime.adapters import providers
from langchain_runtime.chat_models.model_summarizer import ModelSummarizer, SummarySource
from langchain_runtime.context import Archive, ConversationContext
from langchain_runtime.context.context_compactor import ContextCompactor, Counter
from langchain_runtime.context.strategies import Limits
from langchain_runtime.contracts.context import Boundary, ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError, UnknownModelError
from langchain_runtime.contracts.protocols import Summarizer, TokenEstimator
from langchain_runtime.cost import default_catalog

_SHARE: Final = 0.8
"""Of a model's window, where nobody has a policy: the rest is for the reply and what a memory does not see."""

_ROOM_PER_RECALL: Final = 4
_SMALLEST_RECALL: Final = 64
_RECALL_WITHOUT_ROOM: Final = 2_000


@dataclass(frozen=True)
class ViewSettings:
    """A policy with what it takes to follow it.

    Attributes:
        policy: How to make views fit.
        counter: Counts tokens; None for the default estimator.
        model: Whose tokens are counted, as the catalogue names it; None where nobody said.
        window: Of that model in tokens; None where nobody knows.
        summarizer: For ``summarize``; None for nobody.
    """

    policy: ContextPolicy
    counter: Counter | TokenEstimator | None
    model: str | None
    window: int | None
    summarizer: Summarizer | None

    @classmethod
    def of(
        cls,
        policy: ContextPolicy | None,
        *,
        token_counter: Counter | TokenEstimator | None,
        model: str | BaseChatModel | None,
        summarizer: Summarizer | SummarySource | None,
    ) -> ViewSettings:
        """The settings by what users pass.

        Raises:
            InvalidInputError: Nothing says how large a view may be.
        """
        name = providers.model_id(model, {}) if isinstance(model, BaseChatModel) else model
        window = _window(model, name)
        if policy is None and window is not None:
            policy = ContextPolicy(max_tokens=int(_SHARE * window))
        policy = policy or ContextPolicy()
        keeps_so_many = "keep_last" in policy.strategy and policy.keep_last_n is not None
        if policy.max_tokens is None and window is None and not keeps_so_many:
            raise InvalidInputError(
                "nothing says how large a view may be" + (f": the window of {name!r} is not known" if name else ""),
                hint='pass policy=ContextPolicy(max_tokens=...), or model="provider:name" with a known window',
            )
        if summarizer is not None and not isinstance(summarizer, Summarizer):
            summarizer = ModelSummarizer(summarizer)
        return cls(policy, token_counter, name, window, summarizer)

    @property
    def ceiling(self) -> int | None:
        """Tokens of a view and of what ``reserve_output`` keeps free; None for no ceiling."""
        ceilings = [ceiling for ceiling in (self.policy.max_tokens, self.window) if ceiling is not None]
        return min(ceilings, default=None)

    @property
    def room(self) -> int | None:
        """Tokens of a view at most; None for no ceiling."""
        limits = Limits.under(self.policy, self.window)
        return None if limits is None else limits.room

    @property
    def recall_tokens(self) -> int:
        """Tokens of one answer of the recall tool at most."""
        if self.policy.recall_tokens is not None:
            return self.policy.recall_tokens
        return _RECALL_WITHOUT_ROOM if self.room is None else max(self.room // _ROOM_PER_RECALL, _SMALLEST_RECALL)

    @cached_property
    def compactor(self) -> ContextCompactor:
        """What counts as views are counted."""
        return ContextCompactor(self.counter, model=self.model)

    def context(self, archive: Archive, boundary: Boundary) -> ConversationContext:
        """A conversation under these settings."""
        return ConversationContext(
            self.policy,
            archive,
            counter=self.counter,
            model=self.model,
            max_tokens=self.window,
            summarizer=self.summarizer,
            boundary=boundary if boundary.upto else None,
        )


def _window(model: str | BaseChatModel | None, name: str | None) -> int | None:
    if name is None:
        return None
    profile = model.profile if isinstance(model, BaseChatModel) else None
    if profile and "max_input_tokens" in profile:
        return profile["max_input_tokens"]
    try:
        return default_catalog().get(name).context_window
    except UnknownModelError:
        return None  # its tokens can be counted all the same

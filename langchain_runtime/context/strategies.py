"""The ways to make a view fit, each a function from draft to draft.

A strategy aims at the goal (the low water mark) and does as little as it takes; what it may not touch is the draft's
business. ``last_resort`` follows when the chosen ones were not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from langchain_core.messages import ToolMessage

from langchain_runtime.context.clipping import Clipped, clip
from langchain_runtime.context.draft import Draft
from langchain_runtime.context.marks import mark_of
from langchain_runtime.contracts.context import ContextPolicy, StrategyName
from langchain_runtime.contracts.errors import ContextOverflowError

_USEFUL_EXCERPT: Final = 64
"""Tokens under which an excerpt says too little to prefer it to the room it takes."""
_SMALLEST_EXCERPT: Final = 16
_ROOM_PER_SUMMARY: Final = 8


class Limits(NamedTuple):
    """What a view must meet, in tokens.

    Attributes:
        room: Never more than this.
        goal: Where an event should land.
        clip_to: One clipped message, for ``truncate``; None for the largest size that meets the goal.
        keep_last: Groups that ``keep_last`` leaves; None for as many as meet the goal.
        summary: Size of a summary at most.
    """

    room: int
    goal: int
    clip_to: int | None
    keep_last: int | None
    summary: int

    @classmethod
    def of(cls, policy: ContextPolicy, ceiling: int) -> Limits:
        """The limits under ``policy`` for a window of ``ceiling`` tokens."""
        room = max(ceiling - policy.reserve_output, 0)
        # A goal above the trigger would start the next event at once.
        return cls(
            room=room,
            goal=int(min(policy.target, policy.trigger) * room),
            clip_to=policy.truncate_to,
            keep_last=policy.keep_last_n,
            summary=room // _ROOM_PER_SUMMARY if policy.summary_tokens is None else policy.summary_tokens,
        )

    @classmethod
    def under(cls, policy: ContextPolicy, window: int | None) -> Limits | None:
        """The limits of ``policy`` for a model with such a window; None where neither knows any."""
        ceilings = [ceiling for ceiling in (policy.max_tokens, window) if ceiling is not None]
        return cls.of(policy, min(ceilings)) if ceilings else None

    def without_summary(self) -> Limits:
        """The limits of a view that a summary is still to be put into."""
        return self._replace(goal=max(self.goal - self.summary, 0))


Strategy = Callable[[Draft, Limits], Draft]


def fail(draft: Draft, limits: Limits) -> Draft:
    """Refuse a view that is too large."""
    if draft.size > limits.room:
        raise overflow(draft.size, limits.room, "the view is too large and the policy says fail")
    return draft


def truncate(draft: Draft, limits: Limits) -> Draft:
    """Clip long tool results and outputs of dependencies until the goal is met.

    To ``clip_to`` each, the oldest first; without it, all to one size, so that the longest lose most.
    """
    positions = [position for position in draft.clippable if not _is_excerpt(draft, position)]
    if limits.clip_to is None:
        return _squeeze(draft, positions, limits.goal, at_least=_USEFUL_EXCERPT)
    clips = _clips(draft, positions, limits.clip_to)
    if not clips:
        return draft
    oldest_first = list(clips.items())
    return _first_that_meets(limits.goal, lambda count: draft.clip(dict(oldest_first[:count])), 1, len(clips))


def keep_last(draft: Draft, limits: Limits) -> Draft:
    """Evict everything but the last groups and what is pinned; nothing in the view tells of it."""
    if limits.keep_last is None:
        return _evict_oldest(draft, limits, noted=draft.noted)
    everything = len(draft.source.evictable)
    return draft if draft.evicted == everything else draft.evict(everything, noted=draft.noted)


def offload(draft: Draft, limits: Limits) -> Draft:
    """Evict the oldest groups until the goal is met, and leave a note with their handles.

    What dependencies wrote is clipped first: a task is there to read it, and an excerpt says more than a handle.
    """
    written = [
        position
        for position in draft.clippable
        if not isinstance(draft.source.messages[position], ToolMessage) and not _is_excerpt(draft, position)
    ]
    draft = _squeeze(draft, written, limits.goal, at_least=_USEFUL_EXCERPT)
    noted = _evict_oldest(draft, limits, noted=True)
    if noted is draft or noted.size < draft.size:
        return noted
    return _evict_oldest(draft, limits, noted=False)  # little was said: a note about it would be longer


def summarize(draft: Draft, limits: Limits) -> Draft:
    """Offload, and leave room in the note for a summary, which is for somebody with a model to write."""
    return offload(draft, limits.without_summary())


def last_resort(draft: Draft, limits: Limits) -> Draft:
    """Make the view fit the room whatever it takes: offload, clip what must stay harder, do without the note.

    Raises:
        ContextOverflowError: It does not fit even so.
    """
    noted = offload(draft, limits)
    silent = _evict_oldest(draft.evict(0 if draft.noted else draft.evicted, noted=False), limits, noted=False)
    for candidate in (noted, silent, silent.without_lone_notes()):
        fitted = _squeeze(candidate, candidate.clippable, limits.room, at_least=_SMALLEST_EXCERPT)
        if fitted.size <= limits.room:
            return fitted
    raise overflow(fitted.size, limits.room, "system, pinned and newest messages do not fit the view")


def overflow(needed: int, limit: int, reason: str) -> ContextOverflowError:
    """The error for a view that cannot be made to fit."""
    return ContextOverflowError(
        f"{reason}: {needed} tokens where {limit} are allowed",
        needed=needed,
        limit=limit,
        hint="raise max_tokens, lower reserve_output or keep_last_n, or shorten the system message or prompt",
    )


STRATEGIES: Final[Mapping[StrategyName, Strategy]] = {
    "fail": fail,
    "truncate": truncate,
    "keep_last": keep_last,
    "offload": offload,
    "summarize": summarize,
}


def _evict_oldest(draft: Draft, limits: Limits, *, noted: bool) -> Draft:
    """The same view with as few more groups out as meets the goal, or with all that may go."""
    everything = len(draft.source.evictable)
    if draft.evicted == everything or draft.size <= limits.goal:
        return draft
    return _first_that_meets(
        limits.goal, lambda groups: draft.evict(groups, noted=noted), draft.evicted + 1, everything
    )


def _first_that_meets(goal: int, draft: Callable[[int], Draft], low: int, high: int) -> Draft:
    """The draft with the smallest number in ``low..high`` that meets the goal; the last one if none does.

    By bisection over whole views: right for any counter that does not shrink when messages are added.
    """
    while low < high:
        middle = (low + high) // 2
        if draft(middle).size <= goal:
            high = middle
        else:
            low = middle + 1
    return draft(low)


def _is_excerpt(draft: Draft, position: int) -> bool:
    """Whether an earlier compaction clipped the message: clipping it again would change a finished view."""
    mark = mark_of(draft.source.messages[position])
    return mark.clipped and not mark.inlined


def _clips(draft: Draft, positions: Sequence[int], limit: int) -> dict[int, Clipped]:
    """Those of the messages that can be shortened to ``limit``, by position."""
    clips = {position: clip(draft.source.messages[position], limit, draft.source.size) for position in positions}
    return {position: clipped for position, clipped in clips.items() if clipped}


def _squeeze(draft: Draft, positions: Sequence[int], ceiling: int, *, at_least: int) -> Draft:
    """Clip messages to the largest common size, ``at_least`` or more, at which the view meets ``ceiling``."""
    clips = _clips(draft, positions, at_least) if draft.size > ceiling else {}
    if not clips:
        return draft
    best = draft.clip(clips)
    low, high = at_least, ceiling if best.size <= ceiling else at_least
    while low < high:
        middle = (low + high + 1) // 2
        larger = draft.clip(_clips(draft, list(clips), middle))
        if larger.size <= ceiling:
            low, best = middle, larger
        else:
            high = middle - 1
    return best

"""Previews: what dependencies wrote at length reaches a model as an excerpt with a handle, whatever room there is."""

from __future__ import annotations

from langchain_core.messages import ToolMessage

from langchain_runtime.context.clipping import clip
from langchain_runtime.context.draft import Draft


def preview(draft: Draft, over: int) -> Draft:
    """Clip every output of a dependency that has more than ``over`` tokens to so many, in messages and in prompts.

    Not a strategy: it needs no limits, and comes before the view is measured against any. Tool results stay as they
    are, and so does a view that was given back.
    """
    clips = {}
    for position in draft.clippable:
        message = draft.source.messages[position]
        clipped = None if isinstance(message, ToolMessage) else clip(message, over, draft.source.size)
        if clipped is not None:
            clips[position] = clipped
    return draft.clip(clips) if clips else draft

"""Splits a long document at the borders of its paragraphs, so that each part fits a model's view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

MAX_CHARACTERS: Final = 6_000
"""About 1,500 tokens: small enough for any model's view and for a parallel map, large beside the instructions."""

_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING_ONLY = re.compile(r"\s*#{1,6} [^\n]*\n\s*")


def split(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """The parts of ``text``, each at most ``max_characters`` long; together they are the text again.

    A part ends with a paragraph; a longer paragraph is cut after a line, a longer line after a word. Code fences and
    headings stay with what belongs to them where that fits.
    """
    parts: list[str] = []
    for piece in _pieces(text, max_characters):
        if parts and len(parts[-1]) + len(piece) <= max_characters:
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts


def _pieces(text: str, limit: int) -> Iterator[str]:
    for paragraph in _paragraphs(text.splitlines(keepends=True)):
        if len(paragraph) <= limit:
            yield paragraph
        else:
            for line in paragraph.splitlines(keepends=True):
                yield from _slices(line, limit)


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    paragraph = ""
    in_fence = False
    for line in lines:
        paragraph += line
        in_fence ^= _FENCE.match(line) is not None
        if not (line.strip() or in_fence or _HEADING_ONLY.fullmatch(paragraph)):
            yield paragraph
            paragraph = ""
    if paragraph:
        yield paragraph


def _slices(line: str, limit: int) -> Iterator[str]:
    while len(line) > limit:
        end = line.rfind(" ", 0, limit) + 1 or limit
        yield line[:end]
        line = line[end:]
    yield line

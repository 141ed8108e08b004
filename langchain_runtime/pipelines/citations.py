"""Reads ``"quote" [document]`` lines out of a reply, and finds quotes in their documents."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_CITATION = re.compile(r"^\s*(?:[-*•]|\d+[.)])?\s*[\"“](.+)[\"”]\s*\[([^\[\]]+)\]", re.MULTILINE)
_WORD = re.compile(r"\w+")
_MIN_WORDS: Final = 4
"""Fewer words in a row may stand in a document by chance."""


class Citation(NamedTuple):
    """A quote and the id of the document it is said to come from."""

    quote: str
    document: str

    def __str__(self) -> str:
        return f'"{self.quote}" [{self.document}]'


def read_citations(reply: str) -> list[Citation]:
    """The citations in a reply, each once, in order; everything else in it is passed over."""
    found = (Citation(_one_line(quote), document.strip()) for quote, document in _CITATION.findall(reply))
    return list(dict.fromkeys(found))


def verbatim(quote: str, texts: Iterable[str]) -> str | None:
    """The quote as one of the texts has it, white space collapsed; None if none has it.

    A quote whose words stand in a text in the same order, with other punctuation or markup between them (a model left
    out the asterisks of Markdown, say), is given back in the text's own form, from white space to white space.
    """
    for text in texts:
        if found := _passage(_one_line(quote), _one_line(text)):
            return found
    return None


def _passage(quote: str, text: str) -> str | None:
    if quote and quote in text:
        return quote
    wanted = _WORD.findall(quote)
    if len(wanted) < _MIN_WORDS:
        return None
    words = list(_WORD.finditer(text))
    row = " ".join(["", *(word[0] for word in words), ""])
    at = row.find(" ".join(["", *wanted, ""]))
    if at < 0:
        return None
    first = row.count(" ", 0, at)
    start = text.rfind(" ", 0, words[first].start()) + 1
    end = f"{text} ".find(" ", words[first + len(wanted) - 1].end())
    return text[start:end]


def _one_line(text: str) -> str:
    return " ".join(text.split())

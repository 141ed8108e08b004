"""Finds the sentences of a document that can be quoted: prose of Markdown, reStructuredText or plain text.

Code, tables, badges and other markup are passed over. A sentence is never altered: up to white space it is a substring
of its document.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

MIN_CHARACTERS: Final = 25
MAX_CHARACTERS: Final = 400
"""Shorter sentences stay with a neighbour where they have one, longer ones are cut after a word."""

_MIN_WORDS: Final = 3
_CODE_INDENT: Final = 4
_MIN_LETTERS: Final = 0.6
"""Least share of letters in a sentence without its white space: what has fewer is code, a path or a row of figures."""

_FENCE = re.compile(r"```|~~~")
_MARKUP_LINE = re.compile(r"\||\+[-=]{3}|!\[|\[!|<[^>]*>$|<.*>$|\[[^\]]+\]:\s|\.\. ")
_HEADING = re.compile(r"#{1,6}\s+(.*?)[\s#]*")
_RULE = re.compile(r"([=\-~^*_#\"'`+])\1{2,}")
_ITEM = re.compile(r"(?:[-*+•>]|\d{1,3}[.)])\s+")
_SENTENCE_END = re.compile(
    r"(?<=[\u3002\uff01\uff1f])|(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bcf\.)(?:(?<=[.!?])|(?<=[.!?][\"')*_`\]]))\s+(?=[^a-z\s])"
)
_LINK_TARGET = re.compile(r"\]\([^)\s]*\)|\w+://\S+")
_TERMINALS: Final = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
CJK: Final = r"\u3040-\u30ff\u3400-\u9fff"
"""Inside of a character class: scripts that put no spaces between words."""

_WORD = re.compile(rf"[^\W{CJK}]+|[{CJK}]")
_BREAKS_A_CITATION = re.compile(r"\"\s*\[")
"""A quote with this inside could not be told from the end of ``"quote" [document]``."""


class Sentence(NamedTuple):
    """A quotable sentence and the heading it stands under ("" for none)."""

    text: str
    heading: str


def sentences(text: str) -> Iterator[Sentence]:
    """The quotable sentences of ``text`` in order, white space collapsed."""
    for heading, paragraph in _paragraphs(text):
        for sentence in _whole_sentences(paragraph):
            if _is_prose(sentence):
                yield Sentence(_cut(sentence), heading)


def without_links(text: str) -> str:
    """``text`` less the targets of its links, which say nothing about its subject."""
    return _LINK_TARGET.sub("] ", text) if "://" in text or "](" in text else text


def _prose_lines(text: str) -> Iterator[str]:
    """The lines of ``text``, with "" in the place of each line of code or markup."""
    fence = ""
    literal = in_list = False
    after_blank = True
    for line in textwrap.dedent(text).splitlines():
        stripped = line.strip()
        if fence or _FENCE.match(stripped):
            fence = _fence_after(fence, stripped)
            yield ""
            continue
        if not stripped:
            after_blank = True
            yield ""
            continue
        indented = len(line) - len(line.lstrip())
        literal = literal and indented > 0
        is_code = literal or (after_blank and not in_list and indented >= _CODE_INDENT)
        if not is_code:
            after_blank = False
            in_list = bool(_ITEM.match(stripped)) or (in_list and indented > 0)
            # What follows a reStructuredText directive or "::", indented, is its body.
            literal = stripped.startswith(".. ") or stripped.endswith("::")
        yield "" if is_code or _MARKUP_LINE.match(stripped) else stripped


def _fence_after(fence: str, line: str) -> str:
    """The code fence that is open after ``line``; "" for none."""
    if not fence:
        return line[:3]
    return "" if line.startswith(fence) else fence


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Heading and text of each paragraph or list item."""
    heading = ""
    lines: list[str] = []
    for line in [*_prose_lines(text), ""]:
        item = _ITEM.match(line)
        title = _HEADING.fullmatch(line)
        underline = _RULE.fullmatch(line)
        if not (item or title or underline) and line:
            lines.append(line)
            continue
        if underline and len(lines) == 1:
            heading = lines.pop()
        if lines:
            yield heading, " ".join(lines)
        lines = [line[item.end() :]] if item else []
        heading = title[1] if title else heading


def _whole_sentences(paragraph: str) -> Iterator[str]:
    """The sentences of one paragraph; those too short to be understood alone stay with their neighbour."""
    line = " ".join(paragraph.split())
    starts = [0]
    for gap in _SENTENCE_END.finditer(line):
        if min(gap.start() - starts[-1], len(line) - gap.end()) >= MIN_CHARACTERS:
            starts.append(gap.end())
    for start, end in pairwise([*starts, len(line)]):
        yield line[start:end].rstrip()


def _is_prose(sentence: str) -> bool:
    bare = without_links(sentence)
    dense = "".join(bare.split())
    return (
        (len(sentence) >= MIN_CHARACTERS or sentence.endswith(_TERMINALS))
        and len(_WORD.findall(bare)) >= _MIN_WORDS
        and sum(map(str.isalpha, dense)) >= _MIN_LETTERS * len(dense)
        and not sentence.startswith((">>> ", "$ "))
        and not _BREAKS_A_CITATION.search(sentence)
    )


def _cut(sentence: str) -> str:
    if len(sentence) <= MAX_CHARACTERS:
        return sentence
    return sentence[: MAX_CHARACTERS + 1].rpartition(" ")[0] or sentence[:MAX_CHARACTERS]

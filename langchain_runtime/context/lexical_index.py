"""Finds passages by their words: SQLite's FTS5 in memory, a cache over what a store keeps."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_runtime.context.marks import is_our_own, mark_of
from langchain_runtime.context.message_texts import RECALL_TOOL, segments_of
from langchain_runtime.contracts.errors import LangChainRuntimeError

_LENGTH: Final = 800
"""Characters of a passage at most: a few paragraphs, so that several fit one answer."""
_MOST_WORDS: Final = 64
"""Of a query; the rest of a longer one is not looked for."""

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""Scripts without spaces between words: every two neighbours are taken for a word."""

_STOP_WORDS_OF_ENGLISH: Final = """
a about all also am an and any are as at be because been before but by can could did do does doing for from had
has have having he her here hers him his how i if in into is it its just me more most my no nor not now of on
once only or other our ours out over own please s same she should so some such t than that the their theirs them
then there these they this those through to too under until up very was we were what when where which while who
whom why will with would you your yours tell
"""
_STOP_WORDS: Final = frozenset(_STOP_WORDS_OF_ENGLISH.split())


class Passage(NamedTuple):
    """A piece of what is kept.

    Attributes:
        handle: Of the messages.
        start: Offset of its first character in their ``text_of``.
        text: The piece.
        score: How well it matches; larger is better, and only one search's compare.
    """

    handle: str
    start: int
    text: str
    score: float


class LexicalIndex:
    """Passages of messages by handle, ranked by BM25. Safe to share between threads.

    Raises:
        LangChainRuntimeError: This Python's SQLite has no FTS5.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexed: set[str] = set()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._database.close)
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE passages USING fts5"
                "(words, handle UNINDEXED, start UNINDEXED, body UNINDEXED, tokenize = 'porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            raise LangChainRuntimeError(
                f"what left a view cannot be searched: {error}",
                hint="use a Python whose SQLite has FTS5; recall by handle works without",
            ) from error

    def add(self, kept: Mapping[str, Sequence[BaseMessage]]) -> None:
        """Index messages under their handles; those of a handle that is indexed are known already."""
        with self._lock:
            new = {handle: messages for handle, messages in kept.items() if handle not in self._indexed}
            self._database.executemany(
                "INSERT INTO passages (words, handle, start, body) VALUES (?, ?, ?, ?)",
                [
                    (_spaced(body), handle, start, _plain(body))
                    for handle, messages in new.items()
                    for start, body in _passages(messages)
                ],
            )
            self._indexed.update(new)

    def search(self, query: str, *, limit: int, handle: str | None = None) -> list[Passage]:
        """The best passages for the words of ``query``, best first; none where it has no words.

        Args:
            query: In plain words; nothing in it is syntax.
            limit: Passages at most.
            handle: Look at these messages only.
        """
        wanted = _wanted(query)
        if not wanted:
            return []
        match = " OR ".join(f'"{word}"' for word in wanted)
        only, parameters = ("", [match]) if handle is None else ("AND handle = ?", [match, handle])
        with self._lock:
            rows = self._database.execute(
                f"SELECT handle, start, body, -rank FROM passages WHERE passages MATCH ? {only} "  # noqa: S608 - fixed text
                "ORDER BY rank, rowid LIMIT ?",
                [*parameters, limit],
            ).fetchall()
        return [Passage(*row) for row in rows]


def _passages(messages: Sequence[BaseMessage]) -> Iterator[tuple[int, str]]:
    for segment in segments_of(messages):
        if _is_said(segment.message):
            for start, body in _cut(segment.text):
                yield segment.start + start, body


def _is_said(message: BaseMessage) -> bool:
    """Whether it says something that is not kept elsewhere, too: notes, excerpts and answers of ``recall`` do not."""
    if is_our_own(message) or mark_of(message).clipped:
        return False
    if isinstance(message, ToolMessage):
        return message.name != RECALL_TOOL
    only_recalls = isinstance(message, AIMessage) and bool(message.tool_calls) and not message.text
    return not (only_recalls and all(call["name"] == RECALL_TOOL for call in message.tool_calls))  # type: ignore[attr-defined]


def _cut(text: str) -> Iterator[tuple[int, str]]:
    """The text in passages that end with a paragraph, line, sentence or word where they can."""
    start = 0
    while start < len(text):
        end = start + _LENGTH
        if end < len(text):
            ends = (text.rfind(mark, start + _LENGTH // 2, end) for mark in ("\n\n", "\n", ". ", " "))
            end = next((found + 1 for found in ends if found > 0), end)
        yield start, text[start:end]
        start = end


def _spaced(text: str) -> str:
    """The text with pairs of neighbours in place of runs of a script that does not separate words."""
    return _UNSPACED.sub(_pairs, _plain(text))


def _pairs(run: re.Match[str]) -> str:
    signs = run.group()
    return f" {' '.join(signs[at : at + 2] for at in range(max(len(signs) - 1, 1)))} "


def _plain(text: str) -> str:
    """Without what SQLite takes for the end of a text, or cannot encode; as many characters as before."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _wanted(query: str) -> list[str]:
    words = list(dict.fromkeys(_WORD.findall(_spaced(query).lower())))
    telling = [word for word in words if word not in _STOP_WORDS]
    return (telling or words)[:_MOST_WORDS]

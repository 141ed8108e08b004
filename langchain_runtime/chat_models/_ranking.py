"""Ranks sentences by how well they answer a question: BM25, centrality, and diversity among those chosen.

BM25 after Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009); diversity is maximal
marginal relevance after Carbonell and Goldstein, "The Use of MMR" (SIGIR 1998). The other constants were fitted by eye
on package descriptions.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from langchain_runtime.chat_models._sentences import CJK, without_links

_K1: Final = 1.2
_B: Final = 0.75
_BACKGROUND: Final = 20
"""Sentences without any word of the question that are added to every collection, so that in a collection of three
sentences, too, a word that only one of them holds is rare."""
_CONTEXT_WEIGHT: Final = 0.5
"""What a word in the heading or the name of the document counts, against 1 in the sentence."""
_CENTRALITY_WEIGHT: Final = 0.15
_REDUNDANCY_WEIGHT: Final = 0.7
_REPETITION: Final = 0.85
"""Overlap with a chosen sentence from which on another one only repeats it."""
_LEAD_IN_WEIGHT: Final = 0.6
"""For a sentence that ends in a colon: what it speaks of is code or a list that is not quoted."""
_FLOOR: Final = 0.3
"""Least share of the question's words, weighted by rarity, that a sentence must hold to count as an answer."""
_ENOUGH_TERMS: Final = 3
"""Words of the question that are enough whatever their share: a long question has several parts."""
_RELATIVE_FLOOR: Final = 0.25
"""Least score of a further quote, as a share of the best one's."""

_TERM = re.compile(rf"[^\W_{CJK}]+|[{CJK}](?=([{CJK}]?))")
_SUFFIX = re.compile(r"(?:ations?|ating|ated?|ates|ings?|ers?|ors?|ments?|ed|es|s|e)$")
_MIN_STEM: Final = 3
_STOP_WORDS: Final = frozenset(
    """
    a about an and any are as at be been being but by can could did do does doing done each every for from get gets
    had has have how i if in into is it its many may me might much must my no not of on one or our should so some
    such than that the their them then there these they this those to up us use used uses using via was we were what
    when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 - a word a line would bury the code
)


class Candidate(NamedTuple):
    """A sentence that could be quoted.

    Attributes:
        text: As it is quoted.
        source: Its document; "" for none.
        context: What it stands under: heading and document, in words.
    """

    text: str
    source: str
    context: str


class _Indexed(NamedTuple):
    candidate: Candidate
    own: Counter[str]
    context: frozenset[str]

    def weight(self, term: str) -> float:
        """How often the term occurs, its context included."""
        return self.own[term] + (_CONTEXT_WEIGHT if term in self.context else 0)


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """A cut at the end that maps the forms of most English words to one; others lose nothing by it."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    stem = _SUFFIX.sub("", word)
    return stem if len(stem) >= _MIN_STEM else word


def terms(text: str) -> list[str]:
    """The words of ``text`` that carry meaning, reduced to their stems; Chinese and Japanese as pairs of characters."""
    found = (match[0] + (match[1] or "") for match in _TERM.finditer(without_links(text).lower()))
    return [_stem(word) for word in found if word not in _STOP_WORDS]


def best(candidates: Sequence[Candidate], question: str, *, limit: int, floor: bool) -> list[Candidate]:
    """The sentences that answer ``question``, best first.

    Args:
        candidates: In the order of the text; the earlier one wins a tie.
        question: In words; where none of them occurs, the most central sentences come first.
        limit: Most sentences to return.
        floor: Leave out sentences that do not match the question well enough, all of them if need be.
    """
    asked = list(dict.fromkeys(terms(question)))
    items = [_Indexed(c, Counter(terms(c.text)), frozenset(terms(c.context))) for c in dict.fromkeys(candidates)]
    rarity = _Rarity(items)
    if floor:
        items = [item for item in items if _answers(item, asked, rarity)]
    scores = _scores(items, asked, rarity)
    return [items[i].candidate for i in _diverse(items, scores, rarity, limit)]


class _Rarity:
    """Inverse document frequency, a sentence being a document."""

    def __init__(self, items: Sequence[_Indexed]) -> None:
        self._holders = Counter(term for item in items for term in item.own)
        self._size = len(items) + _BACKGROUND

    def __call__(self, term: str) -> float:
        holders = self._holders[term]
        return math.log(1 + (self._size - holders + 0.5) / (holders + 0.5))

    def is_shared(self, term: str) -> bool:
        """Whether more than one sentence holds the term."""
        return self._holders[term] > 1


def _coverage(item: _Indexed, asked: Sequence[str], rarity: _Rarity) -> float:
    """The share of the question that the sentence and its context hold, rare words counting for more; 0 to 1."""
    held = sum(rarity(term) * min(1, item.weight(term)) for term in asked)
    return held / (sum(map(rarity, asked)) or 1)


def _answers(item: _Indexed, asked: Sequence[str], rarity: _Rarity) -> bool:
    return _coverage(item, asked, rarity) >= _FLOOR or sum(term in item.own for term in asked) >= _ENOUGH_TERMS


def _scores(items: Sequence[_Indexed], asked: Sequence[str], rarity: _Rarity) -> list[float]:
    average = sum(item.own.total() for item in items) / (len(items) or 1) or 1
    return [
        (
            _bm25(item, asked, rarity, average) * _coverage(item, asked, rarity)
            + _CENTRALITY_WEIGHT * _centrality(item, rarity)
        )
        * (_LEAD_IN_WEIGHT if item.candidate.text.endswith(":") else 1)
        for item in items
    ]


def _bm25(item: _Indexed, asked: Sequence[str], rarity: _Rarity, average: float) -> float:
    length = _K1 * (1 - _B + _B * item.own.total() / average)
    weights = ((rarity(term), item.weight(term)) for term in asked)
    return sum(rare * weight * (_K1 + 1) / (weight + length) for rare, weight in weights if weight)


def _centrality(item: _Indexed, rarity: _Rarity) -> float:
    """How much of the sentence is spoken of elsewhere, too."""
    return sum(rarity(term) for term in item.own if rarity.is_shared(term)) / math.sqrt(1 + len(item.own))


def _diverse(items: Sequence[_Indexed], scores: Sequence[float], rarity: _Rarity, limit: int) -> list[int]:
    """Positions of up to ``limit`` items that score high and do not repeat one another."""
    top = max(scores, default=0)
    left = [i for i, score in enumerate(scores) if score >= _RELATIVE_FLOOR * top]
    redundancy = dict.fromkeys(left, 0.0)
    chosen: list[int] = []
    while left and len(chosen) < limit:
        pick = max(left, key=lambda i: scores[i] - _REDUNDANCY_WEIGHT * top * redundancy[i])
        chosen.append(pick)
        for i in left:
            redundancy[i] = max(redundancy[i], _overlap(items[i].own, items[pick].own, rarity))
        left = [i for i in left if redundancy[i] < _REPETITION]
    return chosen


def _overlap(one: Counter[str], other: Counter[str], rarity: _Rarity) -> float:
    """The shared part of the sentence that says less, rare words counting for more; 0 to 1."""
    shared = sum(rarity(term) for term in one if term in other)
    return shared / (min(sum(map(rarity, one)), sum(map(rarity, other))) or 1)

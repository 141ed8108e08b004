"""How near the expected tokens come to what providers billed, and how many calls the upper bound covers.

The peer is LangChain's ``count_tokens_approximately``, with the tools given to both. The overheads of a few model
families were read off the same recordings: fitted on one half of them, the other half is off by 12 %.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from harness import FOLDER, Figure, beside_the_clone, best_of, load
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost import TokenEstimator

CONVERTER = FOLDER.parent / "tests" / "unit_tests" / "cost" / "recorded_requests.py"
"""The conversion that the tests use, too."""

PEER = "count_tokens_approximately"
FEW = 3
"""Providers with fewer recordings are shown together."""

Errors = list[tuple[float, float]]
"""Relative errors of ours and of the peer."""


def error(estimate: int, billed: int) -> float:
    return abs(estimate - billed) / billed


def growing(turns: int, count: Callable[[list[BaseMessage]], int]) -> float:
    """Milliseconds for counting a new conversation after each of its turns."""
    history = [HumanMessage(f"turn {turn}: " + "some words to count " * 40) for turn in range(turns)]
    started = time.perf_counter()
    for turn in range(turns):
        count(history[: turn + 1])
    return (time.perf_counter() - started) * 1e3


def measure(quick: bool) -> Iterator[Figure]:
    turns = 50 if quick else 200
    # A new estimator each time: the old one remembers the messages.
    ours, peer = best_of(
        5, lambda: growing(turns, TokenEstimator().expected), lambda: growing(turns, count_tokens_approximately)
    )
    claim = f"counting a conversation after each of {turns} turns"
    yield Figure(claim=claim, ours=ours, unit="ms", peer=peer, against=PEER)
    if (data := beside_the_clone("data/traffic")) is not None:
        yield from recorded(list(load(CONVERTER).visible_recordings(data.parent))[:: 4 if quick else 1])


def recorded(calls: list) -> Iterator[Figure]:
    estimator, errors, slack, refused = TokenEstimator(), defaultdict(list), [], 0
    for call in calls:
        try:
            most = estimator.upper_bound(call.messages, model=call.model, tools=call.tools)
        except EstimationError:
            refused += 1
            continue
        slack.append(most / call.billed)
        ours = estimator.expected(call.messages, model=call.model, tools=call.tools)
        theirs = count_tokens_approximately(call.messages, tools=call.tools)
        errors[call.provider].append((error(ours, call.billed), error(theirs, call.billed)))
    yield Figure(
        claim=f"recorded calls covered by the upper bound ({len(slack)}; {refused} more fail closed)",
        ours=100 * sum(bound >= 1 for bound in slack) / len(slack),
        unit="%",
        bound=100,
        at_least=True,
        must_hold="The upper bound covers what was billed on every recorded call whose input is visible",
    )
    yield Figure(claim="upper bound / billed tokens, median", ours=statistics.median(slack), unit="x")
    for provider, pairs in _shown(errors):
        mine, peers = (100 * statistics.median(column) for column in zip(*pairs, strict=True))
        claim = f"median error of expected tokens, {provider} ({len(pairs)} calls)"
        yield Figure(claim=claim, ours=mine, unit="%", peer=peers, against=PEER)


def _shown(errors: dict[str, Errors]) -> Iterable[tuple[str, Errors]]:
    yield "all", list(chain.from_iterable(errors.values()))
    yield from sorted((provider, pairs) for provider, pairs in errors.items() if len(pairs) >= FEW)
    if few := list(chain.from_iterable(pairs for pairs in errors.values() if len(pairs) < FEW)):
        yield "others", few

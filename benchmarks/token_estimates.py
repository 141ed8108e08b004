"""How near the expected tokens come to what providers billed, and how many calls the upper bound covers.

Run: python benchmarks/token_estimates.py [--quick]

Needs the recorded traffic in ../shared/data beside the clone. Must hold: the bound covers every call that it does not
refuse. The peer is LangChain's ``count_tokens_approximately``, with the tools given to both. The overheads of a few
model families were read off the same recordings: fitted on one half of them, the other half is off by 12 %.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import ModuleType

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost import TokenEstimator

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
FEW = 3
"""Providers with fewer recordings are shown together."""


def converter() -> ModuleType:
    """The conversion that the tests use, too; by its path, since tests are no package."""
    path = ROOT / "tests" / "unit_tests" / "cost" / "recorded_requests.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def error(estimate: int, billed: int) -> float:
    return abs(estimate - billed) / billed


def growing(turns: int, count: Callable[[list[BaseMessage]], int]) -> float:
    """Milliseconds for counting a conversation after each of its turns."""
    history = [HumanMessage(f"turn {turn}: " + "some words to count " * 40) for turn in range(turns)]
    started = time.perf_counter()
    for turn in range(turns):
        count(history[: turn + 1])
    return (time.perf_counter() - started) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fourth recording, 50 turns instead of 200")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: {DATA} is not here")
        return 0
    calls = list(converter().visible_recordings(DATA))[:: 4 if arguments.quick else 1]
    estimator, errors, slack, short, refused = TokenEstimator(), defaultdict(list), [], 0, 0
    for call in calls:
        try:
            most = estimator.upper_bound(call.messages, model=call.model, tools=call.tools)
        except EstimationError:
            refused += 1
            continue
        short += most < call.billed
        slack.append(most / call.billed)
        ours = estimator.expected(call.messages, model=call.model, tools=call.tools)
        theirs = count_tokens_approximately(call.messages, tools=call.tools)
        errors[call.provider].append((error(ours, call.billed), error(theirs, call.billed)))
    few = [pairs for pairs in errors.values() if len(pairs) < FEW]
    shown = {provider: pairs for provider, pairs in errors.items() if len(pairs) >= FEW}
    shown |= {"others": list(chain.from_iterable(few))} if few else {}
    everything = list(chain.from_iterable(errors.values()))
    print(f"{'median error of expected':<26} {'calls':>5} {'ours':>8} {'approximately':>14} {'ratio':>6}")
    for provider, pairs in [*sorted(shown.items()), ("all", everything)]:
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{provider:<26} {len(pairs):>5} {ours:>8.1%} {theirs:>14.1%} {ours / theirs:>6.2f}")
    print(
        f"upper bound: {len(slack) - short} of {len(slack)} covered, {refused} of {len(calls)} refused, "
        f"median {statistics.median(slack):.1f}x the bill; 100 %: {'not held' if short else 'held'}"
    )
    turns = 50 if arguments.quick else 200
    ours, theirs = growing(turns, estimator.expected), growing(turns, count_tokens_approximately)
    print(f"{turns} turns, counted after each: {ours:.0f} ms, approximately {theirs:.0f} ms, ratio {ours / theirs:.2f}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())

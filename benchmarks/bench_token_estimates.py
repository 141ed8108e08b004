"""How near the expected tokens come to what providers billed, how many calls the upper bound covers, what both cost.

The peer is LangChain's ``count_tokens_approximately``, with the tools given to both. The overheads of some model
families were read off the same recordings; the row of models that nobody knows shows what is left without them.

What an estimator learns is measured as it is used: each recorded call is foretold first and observed afterwards. The
order is random, since the recordings have none, and the figures are over several orders.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from harness import FOLDER, Figure, beside_the_clone, best_of, load
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.utils import count_tokens_approximately

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.contracts.usage import TokenUsage
from langchain_runtime.cost import TokenEstimator

RECORDED = FOLDER.parent / "tests" / "unit_tests" / "cost" / "recorded_requests.py"
"""The conversion that the tests use, too."""

PEER = "count_tokens_approximately"
SCALED = f"{PEER}, scaled by usage"
FEW = 3
"""Providers with fewer recordings are shown together."""

ORDERS = 20
SEED = 7

MODEL = "openai:gpt-5-mini"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather at a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}

Errors = dict[str, list[tuple[float, ...]]]
"""Relative errors by provider: ours, then those it is shown beside."""


def error(estimate: int, billed: int) -> float:
    return abs(estimate - billed) / billed


def growing(turns: int, count: Callable[[list[BaseMessage]], int]) -> float:
    """Milliseconds for counting a new conversation after each of its turns."""
    history = [HumanMessage(f"turn {turn}: " + "some words to count " * 40) for turn in range(turns)]
    started = time.perf_counter()
    for turn in range(turns):
        count(history[: turn + 1])
    return (time.perf_counter() - started) * 1e3


def observing(turns: int) -> float:
    """The same with each call observed, by an estimator of its own."""
    estimator = TokenEstimator()

    def count(messages: list[BaseMessage]) -> int:
        expected = estimator.expected(messages)
        estimator.observe(messages, TokenUsage(input=expected, output=10))
        return expected

    return growing(turns, count)


def microseconds(call: Callable[[], Any], calls: int = 2_000) -> float:
    """Of CPU time for one call, which a busy machine changes least."""
    started = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - started) / calls * 1e6


def measure(quick: bool) -> Iterator[Figure]:
    turns = 50 if quick else 200
    # A new estimator each time: the old one remembers the messages.
    ours, observed, peer = best_of(
        5,
        lambda: growing(turns, TokenEstimator().expected),
        lambda: observing(turns),
        lambda: growing(turns, count_tokens_approximately),
    )
    claim = f"counting a conversation after each of {turns} turns"
    yield Figure(claim=claim, ours=ours, unit="ms", peer=peer, against=PEER)
    yield Figure(claim=f"{claim}, each call observed", ours=observed, unit="ms", peer=peer, against=PEER)
    yield from hot_path()
    if (data := beside_the_clone("data/traffic")) is not None:
        recorded = load(RECORDED)
        calls = list(recorded.visible_recordings(data.parent))
        yield from bounds(calls[:: 4 if quick else 1], list(recorded.image_recordings(data.parent)))
        yield from learnt(calls, 2 if quick else ORDERS)
        yield from anchored(list(recorded.continued(calls)))


def hot_path() -> Iterator[Figure]:
    """What every guarded call pays."""
    estimator, messages, tools = TokenEstimator(), [HumanMessage("hello")], [TOOL] * 5
    usage, history = TokenUsage(input=10, output=3), [HumanMessage("hello")] * 200
    bare, with_tools, observe = best_of(
        7,
        lambda: microseconds(lambda: estimator.upper_bound(messages, model=MODEL)),
        lambda: microseconds(lambda: estimator.upper_bound(messages, model=MODEL, tools=tools)),
        lambda: microseconds(lambda: estimator.observe(history, usage, model=MODEL)),
    )
    yield Figure(claim="upper bound of a request of one message, CPU time", ours=bare, unit="us")
    yield Figure(claim="upper bound of a request of one message and five tools, CPU time", ours=with_tools, unit="us")
    yield Figure(claim="observing a call of 200 messages, CPU time", ours=observe, unit="us")


def bounds(texts: list, images: list) -> Iterator[Figure]:
    estimator = TokenEstimator()
    for calls, what in ((texts, "whose input is visible"), (images, "with images")):
        slack, refused = [], 0
        for call in calls:
            try:
                most = estimator.upper_bound(call.messages, model=call.model, tools=call.tools)
            except EstimationError:
                refused += 1
            else:
                slack.append(most / call.billed)
        yield Figure(
            claim=f"recorded calls {what} covered by the upper bound ({len(slack)}; {refused} more fail closed)",
            ours=100 * sum(bound >= 1 for bound in slack) / len(slack),
            unit="%",
            bound=100,
            at_least=True,
            must_hold="The upper bound covers what was billed on every recorded call whose input is visible",
        )
        yield Figure(
            claim=f"upper bound / billed tokens, median, calls {what}", ours=statistics.median(slack), unit="x"
        )


def learnt(calls: list, orders: int) -> Iterator[Figure]:
    """Errors without and with what was learnt from a model's calls before; conversations are measured apart."""
    apart = [call for position, call in enumerate(calls) if is_bounded(call) and not is_known(call, calls[:position])]
    errors = foretold(apart, orders)
    for provider, group in shown(errors, FEW * orders):
        what = f"expected tokens, {provider} ({len(group) // orders} calls)"
        yield from pair(f"median error of {what}", "other calls of the model observed", group, PEER)
    # As it will be for the models of next year: no tokeniser, prompt or schema format is known for them.
    models = sorted({call.model for call in apart})
    renamed = [replace(call, model=f"host:m{models.index(call.model)}") for call in apart]
    group = list(chain.from_iterable(foretold(renamed, orders, after=FEW).values()))
    what = f"expected tokens of models that nobody knows, after {FEW} calls ({len(group) // orders})"
    yield from pair(f"median error of {what}", "which were observed", group, PEER)


def foretold(calls: list, orders: int, after: int = 0) -> Errors:
    """Each call foretold first and observed then, in random orders.

    Errors without and with learning, and the peer's; only of calls with at least ``after`` others of the model before.
    """
    shuffle, errors, calls = random.Random(SEED), defaultdict(list), list(calls)
    for _ in range(orders):
        shuffle.shuffle(calls)
        learner, before = TokenEstimator(), Counter()
        for call in calls:
            request = {"messages": call.messages, "model": call.model, "tools": call.tools}
            guesses = (
                TokenEstimator().expected(**request),
                learner.expected(**request),
                count_tokens_approximately(call.messages, tools=call.tools),
            )
            if before[call.model] >= after:
                errors[call.provider].append(tuple(error(guess, call.billed) for guess in guesses))
            learner.observe(**request, usage=call.usage)
            before[call.model] += 1
    return errors


def pair(claim: str, learning: str, group: list[tuple[float, ...]], against: str) -> Iterator[Figure]:
    """The same claim without and with learning."""
    plain, better, peer = (100 * statistics.median(column) for column in zip(*group, strict=True))
    yield Figure(claim=claim, ours=plain, unit="%", peer=peer, against=against)
    yield Figure(claim=f"{claim}, {learning}", ours=better, unit="%", peer=peer, against=against)


def is_bounded(call: Any) -> bool:
    """Whether the request shows what it costs: models that search or route read more than it."""
    try:
        TokenEstimator().upper_bound(call.messages, model=call.model, tools=call.tools)
    except EstimationError:
        return False
    return True


def is_known(call: Any, others: list) -> bool:
    """Whether ``others`` has a part of the same conversation, so that more than the model would be learnt."""
    return any(
        call.model == other.model
        and call.tools == other.tools
        and all(ours == theirs for ours, theirs in zip(call.messages, other.messages, strict=False))
        for other in others
    )


def anchored(conversations: list) -> Iterator[Figure]:
    """Errors in conversations of which an earlier call was recorded, too."""
    errors = defaultdict(list)
    for call, earlier in conversations:
        fresh, told = TokenEstimator(), TokenEstimator()
        for other in earlier:
            told.observe(other.messages, other.usage, model=other.model, tools=other.tools)
        last = max(earlier, key=lambda other: len(other.messages))
        guesses = (
            fresh.expected(call.messages, model=call.model, tools=call.tools),
            told.expected(call.messages, model=call.model, tools=call.tools),
            count_tokens_approximately(reported(call, last), tools=call.tools, use_usage_metadata_scaling=True),
        )
        errors[call.provider].append(tuple(error(guess, call.billed) for guess in guesses))
    for provider, group in shown(errors, FEW):
        claim = f"median error in a recorded conversation, {provider} ({len(group)})"
        yield from pair(claim, "earlier calls observed", group, SCALED)


def reported(call: Any, last: Any) -> list[BaseMessage]:
    """The messages with the usage on the reply to ``last``, where LangChain looks for it."""
    at, messages = len(last.messages), list(call.messages)
    if isinstance(messages[at], AIMessage):
        usage = {"input_tokens": last.usage.input, "output_tokens": last.usage.output, "total_tokens": last.usage.total}
        provider = {"model_provider": call.provider}
        messages = [
            message.model_copy(update={"response_metadata": provider}) if isinstance(message, AIMessage) else message
            for message in messages
        ]
        messages[at] = messages[at].model_copy(update={"usage_metadata": usage})
    return messages


def shown(errors: Errors, few: int) -> Iterable[tuple[str, list[tuple[float, ...]]]]:
    """All providers together, those with at least ``few`` errors, and the rest together."""
    yield "all", list(chain.from_iterable(errors.values()))
    yield from sorted((provider, group) for provider, group in errors.items() if len(group) >= few)
    if rest := list(chain.from_iterable(group for group in errors.values() if len(group) < few)):
        yield "others", rest

"""What a model sees of long conversations: whether it fits and is valid, what is lost, what caches save, what it takes.

Recorded conversations, cut to a share of their tokens, and asked for a view whenever their model was called. Beside
LangChain's ``trim_messages`` (as it is, and with ``start_on="human"``), ``SummarizationMiddleware`` with a model that
needs no thought, and ``ContextEditingMiddleware``. All count with the same estimator, and all keep the system message:
shares are of what comes after it. Where what must stay is larger than the room, ours refuses; such turns are counted
apart, and must be no others.

A question counts as answered if an accepted answer stands, word for word, in the view or, after one ``recall`` with
the question as its query, in the next view, which has the same room. Not all answers do so even in the whole.
"""

from __future__ import annotations

import itertools
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from compaction_contenders import PEERS, Contender, Ours, Trim, count
from harness import Figure, Skipped, beside_the_clone, best_of
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from transcripts import FILES, Question, agent_run, conversations, model_turns, questions, scenarios

from langchain_runtime.adapters.recall import recall_tool
from langchain_runtime.context import group_messages
from langchain_runtime.context.marks import is_our_own
from langchain_runtime.contracts.errors import ContextOverflowError
from langchain_runtime.cost.encodings import load_encoding

SHARES = (0.1, 0.25, 0.5)
QUARTER = 0.25
WINDOW = 16_000
CACHED_PRICE = 0.1
CUSTOMERS = 60
"""Served in the long run; what is claimed is claimed of so many, since early turns have little to save."""
LONG = 10_000
ROUNDS = 3
SEED = 5
WORD = re.compile(r"[^\W_]+")
TEXT = WORD.findall("The flight to Boston on Friday costs less than 240 dollars, with a bag and a seat at the window")

VALID = "No view over budget, with orphans or empty, over recorded conversations at 10 %, 25 % and 50 % of the tokens"
LOSSLESS = "Every evicted message comes back equal"
ANSWERS = "Answers kept at 25 % of the tokens, with recall: at least 0.90"
CACHED = "Cached prefix of a long agent run at least 0.97, at most 0.3 of what trim_messages costs"
FAST = "A turn at 10,000 messages at most 0.1 ms (median)"


def measure(quick: bool) -> Iterator[Figure | Skipped]:
    if (folder := beside_the_clone("data/transcripts")) is not None:
        recorded = [each for name in FILES for each in conversations(folder, name)[:: 5 if quick else 1]]
        for share in SHARES:
            yield from validity(recorded, share)
        yield from recoverability(recorded)
        yield from answers(scenarios(folder), questions(folder)[:: 5 if quick else 1])
        yield from caching(folder, 12 if quick else CUSTOMERS)
    yield from turns(50 if quick else 300)


def room_of(messages: list[BaseMessage], share: float) -> int:
    """The share of a conversation's tokens that may be in view, besides its system message."""
    system = [message for message in messages[:1] if isinstance(message, SystemMessage)]
    fixed = count(system) if system else 0
    return fixed + max(int((count(messages) - fixed) * share), 1)


# --- valid -----------------------------------------------------------------------------------------------------------


def validity(recorded: list[list[BaseMessage]], share: float) -> Iterator[Figure]:
    """How many views no provider would take, or with which no model could go on."""
    ours = views(recorded, share, Ours)
    asked = ours["asked"]
    what = f"at {share:.0%} of the tokens ({asked:,} model calls)"
    for name, make in PEERS.items():
        theirs = views(recorded, share, make)
        ways = ", ".join(f"{way} {percent(theirs[way], asked):.1f}" for way in ("over budget", "orphans", "empty"))
        yield Figure(
            claim=f"views over budget, with orphans or empty, {what}",
            ours=percent(ours["unusable"], asked),
            unit="%",
            peer=percent(theirs["unusable"], asked),
            against=f"{name}: {ways}",
            bound=0,
            absolute=True,
            must_hold=VALID,
        )
    yield Figure(
        claim=f"calls refused {what}, because system and newest messages alone are larger",
        ours=percent(ours["refused"] - ours["refused needlessly"], asked),
        unit="%",
    )
    yield Figure(
        claim=f"calls refused {what} although these would have fitted",
        ours=percent(ours["refused needlessly"], asked),
        unit="%",
        bound=0,
        must_hold=VALID,
    )


def views(recorded: Iterable[list[BaseMessage]], share: float, make: Callable[[int], Contender]) -> Counter[str]:
    """How often a contender was asked, and what was wrong with its views."""
    found: Counter[str] = Counter()
    for messages in recorded:
        room = room_of(messages, share)
        contender = make(room)
        for length in model_turns(messages):
            found["asked"] += 1
            try:
                view = contender(messages[:length])
            except ContextOverflowError:
                found["refused"] += 1
                found["refused needlessly"] += count(must_stay(messages[:length])) <= room
            else:
                wrong = list(problems(view, room))
                found.update(wrong)
                found["unusable"] += bool(wrong)
    return found


def problems(view: list[BaseMessage], room: int) -> Iterator[str]:
    """What is wrong with a view. Every call has been answered when a model is asked: one without results lost them."""
    if all(isinstance(message, SystemMessage) or is_our_own(message) for message in view):
        yield "empty"
    elif count(view) > room:
        yield "over budget"
    calls = {call["id"] for message in view if isinstance(message, AIMessage) for call in message.tool_calls}
    results = {message.tool_call_id for message in view if isinstance(message, ToolMessage)}
    if calls != results or group_messages(view).orphans:
        yield "orphans"


def must_stay(messages: list[BaseMessage]) -> list[BaseMessage]:
    """System messages, the newest from a person, and the newest of all with the call that it answers."""
    newest = max(group_messages(messages).groups, key=max)
    question = max(place for place, message in enumerate(messages) if isinstance(message, HumanMessage))
    kept = {question, *newest}
    return [m for place, m in enumerate(messages) if place in kept or isinstance(m, SystemMessage)]


def percent(part: int, whole: int) -> float:
    return 100 * part / whole


# --- lossless --------------------------------------------------------------------------------------------------------


def recoverability(recorded: list[list[BaseMessage]]) -> Iterator[Figure]:
    """How many of the messages that left a view are equal to what the archive gives back."""
    gone = back = 0
    for messages in recorded:
        for share in SHARES:
            ours = Ours(room_of(messages, share))
            try:
                view = ours(messages)
            except ContextOverflowError:
                continue
            kept: dict[str | None, list[BaseMessage]] = {}  # as it was, and as an excerpt that left later
            for handle in ours.archive.handles():
                for message in ours.archive.recall(handle):
                    kept.setdefault(message.id, []).append(message)
            in_view = {message.id: message for message in view}
            left = [message for message in messages if in_view.get(message.id) != message]
            gone += len(left)
            back += sum(message in kept.get(message.id, []) for message in left)
    yield Figure(
        claim=f"evicted and clipped messages that come back equal (of {gone:,})",
        ours=percent(back, gone),
        unit="%",
        bound=100,
        at_least=True,
        must_hold=LOSSLESS,
    )


# --- answers ---------------------------------------------------------------------------------------------------------


def answers(told: dict[str, list[BaseMessage]], asked: list[Question]) -> Iterator[Figure]:
    """How many questions can be answered from what is in view, and from what one recall gives."""
    rooms = {name: room_of(messages, QUARTER) for name, messages in told.items()}
    ours: Counter[str] = Counter()
    for question in asked:
        messages, room = told[question.scenario], rooms[question.scenario]
        ours["whole"] += is_answered(question, messages)
        for allowed, name in ((room // 2, "half"), (room // 4, "quarter")):
            in_view, recalled = recall(messages, question, room, allowed)
            ours[f"view, {name}"] += in_view
            ours[f"recall, {name}"] += recalled
            ours[f"either, {name}"] += in_view or recalled
    total = len(asked)
    for number, (name, make) in enumerate(PEERS.items()):
        kept = sum(stays(told[question.scenario], question, make, rooms[question.scenario]) for question in asked)
        theirs = {"unit": "of all", "peer": kept / total, "against": name}
        if name == "ContextEditingMiddleware":
            theirs["against"] += ", which clears nothing here and is over budget"
        yield Figure(
            claim=f"questions ({total}) whose answer is in view without a recall",
            ours=ours["view, half"] / total,
            **theirs,
        )
        if number == 0:
            yield Figure(
                claim=f"questions ({total}) whose answer is in view, or in the next after one recall of half the room",
                ours=ours["either, half"] / total,
                **theirs,
                bound=0.9,
                at_least=True,
                absolute=True,
                must_hold=ANSWERS,
            )
    for claim, which in (
        ("is in the view after a recall of half the room", "recall, half"),
        ("is in view, or in the next after a recall of a quarter of the room (the default)", "either, quarter"),
        ("is anywhere in what was told, word for word", "whole"),
    ):
        yield Figure(claim=f"questions ({total}) whose answer {claim}", ours=ours[which] / total, unit="of all")


def recall(messages: list[BaseMessage], question: Question, room: int, allowed: int) -> tuple[bool, bool]:
    """Whether the answer is in the view that has the question, and whether in the next, after a recall."""
    ours = Ours(room)
    ours(messages)  # a turn before the question: what it moves out of view can be recalled
    talk = [*messages, HumanMessage(question.text, id="question")]
    view = ours(talk)
    call = {"name": "recall", "args": {"query": question.text}, "id": "c", "type": "tool_call"}
    found = recall_tool(ours.archive, max_tokens=max(allowed, 64)).invoke(call)
    after = ours([*talk, AIMessage("", tool_calls=[call], id="call"), found])
    if count(after) > room:
        return False, False
    return is_answered(question, view), is_answered(question, after)


def stays(messages: list[BaseMessage], question: Question, make: Callable[[int], Contender], room: int) -> bool:
    """Whether a contender's view has the answer."""
    contender = make(room)
    contender(messages)
    return is_answered(question, contender([*messages, HumanMessage(question.text, id="question")]))


def is_answered(question: Question, view: list[BaseMessage]) -> bool:
    """Whether an accepted answer stands in the view as whole words; what the question itself says does not count."""
    text = words("\n".join(message.text for message in view if message.text != question.text))
    return any(words(answer) in text for answer in question.answers)


def words(text: str) -> str:
    return f" {' '.join(WORD.findall(text.lower()))} "


# --- cached ----------------------------------------------------------------------------------------------------------


def caching(folder: Path, customers: int) -> Iterator[Figure]:
    """What a provider's prompt cache saves over one long run."""
    run = agent_run(folder, customers)
    share, cost = prompts(run, Ours(WINDOW))
    what = f"one agent run of {len(run):,} messages, {WINDOW:,} tokens in view"
    for name, make in PEERS.items():
        their_share, their_cost = prompts(run, make(WINDOW))
        is_claimed = name == "trim_messages, start_on=human" and customers == CUSTOMERS  # the better one of the two
        yield Figure(
            claim=f"prompt tokens in a cached prefix, {what}",
            ours=share,
            unit="of all",
            peer=their_share,
            against=name,
            **({"bound": 0.97, "at_least": True, "absolute": True, "must_hold": CACHED} if is_claimed else {}),
        )
        yield Figure(
            claim=f"prompt tokens billed, cached ones at {CACHED_PRICE}, {what}",
            ours=cost / 1e3,
            unit="k tokens",
            peer=their_cost / 1e3,
            against=name,
            **({"bound": 0.3, "must_hold": CACHED} if is_claimed else {}),
        )


def prompts(run: list[BaseMessage], contender: Contender) -> tuple[float, float]:
    """Share of the prompt tokens that begin as the prompt before did, and all of them at cached price."""
    sent = cached = 0
    before: list[BaseMessage] = []
    for length in model_turns(run):
        view = contender(run[:length])
        same = 0
        while same < min(len(view), len(before)) and view[same] == before[same]:
            same += 1
        sent += count(view)
        cached += count(view[:same]) if same else 0
        before = view
    return cached / sent, sent - (1 - CACHED_PRICE) * cached


# --- fast ------------------------------------------------------------------------------------------------------------


def turns(number: int) -> Iterator[Figure | Skipped]:
    """What a turn of a very long conversation takes."""
    talk = long_talk(LONG + 2 * ROUNDS * number)
    ours = Ours(WINDOW)
    reading = milliseconds(lambda: ours(talk[:LONG]))
    rounds = iter(range(LONG, len(talk), 2 * number))
    median, late = best_of(ROUNDS, lambda: our_turns(ours, talk, next(rounds), number))[0]
    what = f"a turn of two messages at {LONG:,}, {WINDOW:,} tokens in view"
    encoding = load_encoding("o200k_base")
    if encoding is None:
        yield Skipped(claim=f"{what}, median", peer="bpe-openai", must_hold=FAST)
    else:
        trim = Trim(WINDOW, token_counter=tiktoken_counter(encoding))
        yield Figure(
            claim=f"{what}, median",
            ours=median,
            unit="ms",
            peer=best_of(2, lambda: milliseconds(lambda: trim(talk)))[0],
            against="trim_messages with tiktoken",
            bound=0.1,
            absolute=True,
            must_hold=FAST,
        )
    yield Figure(
        claim=f"{what}, 99th percentile",
        ours=late,
        unit="ms",
        peer=best_of(2, lambda: milliseconds(lambda: Trim(WINDOW)(talk)))[0],
        against="trim_messages with our counter, which remembers",
    )
    yield Figure(claim=f"reading {LONG:,} messages for the first time", ours=reading, unit="ms")


def our_turns(ours: Ours, talk: list[BaseMessage], start: int, number: int) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds of so many turns."""
    taken = []
    for length in range(start + 2, start + 2 * number + 1, 2):
        so_far = talk[:length]
        taken.append(milliseconds(lambda: ours(so_far)))  # noqa: B023 - called at once
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def long_talk(size: int) -> list[BaseMessage]:
    """Questions and answers of up to 200 words."""
    rng = random.Random(SEED)
    kinds = (HumanMessage, 100), (AIMessage, 200)
    return [
        kind(f"{number}: {' '.join(rng.choices(TEXT, k=rng.randint(1, most)))}", id=str(number))
        for number, (kind, most) in zip(range(size), itertools.cycle(kinds), strict=False)
    ]


def tiktoken_counter(encoding: Any) -> Callable[[list[BaseMessage]], int]:
    """As people write it for ``trim_messages``."""
    return lambda messages: sum(4 + len(encoding.encode(message.text)) for message in messages)


def milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3

"""Generated conversations, with whatever conversations have had in them, and policies under which part of them must go.

Hypothesis draws a seed and a size, and the rest comes from ``random.Random``: a conversation costs a fraction of what
Hypothesis takes to draw each of its words, so that thousands can be tried, and still shrinks to few messages.
"""

import json
import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.context import ConversationContext
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.cost import TokenEstimator

EXAMPLES = int(os.environ.get("LCR_EXAMPLES", "2000"))
PATIENT = pytest.mark.timeout(max(120, EXAMPLES // 10))
"""Seconds for one property: several times what it takes."""
_UNCHECKED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
CI = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=_UNCHECKED)
FEWER = settings(CI, max_examples=max(EXAMPLES // 10, 1))
"""For what is slow by nature: the default estimator, or a walk that starts anew at each message."""

WORDS = (
    "why",
    "the gate",
    "swordfish",
    "é",
    "日本語",
    "😀",
    "\n",
    "[]{}",
    "\u200d",
    "0",
    "'\"\\",
    "\ud83d",
    "\0",
    "  ",
)
TOOLS = (
    {"type": "function", "function": {"name": "look", "description": "Look somewhere.", "parameters": {}}},
    {"name": "bare", "description": "A schema without its envelope."},
)
BLOCKS = (
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"},
    {"type": "reasoning", "reasoning": "hm"},
)
METADATA = {"model": "m", "finish_reason": "stop", "nested": {"a": [1, None]}}


def weight(message):
    content = message.content
    size = len(content) if isinstance(content, str) else sum([len(str(block)) for block in content])
    return size + len(str(message.tool_calls)) if message.type == "ai" and message.tool_calls else size


def per_message(messages):
    """Adds up."""
    return sum([4 + weight(message) // 4 for message in messages])


def of_the_whole(messages):
    """Not additive: rounds once, and the reply costs three tokens."""
    return 3 + sum([8 + weight(message) for message in messages]) // 3


COUNTERS = (per_message, of_the_whole)


class Conversation:
    """Builds messages; what is odd about them is the conversation's own choice, so that many are quite ordinary."""

    def __init__(self, rng):
        self.rng = rng
        self.messages = []
        self.open_calls = []
        self.answered = []
        self.call_number = 0
        self.missing_ids = rng.choice([0, 0, 0, 0.3, 1])
        self.repeated_ids = rng.choice([0, 0, 0, 0.3])
        self.reused_calls = rng.choice([0, 0, 0.5])
        self.odd = rng.choice([0, 0, 0.05, 0.15])

    def chance(self, share):
        return self.rng.random() < share

    def text(self, most=40):
        length = self.rng.choice([0, 1, 3, 10, most])
        return " ".join(self.rng.choices(WORDS, k=min(length, 4))) * max(length // 4, 1)

    def content(self):
        if not self.chance(0.2):
            return self.text()
        texts = [self.rng.choice([self.text(10), {"type": "text", "text": self.text(10)}]) for _ in range(2)]
        return self.rng.sample([*texts, *BLOCKS], self.rng.randint(0, 4))

    def name(self):
        if self.chance(self.missing_ids):
            return None
        if self.chance(self.repeated_ids):
            return "same"
        return f"m{len(self.messages)}"

    def add(self, kind, content, **fields):
        self.messages.append(kind(content, id=self.name(), **fields))

    def call(self):
        self.call_number += 1
        return f"call_{self.rng.randint(0, 1) if self.chance(self.reused_calls) else self.call_number}"

    def answer(self, call):
        extras = {"artifact": METADATA | {"number": len(self.messages)}} if self.chance(0.2) else {}
        status = "error" if self.chance(0.1) else "success"
        self.add(ToolMessage, self.content(), tool_call_id=call, name="look", status=status, **extras)
        self.answered.append(call)

    def tools(self):
        ids = list(dict.fromkeys(self.call() for _ in range(self.rng.choice([1, 1, 2, 3]))))
        calls = [{"name": "look", "args": {"q": self.text(3)}, "id": each, "type": "tool_call"} for each in ids]
        broken = []
        if self.chance(self.odd):
            broken = [{"name": "look", "args": "{", "id": self.call(), "error": "cut", "type": "invalid_tool_call"}]
            ids.append(broken[0]["id"])
        self.add(AIMessage, self.text(10), tool_calls=calls, invalid_tool_calls=broken)
        self.rng.shuffle(ids)
        for each in ids:
            if self.chance(0.15):
                self.open_calls.append(each)
            else:
                self.answer(each)

    def polling(self):
        """The same call and the same result over and over, by a client without ids; programs see a difference."""
        call = {"name": "poll", "args": {}, "id": "poll_0", "type": "tool_call"}
        for number in range(self.rng.randint(2, 3)):
            self.messages.append(AIMessage("poll", tool_calls=[call]))
            self.messages.append(ToolMessage("still running", tool_call_id="poll_0", artifact={"at": number}))

    def turn(self):
        kind = self.rng.random()
        if self.chance(self.odd):
            self.oddity()
        elif kind < 0.4:
            self.add(HumanMessage, self.content())
        elif kind < 0.6:
            self.add(AIMessage, self.content(), response_metadata=METADATA if self.chance(0.2) else {})
        elif kind < 0.9:
            self.tools()
        elif self.open_calls:
            self.answer(self.open_calls.pop())
        else:
            number = len(self.messages)
            self.messages.append(HumanMessage(f"d{number}:\n{self.text()}", id=f"dep:d{number}"))

    def oddity(self):
        odd = self.rng.randrange(7)
        if odd == 0:
            self.add(ToolMessage, self.text(), tool_call_id="nobody")
        elif odd == 1:
            self.add(SystemMessage, self.text())
        elif odd == 2 and self.answered:
            self.answer(self.rng.choice(self.answered))
        elif odd == 3:
            self.add(ChatMessage, self.text(), role=self.rng.choice(["developer", "critic"]))
        elif odd == 4 and self.messages:
            self.messages.append(self.rng.choice(self.messages).model_copy())
        elif odd == 5:
            self.polling()
        else:
            self.add(self.rng.choice([HumanMessage, AIMessage]), self.rng.choice(["", []]))


def conversation(rng, turns):
    made = Conversation(rng)
    if made.chance(0.3):
        made.add(SystemMessage, made.text())
    for _ in range(turns):
        made.turn()
    return made.messages


class Case:
    """A conversation, what goes with it, and a policy that makes some of it leave (mostly).

    Attributes:
        rng: For whatever else a property has to choose.
    """

    def __init__(self, seed, turns, *, strategies=("truncate", "keep_last", "offload"), counter=None, **policy):
        self.origin = (seed, turns)
        self.rng = rng = random.Random(seed)
        self.messages = conversation(rng, turns)
        self.counter = counter or rng.choice(COUNTERS)
        self.system = SystemMessage("be brief " * rng.randint(0, 4), id="system") if rng.random() < 0.3 else None
        self.tools = rng.sample(TOOLS, rng.choice([0, 0, 0, 1, 2]))
        self.policy = self._policy(strategies, policy)
        self.window = self.policy.max_tokens + rng.choice([-3, 0, 50]) if rng.random() < 0.3 else None

    def __repr__(self):
        return f"Case{self.origin}"

    def _policy(self, strategies, given):
        rng = self.rng
        reserve = rng.choice([0, 0, 5, 40])
        ids = [message.id for message in self.messages if message.id is not None]
        fixed = self.size([])
        room = max(10, int((self.size(self.messages) - fixed) * rng.uniform(0.25, 1.1)))
        drawn = {
            "strategy": tuple(rng.sample(strategies, rng.randint(1, min(2, len(strategies))))),
            "max_tokens": reserve + fixed + room,
            "keep_last_n": rng.choice([None, None, 1, 2, 4]),
            "truncate_to": rng.choice([None, 16, 60, 200]),
            "trigger": rng.choice([1, 1, rng.uniform(0.2, 1)]),
            "target": rng.choice([0.5, 0.5, rng.uniform(0.1, 1)]),
            "reserve_output": reserve,
            "pin": tuple(rng.sample(ids, min(len(ids), rng.choice([0, 0, 0, 1, 2])))),
        }
        return ContextPolicy(**drawn | given)

    @property
    def room(self):
        """Tokens that a request may have."""
        window = self.policy.max_tokens if self.window is None else min(self.window, self.policy.max_tokens)
        return max(window - self.policy.reserve_output, 0)

    def size(self, view):
        """Tokens of a request with this view, as the documentation of the counter says."""
        before = [self.system] if self.system else []
        if isinstance(self.counter, TokenEstimator):
            return self.counter.expected([*before, *view], tools=self.tools)
        after = [SystemMessage(json.dumps(self.tools, ensure_ascii=False))] if self.tools else []
        return self.counter([*before, *view, *after])

    def context(self, archive, **options):
        counter = None if isinstance(self.counter, TokenEstimator) else self.counter  # it is the default
        return ConversationContext(self.policy, archive, counter=counter, max_tokens=self.window, **options)

    def ask(self, context, messages):
        return context.view(messages, system=self.system, tools=self.tools)

    async def aask(self, context, messages):
        return await context.aview(messages, system=self.system, tools=self.tools)

    def chunks(self):
        """Ends of pieces of any length that make the conversation."""
        size = len(self.messages)
        return [*sorted(self.rng.sample(range(size), self.rng.randint(0, max(size - 1, 0)))), size]


def cases(*, most=7, **options):
    """Seeds up to 2**24: of larger ranges Hypothesis mostly draws small numbers."""
    return st.builds(lambda seed, turns: Case(seed, turns, **options), st.integers(0, 2**24 - 1), st.integers(1, most))

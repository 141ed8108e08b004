"""Agents that talk for long: a model that does what the last message says, tools, and what every request must meet."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.middleware import CompactionMiddleware
from langchain_runtime.testing.scripted_chat_model import ScriptedCall, ScriptedChatModel

SMALL = ContextPolicy(max_tokens=1_000)
STEADY = ContextPolicy(max_tokens=600)
"""For ``by_words``."""
FIRST_HANDLE = re.compile(r"\[recall:(\w+)\]")


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return f"seen in {where}: " + "rain and wind " * 12


def follow(messages: list[BaseMessage]) -> AIMessage:
    """Do what the newest message says.

    ``look a b`` looks at both places at once, ``recall x`` asks for a handle, ``search w`` for words, ``search back``
    for the first handle in sight; anything else is noted, and what a tool said is repeated in short.
    """
    last = messages[-1]
    if not isinstance(last, HumanMessage):
        return AIMessage(f"done: {last.text[:60]}")
    order, _, what = last.text.partition(" ")
    calls = {
        "look": lambda: [("look", {"where": place}) for place in what.split()],
        "recall": lambda: [("recall", {"handle": what})],
        "search": lambda: [("recall", {"query": what})],
        "newest": lambda: [("recall", {"handle": handles(messages)[-1]})],
        "oldest": lambda: [("recall", {"handle": handles(messages)[0]})],
    }.get(order, list)()
    if not calls:
        return AIMessage(f"noted: {last.text[:60]}")
    return AIMessage(
        "",
        tool_calls=[{"name": name, "args": args, "id": f"call_{n}_{last.id}"} for n, (name, args) in enumerate(calls)],
    )


def talker(script: Any = follow, **fields: Any) -> ScriptedChatModel:
    return ScriptedChatModel(script=script, **fields)


def talking_agent(
    middleware: CompactionMiddleware | Sequence[Any], model: Any = None, *, tools: Any = (look,), **options: Any
) -> Any:
    middleware = [middleware] if isinstance(middleware, CompactionMiddleware) else list(middleware)
    return create_agent(talker() if model is None else model, list(tools), middleware=middleware, **options)


def thread(thread_id: str = "t") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}


def says(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [HumanMessage(text, **fields)]}


def talk(agent: Any, turns: int, config: Any, *, start: int = 0, order: str = "look") -> None:
    for turn in range(start, start + turns):
        agent.invoke(says(f"{order} place{turn}"), config)


def handles(messages: Sequence[BaseMessage]) -> list[str]:
    """Handles in sight, in order."""
    return [handle for message in messages for handle in FIRST_HANDLE.findall(message.text)]


def tool_names(call: ScriptedCall) -> list[str]:
    return [schema["function"]["name"] for schema in call.kwargs.get("tools", ())]


def tokens(call: ScriptedCall) -> int:
    return TokenEstimator().expected(call.messages, tools=call.kwargs.get("tools", ()))


def by_words(messages: Sequence[BaseMessage]) -> int:
    """Counts alike in every run: handles name content, ids of replies included, and have other tokens each time."""
    return sum(len(message.text.split()) + 4 for message in messages)


def check_valid(messages: Sequence[BaseMessage]) -> None:
    """No tool result without its call before it, no call without its result, ids that differ."""
    open_calls: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in open_calls, "a tool result has no call"
            open_calls.remove(message.tool_call_id)
            continue
        assert not open_calls, "a call has no result"
        if isinstance(message, AIMessage):
            open_calls = {str(call["id"]) for call in message.tool_calls}
    assert not open_calls, "a call has no result"
    ids = [message.id for message in messages if message.type != "system"]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def check_requests(calls: Sequence[ScriptedCall], limit: int) -> None:
    for call in calls:
        check_valid(call.messages)
        assert tokens(call) <= limit


def events_between(calls: Sequence[ScriptedCall]) -> int:
    """How often a request did not begin as the one before, messages and tools together."""
    return sum(not _begins_with(later, earlier) for earlier, later in pairwise(calls))


def _begins_with(later: ScriptedCall, earlier: ScriptedCall) -> bool:
    same_tools = later.kwargs.get("tools") == earlier.kwargs.get("tools")
    return same_tools and later.messages[: len(earlier.messages)] == earlier.messages

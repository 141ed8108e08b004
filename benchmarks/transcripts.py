"""Recorded conversations as LangChain messages; they lie in ``../shared``, where somebody has it beside the clone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

CUSTOMER_SERVICE = "tau_bench_airline.jsonl.gz"
CODING = "swe_agent.jsonl.gz"
TOLD_FACTS = "bfcl_memory_prereq.jsonl.gz"
FILES = (CUSTOMER_SERVICE, CODING, TOLD_FACTS)


class Question(NamedTuple):
    """A question about facts that were told in a scenario's conversations.

    Attributes:
        scenario: Which.
        text: The question.
        answers: Strings of which each is an answer.
    """

    scenario: str
    text: str
    answers: list[str]


def conversations(folder: Path, name: str) -> list[list[BaseMessage]]:
    """Every conversation of a file."""
    return [list(_messages(recorded["messages"], number)) for number, recorded in enumerate(_lines(folder / name))]


def scenarios(folder: Path) -> dict[str, list[BaseMessage]]:
    """What was told in each scenario, as one conversation."""
    told: dict[str, list[BaseMessage]] = {}
    for number, recorded in enumerate(_lines(folder / TOLD_FACTS)):
        told.setdefault(recorded["id"].split("-")[1], []).extend(_messages(recorded["messages"], number))
    return told


def questions(folder: Path) -> list[Question]:
    """Every question that is asked about the scenarios."""
    asked = json.loads((folder / "bfcl_memory_qa.json").read_text(encoding="utf-8"))
    return [Question(each["scenario"], each["question"], each["answers"]) for each in asked]


def agent_run(folder: Path, number: int) -> list[BaseMessage]:
    """One long run of an agent that serves so many customers one after the other, under one system message."""
    first, *others = conversations(folder, CUSTOMER_SERVICE)[:number]
    return [*first, *(message for other in others for message in other if not isinstance(message, SystemMessage))]


def model_turns(messages: list[BaseMessage]) -> Iterator[int]:
    """How long the conversation is whenever a model is asked: after a person, or after all results of its calls."""
    for length in range(1, len(messages) + 1):
        more_results = length < len(messages) and isinstance(messages[length], ToolMessage)
        if isinstance(messages[length - 1], (HumanMessage, ToolMessage)) and not more_results:
            yield length


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _messages(recorded: Iterable[dict[str, Any]], number: int) -> Iterator[BaseMessage]:
    for position, message in enumerate(recorded):
        text, name = message.get("content") or "", f"{number}-{position}"
        if message["role"] == "system":
            yield SystemMessage(text, id=name)
        elif message["role"] == "user":
            yield HumanMessage(text, id=name)
        elif message["role"] == "tool":
            yield ToolMessage(text, tool_call_id=message["tool_call_id"], id=name)
        else:
            calls = [
                {"name": call["function"]["name"], "args": json.loads(call["function"]["arguments"]), "id": call["id"]}
                for call in message.get("tool_calls") or []
            ]
            yield AIMessage(text, tool_calls=calls, id=name)

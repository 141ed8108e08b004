"""Recorded provider requests as the messages that a LangChain user would hold, content blocks kept as blocks."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

HIDDEN = {"image", "file", "audio", "server_tools", "server_state"}
"""Features of a recording whose input is not, or not only, text in the request."""

_REPLY_FORMATS = ("response_format", "text", "output_config", "output_format")


@dataclass(frozen=True)
class Recording:
    """One call.

    Attributes:
        id: Of the recording.
        provider: As recorded.
        model: ``provider:name``.
        messages: What was sent, oldest first.
        tools: Schemas and reply formats.
        billed: Input tokens that the provider billed, of all its passes.
    """

    id: str
    provider: str
    model: str
    messages: list[BaseMessage]
    tools: list[dict]
    billed: int


def visible_recordings(data: Path) -> Iterator[Recording]:
    """Every recorded call that succeeded, reported its usage and whose input is visible."""
    with gzip.open(data / "traffic" / "recordings.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            usage = row["usage_true"] or {}
            billed = usage.get("billed_input_total") or usage.get("input_total")
            if billed and row["response_kind"] != "error" and HIDDEN.isdisjoint(row["features"]):
                model = f"{row['provider']}:{row['model']}"
                yield Recording(row["id"], row["provider"], model, *_converted(row), billed)


def _converted(row: dict) -> tuple[list[BaseMessage], list[dict]]:
    request = row["request"]
    entries = request.get("messages") or request.get("input") or []
    if isinstance(entries, str):
        entries = [{"role": "user", "content": entries}]
    convert = _anthropic if row["provider"] == "anthropic" else _chat if row["api"] == "chat" else _responses
    system = [SystemMessage(request[key]) for key in ("system", "instructions") if request.get(key)]
    tools = [*(request.get("tools") or ()), *(request.get("functions") or ())]
    tools += [{"name": key, "value": request[key]} for key in _REPLY_FORMATS if request.get(key)]
    return [*system, *map(convert, entries)], tools


def _chat(entry: dict) -> BaseMessage:
    content, role = entry.get("content") or "", entry["role"]
    if role in {"system", "developer"}:
        return SystemMessage(content)
    if role in {"tool", "function"}:
        return ToolMessage(content, tool_call_id=entry.get("tool_call_id", ""), name=entry.get("name"))
    if role == "user":
        return HumanMessage(content)
    calls = [
        _call(call["function"]["name"], call["function"]["arguments"], call["id"])
        for call in entry.get("tool_calls") or ()
    ]
    extras = {key: value for key, value in entry.items() if key not in {"role", "content", "tool_calls"}}
    return AIMessage(content, tool_calls=calls, additional_kwargs=extras)


def _anthropic(entry: dict) -> BaseMessage:
    if entry["role"] != "assistant":
        return HumanMessage(entry["content"])
    blocks = entry["content"] if isinstance(entry["content"], list) else []
    calls = [
        {"name": block["name"], "args": block["input"], "id": block["id"], "type": "tool_call"}
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    return AIMessage(entry["content"], tool_calls=calls)


def _responses(entry: dict) -> BaseMessage:
    kind = entry.get("type", "message")
    if kind == "message":
        return {"user": HumanMessage, "assistant": AIMessage}.get(entry["role"], SystemMessage)(entry["content"])
    if kind == "function_call":
        return AIMessage("", tool_calls=[_call(entry["name"], entry["arguments"], entry["call_id"])])
    if kind == "function_call_output":
        return ToolMessage(entry["output"], tool_call_id=entry["call_id"])
    return AIMessage([entry])


def _call(name: str, arguments: str, call_id: str) -> dict:
    try:
        args = json.loads(arguments)
    except ValueError:
        args = None
    return {
        "name": name,
        "args": args if isinstance(args, dict) else {"": arguments},
        "id": call_id,
        "type": "tool_call",
    }

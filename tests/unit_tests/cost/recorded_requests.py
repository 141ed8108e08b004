"""Recorded provider requests as the messages that a LangChain user would hold, content blocks kept as blocks."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.usage import TokenUsage

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
        usage: As an estimator observes it.
    """

    id: str
    provider: str
    model: str
    messages: list[BaseMessage]
    tools: list[dict]
    billed: int
    usage: TokenUsage


def visible_recordings(data: Path) -> Iterator[Recording]:
    """Every recorded call that succeeded, reported its usage and whose input is visible."""
    return (recording for recording, features in _recordings(data) if HIDDEN.isdisjoint(features))


def image_recordings(data: Path) -> Iterator[Recording]:
    """Every recorded call with an image that succeeded and reported its usage."""
    return (recording for recording, features in _recordings(data) if "image" in features)


def continued(recordings: list[Recording]) -> Iterator[tuple[Recording, list[Recording]]]:
    """Every recording that goes on where others ended, with those: same model, same tools, same first messages."""
    for longer in recordings:
        earlier = [other for other in recordings if _starts(other, longer)]
        if earlier:
            yield longer, earlier


def _starts(shorter: Recording, longer: Recording) -> bool:
    count = len(shorter.messages)
    return (
        shorter.model == longer.model
        and count < len(longer.messages)
        and shorter.tools == longer.tools
        and shorter.messages == longer.messages[:count]
    )


def _recordings(data: Path) -> Iterator[tuple[Recording, set[str]]]:
    with gzip.open(data / "traffic" / "recordings.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            usage = row["usage_true"] or {}
            billed = usage.get("billed_input_total") or usage.get("input_total")
            if billed and row["response_kind"] != "error":
                told = TokenUsage(
                    input=usage["input_total"],
                    output=usage.get("output_tokens") or 0,
                    reasoning=usage.get("reasoning") or 0,
                )
                model = f"{row['provider']}:{row['model']}"
                recording = Recording(row["id"], row["provider"], model, *_converted(row), billed, told)
                yield recording, set(row["features"])


def _converted(row: dict) -> tuple[list[BaseMessage], list[dict]]:
    request = row["request"]
    entries = request.get("messages") or request.get("input") or []
    if isinstance(entries, str):
        entries = [{"role": "user", "content": entries}]
    convert = _anthropic if row["provider"] == "anthropic" else _chat if row["api"] == "chat" else _responses
    system = [SystemMessage(request[key]) for key in ("system", "instructions") if request.get(key)]
    tools = [*(request.get("tools") or ()), *(request.get("functions") or ())]
    tools += [{"name": key, "value": request[key]} for key in _REPLY_FORMATS if request.get(key)]
    return [*system, *convert(entries)], tools


def _chat(entries: list[dict]) -> Iterator[BaseMessage]:
    for entry in entries:
        content, role = entry.get("content") or "", entry["role"]
        if role in {"system", "developer"}:
            yield SystemMessage(content)
        elif role in {"tool", "function"}:
            yield ToolMessage(content, tool_call_id=entry.get("tool_call_id", ""), name=entry.get("name"))
        elif role == "user":
            yield HumanMessage(content)
        else:
            calls = [
                _call(call["function"]["name"], call["function"]["arguments"], call["id"])
                for call in entry.get("tool_calls") or ()
            ]
            extras = {key: value for key, value in entry.items() if key not in {"role", "content", "tool_calls"}}
            yield AIMessage(content, tool_calls=calls, additional_kwargs=extras)


def _anthropic(entries: list[dict]) -> Iterator[BaseMessage]:
    for entry in entries:
        content = entry["content"]
        blocks = content if isinstance(content, list) else []
        if entry["role"] == "assistant":
            calls = [
                {"name": block["name"], "args": block["input"], "id": block["id"], "type": "tool_call"}
                for block in blocks
                if block.get("type") == "tool_use"
            ]
            yield AIMessage(content, tool_calls=calls)
            continue
        results = [block for block in blocks if block.get("type") == "tool_result"]
        for block in results:
            yield ToolMessage(block.get("content") or "", tool_call_id=block["tool_use_id"])
        rest = [block for block in blocks if block not in results]
        if rest or not results:
            yield HumanMessage(rest or content)


def _responses(entries: list[dict]) -> Iterator[BaseMessage]:
    """Items of one reply are one message, as LangChain holds them."""
    reply: list[dict] = []
    for entry in entries:
        if _is_reply(entry):
            reply.append(entry)
            continue
        if reply:
            yield _replied(reply)
            reply = []
        if entry.get("type") == "function_call_output":
            yield ToolMessage(entry["output"], tool_call_id=entry["call_id"])
        else:
            yield (HumanMessage if entry.get("role") == "user" else SystemMessage)(entry["content"])
    if reply:
        yield _replied(reply)


def _is_reply(entry: dict) -> bool:
    return entry.get("role") == "assistant" or entry.get("type", "message") not in {"message", "function_call_output"}


def _replied(items: list[dict]) -> AIMessage:
    calls = [
        _call(item["name"], item["arguments"], item["call_id"]) for item in items if item.get("type") == "function_call"
    ]
    content = []
    for item in items:
        if item.get("type", "message") == "message":
            content += [item["content"]] if isinstance(item["content"], str) else item["content"]
        elif item["type"] != "function_call":
            content.append(item)
    return AIMessage(content or "", tool_calls=calls)


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

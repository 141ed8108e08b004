"""A reply in the form of each API: as one JSON object, or as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from loopback_answers import Call, Choice, Reply, Usage
from loopback_requests import Asked


def usage_of(api: str, usage: Usage) -> dict[str, Any]:
    """How the API reports ``usage``."""
    if api == "messages":
        return {
            "input_tokens": usage.input - usage.cache_read - usage.cache_write - usage.cache_write_1h,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            },
            "output_tokens": usage.output,
        }
    read, written = ("prompt", "completion") if api == "chat" else ("input", "output")
    return {
        f"{read}_tokens": usage.input,
        f"{read}_tokens_details": {"cached_tokens": usage.cache_read},
        f"{written}_tokens": usage.output,
        f"{written}_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def whole(asked: Asked, reply: Reply, usage: dict[str, Any] | None) -> dict[str, Any]:
    """The reply as one object; ``usage`` None leaves it out."""
    reported = {} if usage is None else {"usage": usage}
    return {"chat": _chat, "responses": _response, "messages": _message}[asked.api](asked, reply) | reported


def events(asked: Asked, reply: Reply, usage: dict[str, Any] | None) -> list[str]:
    """The reply as a stream; ``usage`` None leaves it out."""
    made = {"chat": _chat_events, "responses": _response_events, "messages": _message_events}[asked.api]
    lines = [_sse(event) for event in made(asked, reply, usage)]
    return [*lines, "data: [DONE]\n\n"] if asked.api == "chat" else lines


def reports_usage(event: str) -> bool:
    """Whether this event of a stream tells what all of it used."""
    return '"completion_tokens"' in event or '"output_tokens"' in event


def written_in(event: str) -> str:
    """What the model has written in this event of a stream; others repeat it."""
    data = event.partition("data: ")[2]
    told = {} if data.startswith("[") else json.loads(data)
    delta = told["choices"][0]["delta"] if told.get("choices") else told.get("delta", {})
    if isinstance(delta, str):
        return delta
    calls = [call["function"] for call in delta.get("tool_calls", ())]
    pieces = [delta.get(key) or "" for key in ("content", "text", "thinking", "partial_json")]
    return "".join(pieces + [call.get("name", "") + call["arguments"] for call in calls])


def error(api: str, status: int, message: str) -> dict[str, Any]:
    """The body of an error, which also stands in the middle of streams."""
    if api == "messages":
        kind = {429: "rate_limit_error", 529: "overloaded_error", 400: "invalid_request_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": "server_error", "code": None}}


def error_event(api: str) -> str:
    """The event that ends a stream which the provider gives up."""
    if api == "responses":
        return _sse({"type": "error", "code": "server_error", "message": "injected", "param": None})
    return _sse(error(api, 529, "injected"))


def _sse(event: dict[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


# --- chat completions ------------------------------------------------------------------------------------------------


def _chat(asked: Asked, reply: Reply) -> dict[str, Any]:
    choices = []
    for index, choice in enumerate(reply.choices):
        message = {"role": "assistant", "content": choice.text or None, "refusal": None}
        if choice.calls:
            message["tool_calls"] = [_chat_call(reply, number, call) for number, call in enumerate(choice.calls)]
        choices.append({"index": index, "message": message, "finish_reason": _finish_reason(choice), "logprobs": None})
    return _envelope(asked, reply, "chat.completion") | {"choices": choices}


def _chat_call(reply: Reply, number: int, call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{reply.id}_{number}", "type": "function", "function": function}


def _finish_reason(choice: Choice) -> str:
    return "length" if choice.cut else "tool_calls" if choice.calls else "stop"


def _envelope(asked: Asked, reply: Reply, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": 0, "model": asked.model}


def _chat_events(asked: Asked, reply: Reply, usage: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    envelope = _envelope(asked, reply, "chat.completion.chunk")
    for index, choice in enumerate(reply.choices):
        for delta in _chat_deltas(reply, choice):
            yield envelope | {"choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        yield envelope | {"choices": [{"index": index, "delta": {}, "finish_reason": _finish_reason(choice)}]}
    if asked.with_usage and usage is not None:
        yield envelope | {"choices": [], "usage": usage}


def _chat_deltas(reply: Reply, choice: Choice) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(choice.text, reply.piece):
        yield {"content": piece}
    for number, call in enumerate(choice.calls):
        yield {"tool_calls": [_chat_call(reply, number, Call(call.name, "")) | {"index": number}]}
        for piece in _pieces(call.arguments, reply.piece):
            yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


# --- responses -------------------------------------------------------------------------------------------------------


def _response(asked: Asked, reply: Reply) -> dict[str, Any]:
    choice = reply.choices[0]
    return _response_envelope(asked, reply) | {
        "status": "incomplete" if choice.cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if choice.cut else None,
        "output": list(_output_items(reply)),
    }


def _response_envelope(asked: Asked, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": 0,
        "model": asked.model,
        "status": "in_progress",
        "output": [],
        "error": None,
        "incomplete_details": None,
        "parallel_tool_calls": asked.at_once > 1,
        "tool_choice": "auto",
        "tools": [],
        "text": {
            "format": {"type": "json_schema", "name": "reply", "schema": asked.schema}
            if asked.schema
            else {"type": "text"}
        },
    }


def _output_items(reply: Reply) -> Iterator[dict[str, Any]]:
    choice = reply.choices[0]
    if choice.reasoning:
        yield {"type": "reasoning", "id": f"rs_{reply.id}", "summary": []}
    for number, call in enumerate(choice.calls):
        yield _function_call(reply, number, call) | {"status": "completed"}
    if not choice.calls:
        text = {"type": "output_text", "text": choice.text, "annotations": []}
        yield _output_message(reply) | {"status": "completed", "content": [text]}


def _function_call(reply: Reply, number: int, call: Call) -> dict[str, Any]:
    name = f"{reply.id}_{number}"
    return {
        "type": "function_call", "id": f"fc_{name}", "call_id": f"call_{name}",
        "name": call.name, "arguments": call.arguments, "status": "in_progress",
    }  # fmt: skip


def _output_message(reply: Reply) -> dict[str, Any]:
    return {"type": "message", "id": f"msg_{reply.id}", "role": "assistant", "status": "in_progress", "content": []}


def _response_events(asked: Asked, reply: Reply, usage: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    envelope = _response_envelope(asked, reply)
    yield {"type": "response.created", "response": envelope}
    for index, item in enumerate(_output_items(reply)):
        begun = {"message": {"content": []}, "function_call": {"arguments": ""}}.get(item["type"], {})
        yield {"type": "response.output_item.added", "output_index": index, "item": item | begun}
        for event in _item_events(item, reply.piece):
            yield {"output_index": index, "item_id": item["id"]} | event
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    ended = whole(asked, reply, usage)
    yield {"type": f"response.{ended['status']}", "response": ended}


def _item_events(item: dict[str, Any], piece_size: int) -> Iterator[dict[str, Any]]:
    if item["type"] == "message":
        [part] = item["content"]
        yield {"type": "response.content_part.added", "content_index": 0, "part": part | {"text": ""}}
        for piece in _pieces(part["text"], piece_size):
            yield {"type": "response.output_text.delta", "content_index": 0, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", "content_index": 0, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", "content_index": 0, "part": part}
    elif item["type"] == "function_call":
        arguments = item["arguments"]
        for piece in _pieces(arguments, piece_size):
            yield {"type": "response.function_call_arguments.delta", "delta": piece}
        yield {"type": "response.function_call_arguments.done", "name": item["name"], "arguments": arguments}


# --- messages --------------------------------------------------------------------------------------------------------


def _message(asked: Asked, reply: Reply) -> dict[str, Any]:
    choice = reply.choices[0]
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": list(_blocks(reply)),
        "stop_reason": _stop_reason(choice),
        "stop_sequence": None,
    }


def _stop_reason(choice: Choice) -> str:
    return "max_tokens" if choice.cut else "tool_use" if choice.calls else "end_turn"


def _blocks(reply: Reply) -> Iterator[dict[str, Any]]:
    choice = reply.choices[0]
    if choice.thinking:
        yield {"type": "thinking", "thinking": choice.thinking, "signature": "c2lnbmVk"}
    if choice.text:
        yield {"type": "text", "text": choice.text}
    for number, call in enumerate(choice.calls):
        given = {} if choice.cut else json.loads(call.arguments)
        yield {"type": "tool_use", "id": f"toolu_{reply.id}_{number}", "name": call.name, "input": given}


def _message_events(asked: Asked, reply: Reply, usage: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    choice = reply.choices[0]
    at_first = (usage or {"input_tokens": reply.usage.input}) | {"output_tokens": 1}
    begun = {"content": [], "stop_reason": None, "usage": at_first}
    yield {"type": "message_start", "message": _message(asked, reply) | begun}
    calls = iter(choice.calls)
    for index, block in enumerate(_blocks(reply)):
        arguments = next(calls).arguments if block["type"] == "tool_use" else ""
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        yield {"type": "content_block_start", "index": index, "content_block": block | empty[block["type"]]}
        for delta in _block_deltas(block, arguments, reply.piece):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"type": "message_delta", "delta": {"stop_reason": _stop_reason(choice), "stop_sequence": None}}
    # As the real API, which tells how long it keeps what it wrote to a cache at the start only.
    yield ending | {"usage": {name: count for name, count in (usage or {}).items() if name != "cache_creation"}}
    yield {"type": "message_stop"}


def _block_deltas(block: dict[str, Any], arguments: str, piece_size: int) -> Iterator[dict[str, Any]]:
    for piece in _pieces(block.get("text", ""), piece_size):
        yield {"type": "text_delta", "text": piece}
    for piece in _pieces(block.get("thinking", ""), piece_size):
        yield {"type": "thinking_delta", "thinking": piece}
    if "signature" in block:
        yield {"type": "signature_delta", "signature": block["signature"]}
    for piece in _pieces(arguments, piece_size):
        yield {"type": "input_json_delta", "partial_json": piece}

"""Replies in the journal: from a ``ChatResult`` to bytes and back, and the key under which they are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

_VERSION = 1
_NOT_SENT = {"id", "response_metadata", "usage_metadata"}
"""Message fields that no provider receives. Ids of replies are made up anew in every execution."""


def encode_reply(result: ChatResult) -> bytes:
    """The result as JSON; values that JSON cannot carry become their ``repr`` (provider objects in metadata)."""
    generations = [
        {"message": message_to_dict(generation.message), "generation_info": generation.generation_info}
        for generation in result.generations
    ]
    record = {"version": _VERSION, "generations": generations, "llm_output": result.llm_output}
    return json.dumps(record, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")


def without_usage(result: ChatResult) -> ChatResult:
    """The result without usage that means nothing, and might not be read back."""
    generations = [
        ChatGeneration(
            message=generation.message.model_copy(update={"usage_metadata": None}),
            generation_info=generation.generation_info,
        )
        for generation in result.generations
    ]
    return ChatResult(generations=generations, llm_output=result.llm_output)


def decode_reply(data: bytes) -> ChatResult | None:
    """The result as it was; None where another version wrote it in a form this one cannot read."""
    record = json.loads(data.decode("utf-8", "surrogatepass"))
    if record.get("version") != _VERSION:
        return None
    generations = [
        ChatGeneration(
            message=messages_from_dict([generation["message"]])[0], generation_info=generation["generation_info"]
        )
        for generation in record["generations"]
    ]
    return ChatResult(generations=generations, llm_output=record["llm_output"])


def request_digest(
    *, model: str, messages: Sequence[BaseMessage], stop: Sequence[str] | None, kwargs: Mapping[str, Any]
) -> str:
    """What a call asks for, in 64 hexadecimal digits: the same for the same request in every process.

    Args:
        model: The model's id.
        messages: What is sent, oldest first.
        stop: Stop sequences; None for none.
        kwargs: The caller's own keyword arguments: our cap depends on the money left and is no part of the request.
    """
    request = {
        "model": model,
        "messages": [message.model_dump(exclude=_NOT_SENT) for message in messages],
        "stop": stop,
        "kwargs": dict(kwargs),
    }
    text = json.dumps(request, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def reply_key(run_id: str, task_id: str | None, call_no: int, request: str) -> str:
    """Name of a call's reply.

    Args:
        run_id: The run.
        task_id: Its task; None outside tasks.
        call_no: How many equal requests the task has made before; see ``Account.next_call``.
        request: Its ``request_digest``.
    """
    return f"{run_id}:{task_id or ''}:{call_no}:{request}"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, type):
        schema = value.model_json_schema() if issubclass(value, BaseModel) else None
        return {"type": f"{value.__module__}.{value.__qualname__}", "schema": schema}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return value.hex()
    text = repr(value)
    return f"{type(value).__module__}.{type(value).__qualname__}" if " at 0x" in text else text

"""Messages as a store keeps them: equal when they come back, also where programs put objects into them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage, messages_from_dict, messages_to_dict

from langchain_runtime.contracts.errors import InvalidInputError

_PROGRAM_SIDE: Final = ("artifact", "additional_kwargs", "response_metadata")
"""Fields that may hold any object: tools and clients put them there, and no provider is sent them as they are."""


def encode_messages(messages: Sequence[BaseMessage]) -> dict[str, str]:
    """A JSON object of texts.

    The messages in ASCII: stores refuse half surrogate pairs, NUL characters and long integers, and models write all
    three. Objects that JSON would change are packed beside them, as LangGraph's checkpoints pack them.

    Raises:
        InvalidInputError: A message holds an object that not even they can carry.
    """
    try:
        text = json.dumps(messages_to_dict(messages))
        if messages_from_dict(json.loads(text)) == list(messages):
            return {"messages": text}
    except (TypeError, ValueError):
        pass  # objects; of some, arrays for one, nobody can even say whether they are equal
    objects = [
        {name: value for name in _PROGRAM_SIDE if (value := getattr(message, name, None))} for message in messages
    ]
    bare = [
        message.model_copy(update={name: None if name == "artifact" else {} for name in held})
        for message, held in zip(messages, objects, strict=True)
    ]
    try:
        kind, packed = _serializer().dumps_typed(objects)
        return {
            "messages": json.dumps(messages_to_dict(bare)),
            "kind": kind,
            "objects": base64.b64encode(packed).decode(),
        }
    except Exception as error:  # noqa: BLE001 - whatever an object of somebody's raises while it is looked at
        raise InvalidInputError(
            f"messages cannot be moved out of view, since an object in them cannot be kept: {error}",
            hint="let tools return artifacts made of JSON values, pydantic models or dataclasses",
        ) from None


def decode_messages(record: Mapping[str, str]) -> list[BaseMessage]:
    """The messages of a record that ``encode_messages`` made."""
    messages = messages_from_dict(json.loads(record["messages"]))
    if "objects" not in record:
        return messages
    objects = _serializer().loads_typed((record["kind"], base64.b64decode(record["objects"])))
    return [message.model_copy(update=held) for message, held in zip(messages, objects, strict=True)]


def _serializer() -> Any:
    # Needed for objects only, and slow to import.
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer  # noqa: PLC0415

    return JsonPlusSerializer()

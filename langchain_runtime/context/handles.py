"""Handles: short content hashes under which messages that left the view are kept, and how they look in text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage, messages_to_dict

HANDLE_LENGTH: Final = 12
"""Base-32 digits: 60 bits, so that among a million messages of a store two share a handle with probability 4e-7."""

_REFERENCE = re.compile(rf"\[recall:([a-z2-7]{{{HANDLE_LENGTH}}})\]")


def handle_of(messages: Sequence[BaseMessage]) -> str:
    """The handle of these messages: the same content gives the same handle in every process."""
    content = [_hashable(message) for message in messages_to_dict(messages)]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:HANDLE_LENGTH].decode().lower()


def _hashable(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a tool keeps beside its result if that is an object: it may look different in each process.

    JSON counts: results of one tool that are alike otherwise, as of a tool that is asked again and again, are told
    apart by it where messages have no ids.
    """
    data = dict(message["data"])
    artifact = data.pop("artifact", None)
    try:
        json.dumps(artifact, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        artifact = None
    return message | {"data": data if artifact is None else data | {"artifact": artifact}}


def reference(handle: str) -> str:
    """How a view refers to ``handle``: ``[recall:<id>]``."""
    return f"[recall:{handle}]"


def find_handles(text: str) -> list[str]:
    """All handles that ``text`` refers to, in order, each once."""
    return list(dict.fromkeys(_REFERENCE.findall(text)))

"""Memory for chains and graphs that somebody already has: what a model sees of a conversation always fits.

``CompactingMemory`` needs the extra ``[classic]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_runtime.contracts.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from langchain_runtime.memory.chat_message_history import CompactingChatMessageHistory
    from langchain_runtime.memory.classic_memory import CompactingMemory
    from langchain_runtime.memory.key_value_store import KeyValueStore
    from langchain_runtime.memory.message_compaction import CompactMessages, compact_messages

__all__ = ["CompactMessages", "CompactingChatMessageHistory", "CompactingMemory", "KeyValueStore", "compact_messages"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CompactMessages": "message_compaction",
        "CompactingChatMessageHistory": "chat_message_history",
        "CompactingMemory": "classic_memory",
        "KeyValueStore": "key_value_store",
        "compact_messages": "message_compaction",
    },
)

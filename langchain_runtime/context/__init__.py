"""What a model sees: routing between tasks, assembling a bundle, making it fit without losing anything, run memory."""

from langchain_runtime.context.archive import Archive, store_namespace
from langchain_runtime.context.context_builder import ContextBuilder
from langchain_runtime.context.context_compactor import ContextCompactor
from langchain_runtime.context.context_router import ContextRouter, check_names
from langchain_runtime.context.conversation_context import ConversationContext
from langchain_runtime.context.conversation_turn import ContextView
from langchain_runtime.context.groups import Grouping, group_messages
from langchain_runtime.context.handles import find_handles, handle_of, reference
from langchain_runtime.context.lexical_index import Passage
from langchain_runtime.context.memory_manager import MemoryManager
from langchain_runtime.context.prompt_template import as_text, check_variables, render, variables

__all__ = [
    "Archive",
    "ContextBuilder",
    "ContextCompactor",
    "ContextRouter",
    "ContextView",
    "ConversationContext",
    "Grouping",
    "MemoryManager",
    "Passage",
    "as_text",
    "check_names",
    "check_variables",
    "find_handles",
    "group_messages",
    "handle_of",
    "reference",
    "render",
    "store_namespace",
    "variables",
]

"""Memory for classic chains (``Chain.memory``). Needs the extra ``[classic]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, get_buffer_string

from langchain_runtime.memory.chat_message_history import CompactingChatMessageHistory

try:
    from langchain_classic.memory.chat_memory import BaseChatMemory
except ImportError as error:
    raise ImportError(
        'CompactingMemory needs LangChain\'s classic chains: pip install "langchain-runtime-layer[classic]"'
    ) from error


class CompactingMemory(BaseChatMemory):
    """A classic chain's memory that always fits and loses nothing.

    ::

        history = CompactingChatMessageHistory("s1", store=store, policy=ContextPolicy(max_tokens=4_000))
        chain = ConversationChain(llm=model, memory=CompactingMemory(chat_memory=history))

    It stands where a ``ConversationBufferMemory`` does, under the same names. Since a chain shows its memory what goes
    into the prompt beside it, history and inputs fit together, by the history's own counter, and one text counts as one
    message. ``reserve_output`` of the history's policy has to hold the reply and the fixed text of the prompt.

    What left the view is called back through the history: ``chat_memory.recall(handle)``, ``chat_memory.search(words)``
    or ``chat_memory.recall_tool()``.

    Attributes:
        chat_memory: The history.
        memory_key: Variable of the prompt that receives it.
        return_messages: A list of messages for a ``MessagesPlaceholder``, rather than one text.
        input_key: Which input is kept as what the human said; None where there is only one besides the memory's.
        output_key: Which output is kept as the reply; None where there is only one.
        human_prefix: Before what the human said, in the text.
        ai_prefix: Before replies.
    """

    chat_memory: CompactingChatMessageHistory
    memory_key: str = "history"
    human_prefix: str = "Human"
    ai_prefix: str = "AI"

    @property
    def memory_variables(self) -> list[str]:
        """The one variable that this adds to a chain's inputs."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The view that fits together with ``inputs``, under ``memory_key``.

        Raises:
            ContextOverflowError: What must stay does not fit.
        """
        view = self.chat_memory.messages_beside(self._said(inputs), shown=self._shown)
        return {self.memory_key: self._rendered(view)}

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Async twin of ``load_memory_variables``."""
        view = await self.chat_memory.amessages_beside(self._said(inputs), shown=self._shown)
        return {self.memory_key: self._rendered(view)}

    def _rendered(self, view: list[BaseMessage]) -> str | list[BaseMessage]:
        if self.return_messages:
            return view
        return get_buffer_string(view, human_prefix=self.human_prefix, ai_prefix=self.ai_prefix)

    def _shown(self, view: list[BaseMessage]) -> Sequence[BaseMessage]:
        shown = self._rendered(view)
        return [HumanMessage(shown)] if isinstance(shown, str) else shown

    def _said(self, inputs: dict[str, Any]) -> list[BaseMessage]:
        """What a chain is given, as messages to count: chains put text into their prompts, or messages."""
        said: list[BaseMessage] = []
        for value in inputs.values():
            values = value if isinstance(value, list) else [value]
            said += [item if isinstance(item, BaseMessage) else HumanMessage(str(item)) for item in values]
        return said

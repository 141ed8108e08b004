"""A real, deterministic chat model that needs no key and no network: it quotes its sources and does not reason."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_runtime.chat_models._ranking import Candidate, best
from langchain_runtime.chat_models._sentences import sentences

NOTHING_FOUND: Final = "NOTHING FOUND: what was supplied does not answer this."
"""The whole reply where no sentence matches the question well enough."""

_NAME: Final = "extractive"
_BYTES_PER_TOKEN: Final = 4
"""What a token of English text has in the byte-pair encodings of the large providers, about (tiktoken, README)."""
_TOKENS_PER_MESSAGE: Final = 3
"""Framing of one message in OpenAI's chat format ("How to count tokens with tiktoken", OpenAI Cookbook)."""

_DOCUMENT = re.compile(r"<document\b[^>]*?\b(?:id|source)\s*=\s*\"?([^\">]*)\"?[^>]*>(.*?)</document>", re.DOTALL)
_PASSAGES = re.compile(r"<passages>(.*?)</passages>", re.DOTALL)
_QUESTION = re.compile(r"^\W*(?:question|query|task|topic)\W*:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_CITATION = re.compile(r"^\W*\"(.+)\"\s*\[([^\[\]]+)\]\s*$", re.MULTILINE)
_WORD_AND_SPACE = re.compile(r"\S+\s*|\s+")


class ExtractiveChatModel(BaseChatModel):
    """Answers with the sentences of its prompt that match the question best, word for word.

    It quotes its sources and does not reason: sentences are ranked by BM25, centrality and diversity, always the same.

    What it quotes from: ``<document id="...">`` blocks, and lines ``"quote" [document]`` in ``<passages>`` blocks;
    without blocks, such lines anywhere; else everything that was said. What it takes for the question: the last line
    that starts with ``Question:``, ``Query:``, ``Task:`` or ``Topic:``, else a last line that ends in a question mark.
    Without a question it quotes what is most central.

    A quote from a named document is a line ``"quote" [document]``, else the bare sentence. Where nothing matches well
    enough the reply is ``NOTHING_FOUND``.

    Token counts are estimates: four UTF-8 bytes to a token.

    Attributes:
        max_quotes: Most sentences in one reply.
        max_tokens: Cap on the reply in tokens; None for no cap. Whole quotes are left out to keep it.
        stop_sequences: The reply ends before the first of them.
    """

    max_quotes: int = Field(default=4, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop_sequences: list[str] | None = Field(default=None, alias="stop")

    @property
    def _llm_type(self) -> str:
        return _NAME

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": _NAME, "max_quotes": self.max_quotes, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = _NAME
        params["ls_model_name"] = kwargs.get("model") or _NAME
        return params

    def get_num_tokens(self, text: str) -> int:
        """Four UTF-8 bytes to a token, rounded up."""
        return -(-len(text.encode()) // _BYTES_PER_TOKEN)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[Any] | None = None,  # noqa: ARG002 - LangChain's signature
    ) -> int:
        """Text and framing of the messages; tools are not supported and count nothing."""
        return sum(self.get_num_tokens(message.text) + _TOKENS_PER_MESSAGE for message in messages)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._reply(messages, stop, kwargs)
        message = AIMessage(reply.text, usage_metadata=reply.usage, response_metadata=reply.metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._reply(messages, stop, kwargs)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._reply(messages, stop, kwargs)):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _reply(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> _Reply:
        lines = _quotes(messages, self.max_quotes)
        text = _before_stop("\n".join(lines), stop or self.stop_sequences or [])
        cap = kwargs.get("max_tokens") or self.max_tokens
        shown = _fitting(text, cap) if cap else text
        read, written = self.get_num_tokens_from_messages(messages), self.get_num_tokens(shown)
        return _Reply(
            shown,
            UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written),
            {
                "model_name": _NAME,
                "model_provider": _NAME,
                "finish_reason": "stop" if shown == text else "length",
            },
        )


class _Reply(NamedTuple):
    text: str
    usage: UsageMetadata
    metadata: dict[str, Any]


def _chunks(reply: _Reply) -> Iterator[ChatGenerationChunk]:
    """The reply word by word, then usage and metadata."""
    for word in _WORD_AND_SPACE.findall(reply.text):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="", usage_metadata=reply.usage, response_metadata=reply.metadata, chunk_position="last"
        )
    )


def _quotes(messages: Sequence[BaseMessage], limit: int) -> list[str]:
    """The lines of the reply."""
    said = "\n\n".join(message.text for message in messages if message.type != "system")
    outside = _DOCUMENT.sub("\n", said)
    question = _question(outside)
    candidates = _from_blocks(said)
    if candidates is None:
        candidates = _from_citations(outside) or _from_text(outside, question)
    chosen = best(candidates, question, limit=limit, floor=bool(question))
    return [f'"{one.text}" [{one.source}]' if one.source else one.text for one in chosen] or [NOTHING_FOUND]


def _question(text: str) -> str:
    """What is asked; "" for nothing in particular."""
    if marked := _QUESTION.findall(text):
        return str(marked[-1]).strip()
    last = text.strip().rpartition("\n")[2].strip()
    return last if last.endswith(("?", "\uff1f")) else ""


def _from_blocks(text: str) -> list[Candidate] | None:
    """What stands in blocks of documents or passages; None where there is no such block."""
    documents = _DOCUMENT.findall(text)
    passages = _PASSAGES.findall(text)
    if not documents and not passages:
        return None
    return [
        *(one for block in passages for one in _from_citations(block)),
        *(one for source, body in documents for one in _from_document(source.strip(), body)),
    ]


def _from_document(source: str, body: str) -> list[Candidate]:
    return [Candidate(sentence.text, source, f"{sentence.heading} {source}") for sentence in sentences(body)]


def _from_citations(text: str) -> list[Candidate]:
    return [Candidate(quote, source, source) for quote, source in _CITATION.findall(text)]


def _from_text(text: str, question: str) -> list[Candidate]:
    return [
        Candidate(sentence.text, "", sentence.heading)
        for sentence in sentences(text)
        if not (question and question in sentence.text)
    ]


def _before_stop(text: str, stop: Sequence[str]) -> str:
    ends = [text.find(sequence) for sequence in stop if sequence]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def _fitting(text: str, max_tokens: int) -> str:
    """The beginning of ``text`` that has at most ``max_tokens``: whole lines, or words where not even one line fits."""
    room = max_tokens * _BYTES_PER_TOKEN
    if len(text.encode()) <= room:
        return text
    beginning = text.encode()[:room].decode(errors="ignore")
    lines = text[: len(beginning) + 1].rpartition("\n")[0]
    return lines or beginning.rpartition(" ")[0] or beginning

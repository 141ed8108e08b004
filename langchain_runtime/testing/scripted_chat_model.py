"""A chat model for tests: says what it is told, counts what it says, and remembers what it was asked."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, SecretStr, SkipValidation

Reply = str | Mapping[str, Any] | AIMessage | BaseException
"""A text; the arguments of a call of the first bound tool; a whole message; or an error to raise."""

Script = Sequence[Reply] | Callable[[list[BaseMessage]], Reply]
"""Replies in the order of calls, the last one for all further calls; or a function of the messages."""


@dataclass(frozen=True, eq=False)
class ScriptedCall:
    """A request that really reached the model.

    Attributes:
        method: Which of the model's methods was called last: ``_generate``, ``_agenerate``, ``_stream``, ``_astream``.
        messages: What it was asked.
        kwargs: Keyword arguments it got, stop sequences excluded.
    """

    method: str
    messages: tuple[BaseMessage, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Answer:
    """What one request is answered with."""

    call_no: int
    pieces: list[str]
    tool_calls: list[ToolCall]
    usage: UsageMetadata | None
    metadata: dict[str, Any]
    choices: int


class ScriptedChatModel(BaseChatModel):
    """Answers by script. Deterministic, offline, and strict about output caps, as providers are.

    A token is a word: text between white space. Streams yield one chunk for each word and report usage in the last
    chunk only. ``n`` in a call yields that many equal choices, with the usage of all on each, as OpenAI does.

    Attributes:
        script: What it says.
        model: Its name; with ``provider`` its identity in price catalogues.
        provider: Whose model it pretends to be.
        max_tokens: Cap on the reply; a call's own ``max_tokens`` wins.
        obeys_cap: False makes a model that ignores every cap.
        reports_usage: False makes a provider that never says what a call used.
        fails_after: Chunks after which a stream raises ``error_in_stream``; None for never.
        error_in_stream: What it raises then.
        hook: Called with the number of the call and of the chunk (0 for a whole reply) before each is handed out; async
            methods await what it returns. Hold a call here, with an event, to make a race happen.
        max_retries: Not used: it never tries again.
        calls: Requests that really reached this model or a copy of it, in order: copies share the list, so that a test
            reads the calls of the model that it wrapped from the one it made.
    """

    model_config = ConfigDict(populate_by_name=True)

    script: Any = Field(default=("ok",), exclude=True)
    model: str = Field(default="scripted-1", alias="model_name")
    provider: str = "scripted"
    max_tokens: int | None = None
    temperature: float | None = None
    timeout: float | None = None
    stop: list[str] | None = None
    api_key: SecretStr | None = None
    max_retries: int = Field(default=0, exclude=True)
    streaming: bool = False
    obeys_cap: bool = True
    reports_usage: bool = True
    fails_after: int | None = None
    error_in_stream: Any = Field(default_factory=lambda: ConnectionResetError("the stream broke"), exclude=True)
    hook: Callable[[int, int], Awaitable[None] | None] | None = Field(default=None, exclude=True)
    calls: SkipValidation[list[ScriptedCall]] = Field(default_factory=list, exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return LangSmithParams(**{**params, "ls_provider": self.provider})

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools, in OpenAI's format."""
        options = {"tool_choice": tool_choice, **kwargs} if tool_choice is not None else kwargs
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **options)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer("_generate", messages, stop, kwargs)
        self._wait(answer.call_no, 0)
        return _result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer("_agenerate", messages, stop, kwargs)
        await self._await(answer.call_no, 0)
        return _result(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer("_stream", messages, stop, kwargs)
        for number, chunk in enumerate(_chunks(answer)):
            self._wait(answer.call_no, number)
            self._break_off(number)
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
        answer = self._answer("_astream", messages, stop, kwargs)
        for number, chunk in enumerate(_chunks(answer)):
            await self._await(answer.call_no, number)
            self._break_off(number)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _wait(self, call_no: int, chunk_no: int) -> None:
        if self.hook is not None and inspect.isawaitable(self.hook(call_no, chunk_no)):
            raise TypeError("an async hook needs ainvoke or astream")

    async def _await(self, call_no: int, chunk_no: int) -> None:
        held = self.hook(call_no, chunk_no) if self.hook is not None else None
        if held is not None:
            await held

    def _break_off(self, number: int) -> None:
        if self.fails_after is not None and number >= self.fails_after:
            raise self.error_in_stream

    def _answer(
        self, method: str, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> _Answer:
        call = ScriptedCall(method, tuple(messages), dict(kwargs))
        self.calls.append(call)
        call_no = self.calls.index(call)  # by identity: other threads may have appended meanwhile
        reply = self.script(messages) if callable(self.script) else self.script[min(call_no, len(self.script) - 1)]
        if isinstance(reply, BaseException):
            raise reply
        message = _message(reply, kwargs.get("tools") or ())
        pieces = _words(_before_stop(message.text, stop or self.stop))
        cap = kwargs.get("max_tokens") or self.max_tokens
        cut = self.obeys_cap and cap is not None and len(pieces) > cap
        if cut:
            pieces = pieces[:cap]
        choices = kwargs.get("n") or 1
        written = (len(pieces) + sum(len(_words(json.dumps(call["args"]))) for call in message.tool_calls)) * choices
        metadata = {
            "model_name": self.model,
            "finish_reason": "length" if cut else "tool_calls" if message.tool_calls else "stop",
            **message.response_metadata,
        }
        usage = (message.usage_metadata or _usage(messages, written)) if self.reports_usage else None
        return _Answer(call_no, pieces, message.tool_calls, usage, metadata, choices)


def _message(reply: Any, tools: Sequence[Mapping[str, Any]]) -> AIMessage:
    if isinstance(reply, AIMessage):
        return reply
    if isinstance(reply, str):
        return AIMessage(content=reply)
    if not tools:
        raise ValueError("the script calls a tool, and the call offers none")
    name = tools[0]["function"]["name"]
    return AIMessage(content="", tool_calls=[ToolCall(name=name, args=dict(reply), id=f"call_{name}")])


def _words(text: str) -> list[str]:
    """The text in words, each with the white space after it."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + ([words[-1]] if words[-1] else [])


def _before_stop(text: str, stop: Sequence[str] | None) -> str:
    return min((text.partition(sequence)[0] for sequence in stop or ()), key=len, default=text)


def _usage(messages: Sequence[BaseMessage], written: int) -> UsageMetadata:
    read = sum(len(_words(message.text)) + 1 for message in messages)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


def _result(answer: _Answer) -> ChatResult:
    def message() -> AIMessage:
        return AIMessage(
            content="".join(answer.pieces),
            tool_calls=answer.tool_calls,
            usage_metadata=answer.usage,
            response_metadata=dict(answer.metadata),
        )

    output = {"token_usage": dict(answer.usage)} if answer.usage and answer.choices > 1 else None
    return ChatResult(generations=[ChatGeneration(message=message()) for _ in range(answer.choices)], llm_output=output)


def _chunks(answer: _Answer) -> Iterator[ChatGenerationChunk]:
    calls = [
        ToolCallChunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        for index, call in enumerate(answer.tool_calls)
    ]
    parts = (AIMessageChunk(content=piece) for piece in answer.pieces)
    offered = (AIMessageChunk(content="", tool_call_chunks=calls) for _ in calls[:1])
    for chunk in itertools.chain(parts, offered):
        yield ChatGenerationChunk(message=chunk)
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="", usage_metadata=answer.usage, response_metadata=answer.metadata, chunk_position="last"
        )
    )

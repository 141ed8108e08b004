"""What a request asks for, in whichever of three APIs: OpenAI's chat completions and responses, Anthropic's messages.

As strict as the providers are: a parameter that the API does not know is refused, not passed over.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CHAT = frozenset(
    """
    max_completion_tokens max_tokens messages metadata model n parallel_tool_calls reasoning_effort response_format
    seed service_tier stop store stream stream_options temperature tool_choice tools top_p user
    """.split()  # noqa: SIM905 - a name a line would bury the code
)
_RESPONSES = frozenset(
    """
    include input instructions max_output_tokens metadata model parallel_tool_calls reasoning service_tier store stream
    temperature text tool_choice tools top_p truncation user
    """.split()  # noqa: SIM905 - a name a line would bury the code
)
_MESSAGES = frozenset(
    """
    max_tokens messages metadata model output_config service_tier stop_sequences stream system
    temperature thinking tool_choice tools top_k top_p
    """.split()  # noqa: SIM905 - a name a line would bury the code
)
_LEAST_THINKING = 1_024
_SURROUNDS_TOOLS = {"chat": 12, "responses": 12, "messages": 346}
"""Tokens of the provider's own prompt where a request has tools (Anthropic, "Tool use", pricing)."""


class RefusedError(Exception):
    """A request that the provider refuses as invalid."""


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        api: ``chat``, ``responses`` or ``messages``.
        model: As the request names it.
        prompt: The messages as text, for the log.
        read: What the model reads, message by message.
        overhead: Tokens that are billed and stand in no text.
        cached: How many of ``read``, from the first, may come from a cache.
        lifetime: Of what is written to the cache, ``5m`` or ``1h``; None where the request does not ask for caching.
        cap: Most output tokens of a choice; None where the request sets none.
        choices: How many replies are wanted.
        stream: Whether as events.
        with_usage: Whether a stream may tell its usage.
        tools: What may be called.
        forced: Name of the tool that must be called; None where the model chooses.
        at_once: How many tools it may call at once.
        answered: Whether the last message brings results of tools.
        schema: What the reply's text must conform to; None for prose.
        thinking: Most tokens of visible thinking; 0 for none.
        kept: Ids of reasoning of earlier replies that the provider keeps and reads again.
    """

    api: str
    model: str
    prompt: str
    read: tuple[str, ...]
    overhead: int
    cached: int
    cap: int | None
    stream: bool
    lifetime: str | None = None
    choices: int = 1
    with_usage: bool = True
    tools: tuple[Tool, ...] = ()
    forced: str | None = None
    at_once: int = 1
    answered: bool = False
    schema: dict[str, Any] | None = None
    thinking: int = 0
    kept: tuple[str, ...] = ()


def chat(body: dict[str, Any]) -> Asked:
    """``POST /v1/chat/completions``."""
    _check(body, _CHAT)
    if "max_tokens" in body and "max_completion_tokens" in body:
        raise RefusedError("max_tokens and max_completion_tokens cannot both be set")
    messages = body["messages"]
    tools = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice")
    form = body.get("response_format") or {}
    schema = form.get("json_schema", {}).get("schema") if form.get("type") == "json_schema" else None
    return Asked(
        api="chat",
        model=body["model"],
        prompt=_prompt(messages),
        read=(*map(_chat_message, messages), *_extras(tools, schema)),
        overhead=4 * len(messages) + _around(tools, "chat"),
        cached=len(messages) - 1,
        cap=_cap(body.get("max_completion_tokens", body.get("max_tokens"))),
        stream=bool(body.get("stream")),
        choices=body.get("n") or 1,
        with_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        tools=tuple(Tool(tool["name"], tool.get("parameters") or {}) for tool in tools if choice != "none"),
        forced=choice["function"]["name"] if isinstance(choice, dict) else _first(tools, choice == "required"),
        at_once=2 if body.get("parallel_tool_calls") is True else 1,
        answered=messages[-1]["role"] == "tool",
        schema=schema,
    )


def responses(body: dict[str, Any]) -> Asked:
    """``POST /v1/responses``."""
    _check(body, _RESPONSES)
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    form = (body.get("text") or {}).get("format") or {}
    schema = form.get("schema") if form.get("type") == "json_schema" else None
    return Asked(
        api="responses",
        model=body["model"],
        prompt=_prompt(items),
        read=(*map(_item, items), *_extras(tools, schema)),
        overhead=4 * len(items) + _around(tools, "responses"),
        cached=len(items) - 1,
        cap=_cap(body.get("max_output_tokens")),
        stream=bool(body.get("stream")),
        tools=tuple(Tool(tool["name"], tool.get("parameters") or {}) for tool in tools if choice != "none"),
        forced=choice["name"] if isinstance(choice, dict) else _first(tools, choice == "required"),
        at_once=2 if body.get("parallel_tool_calls") is True else 1,
        answered=items[-1].get("type") == "function_call_output",
        schema=schema,
        kept=tuple(item["id"] for item in items if item.get("type") == "reasoning"),
    )


def messages(body: dict[str, Any]) -> Asked:
    """``POST /v1/messages``."""
    _check(body, _MESSAGES)
    thinking = body.get("thinking") or {}
    budget = thinking.get("budget_tokens", 0) if thinking.get("type") == "enabled" else 0
    cap = _cap(body.get("max_tokens"))
    if cap is None:
        raise RefusedError("max_tokens: field required")
    if budget and not _LEAST_THINKING <= budget < cap:
        raise RefusedError("`max_tokens` must be greater than `thinking.budget_tokens`, which must be at least 1024")
    turns = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    turns += body["messages"]
    tools = body.get("tools") or []
    choice = body.get("tool_choice") or {}
    schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    marked = {at: mark for at, turn in enumerate(turns, 1) if (mark := _cache_mark(turn["content"])) is not None}
    last_turn = turns[-1]["content"]
    return Asked(
        api="messages",
        model=body["model"],
        prompt=_prompt(turns),
        read=(*(_words(turn["content"]) for turn in turns), *_extras(tools, schema)),
        overhead=4 * len(turns) + _around(tools, "messages"),
        cached=max(marked, default=0),
        lifetime=marked[max(marked)] if marked else None,
        cap=cap,
        stream=bool(body.get("stream")),
        tools=tuple(Tool(tool["name"], tool["input_schema"]) for tool in tools if choice.get("type") != "none"),
        forced=choice.get("name") or _first(tools, choice.get("type") == "any"),
        at_once=2 if choice.get("disable_parallel_tool_use") is False else 1,
        answered=isinstance(last_turn, list) and any(block["type"] == "tool_result" for block in last_turn),
        schema=schema,
        thinking=budget,
    )


def _check(body: dict[str, Any], known: frozenset[str]) -> None:
    unknown = body.keys() - known
    if unknown:
        raise RefusedError(f"Unrecognized request argument supplied: {', '.join(sorted(unknown))}")


def _cap(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise RefusedError(f"the output cap must be a positive integer, got {value!r}")
    return value


def _prompt(turns: list[dict[str, Any]]) -> str:
    return "\n".join(f"{turn.get('role') or turn.get('type')}: {json.dumps(turn.get('content'))}" for turn in turns)


def _around(tools: list[Any], api: str) -> int:
    return _SURROUNDS_TOOLS[api] if tools else 0


def _first(tools: list[dict[str, Any]], must: bool) -> str | None:
    return tools[0]["name"] if must and tools else None


def _extras(tools: list[Any], schema: Any) -> Iterator[str]:
    yield from (compact(tool) for tool in tools)
    if schema is not None:
        yield compact(schema)


def compact(value: Any) -> str:
    """JSON as short as it gets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chat_message(message: dict[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return _words(message.get("content")) + "".join(call["name"] + call["arguments"] for call in calls)


def _item(item: dict[str, Any]) -> str:
    kind = item.get("type")
    if kind == "function_call":
        return str(item["name"] + item["arguments"])
    if kind == "function_call_output":
        return _words(item["output"])
    return _words(item.get("content"))


def _words(content: Any) -> str:
    if isinstance(content, list):
        return "".join(map(_block, content))
    return content or ""


def _block(block: dict[str, Any]) -> str:
    kind = block["type"]
    if kind == "tool_use":
        return str(block["name"] + compact(block["input"]))
    if kind == "tool_result":
        return _words(block["content"])
    return str(block["thinking" if kind == "thinking" else "text"])


def _cache_mark(content: Any) -> str | None:
    """Lifetime of the last cache mark in a message's blocks; None without one."""
    blocks = content if isinstance(content, list) else []
    marks = [block["cache_control"] for block in blocks if block.get("cache_control")]
    return marks[-1].get("ttl", "5m") if marks else None

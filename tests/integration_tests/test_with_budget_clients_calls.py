"""Every way to call a real client, and every way a call can end: the provider's bill never exceeds the books."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from loopback_provider import FALSE_USAGE, GAVE_UP, Fault, serving
from loopback_tills import MODELS, Till, client
from pydantic import BaseModel, Field

SOME_FAULTS = (None, 429, "reset", "lost", "cut", "no usage")
REFUSALS = (429, 400, 404, 500, 529)
FAULTS = (*SOME_FAULTS, *REFUSALS[1:], *GAVE_UP, "cut late", "error event", *FALSE_USAGE)

pytestmark = [
    pytest.mark.load,
    pytest.mark.filterwarnings(
        "ignore:.*is in beta:langchain_core._api.LangChainBetaWarning",
        "ignore:astream_(log|events version='v1') is deprecated:Warning",
        "ignore:Pydantic serializer warnings:UserWarning",  # of the OpenAI client, about parsed replies
        "ignore:Unexpected type for token usage:UserWarning",  # as above, about details that it leaves empty itself
    ),
]


class Person(BaseModel):
    """Somebody."""

    name: str = Field(min_length=1)
    age: int
    tags: list[str]


def weather(city: str, *, days: int) -> str:
    """Weather forecast for a city."""
    return f"Rain in {city} for {days} days."


@dataclass(frozen=True)
class Way:
    """How a model is called.

    Attributes:
        call: Does it, with a model and a prompt.
        requests: How many requests that takes where nothing fails.
        faults: What may go wrong with the first of them: everything where the way reaches into the client, some of it
            where it is made of other ways.
    """

    call: Callable[[Any, str], Any]
    requests: int = 1
    faults: Sequence[Fault | None] = SOME_FAULTS


def exhaust(items: Iterable[Any]) -> list[Any]:
    return list(items)


async def aexhaust(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def said(prompt: str) -> dict[str, Any]:
    return {"messages": [("user", prompt)]}


def chain(model: Any) -> Any:
    return (
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")]) | model | StrOutputParser()
    )


def conversation(model: Any, prompt: str) -> Any:
    first = model.invoke(prompt)
    return model.invoke([("user", prompt), first, ("user", f"And then? {prompt}")])


def patient(model: Any) -> Any:
    """Tries again what failed, but not what the budget refused."""
    failures = (openai.APIError, anthropic.APIError)
    return model.with_retry(retry_if_exception_type=failures, stop_after_attempt=2, wait_exponential_jitter=False)


def sibling(model: Any) -> Any:
    """Another model under the same budget, to fall back on."""
    return model.model_copy(update={"temperature": 1})


async def events_v3(model: Any, prompt: str) -> Any:
    stream = await model.astream_events(prompt, version="v3")
    return await stream


WAYS = {
    "invoke": Way(lambda model, prompt: model.invoke(prompt), faults=FAULTS),
    "invoke that streams": Way(lambda model, prompt: model.invoke(prompt, stream=True)),
    "stream": Way(lambda model, prompt: exhaust(model.stream(prompt)), faults=FAULTS),
    "stream_events v3": Way(lambda model, prompt: model.stream_events(prompt, version="v3").output, faults=FAULTS),
    "batch": Way(lambda model, prompt: model.batch([prompt, prompt + "!", prompt + "?"], return_exceptions=True), 3),
    "batch_as_completed": Way(
        lambda model, prompt: exhaust(model.batch_as_completed([prompt, prompt + "!"], return_exceptions=True)), 2
    ),
    "generate": Way(lambda model, prompt: model.generate_prompt([model._convert_input(prompt)] * 2), 2),
    "chain": Way(lambda model, prompt: chain(model).invoke({"question": prompt})),
    "chain that streams": Way(lambda model, prompt: exhaust(chain(model).stream({"question": prompt}))),
    "conversation": Way(conversation, 2),
    "bind_tools": Way(lambda model, prompt: model.bind_tools([weather]).invoke(prompt)),
    "bind_tools, stream": Way(lambda model, prompt: exhaust(model.bind_tools([weather]).stream(prompt)), faults=FAULTS),
    "structured by tool": Way(
        lambda model, prompt: model.with_structured_output(Person, method="function_calling").invoke(prompt)
    ),
    "structured by schema": Way(
        lambda model, prompt: model.with_structured_output(Person, method="json_schema").invoke(prompt)
    ),
    "structured, stream": Way(
        lambda model, prompt: exhaust(model.with_structured_output(Person, method="json_schema").stream(prompt)),
        faults=FAULTS,
    ),
    "structured, raw": Way(
        lambda model, prompt: model.with_structured_output(
            Person.model_json_schema(), method="json_schema", include_raw=True
        ).invoke(prompt)
    ),
    "with_fallbacks": Way(lambda model, prompt: model.with_fallbacks([sibling(model)]).invoke(prompt)),
    "with_retry": Way(lambda model, prompt: patient(model).invoke(prompt)),
    "create_agent": Way(lambda model, prompt: create_agent(model, [weather]).invoke(said(prompt)), 2),
    "create_agent, stream": Way(
        lambda model, prompt: exhaust(create_agent(model, [weather]).stream(said(prompt), stream_mode="messages")), 2
    ),
    "create_agent, structured": Way(
        lambda model, prompt: create_agent(model, [], response_format=Person).invoke(said(prompt))
    ),
}

ASYNC_WAYS = {
    "ainvoke": Way(lambda model, prompt: model.ainvoke(prompt), faults=FAULTS),
    "ainvoke that streams": Way(lambda model, prompt: model.ainvoke(prompt, stream=True)),
    "astream": Way(lambda model, prompt: aexhaust(model.astream(prompt)), faults=FAULTS),
    "astream_events v1": Way(lambda model, prompt: aexhaust(model.astream_events(prompt, version="v1"))),
    "astream_events v2": Way(lambda model, prompt: aexhaust(model.astream_events(prompt, version="v2"))),
    "astream_events v3": Way(events_v3, faults=FAULTS),
    "astream_log": Way(lambda model, prompt: aexhaust(model.astream_log(prompt))),
    "abatch": Way(lambda model, prompt: model.abatch([prompt, prompt + "!", prompt + "?"], return_exceptions=True), 3),
    "abatch_as_completed": Way(
        lambda model, prompt: aexhaust(model.abatch_as_completed([prompt, prompt + "!"], return_exceptions=True)), 2
    ),
    "gather": Way(
        lambda model, prompt: asyncio.gather(*(model.ainvoke(prompt) for _ in range(3)), return_exceptions=True), 3
    ),
    "chain": Way(lambda model, prompt: chain(model).ainvoke({"question": prompt})),
    "bind_tools": Way(lambda model, prompt: model.bind_tools([weather]).ainvoke(prompt)),
    "bind_tools, stream": Way(
        lambda model, prompt: aexhaust(model.bind_tools([weather]).astream(prompt)), faults=FAULTS
    ),
    "structured by tool": Way(
        lambda model, prompt: model.with_structured_output(Person, method="function_calling").ainvoke(prompt)
    ),
    "structured by schema": Way(
        lambda model, prompt: model.with_structured_output(Person, method="json_schema").ainvoke(prompt)
    ),
    "structured, stream": Way(
        lambda model, prompt: aexhaust(model.with_structured_output(Person, method="json_schema").astream(prompt))
    ),
    "with_fallbacks": Way(lambda model, prompt: model.with_fallbacks([sibling(model)]).ainvoke(prompt)),
    "with_retry": Way(lambda model, prompt: patient(model).ainvoke(prompt)),
    "create_agent": Way(lambda model, prompt: create_agent(model, [weather]).ainvoke(said(prompt)), 2),
    "create_agent, events": Way(
        lambda model, prompt: aexhaust(create_agent(model, [weather]).astream_events(said(prompt), version="v2")), 2
    ),
}


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_the_books_cover_the_bill_of_any_call(tmp_path, api, way):
    with serving(tmp_path / "provider.jsonl") as provider:
        model, tills = client(provider, api), {fault: Till(provider) for fault in WAYS[way].faults}
        for fault, till in tills.items():
            provider.faults = [fault]
            try:
                WAYS[way].call(till.guarded(model), f"What of {till.topic}?")
            except Exception:
                assert fault is not None
    audit(tills, WAYS[way].requests)


@pytest.mark.parametrize("api", MODELS)
@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_the_books_cover_the_bill_of_any_async_call(tmp_path, api, way):
    with serving(tmp_path / "provider.jsonl") as provider:
        model, tills = client(provider, api), {fault: Till(provider) for fault in ASYNC_WAYS[way].faults}
        for fault, till in tills.items():
            provider.faults = [fault]
            try:
                await ASYNC_WAYS[way].call(till.guarded(model), f"What of {till.topic}?")
            except Exception:
                assert fault is not None
    audit(tills, ASYNC_WAYS[way].requests)


def audit(tills: dict[Any, Till], requests: int) -> None:
    for fault, till in tills.items():
        till.audit(exact=fault is None or fault in REFUSALS)
        assert fault in {row["fault"] for row in till.rows}
        assert len(till.rows) == len(till.ledger.admitted)
    assert len(tills[None].rows) == requests
    assert tills[None].billed > 0

"""Hundreds of calls in threads and tasks, in bad weather, against one tight budget: the bill stays below the limit."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loopback_answers import Writer
from loopback_provider import FALSE_USAGE, Fault, serving
from loopback_tills import MODELS, InMemory, Sqlite, Till, client
from pydantic import BaseModel

from langchain_runtime.adapters import failures
from langchain_runtime.contracts.errors import BudgetExceededError

LIMIT = "0.12"
THREADS, TASKS, CALLS_EACH = 6, 6, 24
TIMEOUT = 0.5
"""Seconds that a client waits for a provider that hangs."""

COMMON: list[Fault] = [400, 429, 500, 503, 504, 529, "reset", "lost", "cut", "cut late", "error event", "no usage"]
RARE: list[Fault] = ["hang", "stall", *FALSE_USAGE]


class Answer(BaseModel):
    """What is known."""

    text: str
    sure: bool


def bad_weather(chance: random.Random) -> Callable[[], Fault | None]:
    def fault() -> Fault | None:
        kind = chance.random()
        return chance.choice(RARE) if kind < 0.04 else chance.choice(COMMON) if kind < 0.35 else None

    return fault


def call(chance: random.Random, model: Any, prompt: str) -> None:
    match chance.randrange(6):
        case 0:
            model.batch([prompt, prompt], return_exceptions=True)
        case 1:
            list(model.stream(prompt))
        case 2:
            for _ in model.stream(prompt):
                if chance.random() < 0.3:
                    break  # a consumer that leaves
        case 3:
            list(model.bind_tools([Answer]).stream(prompt))
        case 4:
            model.with_structured_output(Answer, method="function_calling").invoke(prompt)
        case _:
            model.invoke(prompt)


async def acall(chance: random.Random, model: Any, prompt: str) -> None:
    match chance.randrange(5):
        case 0:
            await model.abatch([prompt, prompt], return_exceptions=True)
        case 1:
            async for _ in model.astream(prompt):
                pass
        case 2:
            async for _ in model.astream_events(prompt, version="v2"):
                if chance.random() < 0.1:
                    break
        case 3:
            async for _ in model.bind_tools([Answer]).astream(prompt):
                pass
        case _:
            await model.ainvoke(prompt)


def worker(seed: str, models: list[Any], prompt: str) -> None:
    chance = random.Random(seed)
    for _ in range(CALLS_EACH):
        try:
            call(chance, chance.choice(models), prompt)
        except Exception:  # faults and refusals, which the audit counts
            continue


async def aworker(seed: str, models: list[Any], prompt: str) -> None:
    chance = random.Random(seed)
    for _ in range(CALLS_EACH):
        patience = chance.choice([0.01, 0.05, TIMEOUT, TIMEOUT])  # cancelled at whatever point it has reached by then
        try:
            await asyncio.wait_for(acall(chance, chance.choice(models), prompt), patience)
        except Exception:
            continue


def drain(model: Any, prompt: str) -> BudgetExceededError:
    """Call until the budget refuses."""
    while True:
        try:
            model.invoke(prompt)
        except BudgetExceededError as refusal:
            return refusal


@pytest.mark.load
@pytest.mark.filterwarnings("ignore")  # of clients that are left in the middle of something
@pytest.mark.parametrize("on_exceed", ["cap", "raise", "wait"])
@pytest.mark.parametrize("books", ["memory", "sqlite"])
async def test_the_bill_of_a_storm_stays_below_the_limit(tmp_path, monkeypatch, on_exceed, books):
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)
    with serving(tmp_path / "provider.jsonl", writer=Writer(padding=1_500)) as provider:
        provider.weather = bad_weather(random.Random(on_exceed))
        provider.latency, provider.pace = 0.002, 0.0005
        ledger = Sqlite(tmp_path / "ledger.db") if books == "sqlite" else InMemory()
        till = Till(provider, LIMIT, ledger, on_exceed=on_exceed, wait_timeout=1, min_output_tokens=40)
        models = [till.guarded(client(provider, api, max_tokens=200, max_retries=1, timeout=TIMEOUT)) for api in MODELS]
        prompt = f"What of {till.topic}?"
        with ThreadPoolExecutor(THREADS) as threads:
            loop = asyncio.get_running_loop()
            await asyncio.gather(
                *(loop.run_in_executor(threads, worker, f"thread {n}", models, prompt) for n in range(THREADS)),
                *(aworker(f"task {n}", models, prompt) for n in range(TASKS)),
            )
        provider.weather = lambda: None
        patient = till.guarded(client(provider, "chat", max_tokens=200))
        refusal = await asyncio.to_thread(drain, patient, prompt)
        await till.settled()
    assert len(till.rows) <= len(ledger.admitted)
    assert ledger.refusals > 0
    assert {row["api"] for row in till.rows} == set(MODELS)
    assert till.spent + refusal.needed.nano > till.budget.limit.nano
    ledger.close()

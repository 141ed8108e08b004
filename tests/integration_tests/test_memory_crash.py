"""kill -9 of a body that has used the run's memory: it goes on with what it saw, counts once, and pays once."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
from crash_runs import CONFIG, RUN_ID, Books, Execution, Order, Served, Site, Stage, question
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from langchain_runtime.chat_models import with_budget
from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.budget import ReservationState
from langchain_runtime.contracts.money import Cost
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import SqliteLedger

pytestmark = pytest.mark.crash

TOPIC, LATER = "the moons of Neptune", "the rings of Saturn"
LEAST_STEPS = 7
"""Batches of the store at least: the run's history, the log's first reading, two reads and a write, each with its
record."""

UNRECORDED = 3
"""The first batches, after which nothing is on record of what the body has seen."""


# --- the process -----------------------------------------------------------------------------------------------------


def remember(stage: Stage, _: Mapping[str, Any], runtime: Any) -> list[Any]:
    """Reads memory, asks its model about it, and counts that in memory."""
    memory = runtime.memory
    topic = memory.get("topic")
    answer = with_budget(stage.model, None).invoke(f"{topic}: {question('remember')}").text
    stage.halt("answered")
    times = (memory.get("times") or 0) + 1
    memory.put("times", times)
    stage.halt("counted")
    return [topic, answer, times]


async def aremember(stage: Stage, _: Mapping[str, Any], runtime: Any) -> list[Any]:
    """Async twin of ``remember``."""
    memory = runtime.memory
    topic = await memory.aget("topic")
    answer = (await with_budget(stage.model, None).ainvoke(f"{topic}: {question('remember')}")).text
    await asyncio.to_thread(stage.halt, "answered")
    times = (await memory.aget("times") or 0) + 1
    await memory.aput("times", times)
    await asyncio.to_thread(stage.halt, "counted")
    return [topic, answer, times]


def carry_on(order: Order, report: Any) -> None:
    """Carry the run on, and report ``("ended", output)`` or ``("failed", traceback)``."""
    stage = Stage(order, report)
    try:
        output = invoke(order, stage) if order.sync else asyncio.run(ainvoke(order, stage))
        report.send(("ended", output["results"]["remember"].output))
    except BaseException:
        report.send(("failed", traceback.format_exc()))
        raise


def invoke(order: Order, stage: Stage) -> dict[str, Any]:
    with ExitStack() as stack:
        saver = stack.enter_context(SqliteSaver.from_conn_string(str(order.site.checkpoints)))
        store = stage.steps(stack.enter_context(opened(order.site)), "batch")
        graph = compiled(stage, remember, order, saver, store, stack)
        return graph.invoke(None if graph.get_state(CONFIG).created_at else {"inputs": {}}, CONFIG)


async def ainvoke(order: Order, stage: Stage) -> dict[str, Any]:
    saving = AsyncSqliteSaver.from_conn_string(str(order.site.checkpoints))
    async with saving as saver, aopened(order.site) as plain:
        with ExitStack() as stack:
            graph = compiled(stage, aremember, order, saver, stage.steps(plain, "abatch"), stack)
            begun = (await graph.aget_state(CONFIG)).created_at
            return await graph.ainvoke(None if begun else {"inputs": {}}, CONFIG)


def compiled(stage: Stage, body: Any, order: Order, saver: Any, store: Any, stack: ExitStack) -> Any:
    ledger = stack.enter_context(closing(SqliteLedger(order.site.ledger)))
    ledger.abandon(RUN_ID)  # whoever had the run before is dead
    graph = RunGraph(stage.policy(budget_limit=Cost.usd(1))).add_task("remember", partial(body, stage))
    return graph.compile(checkpointer=saver, ledger=ledger, store=store, mode=order.mode)


# --- seen from outside -----------------------------------------------------------------------------------------------


@contextmanager
def opened(site: Site):
    with SqliteStore.from_conn_string(str(site.folder / "store.db")) as store:
        store.setup()
        yield store


@asynccontextmanager
async def aopened(site: Site):
    async with AsyncSqliteStore.from_conn_string(str(site.folder / "store.db")) as store:
        await store.setup()
        yield store


def put(site: Site, **values: Any) -> None:
    with opened(site) as store:
        MemoryManager(store).put_many(RUN_ID, values)


def memory_of(site: Site) -> dict[str, Any]:
    with opened(site) as store:
        return MemoryManager(store).snapshot(RUN_ID)


def bought(site: Site) -> Counter[str]:
    return Books.of(site).count(ReservationState.SETTLED)


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("place", ["answered", "counted"])
def test_a_body_that_dies_after_its_call_buys_it_once_though_memory_has_changed(tmp_path, loopback, place, sync, mode):
    with loopback.serving(tmp_path / "provider.jsonl") as provider:
        order = Order(Site(tmp_path, provider.base_url), sync=sync, mode=mode)
        put(order.site, topic=TOPIC)
        with Execution(carry_on, replace(order, halts=frozenset({place}))) as first:
            assert first.wait_for("halted") == place
            first.kill()
        assert bought(order.site) == Served.by(provider).requests == {"remember": 1}
        put(order.site, topic=LATER)

        with Execution(carry_on, replace(order, number=1)) as second:
            topic, answer, times = second.wait_for("ended")
        assert bought(order.site) == Served.by(provider).requests == {"remember": 1}
        assert Books.of(order.site).spent == provider.bill
    assert (topic, times) == (TOPIC, 1)
    assert answer
    assert memory_of(order.site) == {"topic": LATER, "times": 1}


@pytest.mark.parametrize("sync", [False, True])
def test_a_body_that_dies_between_any_two_steps_of_its_store_counts_once_and_pays_once(tmp_path, loopback, sync):
    for step in count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with loopback.serving(folder / "provider.jsonl") as provider:
            order = Order(Site(folder, provider.base_url), sync=sync)
            put(order.site, topic=TOPIC)
            with Execution(carry_on, replace(order, halts=frozenset({f"step-{step}"}))) as first:
                kind, news = first.report()
                if kind == "ended":
                    break
                assert kind == "halted", news
                first.kill()
            put(order.site, topic=LATER)
            with Execution(carry_on, replace(order, number=1)) as second:
                topic, _, times = second.wait_for("ended")
            assert bought(order.site) == Served.by(provider).requests == {"remember": 1}
        assert times == 1
        assert memory_of(order.site) == {"topic": LATER, "times": 1}
        assert topic in {TOPIC, LATER}
        assert topic == TOPIC or step <= UNRECORDED, "what was recorded is what counts"
    assert step > LEAST_STEPS

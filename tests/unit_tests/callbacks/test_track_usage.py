"""track_usage: counts what is called in a block, without callbacks handed around."""

import asyncio
import contextvars
import threading

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tracers import context as tracers

from langchain_runtime.callbacks import UsageCallbackHandler, track_usage


def test_calls_in_the_block_are_counted_and_others_are_not(scripted, catalog):
    model = scripted()
    model.invoke("hello")
    with track_usage(catalog=catalog) as usage:
        model.invoke("hello")
        assert usage.calls == 1
    model.invoke("hello")
    assert (usage.calls, usage.total.cost.nano) == (1, 17_000)


async def test_whatever_langchain_runs_is_followed(scripted):
    chain = ChatPromptTemplate.from_template("{word}") | scripted()
    nested = RunnableParallel(a=chain, b=RunnableLambda(chain.invoke))
    with track_usage() as usage:
        nested.invoke({"word": "hello"})
        await nested.ainvoke({"word": "hello"})
        scripted().batch(["hello"] * 5)
        await scripted().abatch(["hello"] * 5)
        await asyncio.gather(*(asyncio.create_task(scripted().ainvoke("hello")) for _ in range(5)))
        list(scripted().stream("hello"))
        assert [chunk async for chunk in scripted().astream("hello")]
    assert (usage.calls, usage.unfinished) == (21, 0)


async def test_agents_are_followed(scripted):
    with track_usage() as usage:
        await create_agent(scripted(), []).ainvoke({"messages": [("user", "hello")]})
    assert (usage.calls, set(usage.by_task())) == (1, {"model"})


def test_nested_blocks_each_count(scripted):
    model = scripted()
    with track_usage() as outer:
        model.invoke("hello")
        with track_usage() as inner:
            model.invoke("hello")
            with track_usage() as innermost:
                model.batch(["hello"] * 3)
        model.invoke("hello")
    assert (outer.calls, inner.calls, innermost.calls) == (6, 4, 3)


def test_a_chain_from_outside_a_nested_block_is_counted_once_by_each(scripted):
    handler = UsageCallbackHandler()
    blocks = []

    def inside(word, config):
        with track_usage() as block:
            reply = scripted().invoke(word, config=config)
        blocks.append(block)
        return reply

    with track_usage() as outer:
        RunnableLambda(inside).invoke("hello", config={"callbacks": [handler]})
    assert (outer.calls, blocks[0].calls, handler.calls) == (1, 1, 1)


async def test_blocks_of_concurrent_tasks_do_not_see_each_other(scripted):
    begun = asyncio.Barrier(3)

    async def work(calls):
        with track_usage() as usage:
            await begun.wait()
            for _ in range(calls):
                await scripted().ainvoke("hello")
        return usage.calls

    assert await asyncio.gather(work(1), work(2), work(3)) == [1, 2, 3]


def test_the_block_ends_with_an_exception_and_keeps_its_figures(scripted):
    with pytest.raises(ConnectionResetError), track_usage() as usage:
        scripted(script=["one", ConnectionResetError()]).batch(["hello"] * 2, config={"max_concurrency": 1})
    scripted().invoke("hello")
    assert usage.calls == 2


def test_errors_and_text_completions_reach_the_block(scripted):
    with track_usage() as usage:
        with pytest.raises(ConnectionResetError):
            scripted(script=[ConnectionResetError()]).invoke("hello")
        FakeListLLM(responses=["ok"]).invoke("hello")
    assert (usage.calls, usage.unreported) == (2, 2)


def test_a_raw_thread_is_followed_through_its_context_only(scripted):
    with track_usage() as usage:
        alone = threading.Thread(target=scripted().invoke, args=("hello",))
        followed = threading.Thread(target=contextvars.copy_context().run, args=(scripted().invoke, "hello"))
        for thread in (alone, followed):
            thread.start()
            thread.join()
    assert usage.calls == 1


def test_langchain_is_told_once_however_many_blocks_there_are(scripted):
    with track_usage():
        registered = len(tracers._configure_hooks)
        for _ in range(50):
            with track_usage(), track_usage():
                scripted().invoke("hello")
    assert len(tracers._configure_hooks) == registered

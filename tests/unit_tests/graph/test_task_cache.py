"""Equal tasks do their work once: together, one after the other, in several loops, threads and processes."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.cache.sqlite import SqliteCache
from pydantic import BaseModel

from langchain_runtime.backends import as_body
from langchain_runtime.contracts.errors import TaskTimeoutError
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import EnqueuedTask, TaskError, TaskOutcome, TaskState
from langchain_runtime.contracts.task_spec import TaskSpec
from langchain_runtime.contracts.usage import TokenUsage, Usage
from langchain_runtime.graph.spec import TaskDefinition
from langchain_runtime.graph.task_cache import TaskCache
from langchain_runtime.testing import ScriptedChatModel

SPENT = Usage(tokens=TokenUsage(input=10, output=5), cost=Cost.usd("0.01"))
NAMESPACE = ("langchain_runtime", "tasks")


def job(task="t", **fields):
    return TaskJob(run_id="r", task_id=task, **fields)


def outcome(task="t", **fields):
    return TaskOutcome(**{"task": task, "state": TaskState.COMPLETED, "output": {"n": [1]}, "usage": SPENT, **fields})


def failed(task="t"):
    return outcome(task, state=TaskState.FAILED, output=None, error=TaskError(code="task_failed", message="boom"))


class Work:
    """Work that is held back until told, and counts how often it was done at all and at a time."""

    def __init__(self, *results):
        self.results = list(results) or [outcome()]
        self.begun = self.now = self.most = 0
        self.started, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self):
        self.begun, self.now = self.begun + 1, self.now + 1
        self.most = max(self.most, self.now)
        self.started.set()
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, BaseException):
            raise result
        return result


@pytest.fixture
def cache():
    return TaskCache(None, "graph")


async def in_line(cache, count, key="k"):
    """Wait until so many tasks wait for the leader."""
    while len(cache._under_way.get(key, ())) < count:
        await asyncio.sleep(0)


def start(cache, work, *tasks, **options):
    return [asyncio.create_task(cache.get_or_run("k", job(task, **options), work)) for task in tasks]


# --- together --------------------------------------------------------------------------------------------------------


async def test_tasks_that_are_equal_do_the_work_once_and_only_the_first_pays_for_it(cache):
    work = Work(outcome("a", outputs={"title": "T"}, model="m", metadata={"finish_reason": "stop"}))
    tasks = start(cache, work, "a", "b", "c")
    await in_line(cache, 2)
    work.go.set()
    (first, cached), *others = await asyncio.gather(*tasks)
    assert work.begun == 1
    assert (first, cached) == (work.results[0], False)
    for (taken, was_cached), task in zip(others, "bc", strict=True):
        assert was_cached
        assert (taken.task, taken.state, taken.attempts) == (task, TaskState.COMPLETED, 1)
        assert (taken.output, taken.outputs, taken.model) == (first.output, first.outputs, first.model)
        assert taken.usage == Usage()
        assert taken.metadata == {"finish_reason": "stop", "cached": True}
        assert taken.output is not first.output
    assert not cache._under_way


async def test_a_result_is_taken_by_whoever_comes_later(cache):
    work = Work()
    work.go.set()
    results = [await cache.get_or_run("k", job(), work) for _ in range(3)]
    assert [cached for _, cached in results] == [False, True, True]
    assert (await cache.get_or_run("other", job(), work))[1] is False
    assert work.begun == 2


async def test_what_a_tasks_own_earlier_attempts_used_stays_on_its_bill(cache):
    work = Work()
    work.go.set()
    await cache.get_or_run("k", job(), work)
    taken, _ = await cache.get_or_run("k", job(attempt=2, used=SPENT), work)
    assert (taken.usage, taken.attempts) == (SPENT, 2)


@pytest.mark.parametrize("end", [failed("a"), LookupError("no money")], ids=["failure", "error"])
async def test_when_the_leader_fails_one_of_the_others_leads_and_not_all_of_them(cache, end):
    work = Work(end, outcome("b"))
    leader, *others = start(cache, work, "a", "b", "c", "d")
    await in_line(cache, 3)
    work.go.set()
    ended, *rest = await asyncio.gather(leader, *others, return_exceptions=True)
    assert (ended == (end, False)) or ended is end
    assert (work.begun, work.most) == (2, 1)
    assert [cached for _, cached in rest] == [False, True, True]


async def test_when_all_fail_each_has_its_own_failure_and_nobody_waits_for_ever(cache):
    work = Work(failed())
    tasks = start(cache, work, *"abcd")
    await in_line(cache, 3)
    work.go.set()
    assert [result.state for result, _ in await asyncio.gather(*tasks)] == [TaskState.FAILED] * 4
    assert (work.begun, work.most) == (4, 1)
    assert not cache._under_way


async def test_cancelling_the_leader_cancels_nobody_else(cache):
    work = Work(outcome("b"))
    leader, *others = start(cache, work, "a", "b", "c")
    await in_line(cache, 2)
    leader.cancel()
    work.go.set()
    (_, led), (_, followed) = await asyncio.gather(*others)
    assert leader.cancelled()
    assert (led, followed) == (False, True)
    assert work.begun == 2


async def test_whoever_stops_waiting_takes_nothing_from_the_others(cache):
    work = Work()
    leader, leaves, stays = start(cache, work, "a", "b", "c")
    await in_line(cache, 2)
    leaves.cancel()
    await asyncio.wait({leaves})
    work.go.set()
    assert leaves.cancelled()
    assert [(await task)[1] for task in (leader, stays)] == [False, True]
    assert work.begun == 1


async def test_whoever_is_cancelled_at_the_moment_of_taking_the_lead_passes_it_on(cache):
    work = Work(failed(), outcome("c"))
    leader, next_one, last = start(cache, work, "a", "b", "c")
    await in_line(cache, 2)
    leader.add_done_callback(lambda _: next_one.cancel())
    work.go.set()
    assert (await last)[1] is False
    assert next_one.cancelled()
    assert work.begun == 2
    assert not cache._under_way


async def test_a_task_waits_for_an_equal_one_no_longer_than_its_own_time(cache):
    work = Work()
    [leader] = start(cache, work, "a")
    await work.started.wait()
    with pytest.raises(TaskTimeoutError, match="equal task") as caught:
        await cache.get_or_run("k", job("b", timeout_ms=1), work)
    assert caught.value.timeout_ms == 1
    work.go.set()
    await leader


@pytest.mark.parametrize(
    "fields",
    [{"metadata": {"lcr_capped": True}}, {"enqueued": [EnqueuedTask(id="more", prompt="Go on.")]}],
    ids=["cut for want of money", "adds tasks"],
)
async def test_what_belongs_to_one_task_only_is_not_shared(cache, fields):
    work = Work(outcome(**fields))
    tasks = start(cache, work, *"abc")
    await in_line(cache, 2)
    work.go.set()
    assert [cached for _, cached in await asyncio.gather(*tasks)] == [False] * 3
    assert (work.begun, work.most) == (3, 1)


# --- in several threads ----------------------------------------------------------------------------------------------


def in_threads(count, each):
    """Call ``each(number)`` in threads that start together, in a loop of its own each; returns what they returned."""
    barrier, results = threading.Barrier(count), [None] * count

    def work(number):
        barrier.wait()
        results[number] = asyncio.run(each(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("fails", [False, True])
def test_tasks_in_loops_and_threads_of_their_own_share_the_work(cache, fails):
    begun = []

    async def work():
        begun.append(threading.get_ident())
        while len(begun) == 1 and len(cache._under_way["k"]) < 7:
            await asyncio.sleep(0.001)
        return failed() if fails else outcome()

    results = in_threads(8, lambda number: cache.get_or_run("k", job(f"t{number}"), work))
    assert len(begun) == (8 if fails else 1)
    assert sorted(cached for _, cached in results) == ([False] * 8 if fails else [False] + [True] * 7)
    assert [result.task for result, cached in results if cached] == [
        f"t{number}" for number, (_, cached) in enumerate(results) if cached
    ]


def test_whatever_tasks_do_to_one_another_nobody_is_left_waiting_and_one_works_at_a_time(cache):
    at_work, most, lock = [0], [0], threading.Lock()

    def enter(step):
        with lock:
            at_work[0] += step
            most[0] = max(most[0], at_work[0])

    async def each(number):
        dice = random.Random(number)

        async def work():
            enter(1)
            try:
                await asyncio.sleep(dice.random() / 500)
            finally:
                enter(-1)
            if dice.random() < 0.3:
                raise LookupError("no luck")
            return failed() if dice.random() < 0.5 else outcome(metadata={"lcr_capped": True})

        async def one():
            await cache.get_or_run("k", job(), work)

        tasks = [asyncio.create_task(one()) for _ in range(20)]
        for _ in tasks:
            await asyncio.sleep(dice.random() / 1000)
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    for results in in_threads(4, each):
        assert len(results) == 20
    assert most == [1]
    assert not cache._under_way


# --- what is kept ----------------------------------------------------------------------------------------------------


async def done(cache, **options):
    work = Work()
    work.go.set()
    return (await cache.get_or_run("k", job(), work, **options))[1]


async def test_two_graphs_share_what_is_kept_in_a_file(tmp_path):
    path = str(tmp_path / "cache.db")
    assert not await done(TaskCache(SqliteCache(path=path), "graph"))
    assert await done(TaskCache(SqliteCache(path=path), "graph"))


OTHER_PROCESS = """
import asyncio, sys
from langgraph.cache.sqlite import SqliteCache
from langchain_runtime.contracts.job import TaskJob
from langchain_runtime.graph.task_cache import TaskCache

async def work():
    raise AssertionError("the work is done again")

cache = TaskCache(SqliteCache(path=sys.argv[1]), "graph")
outcome, cached = asyncio.run(cache.get_or_run("k", TaskJob(run_id="other", task_id="t"), work))
assert cached
assert outcome.output == {"n": [1]}
"""


async def test_two_processes_share_what_is_kept_in_a_file(tmp_path):
    path = str(tmp_path / "cache.db")
    assert not await done(TaskCache(SqliteCache(path=path), "graph"))
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, path], check=True)


async def test_a_result_older_than_the_task_allows_is_not_taken():
    time = [datetime(2026, 1, 1, tzinfo=UTC)]
    cache = TaskCache(None, "graph", clock=lambda: time[0])
    assert not await done(cache)
    time[0] += timedelta(seconds=59)
    assert await done(cache, ttl_seconds=60)
    time[0] += timedelta(seconds=1)
    assert not await done(cache, ttl_seconds=60)
    assert await done(cache)


async def test_a_task_that_waits_takes_no_result_that_is_too_old_for_it_either():
    time, held = [datetime(2026, 1, 1, tzinfo=UTC)], asyncio.Event()

    class Slow(InMemoryCache):
        async def aget(self, keys):
            await held.wait()
            return self.get(keys)

    held.set()
    cache = TaskCache(Slow(), "graph", clock=lambda: time[0])
    assert not await done(cache)
    held.clear()
    time[0] += timedelta(seconds=60)
    takes_any = asyncio.create_task(done(cache))
    await asyncio.sleep(0)
    takes_fresh = asyncio.create_task(done(cache, ttl_seconds=60))
    await in_line(cache, 1)
    held.set()
    assert (await takes_any, await takes_fresh) == (True, False)


async def test_the_cache_is_told_how_long_to_keep_a_result():
    kept = {}

    class Watched(InMemoryCache):
        async def aset(self, pairs):
            kept.update({key: ttl for (_, key), (_, ttl) in pairs.items()})

    assert not await done(TaskCache(Watched(), "graph"), ttl_seconds=60)
    assert kept == {"k": 60}


@pytest.mark.parametrize(
    "value",
    [
        "no JSON",
        "[]",
        '{"version": 2, "at": "2026-01-01T00:00:00+00:00", "result": {}}',
        '{"version": 1, "result": {}}',
        '{"version": 1, "at": "yesterday", "result": {}}',
        '{"version": 1, "at": "2026-01-01T00:00:00+00:00", "result": {"output": 1, "usage": "none"}}',
        {"version": 1},
        None,
        7,
    ],
    ids=str,
)
async def test_a_damaged_entry_counts_as_missing_and_is_replaced(value):
    store = InMemoryCache()
    store.set({(NAMESPACE, "k"): (value, None)})
    cache = TaskCache(store, "graph")
    assert not await done(cache)
    assert await done(cache)


async def test_damaged_bytes_in_a_file_count_as_missing(tmp_path):
    path = str(tmp_path / "cache.db")
    cache = TaskCache(SqliteCache(path=path), "graph")
    assert not await done(cache)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE cache SET val = ?", (b"\xc1\xff",))
    file.close()
    assert not await done(cache)
    assert await done(cache)


async def test_a_cache_out_of_order_costs_the_work_but_no_task(caplog):
    class Broken(InMemoryCache):
        async def aget(self, keys):
            raise ConnectionError("gone")

        async def aset(self, pairs):
            raise ConnectionError("gone")

    cache = TaskCache(Broken(), "graph")
    assert [await done(cache), await done(cache)] == [False, False]
    assert "not kept" in caplog.text


# --- which tasks are equal -------------------------------------------------------------------------------------------


class Order(BaseModel):
    cups: int


class Bill(BaseModel):
    cups: int
    price: int


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


def brew(inputs):
    return inputs


def prompt_key(text="Hi", *, cap=None, task="t", chat=None, fingerprint="graph", ids=None, **definition):
    chat = chat or ScriptedChatModel()
    order = job(task, messages=[HumanMessage(text, id=ids)], model="scripted:scripted-1", max_output_tokens=cap)
    defined = TaskDefinition(TaskSpec(id=task, prompt=text), model="scripted:scripted-1", **definition)
    return TaskCache(None, fingerprint).key_of(defined, order, chat)


def body_key(body=brew, *, task="t", fingerprint="graph", **inputs):
    defined = TaskDefinition(TaskSpec(id=task), body=as_body(body))
    return TaskCache(None, fingerprint).key_of(defined, job(task, inputs=inputs), None)


def test_prompts_are_equal_by_what_the_model_is_asked_wherever_they_stand():
    same = {
        prompt_key(),
        prompt_key(task="other"),
        prompt_key(fingerprint="other"),
        prompt_key(ids="made-up"),
        prompt_key(chat=ScriptedChatModel(script=["the script is no setting"])),
    }
    assert len(same) == 1
    different = {
        prompt_key(),
        prompt_key("Ho"),
        prompt_key(cap=100),
        prompt_key(response_format=Order),
        prompt_key(response_format=Bill),
        prompt_key(response_format={"title": "Order", "type": "object"}),
        prompt_key(tools=(weather,)),
        prompt_key(chat=ScriptedChatModel(temperature=0.5)),
        prompt_key(chat=ScriptedChatModel(model="scripted-2")),
        prompt_key(chat=ScriptedChatModel(provider="other")),
    }
    assert len(different) == 10


def test_bodies_are_equal_by_task_inputs_and_name_within_a_graph():
    class Callable:
        def __call__(self, inputs):
            return inputs

    assert body_key(a=1, b="ü\ud800") == body_key(b="ü\ud800", a=1)
    different = {
        body_key(a=1),
        body_key(a="1"),
        body_key(task="other", a=1),
        body_key(fingerprint="other", a=1),
        body_key(as_body, a=1),
        body_key(RunnableLambda(brew), a=1),
        body_key(Callable(), a=1),
    }
    assert len(different) == 7


def test_a_task_with_the_body_of_another_is_that_task_again():
    bodies = {"map": as_body(brew), "other": as_body(brew)}
    cache = TaskCache(None, "graph", bodies)

    def key(task, body):
        return cache.key_of(TaskDefinition(TaskSpec(id=task), body=bodies[body]), job(task, inputs={"item": 1}), None)

    assert len({key("map", "map"), key("map#0", "map"), key("map#17", "map"), key("like_map", "map")}) == 1
    assert key("like_it", "map") != key("like_it", "other")


def test_a_body_of_another_kind_goes_by_its_class():
    class Own:
        async def __call__(self, job, runtime, occupancy):
            raise NotImplementedError

    defined = TaskDefinition(TaskSpec(id="t"), body=Own())
    cache = TaskCache(None, "graph")
    assert cache.key_of(defined, job(), None) == cache.key_of(defined, job("t"), None) != body_key()


def test_keys_are_the_same_in_every_process():
    code = (
        "from langchain_core.messages import HumanMessage\n"
        "from langchain_runtime.contracts.job import TaskJob\n"
        "from langchain_runtime.contracts.task_spec import TaskSpec\n"
        "from langchain_runtime.graph.spec import TaskDefinition\n"
        "from langchain_runtime.graph.task_cache import TaskCache\n"
        "from langchain_runtime.testing import ScriptedChatModel\n"
        "job = TaskJob(run_id='r', task_id='t', messages=[HumanMessage('Hi')], model='scripted:scripted-1')\n"
        "definition = TaskDefinition(TaskSpec(id='t', prompt='Hi'), model='scripted:scripted-1')\n"
        "print(TaskCache(None, 'graph').key_of(definition, job, ScriptedChatModel()))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == prompt_key()

"""The run's memory in bodies: live when it is read, and the same when a body is executed again."""

import asyncio
import threading

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import task as langgraph_task
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore
from langgraph.types import Command, interrupt

from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts.errors import InvalidInputError, RunFailedError
from langchain_runtime.contracts.run import RetrySpec, RunPolicy
from langchain_runtime.graph import RunGraph
from langchain_runtime.ledgers import InMemoryLedger

CONFIG = {"configurable": {"thread_id": "r", "run_id": "r"}}
AGAIN = {"configurable": {"thread_id": "r", "run_id": "r", "continue_run": True}}


def of_memory(ops):
    """1 if it is about anything but what earlier runs took."""
    return any("history" not in (getattr(op, "namespace", None) or op.namespace_prefix)[0] for op in ops)


class Counting(InMemoryStore):
    """Counts what it is asked about memory."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def batch(self, ops):
        """As ever."""
        self.asked += of_memory(ops := list(ops))
        return super().batch(ops)

    async def abatch(self, ops):
        """As ever."""
        self.asked += of_memory(ops := list(ops))
        return await super().abatch(ops)


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def memory(store):
    return MemoryManager(store)


def compiled(body, store, *, attempts=1, **options):
    retry = RetrySpec(max_attempts=attempts, initial_interval_ms=0)
    graph = RunGraph(RunPolicy(retry=retry)).add_task("t", body)
    return graph.compile(store=store, ledger=options.pop("ledger", None) or InMemoryLedger(), **options)


def count(memory):
    """A counter in memory goes up by one."""
    value = (memory.get("n") or 0) + 1
    memory.put("n", value)
    return value


class Dies:
    """A run that is broken off in its body after the body has used memory, and then goes on."""

    def __init__(self, store, use, **options):
        self._use, self._dead = use, False
        self._store, self._ledger, self._options = store, InMemoryLedger(), options

    async def until_dead(self):
        """The first execution."""
        reached, loop = asyncio.Event(), asyncio.get_running_loop()

        async def body(inputs, runtime):
            await asyncio.to_thread(self._use, runtime.memory)
            loop.call_soon_threadsafe(reached.set)
            await asyncio.Event().wait()

        running = asyncio.create_task(self._graph(body).ainvoke({"inputs": {}}, CONFIG))
        await asyncio.wait({running, asyncio.create_task(reached.wait())}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert reached.is_set()

    async def go_on(self):
        """What the body makes of memory when it is executed again."""

        def body(inputs, runtime):
            return self._use(runtime.memory)

        return (await self._graph(body).ainvoke({"inputs": {}}, AGAIN))["results"]["t"].output

    def _graph(self, body):
        return compiled(body, self._store, ledger=self._ledger, **self._options)


# --- executed again --------------------------------------------------------------------------------------------------


async def test_a_body_whose_process_died_reads_what_it_read_and_counts_once(store, memory):
    def use(own):
        return [own.get("topic"), count(own), count(own)]

    memory.put("r", "topic", "moons")
    run = Dies(store, use)
    await run.until_dead()
    memory.put("r", "topic", "rings")
    memory.put("r", "n", 10)
    assert await run.go_on() == ["moons", 1, 2]
    assert memory.get("r", "n") == 10


async def test_what_had_not_been_done_yet_is_done_live(store, memory):
    keys = ["a"]
    run = Dies(store, lambda own: [own.get(key) for key in keys])
    await run.until_dead()
    keys.append("b")
    memory.put("r", "a", 1)
    memory.put("r", "b", 2)
    assert await run.go_on() == [None, 2]


async def test_a_key_that_was_missing_is_missing_again(store, memory):
    run = Dies(store, lambda own: own.get("k"))
    await run.until_dead()
    memory.put("r", "k", "since")
    assert await run.go_on() is None


async def test_deletions_searches_and_namespaces_are_recorded_like_the_rest(store, memory):
    def use(own):
        found = [list(match) for match in own.search(limit=5, namespace="notes")]
        own.delete("x", namespace="notes")
        return [found, own.get("x", namespace="notes"), own.get("x")]

    memory.put("r", "x", "theirs")
    memory.put("r", "x", "noted", namespace="notes")
    run = Dies(store, use)
    await run.until_dead()
    assert memory.get("r", "x", namespace="notes") is None
    memory.put("r", "x", "since", namespace="notes")
    memory.put("r", "x", "since")
    assert await run.go_on() == [[["x", "noted", None]], None, "theirs"]
    assert memory.get("r", "x", namespace="notes") == "since"


async def test_the_twins_find_each_others_records_on_a_store_on_disk(tmp_path):
    executions = []

    async def body(inputs, runtime):
        own = runtime.memory
        executions.append(await own.aget("topic"))
        found = await asyncio.to_thread(count, own)
        await own.adelete("topic")
        answer = interrupt("go on?")
        return [executions[-1], found, await own.aget("topic"), len(await own.asearch()), answer]

    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        memory = MemoryManager(store)
        await memory.aput("r", "topic", "moons")
        graph = compiled(body, store, checkpointer=InMemorySaver())
        await graph.ainvoke({"inputs": {}}, CONFIG)
        await memory.aput("r", "topic", "rings")
        output = await graph.ainvoke(Command(resume="yes"), CONFIG)
        assert output["results"]["t"].output == ["moons", 1, "rings", 2, "yes"]
        assert executions == ["moons", "moons"]
        assert await memory.aget("r", "n") == 1


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
def test_a_body_that_asks_a_human_counts_once_even_in_its_second_attempt(mode, store, memory):
    """The numbers of attempts begin anew when the answer comes, so they do not tell what goes on."""
    tries = []

    def body(inputs, runtime):
        tries.append(runtime.memory.get("topic"))
        value = count(runtime.memory)
        if len(tries) == 1:
            memory.put("r", "topic", "second")
            raise OSError("the first attempt fails")
        return [value, tries[-1], interrupt("go on?")]

    memory.put("r", "topic", "first")
    graph = compiled(body, store, attempts=2, checkpointer=InMemorySaver(), mode=mode)
    assert graph.invoke({"inputs": {}}, CONFIG)["__interrupt__"]
    memory.put("r", "topic", "third")
    output = graph.invoke(Command(resume="yes"), CONFIG)
    assert output["results"]["t"].output == [2, "second", "yes"]
    assert tries == ["first", "second", "second"]
    assert memory.get("r", "n") == 2


# --- anew ------------------------------------------------------------------------------------------------------------


def test_a_retry_reads_anew(store, memory):
    seen = []

    def body(inputs, runtime):
        seen.append(runtime.memory.get("k"))
        memory.put("r", "k", len(seen))
        if len(seen) < 3:
            raise OSError("again")
        return seen[-1]

    assert compiled(body, store, attempts=3).invoke({"inputs": {}}, CONFIG)["results"]["t"].output == 2
    assert seen == [None, 1, 2]


def test_a_failed_run_that_is_taken_up_again_sees_what_was_put_right(store, memory):
    def body(inputs, runtime):
        return 10 / runtime.memory.get("divisor")

    memory.put("r", "divisor", 0)
    graph = compiled(body, store, checkpointer=InMemorySaver())
    with pytest.raises(RunFailedError, match="division by zero"):
        graph.invoke({"inputs": {}}, CONFIG)
    memory.put("r", "divisor", 5)
    assert graph.invoke(None, CONFIG)["results"]["t"].output == 2


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_a_task_that_is_run_again_by_hand_begins_anew(twin, store, memory):
    def body(inputs, runtime):
        return [runtime.memory.get("k"), count(runtime.memory)]

    graph = compiled(body, store, checkpointer=InMemorySaver())
    memory.put("r", "k", "before")
    assert graph.invoke({"inputs": {}}, CONFIG)["results"]["t"].output == ["before", 1]
    memory.put("r", "k", "after")
    config = graph.rerun_from(CONFIG, "t") if twin == "sync" else asyncio.run(graph.arerun_from(CONFIG, "t"))
    assert graph.invoke(None, config)["results"]["t"].output == ["after", 2]


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_a_task_that_waits_for_an_answer_forgets_what_it_saw_when_it_is_run_again_by_hand(twin, store, memory):
    def body(inputs, runtime):
        topic = runtime.memory.get("topic")
        return interrupt("go on?") if topic == "before" else [topic, count(runtime.memory)]

    graph = compiled(body, store, checkpointer=InMemorySaver())
    memory.put("r", "topic", "before")
    assert graph.invoke({"inputs": {}}, CONFIG)["__interrupt__"]
    memory.put("r", "topic", "after")
    config = graph.rerun_from(CONFIG, "t") if twin == "sync" else asyncio.run(graph.arerun_from(CONFIG, "t"))
    assert graph.invoke(None, config)["results"]["t"].output == ["after", 1]


def test_going_back_in_time_begins_anew(store, memory):
    def body(inputs, runtime):
        return runtime.memory.get("k")

    graph = compiled(body, store, checkpointer=InMemorySaver())
    memory.put("r", "k", "before")
    graph.invoke({"inputs": {}}, CONFIG)
    memory.put("r", "k", "after")
    past = [each for each in graph.get_state_history(CONFIG) if "t" in each.next or "driver" in each.next]
    assert graph.invoke(None, past[-1].config)["results"]["t"].output == "after"


# --- beside one another ----------------------------------------------------------------------------------------------


def test_a_body_that_was_let_go_cannot_use_memory_any_more(store, memory):
    let_go, tries, refusals = threading.Event(), [], []

    def body(inputs, runtime):
        tries.append(runtime)
        value = runtime.memory.get("k")
        if len(tries) == 1:
            let_go.wait(timeout=60)
            for use in (count, lambda own: own.get("k"), lambda own: own.delete("k")):
                try:
                    use(runtime.memory)
                except InvalidInputError as error:
                    refusals.append(str(error))
            memory.put("r", "k", "since")
        return value

    retry = RetrySpec(max_attempts=2, initial_interval_ms=0)
    graph = RunGraph(RunPolicy(retry=retry)).add_task("t", body, timeout_ms=50)
    events = graph.compile(store=store, ledger=InMemoryLedger()).stream({"inputs": {}}, CONFIG, stream_mode="custom")
    for event in events:
        if event["kind"] == "task_retried":
            let_go.set()
    assert let_go.is_set()
    assert refusals == ["the run's memory is out of reach for a body that has ended"] * 3
    assert memory.snapshot("r") == {"k": "since"}


async def test_threads_of_a_body_share_its_records(store, memory):
    def use(own):
        barrier = threading.Barrier(8)

        def work(number):
            barrier.wait(timeout=60)
            own.put(f"k{number}", own.get("seed"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [own.get(f"k{number}") for number in range(8)]

    memory.put("r", "seed", "first")
    run = Dies(store, use)
    await run.until_dead()
    memory.put("r", "seed", "second")
    assert await run.go_on() == ["first"] * 8
    assert set(memory.snapshot("r").values()) == {"first", "second"}


def test_tasks_have_records_of_their_own(store, memory):
    graph = RunGraph().add_task("a", lambda inputs, runtime: count(runtime.memory))
    graph.add_task("b", lambda inputs, runtime: count(runtime.memory), deps=["a"])
    output = graph.compile(store=store, ledger=InMemoryLedger()).invoke({"inputs": {}}, CONFIG)
    assert [output["results"][task].output for task in "ab"] == [1, 2]


def test_bodies_that_leave_memory_alone_ask_nothing_of_the_store():
    def fails_once(inputs, runtime, tries=[]):  # noqa: B006 - counts across calls
        tries.append(runtime.attempt)
        return 10 / (len(tries) - 1)

    store = Counting()
    compiled(fails_once, store, attempts=2).invoke({"inputs": {}}, CONFIG)
    assert store.asked == 0


def test_a_body_that_turns_out_to_call_langgraph_tasks_counts_once(store, memory):
    @langgraph_task
    def double(number):
        return 2 * number

    executed = []

    def body(inputs, runtime):
        executed.append(1)
        return [count(runtime.memory), double(21).result()]

    output = compiled(body, store, checkpointer=InMemorySaver()).invoke({"inputs": {}}, CONFIG)
    assert (output["results"]["t"].output, memory.get("r", "n"), len(executed)) == ([1, 42], 1, 2)


async def test_an_aborted_run_that_goes_on_counts_once(store, memory):
    counted, executed = asyncio.Event(), []

    async def body(inputs, runtime):
        executed.append(1)
        value = (await runtime.memory.aget("n") or 0) + 1
        await runtime.memory.aput("n", value)
        if len(executed) == 1:
            counted.set()
            await asyncio.Event().wait()
        return value

    graph = compiled(body, store, checkpointer=InMemorySaver())
    running = asyncio.create_task(graph.ainvoke({"inputs": {}}, CONFIG))
    await counted.wait()
    graph.abort("r")
    await asyncio.gather(running, return_exceptions=True)
    output = await graph.ainvoke(None, CONFIG)
    assert (output["results"]["t"].output, memory.get("r", "n"), len(executed)) == (1, 1, 2)

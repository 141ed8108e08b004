"""The log of what tasks saw of their run's memory and did to it."""

import pytest
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from langchain_runtime.context.memory_log import MemoryLog
from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.contracts.plans import Step, carry_out


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def log(store):
    return MemoryLog(store)


def done(body, *operation, gives=None):
    """What an operation gives: what it gave before, or else this, which is recorded."""

    def plan():
        place = yield from body.find(*operation)
        if place.is_recorded:
            return place.value
        yield Step(body.store, "batch", ([body.entry(place, gives)],))
        return gives

    return carry_out(plan())


# --- what prompts showed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sync sqlite"])
async def test_a_view_is_recorded_by_task_and_attempt_in_its_order(kind, tmp_path):
    async def check(log):
        shown = {"z": {"b": [1, None], "a": 2**70}, "a": "half a pair \ud83d", "": 0}
        await log.asnapshot("r.1", "t.1", 1, {"old": 1})
        await log.asnapshot("r.1", "t.1", 1, shown)
        await log.asnapshot("r.1", "t.1", 2, {})
        assert await log.arecorded("r.1", "t.1", 1) == shown
        assert list(await log.arecorded("r.1", "t.1", 1)) == ["z", "a", ""]
        assert await log.arecorded("r.1", "t.1", 2) == {}
        for run_id, task_id, attempt in [("r.1", "t.1", 3), ("r.1", "t", 1), ("r", "t.1", 1)]:
            assert await log.arecorded(run_id, task_id, attempt) == {}

    path = str(tmp_path / "store.db")
    if kind == "memory":
        await check(MemoryLog(InMemoryStore()))
    elif kind == "sqlite":
        async with AsyncSqliteStore.from_conn_string(path) as store:
            await store.setup()
            await check(MemoryLog(store))
    else:
        with SqliteStore.from_conn_string(path) as store:
            store.setup()
            await check(MemoryLog(store))


# --- what bodies did -------------------------------------------------------------------------------------------------


def test_each_occurrence_of_an_operation_has_a_record_of_its_own(log):
    first = log.of_body("r", "t")
    assert [done(first, "get", "k", gives=value) for value in (1, None, 3)] == [1, None, 3]
    assert done(first, "get", "other", gives=4) == 4
    again = log.of_body("r", "t")
    assert done(again, "get", "other", gives="since") == 4
    assert [done(again, "get", "k", gives="since") for _ in range(4)] == [1, None, 3, "since"]


def test_operations_that_differ_in_one_fact_are_not_the_same(log):
    first = log.of_body("r", "t")
    facts = [("get", None, "k"), ("get", "n", "k"), ("get", None, "K"), ("put", None, "k"), ("get", "k", None)]
    for number, operation in enumerate(facts):
        done(first, *operation, gives=number)
    again = log.of_body("r", "t")
    assert [done(again, *operation, gives="since") for operation in reversed(facts)] == [4, 3, 2, 1, 0]


def test_an_attempt_that_has_ended_leaves_no_records(log, store):
    for value in (1, 2, 3):
        body = log.of_body("r", "t")
        assert done(body, "get", "k", gives=value) == value
        body.close()
        carry_out(body.end())
    items = store.search(("lcr", "r", "memory-log"), limit=100)
    assert {item.key for item in items} == {"ended"}


def test_what_a_thread_was_recording_when_its_attempt_ended_is_found_by_nobody(log):
    body = log.of_body("r", "t")
    done(body, "get", "a", gives=1)

    def late():
        place = yield from body.find("get", "k")
        body.close()
        yield from body.end()
        yield Step(body.store, "batch", ([body.entry(place, "stale")],))

    carry_out(late())
    again = log.of_body("r", "t")
    assert [done(again, "get", "k", gives=2), done(again, "get", "a", gives=3)] == [2, 3]
    assert done(log.of_body("r", "t"), "get", "k", gives="since") == 2


def test_a_closed_log_lets_nothing_in(log):
    body = log.of_body("r", "t")
    body.close()
    with pytest.raises(InvalidInputError, match="has ended"):
        done(body, "get", "k")


def test_a_body_without_operations_leaves_nothing(log, store):
    body = log.of_body("r", "t")
    body.close()
    carry_out(body.end())
    assert store.list_namespaces() == []


# --- forgetting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["sync", "async"])
async def test_forgetting_drops_all_of_some_tasks_and_nothing_of_others(twin, log, store):
    for task_id in ("a", "a.b", "a.b.c", "ab"):
        await log.asnapshot("r", task_id, 1, {"seen": task_id})
        done(log.of_body("r", task_id), "get", "k", gives=task_id)
        done(log.of_body("other", task_id), "get", "k", gives=task_id)
    if twin == "sync":
        log.forget("r", ["a", "a.b", "unknown"])
    else:
        await log.aforget("r", ["a", "a.b", "unknown"])
    for task_id, is_known in [("a", False), ("a.b", False), ("a.b.c", True), ("ab", True)]:
        assert await log.arecorded("r", task_id, 1) == ({"seen": task_id} if is_known else {})
        assert done(log.of_body("r", task_id), "get", "k", gives="anew") == (task_id if is_known else "anew")
        assert done(log.of_body("other", task_id), "get", "k", gives="anew") == task_id


def test_a_task_with_more_records_than_a_page_is_read_and_forgotten_whole(log, store, monkeypatch):
    monkeypatch.setattr("langchain_runtime.context.store_access._PAGE", 4)
    first = log.of_body("r", "t")
    for number in range(33):
        done(first, "get", str(number), gives=number)
    again = log.of_body("r", "t")
    assert [done(again, "get", str(number), gives="since") for number in range(33)] == list(range(33))
    log.forget("r", ["t"])
    assert store.search(("lcr", "r"), limit=100) == []


def test_many_operations_are_dropped_in_batches_that_a_database_takes():
    class Narrow(InMemoryStore):
        def batch(self, ops):
            operations = list(ops)
            assert len(operations) <= 1_000
            return super().batch(operations)

    store = Narrow()
    for end in (True, False):
        log = MemoryLog(store).of_body("r", "t")
        for number in range(2_500):
            store.batch([log.entry(carry_out(log.find("get", str(number))), number)])
        if end:
            carry_out(log.end())
        else:
            MemoryLog(store).forget("r", ["t"])
    assert store.search(("lcr", "r"), limit=10) == []

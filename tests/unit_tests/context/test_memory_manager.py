"""A run's memory (rows P of the reference scenarios), on the stores people have."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from langchain_runtime.context import MemoryManager
from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import InvalidInputError


@pytest.fixture(params=["default", "memory", "sqlite"])
def memory(request, tmp_path):
    if request.param == "sqlite":
        with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
            store.setup()
            yield MemoryManager(store)
    else:
        yield MemoryManager(InMemoryStore() if request.param == "memory" else None)


def test_the_manager_is_a_memory_manager(memory):
    assert isinstance(memory, protocols.MemoryManager)


@pytest.mark.parametrize("value", ["text", "", 0, 1.5, True, None, [1, [2]], {"a": {"b": "日本"}}], ids=repr)
def test_any_json_value_is_kept_P1_P4(memory, value):
    memory.put("r", "k", value)
    assert memory.get("r", "k") == value
    assert memory.snapshot("r") == {"k": value}


def test_a_missing_key_gives_none_P2(memory):
    assert memory.get("r", "k") is None
    assert memory.snapshot("r") == {}


def test_the_empty_key_is_legal_P3_P4(memory):
    memory.put("r", "", "value")
    assert memory.get("r", "") == "value"


def test_the_latest_value_counts_P6(memory):
    for value in ("one", "two", "three"):
        memory.put("r", "k", value)
    assert memory.get("r", "k") == "three"


def test_a_snapshot_has_every_key_in_the_order_of_first_writing(memory):
    keys = [f"key {number * 7 % 25}" for number in range(25)]  # more than the 10 that a store finds by default
    for key in keys:
        memory.put("r", key, "first")
    memory.put("r", keys[3], "again")
    assert list(memory.snapshot("r")) == keys


def test_runs_do_not_see_one_another(memory):
    for run_id in ("a", "a.b", "a_b", "axb", "A"):
        memory.put(run_id, "k", run_id)
    for run_id in ("a", "a.b", "a_b", "axb", "A"):
        assert memory.snapshot(run_id) == {"k": run_id}


def test_changing_a_value_in_hand_does_not_change_the_memory(memory):
    value = {"deep": [1]}
    memory.put("r", "k", value)
    value["deep"].append(2)
    memory.get("r", "k")["deep"].append(3)
    memory.snapshot("r")["k"]["deep"].append(4)
    assert memory.get("r", "k") == {"deep": [1]}


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"bytes"], ids=["object", "set", "nan", "bytes"])
def test_what_json_cannot_carry_is_refused(memory, value):
    with pytest.raises(InvalidInputError, match="memory key 'k' is not JSON"):
        memory.put("r", "k", value)
    assert memory.snapshot("r") == {}


def test_a_hundred_threads_write_fifty_keys_each_while_others_read_P7():
    memory, start = MemoryManager(), Barrier(100)

    def work(worker):
        start.wait(timeout=60)
        for number in range(50):
            memory.put("r", f"{worker}/{number}", number)
        return len(memory.snapshot("r"))

    with ThreadPoolExecutor(100) as pool:
        seen = list(pool.map(work, range(100)))
    assert all(50 <= count <= 5000 for count in seen)
    assert {key: memory.get("r", key) for key in memory.snapshot("r")} == {
        f"{worker}/{number}": number for worker in range(100) for number in range(50)
    }


def test_a_snapshot_is_whole_however_many_keys_there_are(monkeypatch):
    monkeypatch.setattr("langchain_runtime.context.store_access._PAGE", 4)
    memory = MemoryManager()
    for number in range(33):
        memory.put("r", str(number), number)
    assert list(memory.snapshot("r")) == [str(number) for number in range(33)]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_async_twins_do_the_same_P7(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_runtime.context.store_access._PAGE", 4)
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as sqlite:
        await sqlite.setup()
        memory = MemoryManager(sqlite if kind == "sqlite" else None)
        for number in range(13):
            await memory.aput("r", str(number), {"n": number})
        await memory.aput("r", "5", None)
        snapshot = await memory.asnapshot("r")
        assert list(snapshot) == [str(number) for number in range(13)]
        assert (await memory.aget("r", "5"), await memory.aget("r", "6"), await memory.aget("r", "x")) == (
            None,
            {"n": 6},
            None,
        )
        with pytest.raises(InvalidInputError):
            await memory.aput("r", "k", object())
        await asyncio.gather(*(memory.aput("wide", str(number), number) for number in range(20)))
        assert len(await memory.asnapshot("wide")) == 20


def test_threads_and_tasks_may_share_the_default_store():
    memory = MemoryManager()

    async def reader():
        return [len(await memory.asnapshot("r")) for _ in range(200)]

    def writer():
        for number in range(2000):
            memory.put("r", str(number), number)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer)
        counts = asyncio.run(reader())
        writing.result()
    assert counts == sorted(counts)


def test_order_goes_on_in_another_manager_of_the_same_store():
    store = InMemoryStore()
    for number in range(5):
        MemoryManager(store).put("r", str(9 - number), number)
    assert list(MemoryManager(store).snapshot("r")) == ["9", "8", "7", "6", "5"]


# --- deleting, many at once, namespaces ------------------------------------------------------------------------------


def test_a_deleted_key_is_missing_and_comes_last_when_it_comes_back(memory):
    memory.put_many("r", {"a": 1, "b": 2, "c": 3})
    memory.delete("r", "a")
    memory.delete("r", "never there")
    assert memory.get("r", "a") is None
    assert memory.snapshot("r") == {"b": 2, "c": 3}
    memory.put("r", "a", 4)
    assert list(memory.snapshot("r")) == ["b", "c", "a"]


def test_many_values_are_put_at_once_in_their_order(memory):
    memory.put("r", "7", "before")
    values = {str(number * 7 % 2_503): number for number in range(2_503)}
    memory.put_many("r", values)
    snapshot = memory.snapshot("r")
    assert snapshot == values
    assert list(snapshot) == ["7", *(key for key in values if key != "7")]
    memory.put_many("r", {})
    assert memory.snapshot("r") == values


def test_of_many_values_none_is_put_if_json_cannot_carry_one(memory):
    with pytest.raises(InvalidInputError, match="memory key 'bad' is not JSON"):
        memory.put_many("r", {"good": 1, "bad": object()})
    assert memory.snapshot("r") == {}


@pytest.mark.parametrize("name", ["notes", "", "a.b", "langgraph", "\0", "\ud83d", "日本", "%2E"], ids=ascii)
def test_each_namespace_of_a_run_is_a_memory_of_its_own(memory, name):
    memory.put("r", "k", "the run's")
    memory.put("r", "k", "theirs", namespace=name)
    memory.put_many("r", {"l": 1}, namespace=name)
    assert memory.get("r", "k") == "the run's"
    assert memory.get("r", "k", namespace=name) == "theirs"
    assert memory.snapshot("r") == {"k": "the run's"}
    assert memory.snapshot("r", namespace=name) == {"k": "theirs", "l": 1}
    assert memory.snapshot("r", namespace=name + "x") == {}
    assert memory.snapshot("other", namespace=name) == {}
    memory.delete("r", "k", namespace=name)
    assert memory.snapshot("r", namespace=name) == {"l": 1}
    assert memory.get("r", "k") == "the run's"


@pytest.mark.parametrize("value", ["half \ud83d", "NUL \0", 2**70, {"deep": [-(2**64), "😀"]}], ids=ascii)
def test_json_that_stores_refuse_is_kept_all_the_same(memory, value):
    memory.put("r", "k", value)
    assert memory.get("r", "k") == value
    assert memory.snapshot("r") == {"k": value}


# --- time to live ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1_000.0, time=lambda: clock.now, time_ns=time.time_ns)
    monkeypatch.setattr("langchain_runtime.context.memory_manager.time", clock)
    return clock


def test_a_key_lives_for_so_many_minutes_and_reading_does_not_prolong_it(memory, clock):
    memory.put("r", "short", 1, ttl_minutes=0.5)
    memory.put_many("r", {"long": 2}, ttl_minutes=2)
    memory.put("r", "kept", 3)
    for now, left in [(1_029.0, ["short", "long", "kept"]), (1_030.0, ["long", "kept"]), (1_120.0, ["kept"])]:
        clock.now = now
        assert list(memory.snapshot("r")) == [match.key for match in memory.search("r")] == left
        assert (memory.get("r", "short"), memory.get("r", "long")) == (
            1 if "short" in left else None,
            2 if "long" in left else None,
        )


def test_a_key_that_has_run_out_is_new_when_it_is_put_again(memory, clock):
    memory.put("r", "a", 1, ttl_minutes=1)
    memory.put("r", "b", 2)
    clock.now += 60
    memory.put("r", "a", 3)
    clock.now += 600
    assert list(memory.snapshot("r").items()) == [("b", 2), ("a", 3)]


def test_the_last_time_to_live_counts(memory, clock):
    memory.put("r", "k", 1, ttl_minutes=1)
    memory.put("r", "k", 2, ttl_minutes=10)
    clock.now += 61
    assert memory.get("r", "k") == 2


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")], ids=repr)
def test_a_time_to_live_that_is_none_is_refused(memory, minutes):
    with pytest.raises(InvalidInputError, match="ttl_minutes"):
        memory.put("r", "k", 1, ttl_minutes=minutes)
    assert memory.snapshot("r") == {}


def test_a_store_that_sweeps_is_told_of_the_end(tmp_path):
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        store.setup()
        memory = MemoryManager(store)
        memory.put("r", "short", 1, ttl_minutes=0.000_001)
        memory.put("r", "kept", 2)
        while memory.get("r", "short") is not None:
            pass
        assert len(store.search(("lcr",))) == 2
        store.conn.execute("UPDATE store SET expires_at = DATETIME('now', '-1 minute') WHERE expires_at IS NOT NULL")
        store.sweep_ttl()
        assert [item.key for item in store.search(("lcr",))] == ["kept"]


# --- searching -------------------------------------------------------------------------------------------------------

WORDS = ("moon", "ring", "bread")


def embed(texts):
    """A text is near another that has the same words."""
    return [[1.0 + text.lower().count(word) * 10 for word in WORDS] for text in texts]


needs_extensions = pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"), reason="this Python's SQLite loads no extensions"
)


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=needs_extensions)])
def indexed(request, tmp_path):
    index = {"embed": embed, "dims": len(WORDS)}
    if request.param == "memory":
        yield MemoryManager(InMemoryStore(index=index))
        return
    with SqliteStore.from_conn_string(str(tmp_path / "store.db"), index=index) as store:
        store.setup()
        yield MemoryManager(store)


def test_a_search_without_a_query_shows_what_was_written_first(memory):
    memory.put_many("r", {str(number): number for number in range(30)})
    assert [match.value for match in memory.search("r")] == list(range(10))
    assert [match.key for match in memory.search("r", limit=20)] == [str(number) for number in range(20)]
    assert memory.search("r", limit=1)[0] == ("0", 0, None)
    assert memory.search("other") == []


def test_a_query_without_an_index_is_refused_instead_of_ignored(memory):
    memory.put("r", "k", "moon")
    with pytest.raises(InvalidInputError, match="no index") as caught:
        memory.search("r", "moon")
    assert "InMemoryStore(index=" in str(caught.value.hint)


def test_a_search_finds_by_meaning_best_first(indexed):
    values = {"a": "Bread is baked", "b": {"text": ["the moon", "the moon"]}, "c": "a ring and a moon", "d": None}
    indexed.put_many("r", values)
    indexed.put("r", "other", "moon", namespace="notes")
    indexed.put("s", "other", "moon")
    found = indexed.search("r", "moon")
    assert [match.key for match in found] == ["b", "c", "a"]
    assert [match.value for match in found] == [values[key] for key in "bca"]
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert [match.key for match in indexed.search("r", "bread", limit=1)] == ["a"]
    assert [match.key for match in indexed.search("r", "bread", namespace="notes")] == ["other"]


def test_the_best_that_lives_is_found_behind_what_has_run_out(indexed, clock):
    indexed.put_many("r", {str(number): "moon moon" for number in range(20)}, ttl_minutes=1)
    indexed.put("r", "k", "bread")
    clock.now += 60
    assert [match.key for match in indexed.search("r", "moon", limit=3)] == ["k"]


def test_equal_values_can_be_put_at_once_where_they_are_embedded(indexed):
    """LangGraph's ``InMemoryStore`` refuses a batch of them."""
    values = {"a": "moon", "b": "moon", "c": 1, "d": "1", "e": "ring", "f": "moon"}
    indexed.put_many("r", values)
    assert indexed.snapshot("r") == values
    assert {match.key for match in indexed.search("r", "moon", limit=3)} == {"a", "b", "f"}


@pytest.mark.parametrize("kind", ["sqlite", "sync sqlite", "memory", "indexed"])
async def test_the_async_twins_of_the_rest_do_the_same(kind, tmp_path):
    async def check(memory):
        await memory.aput_many("r", {"a": "moon", "b": 2, "c": 3})
        await memory.aput("r", "a", "theirs", namespace="notes", ttl_minutes=5)
        await memory.adelete("r", "b")
        await memory.adelete("r", "c", namespace="notes")
        assert await memory.asnapshot("r") == {"a": "moon", "c": 3}
        assert await memory.asnapshot("r", namespace="notes") == {"a": "theirs"}
        assert await memory.aget("r", "a", namespace="notes") == "theirs"
        assert [match.key for match in await memory.asearch("r", limit=1)] == ["a"]
        if kind == "indexed":
            assert [match.key for match in await memory.asearch("r", "moon", limit=1)] == ["a"]
        else:
            with pytest.raises(InvalidInputError, match="no index"):
                await memory.asearch("r", "moon")

    path = str(tmp_path / "store.db")
    if kind == "sqlite":
        async with AsyncSqliteStore.from_conn_string(path) as store:
            await store.setup()
            await check(MemoryManager(store))
    elif kind == "sync sqlite":
        with SqliteStore.from_conn_string(path) as store:
            store.setup()
            await check(MemoryManager(store))
    else:
        await check(MemoryManager(InMemoryStore(index={"embed": embed, "dims": 3} if kind == "indexed" else None)))


def test_importing_the_domain_does_not_import_a_store_backend():
    code = "import sys, langchain_runtime.context; sys.exit('langgraph.store.memory' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

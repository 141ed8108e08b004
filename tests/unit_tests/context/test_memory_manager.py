"""A run's memory (rows P of the reference scenarios), on the stores people have."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

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
    monkeypatch.setattr("langchain_runtime.context.memory_manager._PAGE", 4)
    memory = MemoryManager()
    for number in range(33):
        memory.put("r", str(number), number)
    assert list(memory.snapshot("r")) == [str(number) for number in range(33)]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_async_twins_do_the_same_P7(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_runtime.context.memory_manager._PAGE", 4)
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


def test_importing_the_domain_does_not_import_a_store_backend():
    code = "import sys, langchain_runtime.context; sys.exit('langgraph.store.memory' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

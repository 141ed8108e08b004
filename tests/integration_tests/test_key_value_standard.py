"""LangChain's own suites for key-value stores, on ``KeyValueStore`` over the stores people have."""

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from langchain_runtime.memory.key_value_store import KeyValueStore

VALUES = ({"text": "foo", "deep": [1, {"a": None}]}, ["bar", 2.5, True], "buz 日本")


def in_memory(kind):
    embeddings = DeterministicFakeEmbedding(size=4)
    return InMemoryStore(index={"embed": embeddings, "dims": 4} if kind == "embedding" else None)


class TestSync(BaseStoreSyncTests):
    """The sync half."""

    @pytest.fixture(params=["memory", "embedding", "sqlite"])
    def kv_store(self, request, tmp_path):
        """An empty one."""
        if request.param != "sqlite":
            yield KeyValueStore(in_memory(request.param), ("app", "v1.2"))
            return
        with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
            store.setup()
            yield KeyValueStore(store, ("app", "v1.2"))

    @pytest.fixture
    def three_values(self):
        """JSON of several kinds."""
        return VALUES


class TestAsync(BaseStoreAsyncTests):
    """The async half."""

    @pytest.fixture(params=["memory", "embedding", "sqlite", "sync sqlite"])
    async def kv_store(self, request, tmp_path):
        """An empty one."""
        path = str(tmp_path / "store.db")
        if request.param == "sqlite":
            async with AsyncSqliteStore.from_conn_string(path) as store:
                await store.setup()
                yield KeyValueStore(store, ("app", "v1.2"))
        elif request.param == "sync sqlite":
            with SqliteStore.from_conn_string(path) as store:
                store.setup()
                yield KeyValueStore(store, ("app", "v1.2"))
        else:
            yield KeyValueStore(in_memory(request.param), ("app", "v1.2"))

    @pytest.fixture
    def three_values(self):
        """JSON of several kinds."""
        return VALUES

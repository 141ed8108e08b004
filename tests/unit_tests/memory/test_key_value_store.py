"""``KeyValueStore``, beyond what LangChain's own suite asks."""

import pytest
from langchain_core.stores import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore

from langchain_runtime.contracts.errors import InvalidInputError
from langchain_runtime.memory.key_value_store import KeyValueStore

AWKWARD = ["half a pair \ud83d", "NUL \0", 2**70, {"deep": [-(2**64), "😀"]}, "", [], {}, 0, False]


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield InMemoryStore()
        return
    with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        store.setup()
        yield store


@pytest.fixture
def values(store):
    return KeyValueStore(store, ("app",))


def test_it_is_a_store_of_langchain_s(values):
    assert isinstance(values, BaseStore)


@pytest.mark.parametrize("value", AWKWARD, ids=ascii)
def test_json_that_stores_refuse_comes_back_as_it_was(values, value):
    values.mset([("k", value)])
    (found,) = values.mget(["k"])
    assert found == value
    assert type(found) is type(value)


def test_values_are_copied_in_and_out(values):
    value = {"deep": [1]}
    values.mset([("k", value)])
    value["deep"].append(2)
    values.mget(["k"])[0]["deep"].append(3)
    assert values.mget(["k"]) == [{"deep": [1]}]


def test_thousands_of_keys_are_written_and_read_in_order(values):
    pairs = [(f"k{number}", number) for number in range(2_500)]
    values.mset(pairs)
    keys = [key for key, _ in pairs]
    assert values.mget([*reversed(keys), "missing", "k1", "k1"]) == [*reversed(range(2_500)), None, 1, 1]
    assert set(values.yield_keys()) == set(keys)
    values.mdelete(keys[:2_400])
    assert sorted(values.yield_keys()) == sorted(keys[2_400:])


def test_keys_are_found_by_their_beginning_and_not_as_patterns(values):
    values.mset([(key, key) for key in ("a%b", "a_b", "axb", "a*", "A%")])
    assert set(values.yield_keys(prefix="a%")) == {"a%b"}
    assert set(values.yield_keys(prefix="a_")) == {"a_b"}
    assert set(values.yield_keys(prefix="")) == {"a%b", "a_b", "axb", "a*", "A%"}


def test_keys_may_be_deleted_while_they_are_walked_through(values):
    values.mset([(str(number), number) for number in range(5)])
    for key in values.yield_keys():
        values.mdelete([key])
    assert list(values.yield_keys()) == []


def test_namespaces_do_not_see_one_another(store):
    spaces = [("a",), ("a", "b"), ("a.b",), ("A",), ("ab",)]
    for space in spaces:
        KeyValueStore(store, space).mset([("k", list(space))])
    for space in spaces:
        assert KeyValueStore(store, space).mget(["k"]) == [list(space)]
        assert list(KeyValueStore(store, space).yield_keys()) == ["k"]


@pytest.mark.parametrize("namespace", [(), ("",), ("a", ""), ("langgraph",), "app"], ids=repr)
def test_a_namespace_that_stores_refuse_is_refused_at_once(namespace):
    with pytest.raises(InvalidInputError, match="no namespace"):
        KeyValueStore(InMemoryStore(), namespace)


@pytest.mark.parametrize("value", [object(), float("inf"), b"bytes"], ids=["object", "infinite", "bytes"])
def test_what_json_cannot_carry_is_refused_with_all_that_came_with_it(values, value):
    with pytest.raises(InvalidInputError, match="'bad' is not JSON"):
        values.mset([("good", 1), ("bad", value)])
    assert values.mget(["good", "bad"]) == [None, None]

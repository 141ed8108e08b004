"""LangGraph's stores behind one face."""

import pytest
from langgraph.store.base import GetOp, PutOp
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context.any_store import AnyStore
from langchain_runtime.memory._stores import namespace_of


class Busy(InMemoryStore):
    """As if other threads wrote while it reads."""

    def __init__(self, message, times):
        super().__init__()
        self.message, self.left = message, times

    def batch(self, ops):
        if self.left:
            self.left -= 1
            raise RuntimeError(self.message)
        return super().batch(ops)


def test_a_reading_that_another_thread_broke_is_repeated():
    store = AnyStore(Busy("dictionary changed size during iteration", times=3))
    store.put(("n",), "k", {"v": 1})
    assert store.get(("n",), "k").value == {"v": 1}


def test_other_errors_are_the_caller_s():
    with pytest.raises(RuntimeError, match="out of order"):
        AnyStore(Busy("out of order", times=1)).get(("n",), "k")


def test_one_that_is_always_busy_says_so():
    with pytest.raises(RuntimeError, match="during iteration"):
        AnyStore(Busy("dictionary changed size during iteration", times=10_000)).get(("n",), "k")


async def test_operations_may_come_from_a_generator():
    store = AnyStore(Busy("dictionary changed size during iteration", times=1))
    assert await store.abatch(op for op in [PutOp(("n",), "k", {"v": 1})]) == [None]
    assert store.batch(op for op in [GetOp(("n",), "k")])[0].value == {"v": 1}


def test_two_names_never_share_a_namespace():
    names = ["", "a.b", "a%2Eb", "a b", "A", "a", "\x00", "ä", "é", "e\u0301", "/", "id="]
    assert len({namespace_of("sessions", name) for name in names}) == len(names)

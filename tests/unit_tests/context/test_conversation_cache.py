"""The conversations used last."""

import threading

import pytest
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, ConversationContext
from langchain_runtime.context.conversation_cache import ConversationCache
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.errors import InvalidInputError


def make():
    return ConversationContext(ContextPolicy(), Archive(InMemoryStore(), ("test",)), counter=len)


def test_a_conversation_is_made_once():
    cache = ConversationCache()
    context = cache.get("a", make)
    assert cache.get("a", make) is context
    assert cache.find("a") is context
    assert cache.find("b") is None


def test_the_one_used_longest_ago_makes_room():
    cache = ConversationCache(2)
    first, second = cache.get("a", make), cache.get("b", make)
    assert cache.find("a") is first
    cache.get("c", make)
    assert (cache.find("a"), cache.find("b"), len(cache)) == (first, None, 2)
    assert cache.get("b", make) is not second


def test_threads_that_ask_at_once_share_one():
    cache, found = ConversationCache(), []
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        found.append(cache.get("a", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(context) for context in found}) == 1


def test_a_cache_for_nothing_is_refused():
    with pytest.raises(InvalidInputError):
        ConversationCache(0)

"""The archives of a run's tasks."""

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context.task_archive import TalkArchive, task_archive
from langchain_runtime.contracts.errors import InvalidInputError

SHIPS = HumanMessage("The harbour master counts ships.\n\n" + "Nothing else happened that day. " * 40, id="dep:ships")
ANSWER = ToolMessage("ships ships ships harbour", tool_call_id="1")


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def talk(store):
    task_archive(store, "r", "t").put({"first": [SHIPS]})
    archive = TalkArchive(store, "r", "t")
    archive.put({"later": [ANSWER]})
    return archive


async def test_both_the_first_view_and_the_turns_are_recalled_by_handle(talk):
    assert talk.recall("first") == await talk.arecall("first") == [SHIPS]
    assert talk.recall("later") == await talk.arecall("later") == [ANSWER]
    assert talk.handles() == await talk.ahandles() == ["first", "later"]
    assert [talk.has(handle) for handle in ("first", "later", "other")] == [True, True, False]
    assert [await talk.ahas(handle) for handle in ("first", "later", "other")] == [True, True, False]
    with pytest.raises(InvalidInputError):
        talk.recall("other")


async def test_a_search_finds_what_the_first_view_lacks_and_not_what_was_recalled_of_it(talk):
    assert {passage.handle for passage in talk.search("ships harbour")} == {"first"}
    assert {passage.handle for passage in await talk.asearch("ships harbour")} == {"first"}


async def test_a_search_under_a_handle_looks_there(talk):
    assert [passage.handle for passage in talk.search("ships", handle="later")] == ["later"]
    assert [passage.handle for passage in await talk.asearch("ships", handle="later")] == ["later"]
    assert {passage.handle for passage in await talk.asearch("ships", handle="first")} == {"first"}


def test_tasks_and_runs_see_nothing_of_each_other(store, talk):
    for run_id, task_id in (("r", "u"), ("s", "t"), ("r", "t.1")):
        other = TalkArchive(store, run_id, task_id)
        assert other.handles() == []
        assert other.search("ships") == []


def test_after_a_refresh_a_search_finds_what_another_process_has_put(store, talk):
    assert talk.search("lighthouse") == []
    task_archive(store, "r", "t").put({"new": [HumanMessage("The lighthouse is dark.")]})
    talk.refresh()
    assert [passage.handle for passage in talk.search("lighthouse")] == ["new"]

"""The recall tool answers whatever a model asks it, within its allowance."""

import re

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore

from langchain_runtime.adapters.recall import RecallRetriever, recall_tool
from langchain_runtime.context import Archive, handle_of, reference
from langchain_runtime.context.message_texts import text_of
from langchain_runtime.contracts.errors import InvalidInputError

SHORT = [HumanMessage("The password of the gate is swordfish.")]
CALL = {"name": "look", "args": {"where": "attic"}, "id": "c", "type": "tool_call"}
TURN = [AIMessage("Let me see.", tool_calls=[CALL]), ToolMessage("a box", tool_call_id="c", name="look")]
LONG = [HumanMessage("\n".join(f"line {number} of the log" for number in range(5_000)) + "\nthe last line: zebra")]


def words(messages):
    return sum(len(message.text.split()) for message in messages)


@pytest.fixture
def archive():
    archive = Archive(InMemoryStore(), ("lcr", "talk"))
    archive.put({handle_of(messages): messages for messages in (SHORT, TURN, LONG)})
    return archive


@pytest.fixture
def recall(archive):
    tool = recall_tool(archive, max_tokens=100, counter=words)
    return lambda **question: tool.invoke(question)


def test_a_handle_gives_the_messages_with_who_said_what(recall):
    assert recall(handle=handle_of(SHORT)) == "human: The password of the gate is swordfish."
    assert recall(handle=handle_of(TURN)) == 'ai: Let me see.\ncalls look({"where": "attic"})\ntool look: a box'


def test_a_handle_may_be_given_as_it_stands_in_the_view(recall):
    assert recall(handle=f" {reference(handle_of(SHORT))} ") == recall(handle=handle_of(SHORT))


def test_a_long_text_comes_in_pages_that_put_together_are_the_whole(archive):
    tool = recall_tool(archive, max_tokens=1_000, counter=words)
    read, offset, pages = "", 0, 0
    while offset is not None:
        answer = tool.invoke({"handle": handle_of(LONG), "offset": offset})
        assert words([HumanMessage(answer)]) <= 1_000
        _, rest = answer.split("]\n", 1)
        body, _, more = rest.partition("\n[read on with")
        read, pages = read + body, pages + 1
        offset = int(re.search(r"offset (\d+)\]", more).group(1)) if more else None
    assert (read, pages > 10) == (text_of(LONG), True)


def test_a_query_gives_passages_with_the_place_to_read_on(recall):
    answer = recall(query="where is the zebra?")
    start = int(re.match(rf"\[recall:{handle_of(LONG)}\] at (\d+):\n", answer).group(1))
    assert "zebra" in answer
    assert words([HumanMessage(answer)]) <= 100
    assert "zebra" in recall(handle=handle_of(LONG), offset=start)


def test_a_query_under_a_handle_looks_there_only(recall):
    assert "swordfish" in recall(query="password line", handle=handle_of(SHORT))
    assert "swordfish" not in recall(query="password line", handle=handle_of(LONG))


def test_a_passage_larger_than_the_allowance_is_cut(archive):
    tool = recall_tool(
        archive, max_tokens=64, counter=lambda messages: sum(len(message.text) // 2 for message in messages)
    )
    answer = tool.invoke({"query": "log"})
    assert answer.startswith(reference(handle_of(LONG)))
    assert len(answer) // 2 <= 64


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({}, "Give a handle"),
        ({"handle": "", "query": " "}, "Give a handle"),
        ({"handle": "nopenopenope"}, "Nothing is kept under the handle 'nopenopenope'"),
        ({"handle": "x" * 10_000}, "Nothing is kept under the handle 'xxx"),
        ({"query": "giraffe"}, "Nothing that has left your view has any of these words"),
        ({"query": "giraffe", "handle": "nope"}, "Nothing is kept under the handle 'nope'"),
        ({"handle": handle_of(SHORT), "offset": -1}, "offset must be from 0 to 44"),
        ({"handle": handle_of(SHORT), "offset": 45}, "offset must be from 0 to 44"),
    ],
)
def test_a_question_without_an_answer_is_told_how_to_go_on(recall, question, answer):
    assert answer in recall(**question)


def test_an_error_of_the_store_is_raised():
    class Down(InMemoryStore):
        def batch(self, ops):
            raise OSError("gone")

    tool = recall_tool(Archive(Down(), ("lcr",)), max_tokens=100)
    with pytest.raises(OSError, match="gone"):
        tool.invoke({"handle": "abc"})


def test_an_allowance_without_room_for_anything_is_refused(archive):
    with pytest.raises(InvalidInputError, match="no room"):
        recall_tool(archive, max_tokens=10)


async def test_the_async_twin_does_the_same(tmp_path):
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        archive = Archive(store, ("lcr", "talk"))
        await archive.aput({"abc": SHORT})
        tool = recall_tool(archive, max_tokens=100)
        assert "swordfish" in await tool.ainvoke({"handle": "abc"})
        assert "swordfish" in await tool.ainvoke({"query": "password"})
        [document] = await RecallRetriever(archive=archive).ainvoke("password")
        assert document.metadata["handle"] == "abc"


def test_a_retriever_gives_passages_as_documents(archive):
    [document] = RecallRetriever(archive=archive).invoke("swordfish")
    assert document.page_content == "human: The password of the gate is swordfish."
    assert document.metadata == {"handle": handle_of(SHORT), "start": 0, "score": document.metadata["score"]}
    assert len(RecallRetriever(archive=archive, k=2).invoke("line")) == 2

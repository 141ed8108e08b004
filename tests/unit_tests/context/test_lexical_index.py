"""Passages are found by their words."""

import gc
import threading

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore

from langchain_runtime.context import Archive, ContextCompactor
from langchain_runtime.context.lexical_index import LexicalIndex
from langchain_runtime.context.message_texts import text_of
from langchain_runtime.contracts.context import ContextBundle, ContextPolicy

SAID = {
    "gate": [HumanMessage("The password of the gate is swordfish.")],
    "dog": [HumanMessage("My dog Rex is seven years old."), AIMessage("A fine age.")],
    "trip": [
        AIMessage("", tool_calls=[{"name": "book_flight", "args": {"to": "Kyoto"}, "id": "c", "type": "tool_call"}]),
        ToolMessage("booked: seat 14C", tool_call_id="c", name="book_flight"),
    ],
}


@pytest.fixture
def index():
    index = LexicalIndex()
    index.add(SAID)
    return index


def handles(found):
    return [passage.handle for passage in found]


@pytest.mark.parametrize(
    ("question", "handle"),
    [
        ("What is the password for the gate?", "gate"),
        ("how old are my dogs", "dog"),
        ("KYOTO", "trip"),
        ("which seat was booked", "trip"),
        ("book_flight", "trip"),
    ],
)
def test_a_question_in_plain_words_finds_what_was_said(index, question, handle):
    assert handles(index.search(question, limit=1)) == [handle]


@pytest.mark.parametrize("question", ["", "   ", "?!", '"', "zebra"])
def test_what_nobody_said_finds_nothing(index, question):
    assert index.search(question, limit=8) == []


@pytest.mark.parametrize(
    "question",
    ['"swordfish', "swordfish AND zebra", "NEAR(swordfish, x)", "swordfish*", "-swordfish", "words: swordfish^2"],
)
def test_nothing_in_a_query_is_syntax(index, question):
    assert handles(index.search(question, limit=1)) == ["gate"]


def test_a_query_of_stop_words_only_looks_for_those(index):
    assert "gate" in handles(index.search("is the", limit=8))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("合言葉は「めかじき」です。門の前で言ってください。", "門の合言葉は何ですか"),
        ("我的狗叫雷克斯今年七岁了。", "雷克斯几岁"),
        ("รหัสผ่านของประตูคือปลากระโทง", "รหัสผ่าน"),
        ("Пароль от ворот - меч-рыба.", "какой пароль"),
        ("Das Paßwort lautet Schwertfisch", "schwertfisch"),
    ],
)
def test_other_scripts_are_found_too(index, text, question):
    index.add({"other": [HumanMessage(text)], "noise": [HumanMessage("全然違う話をしましょう。天气很好。")]})
    assert handles(index.search(question, limit=1)) == ["other"]


def test_odd_characters_do_no_harm(index):
    index.add({"odd": [HumanMessage("half a pair \ud83d and a NUL \x00 beside the zebra")]})
    assert handles(index.search("zebra \ud83d \x00", limit=1)) == ["odd"]


def test_a_long_text_is_found_at_the_place_where_the_words_stand(index):
    long = [HumanMessage("filler text. " * 4_000 + "The zebra sleeps here. " + "more filler. " * 4_000)]
    index.add({"long": long})
    [passage] = index.search("where does the zebra sleep", limit=1)
    assert passage.handle == "long"
    assert "zebra sleeps" in passage.text
    assert text_of(long)[passage.start :].startswith(passage.text)
    assert len(passage.text) <= 800


def test_passages_put_together_are_the_whole_text(index):
    long = [HumanMessage("\n\n".join(f"paragraph {number} " + "word " * (number % 60) for number in range(200)))]
    index.add({"long": long})
    passages = sorted(index.search("paragraph word", limit=1_000, handle="long"), key=lambda passage: passage.start)
    assert "".join(passage.text for passage in passages) == text_of(long)


def test_a_search_under_one_handle_looks_nowhere_else(index):
    index.add({"other": [HumanMessage("another password")]})
    assert handles(index.search("password", limit=8, handle="other")) == ["other"]


def test_the_same_handle_twice_is_indexed_once(index):
    index.add(SAID)
    assert handles(index.search("swordfish", limit=8)) == ["gate"]


def test_what_recall_answered_is_not_found_in_place_of_its_source(index):
    call = {"name": "recall", "args": {"query": "swordfish"}, "id": "r", "type": "tool_call"}
    answer = ToolMessage("The password of the gate is swordfish.", tool_call_id="r", name="recall")
    index.add({"recalled": [AIMessage("", tool_calls=[call]), answer]})
    assert handles(index.search("swordfish", limit=8)) == ["gate"]


def test_notes_and_excerpts_of_a_compactor_are_not_found():
    archive = Archive(InMemoryStore(), ("lcr",))
    call = {"name": "read", "args": {}, "id": "r", "type": "tool_call"}
    messages = [
        AIMessage("", tool_calls=[call]),
        ToolMessage("begin " + "line " * 3_000 + "swordfish", tool_call_id="r", name="read"),
        *[HumanMessage(f"question {number}", id=str(number)) for number in range(200)],
    ]
    compactor = ContextCompactor(lambda messages: sum(len(message.text) // 4 + 4 for message in messages))
    for size in (2_000, 400, 200):
        compaction = compactor.compact(
            ContextBundle(messages=messages), ContextPolicy(max_tokens=size, strategy=("truncate", "offload"))
        )
        archive.put(compaction.evicted)
        messages = [*compaction.bundle.messages, HumanMessage(f"go on {size}", id=f"go-{size}")]
    found = archive.search("swordfish", limit=50)
    assert len(found) == 1
    assert not any(
        "kept out of view" in passage.text for passage in archive.search("earlier messages handles", limit=50)
    )


def test_an_archive_finds_what_was_written_before_and_after_its_first_search():
    store = InMemoryStore()
    Archive(store, ("lcr", "talk")).put({"gate": SAID["gate"]})
    archive = Archive(store, ("lcr", "talk"))
    assert handles(archive.search("password")) == ["gate"]
    archive.put({"dog": SAID["dog"]})
    assert handles(archive.search("Rex")) == ["dog"]
    Archive(store, ("lcr", "talk")).put({"trip": SAID["trip"]})
    assert archive.search("Kyoto") == []
    archive.refresh()
    assert handles(archive.search("Kyoto")) == ["trip"]


async def test_the_async_twin_does_the_same(tmp_path):
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        archive = Archive(store, ("lcr", "talk"))
        await archive.aput(SAID)
        assert handles(await archive.asearch("swordfish")) == ["gate"]
        assert await archive.ahandles() == list(SAID)
        assert [await archive.ahas("gate"), await archive.ahas("nope")] == [True, False]


def test_threads_may_write_and_search_at_once(index):
    wrong = []

    def work(thread):
        for number in range(50):
            handle = f"{thread}-{number}"
            index.add({handle: [HumanMessage(f"marker{thread}x{number}")]})
            if handles(index.search(f"marker{thread}x{number}", limit=2)) != [handle]:
                wrong.append(handle)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_index_that_is_let_go_closes_its_database():
    LexicalIndex().add(SAID)
    gc.collect()  # a connection that is still open would warn, and warnings are errors here

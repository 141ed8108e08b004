"""What left a view comes back from the store exactly as it was."""

import dataclasses

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import AsyncSqliteStore, SqliteStore

from langchain_runtime.context import Archive, find_handles, handle_of, reference, store_namespace
from langchain_runtime.contracts.errors import InvalidInputError

CONVERSATION = [
    SystemMessage("Be 😀 brief", id="s"),
    HumanMessage(
        [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
            "and say",
        ],
        name="ada",
    ),
    AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {"x": [1, None]}, "id": "c1"}],
        invalid_tool_calls=[{"name": "g", "args": "{", "id": "c2", "error": "e"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        response_metadata={"finish_reason": "stop"},
        additional_kwargs={"reasoning": "because"},
    ),
    ToolMessage("r", tool_call_id="c1", artifact={"rows": [1, 2]}, status="error"),
    AIMessageChunk("part", id="x"),
    ChatMessage("hm", role="critic"),
    FunctionMessage("old", name="f"),
]


class FailingStore(InMemoryStore):
    def batch(self, ops):
        raise OSError("disk full")


class CountingStore(InMemoryStore):
    batches = 0

    def batch(self, ops):
        self.batches += 1
        return super().batch(ops)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield InMemoryStore()
    else:
        with SqliteStore.from_conn_string(str(tmp_path / "store.db")) as sqlite:
            sqlite.setup()
            yield sqlite


def test_messages_of_every_kind_come_back_equal_I5(store):
    handles = Archive(store, ("lcr", "weekly.1", "evicted"))
    handles.put({"abc": CONVERSATION, "def": CONVERSATION[:1]})
    assert handles.recall("abc") == CONVERSATION
    assert handles.recall("def") == CONVERSATION[:1]


async def test_the_async_twins_do_the_same_I5(tmp_path):
    async with AsyncSqliteStore.from_conn_string(str(tmp_path / "store.db")) as store:
        await store.setup()
        handles = Archive(store, ("lcr", "r"))
        await handles.aput({"abc": CONVERSATION})
        await handles.aput({})
        assert await handles.arecall("abc") == CONVERSATION
        with pytest.raises(InvalidInputError, match="'nope'"):
            await handles.arecall("nope")


def test_text_that_stores_refuse_comes_back_equal_I5(store):
    odd = ToolMessage("half a pair \ud83d, a NUL \x00", tool_call_id="c", artifact={"big": 2**80, "inf": float("inf")})
    Archive(store, ("lcr",)).put({"odd": [odd]})
    assert Archive(store, ("lcr",)).recall("odd") == [odd]


def test_what_json_cannot_carry_is_refused_before_anything_is_written(store):
    handles = Archive(store, ("lcr",))
    with pytest.raises(InvalidInputError, match="an object in them cannot be kept"):
        handles.put({"a": CONVERSATION, "b": [ToolMessage("r", tool_call_id="c", artifact=object())]})
    with pytest.raises(InvalidInputError, match="'a'"):
        handles.recall("a")


@dataclasses.dataclass
class Rows:
    rows: list[int]


def test_an_object_beside_a_result_comes_back_equal_I5(store):
    message = ToolMessage("r", tool_call_id="c", artifact=Rows([1, 2]))
    Archive(store, ("lcr",)).put({"abc": [message]})
    assert Archive(store, ("lcr",)).recall("abc") == [message]


def test_handles_are_listed_in_the_order_of_their_first_writing(store):
    archive = Archive(store, ("lcr", "run"))
    archive.put({"b": CONVERSATION[:1], "a": CONVERSATION[:1]})
    archive.put({"c": CONVERSATION[:1]})
    archive.put({"b": CONVERSATION[:1]})
    Archive(store, ("lcr", "run", "another")).put({"d": CONVERSATION[:1]})
    assert archive.handles() == Archive(store, ("lcr", "run")).handles() == ["b", "a", "c"]
    assert (archive.has("a"), archive.has("d")) == (True, False)


def test_an_unknown_handle_is_refused(store):
    with pytest.raises(InvalidInputError, match="'nope'"):
        Archive(store, ("lcr",)).recall("nope")


def test_everything_is_written_in_one_batch_and_nothing_when_nothing_left():
    store = CountingStore()
    Archive(store, ("lcr",)).put({str(number): CONVERSATION for number in range(50)})
    Archive(store, ("lcr",)).put({})
    assert store.batches == 1


def test_a_failed_write_is_not_swallowed():
    with pytest.raises(OSError, match="disk full"):
        Archive(FailingStore(), ("lcr",)).put({"abc": CONVERSATION})


def test_what_was_put_does_not_follow_later_changes_of_the_message():
    handles, message = Archive(InMemoryStore(), ("lcr",)), HumanMessage([{"type": "text", "text": "then"}])
    handles.put({"abc": [message]})
    message.content[0]["text"] = "now"
    assert handles.recall("abc")[0].content == [{"type": "text", "text": "then"}]


def test_ids_with_dots_have_namespaces_of_their_own():
    assert store_namespace("lcr", "a.b") == ("lcr", "a%2Eb")
    assert store_namespace("a.b") != store_namespace("a", "b")


def test_a_handle_names_content():
    assert handle_of(CONVERSATION) == handle_of([message.model_copy(deep=True) for message in CONVERSATION])
    assert len({handle_of([message]) for message in CONVERSATION}) == len(CONVERSATION)


def test_a_handle_is_the_same_in_every_process():
    assert handle_of([HumanMessage("hello", id="1")]) == "upxtj5gbxw7v"


def test_a_tool_may_keep_any_object_beside_its_result():
    first, second = (ToolMessage("r", tool_call_id="c", artifact={1: object(), "a": 2}) for _ in range(2))
    assert handle_of([first]) == handle_of([second])


def test_handles_are_found_in_text():
    first, second = handle_of(CONVERSATION[:1]), handle_of(CONVERSATION[1:])
    text = f"see {reference(first)}, {reference(second)}, {reference(first)} but not [recall:SHORT]"
    assert find_handles(text) == [first, second]

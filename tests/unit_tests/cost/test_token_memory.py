"""What is remembered, for how long, and which contents count as the same."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from langchain_runtime.cost.token_memory import TokenMemory, message_key, schema_key


def test_what_was_put_is_found():
    memory = TokenMemory()
    assert memory.get("a") is None
    assert memory.put("a", 1, 10) == 1
    assert memory.get("a") == 1


def test_what_is_used_is_kept_and_the_rest_forgotten():
    memory = TokenMemory(room=10_000)
    memory.put("used", 1, 0)
    memory.put("not used", 1, 0)
    for number in range(100):
        memory.put(number, 1, 0)
        memory.get("used")
    assert memory.get("used") == 1
    assert memory.get("not used") is None


def test_never_more_is_kept_than_there_is_room():
    memory = TokenMemory(room=10_000)
    for number in range(1_000):
        memory.put(number, 1, 300)
    assert 10 <= len(memory._young) + len(memory._old) <= 20


def test_what_is_larger_than_the_room_is_not_kept_and_pushes_nothing_out():
    memory = TokenMemory(room=10_000)
    memory.put("small", 1, 0)
    assert memory.put("large", 2, 20_000) == 2
    assert memory.get("large") is None
    assert memory.get("small") == 1


def test_of_two_that_put_the_same_the_first_one_counts():
    memory = TokenMemory()
    first, second = object(), object()
    assert memory.put("a", first, 0) is first
    assert memory.put("a", second, 0) is first


def test_many_threads_may_use_it_at_once():
    memory, start = TokenMemory(room=5_000), threading.Barrier(8)

    def use(_):
        start.wait(10)
        return [memory.get(number) or memory.put(number, number + 1, 10) for number in range(200)]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == list(range(1, 201)) for found in pool.map(use, range(8)))
    assert sum(weight for _, weight in memory._young.values()) == memory._weight <= 2_500


# --- keys ------------------------------------------------------------------------------------------------------------


def calling(**args):
    return {"name": "f", "args": args, "id": "call_1", "type": "tool_call"}


def image(data="aGVsbG8=", **more):
    return {"type": "image", "base64": data, "mime_type": "image/png", **more}


MESSAGES = {
    "human": lambda: HumanMessage("hello"),
    "other text": lambda: HumanMessage("hello!"),
    "system": lambda: SystemMessage("hello"),
    "ai": lambda: AIMessage("hello"),
    "name": lambda: HumanMessage("hello", name="ann"),
    "role": lambda: ChatMessage("hello", role="critic"),
    "other role": lambda: ChatMessage("hello", role="judge"),
    "blocks": lambda: HumanMessage([{"type": "text", "text": "hello"}]),
    "other blocks": lambda: HumanMessage([{"type": "text", "text": "hello!"}]),
    "call": lambda: AIMessage("hello", tool_calls=[calling(x=1)]),
    "other call": lambda: AIMessage("hello", tool_calls=[calling(x=True)]),
    "invalid call": lambda: AIMessage("", invalid_tool_calls=[{"name": "f", "args": "x", "id": "1", "error": None}]),
    "result": lambda: ToolMessage("hello", tool_call_id="call_1"),
    "other result": lambda: ToolMessage("hello", tool_call_id="call_2"),
    "failed": lambda: ToolMessage("hello", tool_call_id="call_1", status="error"),
    "extras": lambda: AIMessage("hello", additional_kwargs={"reasoning_content": "hm"}),
    "audio": lambda: AIMessage("hello", additional_kwargs={"audio": {"id": "1"}}),
    "image": lambda: HumanMessage([image()]),
    "other image": lambda: HumanMessage([image("aGVsbG8h")]),
    "image by address": lambda: HumanMessage([{"type": "image", "url": "https://example.com/a.png"}]),
    "other address": lambda: HumanMessage([{"type": "image", "url": "https://example.com/b.png"}]),
    "image by id": lambda: HumanMessage([{"type": "image", "file_id": "file_1"}]),
    "low detail": lambda: HumanMessage([{"type": "image_url", "image_url": {"url": "https://a", "detail": "low"}}]),
    "high detail": lambda: HumanMessage([{"type": "image_url", "image_url": {"url": "https://a", "detail": "high"}}]),
    "image in a result": lambda: ToolMessage([{"type": "tool_result", "content": [image()]}], tool_call_id="call_1"),
    "reply of ten": lambda: AIMessage("hello", usage_metadata=usage(10)),
    "reply of eleven": lambda: AIMessage("hello", usage_metadata=usage(11)),
}


def usage(output):
    return {"input_tokens": 1, "output_tokens": output, "total_tokens": 1 + output}


def test_equal_messages_have_equal_keys_and_others_have_their_own():
    keys = {name: message_key(make()) for name, make in MESSAGES.items()}
    assert len(set(keys.values())) == len(MESSAGES)
    assert keys == {name: message_key(make()) for name, make in MESSAGES.items()}


def test_what_no_provider_reads_does_not_count():
    plain = AIMessage("hello")
    stored = AIMessage("hello", id="run-1", response_metadata={"a": 1}, additional_kwargs={"refusal": None, "x": 1})
    sent = message_key(AIMessage("hello", additional_kwargs={"x": 2}))
    assert message_key(stored) == sent
    assert message_key(plain) == message_key(AIMessage("hello", id="run-2"))


def test_a_message_that_holds_more_than_json_has_no_key():
    message = AIMessage("", tool_calls=[calling(x=object())])
    assert message_key(message) is None


class Weather(BaseModel):
    place: str


@pytest.mark.parametrize("schema", [{"name": "f"}, "text", Weather, {"name": "response_format", "value": Weather}])
def test_schemas_have_keys(schema):
    assert schema_key(schema) == schema_key(schema) is not None


def test_other_schemas_have_other_keys():
    schemas = [{"a": 1}, {"a": 2}, {"a": True}, Weather, BaseModel, {"name": "x", "value": Weather}]
    assert len({schema_key(schema) for schema in schemas}) == len(schemas)


@pytest.mark.parametrize("schema", [object(), {"name": "x", "value": object()}, {"name": "x", "v": object()}])
def test_objects_have_no_key(schema):
    assert schema_key(schema) is None

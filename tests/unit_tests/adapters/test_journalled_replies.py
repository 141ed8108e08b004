import json

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from langchain_runtime.adapters.replies import decode_reply, encode_reply, reply_key, request_digest


class Schema(BaseModel):
    """A reply format."""

    name: str


def result_of(message, **fields):
    return ChatResult(generations=[ChatGeneration(message=message, **fields)])


HI = (HumanMessage("hi"),)


def key(messages=HI, kwargs=None, **changes):
    fields = {"run_id": "r", "task_id": "t", "call_no": 0, "model": "m", "stop": None, **changes}
    place = [fields.pop(name) for name in ("run_id", "task_id", "call_no")]
    return reply_key(*place, request_digest(messages=messages, kwargs=kwargs or {}, **fields))


def test_a_reply_comes_back_whole():
    message = AIMessage(
        [{"type": "text", "text": "é\ud800"}, {"type": "reasoning", "reasoning": "hm", "extras": {"signature": "x"}}],
        tool_calls=[{"name": "f", "args": {"x": [1, {"y": None}]}, "id": "c1"}],
        invalid_tool_calls=[{"name": "g", "args": "{", "id": "c2", "error": "broken"}],
        usage_metadata={
            "input_tokens": 9,
            "output_tokens": 2,
            "total_tokens": 11,
            "input_token_details": {"cache_read": 4},
        },
        response_metadata={"model_name": "m", "logprobs": None, "headers": {"a": "b"}},
        additional_kwargs={"refusal": None},
        id="msg_1",
    )
    result = ChatResult(
        generations=[ChatGeneration(message=message, generation_info={"finish_reason": "stop"})], llm_output={"a": 1}
    )
    assert decode_reply(encode_reply(result)) == result


def test_what_json_cannot_carry_in_metadata_becomes_text():
    encoded = encode_reply(result_of(AIMessage("ok"), generation_info={"raw": object(), "tags": {"b", "a"}}))
    info = decode_reply(encoded).generations[0].generation_info
    assert info == {"raw": "builtins.object", "tags": ["a", "b"]}


def test_a_reply_of_an_unknown_version_is_not_used():
    record = json.loads(encode_reply(result_of(AIMessage("ok"))))
    assert decode_reply(json.dumps({**record, "version": 99}).encode()) is None


def test_the_key_names_run_task_and_call():
    assert key().startswith("r:t:0:")
    assert key(task_id=None, call_no=3).startswith("r::3:")


def test_the_key_changes_with_everything_that_is_sent():
    keys = {
        key(),
        key([HumanMessage("ho")]),
        key([HumanMessage("hi", name="bob")]),
        key([AIMessage("hi")]),
        key(kwargs={"temperature": 1}),
        key(kwargs={"tools": [{"name": "f"}]}),
        key(kwargs={"schema": Schema}),
        key(stop=["x"]),
        key(model="other"),
    }
    assert len(keys) == 9


def test_the_key_does_not_change_with_what_is_not_sent():
    first = AIMessage(
        "hi",
        id="a",
        response_metadata={"x": 1},
        usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    )
    assert key([first]) == key([AIMessage("hi", id="b")])


def test_the_key_is_the_same_for_equal_objects_of_any_kind():
    def kwargs():
        return {"schema": Schema, "instance": Schema(name="a"), "raw": b"\x00", "set": {"b", "a"}, "object": object()}

    assert key(kwargs=kwargs()) == key(kwargs=kwargs())

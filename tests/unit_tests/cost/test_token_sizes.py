"""Texts are counted once for each encoding, whatever is in them."""

import pytest
from langchain_core.messages import HumanMessage

from langchain_runtime.cost.encodings import load_encoding
from langchain_runtime.cost.token_sizes import message_size, schema_size, text_size


class Spy:
    """Encodes a character to a token, and remembers what it was asked."""

    def __init__(self, name):
        self.name, self.asked = name, []

    def encode_ordinary(self, text):
        self.asked.append(text)
        return list(text)


def test_a_message_is_counted_once_for_each_encoding():
    one, other = Spy("one of two"), Spy("the other one")
    sizes = [message_size(HumanMessage("counted here only"), encoding) for encoding in (one, other, one, other)]
    assert [size.text for size in sizes] == [17] * 4
    assert one.asked == other.asked == ["counted here only"]
    assert sizes[0] is sizes[2]
    assert sizes[0].serial != sizes[1].serial


def test_a_schema_is_counted_once_for_each_form():
    spy, schema = Spy("of schemas"), {"name": "f", "parameters": {"properties": {"place": {"type": "string"}}}}
    declared, written = (schema_size(schema, spy, declared=form) for form in (True, False))
    assert declared.text < written.text
    assert schema_size(dict(schema), spy, declared=True) is declared
    assert len(spy.asked) == 2


def test_what_has_no_key_is_counted_each_time():
    spy, schema = Spy("of objects"), {"name": "f", "x": object()}
    first, second = (schema_size(schema, spy, declared=False) for _ in range(2))
    assert first.text == second.text
    assert first.serial != second.serial


def test_without_an_encoding_bytes_are_counted():
    assert message_size(HumanMessage("日本語"), None).text == 9


def test_a_long_text_without_white_space_is_encoded_in_parts():
    spy = Spy("of parts")
    assert text_size("a" * 100_000, spy) == 100_000
    assert max(map(len, spy.asked)) == 40_000


@pytest.mark.parametrize(
    "text", ["", "<|endoftext|>", "\ud800 half", "a" * 100_000], ids=["empty", "special", "half", "run"]
)
def test_any_text_can_be_counted(text):
    size = text_size(text, load_encoding("o200k_base"))
    assert (size == 0) == (text == "")
    assert size <= len(text.encode("utf-8", "surrogatepass"))

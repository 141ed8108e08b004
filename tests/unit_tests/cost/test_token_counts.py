"""Counts are remembered, and not for longer than there is room."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_runtime.cost.encodings import load_encoding
from langchain_runtime.cost.token_counts import TokenCounts


class Spy:
    """Encodes a character to a token, and remembers what it was asked."""

    def __init__(self, name="spy"):
        self.name, self.asked = name, []

    def encode_ordinary(self, text):
        self.asked.append(text)
        return list(text)


def test_a_text_is_encoded_once_for_each_encoding():
    counts, one, other = TokenCounts(), Spy("one"), Spy("other")
    assert [counts.count(encoding, "hello") for encoding in (one, other, one, other)] == [5] * 4
    assert one.asked == other.asked == ["hello"]


def test_the_least_recently_used_text_is_forgotten_first():
    counts, spy = TokenCounts(room=1_000), Spy()
    for text in ("a" * 200, "b" * 200, "a" * 200, "c" * 200, "a" * 200, "b" * 200):
        counts.count(spy, text)
    assert [text[0] for text in spy.asked] == ["a", "b", "c", "b"]


def test_many_short_texts_take_room_too():
    counts, spy = TokenCounts(room=10_000), Spy()
    for number in range(1_000):
        counts.count(spy, str(number))
    assert len(counts._counts) < 60


def test_a_text_larger_than_the_room_is_counted_and_not_kept():
    counts, spy = TokenCounts(room=1_000), Spy()
    assert [counts.count(spy, "a" * 2_000) for _ in range(2)] == [2_000] * 2
    assert len(spy.asked) == 2
    counts.count(spy, "b")
    counts.count(spy, "b")
    assert spy.asked.count("b") == 1


def test_a_long_text_without_white_space_is_encoded_in_parts():
    spy = Spy()
    assert TokenCounts().count(spy, "a" * 100_000) == 100_000
    assert max(map(len, spy.asked)) == 40_000


@pytest.mark.parametrize(
    "text", ["", "<|endoftext|>", "\ud800 half", "a" * 100_000], ids=["empty", "special", "half", "run"]
)
def test_any_text_can_be_counted(text):
    count = TokenCounts().count(load_encoding("o200k_base"), text)
    assert (count == 0) == (text == "")
    assert count <= len(text.encode("utf-8", "surrogatepass"))


def test_many_threads_may_count_the_same_texts():
    counts, spy, start = TokenCounts(room=2_000), Spy(), threading.Barrier(8)

    def count(_):
        start.wait(10)
        return [counts.count(spy, "x" * size) for size in range(50)]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == list(range(50)) for found in pool.map(count, range(8)))
    kept = sum(len(text) + 200 for _, text in counts._counts)
    assert kept == 2_000 - counts._room <= 2_000


def test_a_text_that_somebody_else_counts_meanwhile_is_kept_once():
    counts = TokenCounts()

    class Slow(Spy):
        def encode_ordinary(self, text):
            counts.count(Spy(), text)
            return super().encode_ordinary(text)

    room = counts._room
    assert counts.count(Slow(), "hello") == 5
    assert room - counts._room == 5 + 200

"""Long documents are cut where it hurts least, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.pipelines.chunks import MAX_CHARACTERS, split


@given(
    st.lists(
        st.sampled_from(["# H\n", "word ", "\n", "\n\n", "```\n", "x" * 30]) | st.text(max_size=20), max_size=60
    ).map("".join),
    st.integers(min_value=1, max_value=80),
)
def test_parts_are_small_enough_and_are_the_text_again(text, limit):
    parts = split(text, limit)
    assert "".join(parts) == text
    assert all(0 < len(part) <= limit for part in parts)


def test_a_short_text_is_one_part():
    assert split("One.\n\nTwo.") == ["One.\n\nTwo."]
    assert split("") == []


def test_parts_end_with_a_paragraph():
    text = "".join(f"{name * 40}\n\n" for name in "abcd")
    assert split(text, 100) == [f"{'a' * 40}\n\n{'b' * 40}\n\n", f"{'c' * 40}\n\n{'d' * 40}\n\n"]


@pytest.mark.parametrize(
    "together",
    ["```\ncode\n\n\nmore code\n```\n", "## Heading\n\nIts paragraph.\n"],
    ids=["fence", "heading"],
)
def test_what_belongs_together_stays_together(together):
    first = "x" * 30 + "\n\n"
    assert split(first + together, len(first) + len(together) - 5) == [first, together]


def test_a_long_paragraph_is_cut_after_a_line_and_a_long_line_after_a_word():
    assert split("aaaa\nbbbb\ncccc\n", 10) == ["aaaa\nbbbb\n", "cccc\n"]
    assert split("aaa bbb ccc", 8) == ["aaa bbb ", "ccc"]


def test_parts_are_about_a_model_call_large():
    parts = split("A paragraph of words.\n\n" * 2_000)
    assert all(MAX_CHARACTERS * 0.9 < len(part) <= MAX_CHARACTERS for part in parts[:-1])

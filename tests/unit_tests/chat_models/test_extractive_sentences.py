"""What of a document can be quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_runtime.chat_models._sentences import MAX_CHARACTERS, sentences


def texts(document):
    return [sentence.text for sentence in sentences(document)]


def collapsed(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    "passed_over",
    [
        "```\nThis is code in a fence that reads like a sentence.\n```",
        "~~~ text\nThis is code in a fence.\n\n```\nThis one is, too.\n~~~",
        "    This line is indented like a code block, so it is code.",
        ".. code-block:: python\n\n   This is the body of a directive, so it is code.",
        ".. image:: https://example.org/a/picture/that/has/no/words.png",
        "| This is | a table that | reads like a sentence. |",
        "+----------------+----------------+",
        "[![This is a badge of a package](https://example.org/x.svg)](https://example.org)",
        "![This is an image of something](https://example.org/x.svg)",
        '<p align="center"><em>This is a centred line of HTML.</em></p>',
        "[reference]: https://example.org/this-is-a-link-definition",
        ">>> result = call_of_a_function_in(a_doctest, with_arguments)",
        "$ pip install something --with-a-flag",
        "[1.0, 2.5, 3.25] = {4: 5, 6: 7} + (8 * 9) - 10 / 11",
        "https://example.org/a/very/long/address/that/is/no/sentence",
        'The words "a [sic]" here " [source] would break a citation.',
        "# A heading that is as long as a sentence",
        "A heading that is underlined\n============================",
        "Too short",
        "",
    ],
)
def test_markup_is_passed_over(passed_over):
    assert texts(f"{passed_over}\n\nThis is the only sentence of prose here.") == [
        "This is the only sentence of prose here."
    ]


def test_the_line_before_a_literal_block_is_prose():
    code = "   pip install the-package-of-this-name\n\n   and-another-line of-code"
    document = f"Install it with one command, like this::\n\n{code}\n\nThen go on reading the next chapter."
    assert texts(document) == ["Install it with one command, like this::", "Then go on reading the next chapter."]


def test_list_items_lose_their_marker_and_keep_their_continuation():
    first = "- The first item of this list\n  goes on here.\n\n    And has a second paragraph, indented."
    document = f"{first}\n2. The second item is numbered."
    assert texts(document) == [
        "The first item of this list goes on here.",
        "And has a second paragraph, indented.",
        "The second item is numbered.",
    ]


def test_sentences_know_their_heading():
    document = "# One\n\nThe first sentence is here.\n\nTwo\n---\n\nThe second sentence is here."
    assert [(s.heading, s.text) for s in sentences(document)] == [
        ("One", "The first sentence is here."),
        ("Two", "The second sentence is here."),
    ]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        (
            "Use a store, e.g. Redis or SQLite, for the books. It costs 0.5 ms per call, i.e. Nothing at all.",
            ["Use a store, e.g. Redis or SQLite, for the books.", "It costs 0.5 ms per call, i.e. Nothing at all."],
        ),
        (
            "He asked whether it works (it does.) Then he went home once again.",
            ["He asked whether it works (it does.)", "Then he went home once again."],
        ),
        ("The limit is 42 MB. It can be raised.", ["The limit is 42 MB. It can be raised."]),
        ("The limit is 42 MB.", ["The limit is 42 MB."]),
        (
            "これは日本語の文章で、とても長いものですから切られます。これも日本語の文章で、とても長いものですから切られますね。",
            [
                "これは日本語の文章で、とても長いものですから切られます。",
                "これも日本語の文章で、とても長いものですから切られますね。",
            ],
        ),
    ],
)
def test_paragraphs_are_cut_where_sentences_end(paragraph, expected):
    assert texts(paragraph) == expected


def test_a_document_that_is_indented_as_a_whole_is_prose():
    assert texts("    This document comes from a docstring.\n    All of it is indented.") == [
        "This document comes from a docstring. All of it is indented."
    ]


def test_a_long_sentence_is_cut_after_a_word():
    (quote,) = texts("word " * 200)
    assert len(quote) <= MAX_CHARACTERS
    assert quote.endswith("word")
    (quote,) = texts("a bc " + "x" * 900)
    assert len(quote) <= MAX_CHARACTERS


markdown = st.lists(
    st.sampled_from(
        [
            "# ",
            "- ",
            "> ",
            "```",
            "\n",
            "\n\n",
            "    ",
            "| a | b |",
            "::",
            ". ",
            "! ",
            "? ",
            "**",
            "[x](https://y.z)",
            '"',
            "[",
        ]
    )
    | st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
    | st.just("Some words of ordinary prose follow here"),
    max_size=30,
).map("".join)


@given(markdown)
def test_every_sentence_stands_in_its_document_up_to_white_space(document):
    for line_prefix in ("", "> "):
        text = document if not line_prefix else document.replace("\n", f"\n{line_prefix}")
        body = collapsed(text)
        for quote in texts(text):
            assert quote in body
            assert 0 < len(quote) <= MAX_CHARACTERS
            assert "\n" not in quote

"""Citations are read from any model's reply, and a quote counts only as its document has it."""

import pytest

from langchain_runtime.pipelines.citations import Citation, read_citations, verbatim

DOCUMENT = """Set **`LCR_HOME`** to move
  the home folder, which holds [two databases](https://example.org).

Non-stop use is fine.
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"A quote." [guide]', Citation("A quote.", "guide")),
        ('  - "A  quote." [guide/two]', Citation("A quote.", "guide/two")),
        ('1. "A quote."[ guide ].', Citation("A quote.", "guide")),
        ("* “A quote.” [guide] (the second section)", Citation("A quote.", "guide")),
        ('"He said "stop" twice." [guide]', Citation('He said "stop" twice.', "guide")),
    ],
)
def test_reads_a_citation_however_a_model_writes_its_line(line, expected):
    assert read_citations(f"Here you are:\n{line}\nThat is all.") == [expected]


@pytest.mark.parametrize(
    "reply", ["", "NOTHING FOUND", '"A quote without a document."', "Just [text] here.", '"" [guide]']
)
def test_passes_over_everything_else(reply):
    assert read_citations(reply) == []


def test_reads_each_citation_once_in_order():
    reply = '"B." [x]\n"A." [x]\n"B." [x]\n"B." [y]'
    assert [str(citation) for citation in read_citations(reply)] == ['"B." [x]', '"A." [x]', '"B." [y]']


def test_a_quote_is_found_across_line_breaks():
    quote = "**`LCR_HOME`** to move the home folder"
    assert verbatim(quote, ["other", DOCUMENT]) == quote


def test_a_quote_without_the_markup_is_given_back_as_the_document_has_it():
    assert (
        verbatim("Set LCR_HOME to move the home folder, which holds two databases", [DOCUMENT])
        == "Set **`LCR_HOME`** to move the home folder, which holds [two databases](https://example.org)."
    )
    assert verbatim("stop use is fine", [DOCUMENT]) is not None


@pytest.mark.parametrize(
    "quote",
    [
        "Set LCR_HOME to remove the home folder",
        "the home folder, which holds three databases",
        "databases two holds which, folder home the",
        "lcr_home to move the home folder",
        "folder; which - holds",
        "",
        "   ",
    ],
)
def test_other_words_are_not_the_documents(quote):
    assert verbatim(quote, [DOCUMENT]) is None


def test_part_of_a_word_is_not_a_repair():
    assert verbatim("move the home folder which holds two data", [DOCUMENT]) is None

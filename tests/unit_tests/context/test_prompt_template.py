"""Prompt templates are f-strings whose variables are plain names."""

import pytest

from langchain_runtime.context import check_variables, render, variables
from langchain_runtime.contracts.errors import InvalidInputError


class Secret:
    token = "t0ps3cret"

    def __str__(self):
        return "secret"


def test_variables_are_named_once_in_order_of_first_use():
    assert variables("{b} and {a.c-1} and {b}") == ("b", "a.c-1")


def test_a_template_without_variables_has_none():
    assert variables("plain {{text}}") == ()


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        pytest.param("Hi {name}!", {"name": "Ada"}, "Hi Ada!", id="text as it is"),
        pytest.param("{weekly-brief.1}", {"weekly-brief.1": "x"}, "x", id="dots and dashes"),
        pytest.param("{a.b} {a}", {"a.b": "1", "a": "2"}, "1 2", id="a dotted name is a whole name"),
        pytest.param("{0} {two words}", {"0": "zero", "two words": "2w"}, "zero 2w", id="any name without a colon"),
        pytest.param('{{"k": {v}}}', {"v": 1}, '{"k": 1}', id="doubled braces"),
        pytest.param("{a}", {"a": "{b} {{c}}"}, "{b} {{c}}", id="values are not templates"),
        pytest.param("{a}", {"a": {"k": [1, "é", None]}}, '{"k":[1,"é",null]}', id="JSON is compact"),
        pytest.param("{a}{b}{c}", {"a": True, "b": None, "c": 1.5}, "truenull1.5", id="JSON words"),
        pytest.param("", {}, "", id="empty"),
    ],
)
def test_a_template_is_filled_in(template, values, expected):
    assert render(template, values) == expected


def test_an_unknown_variable_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidInputError, match=r"the prompt uses \{outlin\}") as error:
        render("{outlin}", {"topic": "x", "outline": "y"})
    assert error.value.hint == "did you mean 'outline'? available: topic, outline"


def test_an_unknown_variable_far_from_any_lists_what_there_is():
    with pytest.raises(InvalidInputError) as error:
        render("{zzz}", {"topic": "x"})
    assert error.value.hint == "available: topic"


@pytest.mark.parametrize("template", ["{a.__class__}", "{a.token}", "{a[0]}", "{a.__init__.__globals__}"])
def test_a_template_never_reaches_into_an_object(template):
    with pytest.raises(InvalidInputError, match="which nothing supplies") as error:
        render(template, {"a": Secret()})
    assert "t0ps3cret" not in str(error.value) + error.value.hint


@pytest.mark.parametrize("template", ["{a!r}", "{a:>10}", "{a:{b}}", "{a!s:x}", '{"key": 1}'])
def test_conversions_and_formats_are_refused(template):
    with pytest.raises(InvalidInputError, match="conversions and formats are not supported") as error:
        variables(template)
    assert template in str(error.value)
    assert "{{" in error.value.hint


@pytest.mark.parametrize("template", ["{", "}", "{a", "a}", "{a}}", "{a!}", "{a!rr}", "{a{b}"])
def test_an_unbalanced_brace_is_refused(template):
    with pytest.raises(InvalidInputError, match="malformed") as error:
        variables(template)
    assert "{{" in error.value.hint


def test_an_empty_field_is_refused():
    with pytest.raises(InvalidInputError, match=r"empty \{\}"):
        variables("say {}")


def test_names_are_checked_before_there_are_values():
    check_variables("{a} {b}", iter(["a", "b"]))
    with pytest.raises(InvalidInputError, match=r"\{c\}"):
        check_variables("{a} {c}", ["a", "b"])

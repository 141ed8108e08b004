"""The error tree: what every error has in common, whoever adds one."""

import copy
import inspect
import pickle
import re
from decimal import Decimal

import pytest
from langchain_core.exceptions import ContextOverflowError as CoreContextOverflowError
from langchain_core.exceptions import ModelError

from langchain_runtime.contracts import errors
from langchain_runtime.contracts.budget import Balance, Decision, Scope, Verdict
from langchain_runtime.contracts.errors import BudgetExceededError, ContextOverflowError, LangChainRuntimeError
from langchain_runtime.contracts.money import Cost
from langchain_runtime.contracts.run import Run, TaskResult

EXAMPLES = {
    "cycle": ("a", "b", "a"),
    "decision": Decision(verdict=Verdict.WAIT, refused_by=Balance(scope=Scope(name="s", limit_nano=1)), free_nano=1),
    "held": Cost("0.1"),
    "limit": Cost("1", "EUR"),
    "needed": Cost(Decimal("0.000000001")),
    "results": {"a": TaskResult(output={"deep": [1, None]})},
    "run": Run(id="r"),
    "spent": Cost("0.9"),
    "timeout_ms": 50,
    "waiting": ("a", "b"),
}
"""A value for each field that is not a string."""


def everything_below(error_class):
    yield error_class
    for child in error_class.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from everything_below(child)


CLASSES = list(everything_below(LangChainRuntimeError))
WITH_CODE = [each for each in CLASSES if "code" in vars(each) and each is not LangChainRuntimeError]


def fields_of(error_class):
    return [
        name
        for name, parameter in inspect.signature(error_class).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]


def example(error_class):
    fields = {name: EXAMPLES.get(name, f"the {name}") for name in fields_of(error_class)}
    return error_class("It happened.", **fields), fields


@pytest.mark.parametrize("error_class", CLASSES, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "travel",
    [
        *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in (2, 5)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle 2", "pickle 5", "copy", "deepcopy"],
)
def test_every_error_survives_the_way_to_another_process_with_its_fields(error_class, travel):
    error, fields = example(error_class)
    error.add_note("seen on the way")
    back = travel(error)
    assert type(back) is error_class
    assert (str(back), back.args, back.code, back.__notes__) == (
        "It happened.",
        error.args,
        error.code,
        error.__notes__,
    )
    assert {name: getattr(back, name) for name in fields} == fields


@pytest.mark.parametrize("error_class", CLASSES, ids=lambda each: each.__name__)
def test_every_error_keeps_what_it_was_given_and_needs_no_hint(error_class):
    error, fields = example(error_class)
    assert {name: getattr(error, name) for name in fields} == fields
    assert error_class("It happened.", **{**fields, "hint": None}).hint is None


def test_every_error_is_found():
    defined = {each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__}
    assert defined == set(CLASSES)
    assert len(CLASSES) > 20


def test_codes_are_unique_and_snake_case():
    codes = [each.code for each in WITH_CODE]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_every_error_that_is_raised_has_a_code_of_its_own():
    families = {each for each in CLASSES if any(other is not each and issubclass(other, each) for other in CLASSES)}
    assert set(CLASSES) - families <= set(WITH_CODE)


def drawn():
    """The tree of the module's docstring: name, parent, code and fields of every error."""
    path = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b(?: \([^)]*\))?(.*)", line)
        if match is None:
            continue
        indent, name, rest = match.groups()
        depth = len(indent) // 3
        path = [*path[:depth], name]
        code = re.match(r"\s+([a-z_]+)(?=\s+\.|\s*$)", rest)
        yield name, path[-2] if depth else None, code and code[1], re.findall(r"\.(\w+)", rest), rest.endswith("...")


def test_the_tree_in_the_docstring_is_the_real_one():
    classes = {each.__name__: each for each in CLASSES}
    tree = list(drawn())
    assert {name for name, *_ in tree} == set(classes)
    for name, parent, code, fields, abridged in tree:
        error_class = classes[name]
        if parent is None:
            continue
        assert classes[parent] in error_class.__bases__, name
        assert code == vars(error_class).get("code"), name
        inherited = set(fields_of(classes[parent]))
        own = [field for field in fields_of(error_class) if field not in inherited]
        assert fields == own[: len(fields)] if abridged else set(fields) == set(own), name


def test_langchain_does_not_retry_a_budget_that_is_spent():
    assert issubclass(BudgetExceededError, ModelError)
    assert example(BudgetExceededError)[0].is_retryable is False


def test_a_view_that_does_not_fit_is_langchains_overflow_too():
    assert issubclass(ContextOverflowError, CoreContextOverflowError)
